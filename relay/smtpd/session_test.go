package smtpd

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"anechoic/mail"
)

var (
	replyLine   = regexp.MustCompile(`^[2-5][0-5][0-9][ -][\x20-\x7e]*$`)
	refusalLine = regexp.MustCompile(`^([45])[0-9]{2} [45]\.[0-9]{1,3}\.[0-9]{1,3} .* \[([A-Z_]+) id=([a-z2-7]{26})\]$`)
)

// FuzzSession is a whole session out of arbitrary octets: it ends, without a
// panic; every reply is well formed; every refusal has its reason and id; and what
// is kept stood in the input, dot-stuffed, between DATA and CRLF.CRLF.
func FuzzSession(f *testing.F) {
	const begin = "EHLO a\r\nMAIL FROM:<a@a.example> SIZE=1 BODY=8BITMIME\r\nRCPT TO:<b@b.example> NOTIFY=NEVER\r\nDATA\r\n"
	for _, seed := range []string{
		begin + "Subject: x\r\n\r\ntext\r\n..\r\n.\r\nQUIT\r\n",
		begin + ".\r\n" + begin[8:] + "x\r\n.\r\n",
		begin + "x\n.\n" + second, begin + "x\r\n.\r\r\n" + second, begin + strings.Repeat("y", 1500) + "\r\n.\r\n",
		"HELO [::1]\r\nMAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nRCPT TO:<\"a b\"@b.example>\r\nDATA\r\n.\r\nRSET\r\n",
		"STARTTLS\r\nEHLO x\r\n", "AUTH PLAIN AAAA\r\n", "NOOP\r\nVRFY\r\nHELP\r\nEXPN\r\nBDAT 1 LAST\r\n", "GET / HTTP/1.1\r\n\r\n",
		"PROXY TCP4 192.0.2.1 192.0.2.2 40000 25\r\n" + begin + ".\r\n", v2 + "\x20\x00\x00\x00" + begin + ".\r\n",
		"MAIL FROM:<a@a.example\r\nRCPT TO:b\r\n\r\n\x00\r\n\n", strings.Repeat("NOOP\r\n", 120), strings.Repeat("x", 70000),
	} {
		f.Add([]byte(seed), uint8(0), uint8(Plain))
		f.Add([]byte(seed), uint8(7), uint8(Proxy))
		f.Add([]byte(seed), uint8(255), uint8(Submission))
	}
	f.Add([]byte("\x80\xff00:"), uint8(0), uint8(ImplicitTLS)) // TLS answers with an alert
	f.Fuzz(func(t *testing.T, input []byte, size, mode uint8) {
		h := &recorder{}
		s := newServer(h)
		s.MaxMessageBytes, s.MaxHeaderBytes, s.MaxHeaderFields, s.MaxRecipients = 5000, 1000, 10, 3
		said := play(s, allModes[int(mode)%len(allModes)], chunks(input, int(size))...)
		if n := s.Counters.Panics.Load(); n != 0 {
			t.Fatalf("%d panics", n)
		}
		checkReplies(t, said)
		if bytes.Contains(bytes.ToUpper(input), []byte("BDAT")) {
			return // FuzzBDATSession
		}
		for _, m := range h.messages {
			if !bytes.Contains(input, []byte("\r\n"+stuff(string(m.content())))) {
				t.Fatalf("kept %q, which is not in %q", m.content(), input)
			}
		}
		if most := strings.Count(string(input), "\r\n.\r\n"); len(h.messages) > most {
			t.Fatalf("%d messages out of %d ends of data", len(h.messages), most)
		}
		if kept := strings.Count(said, "250 2.0.0 Kept id="); kept != len(h.messages) {
			t.Fatalf("%d messages, and %d replies of it", len(h.messages), kept)
		}
	})
}

// chunks are what arrives at once: so many octets, or, for 0, up to a DATA, as a
// client sends that waits for the 354.
func chunks(input []byte, size int) (pieces [][]byte) {
	for len(input) > 0 {
		n := min(len(input), size)
		if size == 0 {
			n = len(input)
			if i := bytes.Index(input, []byte("DATA\r\n")); i >= 0 {
				n = i + len("DATA\r\n")
			}
		}
		pieces = append(pieces, input[:n])
		input = input[n:]
	}
	return pieces
}

// withoutAlert cuts off what TLS says of a client that does not speak it: an alert
// record (RFC 8446 section 5.1), whose first octet stands in no reply.
func withoutAlert(said string) string {
	before, _, _ := strings.Cut(said, "\x15\x03")
	return before
}

func checkReplies(t *testing.T, said string) {
	t.Helper()
	said = withoutAlert(said)
	if said == "" {
		return
	}
	if !strings.HasSuffix(said, "\r\n") {
		t.Fatalf("the last reply has no end: %q", said)
	}
	reasons := map[string]bool{}
	for _, r := range mail.Reasons() {
		reasons[string(r)] = true
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(said, "\r\n"), "\r\n") {
		if !replyLine.MatchString(line) || len(line) > 510 { // RFC 5321 section 4.5.3.1.5
			t.Fatalf("not a reply: %q", line)
		}
		if line[0] < '4' {
			continue
		}
		m := refusalLine.FindStringSubmatch(line)
		if m == nil || !reasons[m[2]] || !mail.ID(m[3]).Valid() {
			t.Fatalf("not a refusal with its reason and id: %q", line)
		}
	}
}

func TestProtocolNamesTheWayIn(t *testing.T) {
	for want, s := range map[string]Session{
		"SMTP":  {Helo: "a"},
		"ESMTP": {Helo: "a", EHLO: true},
	} {
		if got := s.Protocol(); got != want {
			t.Errorf("%+v: %s", s, got)
		}
	}
}

// Replies to a group are sent in one write, when there is nothing left to answer.
func TestRepliesOfAGroupAreOneWrite(t *testing.T) {
	h := &recorder{}
	listener := newPipes()
	serveUntilEnd(t, newServer(h), listener, Plain)
	conn := listener.dial("192.0.2.1:40000")
	defer conn.Close()
	buffer := make([]byte, 4096)
	read := func() string {
		n, err := conn.Read(buffer) // as much as one write brought
		if err != nil {
			t.Fatal(err)
		}
		return string(buffer[:n])
	}
	read()
	if _, err := conn.Write([]byte("HELO a\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nRCPT TO:<c@b.example>\r\nDA")); err != nil {
		t.Fatal(err)
	}
	if got := read(); strings.Count(got, "\r\n") != 4 {
		t.Errorf("the first write had %q", got)
	}
	if _, err := conn.Write([]byte("TA\r\n")); err != nil {
		t.Fatal(err)
	}
	if got := read(); !strings.HasPrefix(got, "354 ") {
		t.Errorf("DATA was answered %q", got)
	}
}
