package smtpd

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// inChunks writes content as BDAT commands, the sizes of the chunks one after the
// other and over again.
func inChunks(content string, sizes ...int) string {
	var b strings.Builder
	for i := 0; ; i++ {
		n := min(sizes[i%len(sizes)], len(content))
		if n == len(content) {
			fmt.Fprintf(&b, "BDAT %d LAST\r\n%s", n, content)
			return b.String()
		}
		fmt.Fprintf(&b, "BDAT %d\r\n%s", n, content[:n])
		content = content[n:]
	}
}

const (
	enter = "EHLO a\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\n"
	leave = "NOOP\r\nQUIT\r\n"
)

// judgeChunks is the reference: what content is worth, whatever chunks it is cut
// into.
func judgeChunks(content string) (code string, kept string) {
	whole := content
	if whole != "" && !strings.HasSuffix(whole, "\r\n") {
		whole += "\r\n"
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(whole, "\r\n"), "\r\n") {
		if len(line) > mail.MaxLine {
			code = "554" // and a bare newline behind it may still be seen in the same chunk
		}
		if strings.ContainsAny(line, "\r\n\x00") {
			return code + "521", ""
		}
	}
	if code != "" {
		return code, ""
	}
	return "250", whole
}

// checkChunks sends content by BDAT, arriving in pieces of so many octets, and
// wants what the reference says: exactly one message or one refusal, and after
// anything but a bare newline the next command answered.
func checkChunks(t interface {
	Helper()
	Fatalf(string, ...any)
}, content string, piece int, sizes ...int) {
	t.Helper()
	h := &recorder{}
	s := newServer(h)
	s.MaxHeaderBytes, s.MaxHeaderFields = 1<<20, 1<<20
	said := play(s, Plain, chunks([]byte(enter+inChunks(content, sizes...)+leave), piece)...)
	code, want := judgeChunks(content)
	if code == "250" && !wellFormed(want) {
		code = "550"
	}
	if code == "554521" {
		code = map[bool]string{true: "521", false: "554"}[strings.Contains(said, "\r\n521 ")]
	}
	if n := strings.Count(said, "\r\n"+code+" "); n == 0 {
		t.Fatalf("%q in chunks of %d: want %s, the server said %s", content, sizes, code, said)
	}
	if onward := strings.HasSuffix(said, "250 2.0.0 Nothing done\r\n221 2.0.0 Bye\r\n"); onward != (code != "521") {
		t.Fatalf("%q in chunks of %d: the server said %s", content, sizes, said)
	}
	if mails, rcpts := h.calls(); mails != 1 || rcpts != 1 || len(h.messages) != strings.Count(code, "250") {
		t.Fatalf("%q in chunks of %d: asked about %d senders and %d recipients, %d kept", content, sizes, mails, rcpts, len(h.messages))
	}
	if code == "250" && string(h.messages[0].content()) != want {
		t.Fatalf("%q in chunks of %d: kept %q", content, sizes, h.messages[0].content())
	}
}

// wellFormed says that the header of a message can be read.
func wellFormed(content string) bool {
	header := content
	if strings.HasPrefix(content, "\r\n") {
		header = ""
	} else if i := strings.Index(content, "\r\n\r\n"); i >= 0 {
		header = content[:i+2]
	}
	_, err := mail.ParseHeader([]byte(header), mail.HeaderLimits{})
	return err == nil
}

func TestChunksAreCutAnywhere(t *testing.T) {
	token := rapid.SampledFrom([]string{"\r\n", "\r\n.\r\n", ".", "text", "\r", "\n", "\x00", "QUIT\r\n", strings.Repeat("y", 997), strings.Repeat("z", 1001)})
	common := rapid.SampledFrom([]string{"\r\n", "\r\n.\r\n", ".", "text", "BDAT 3 LAST\r\n", strings.Repeat("y", 300)})
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.OneOf(common, common, common, common, token)).Draw(t, "parts")
		sizes := rapid.SliceOfN(rapid.IntRange(1, 1500), 1, 5).Draw(t, "sizes")
		checkChunks(t, "A: b\r\n\r\n"+strings.Join(parts, ""), rapid.IntRange(1, 3000).Draw(t, "piece"), sizes...)
	})
}

func FuzzBDAT(f *testing.F) {
	for _, seed := range dataSeeds {
		f.Add("A: b\r\n\r\n"+seed, uint16(7), uint16(1), uint16(3))
		f.Add(seed, uint16(1000), uint16(500), uint16(2))
	}
	f.Fuzz(func(t *testing.T, content string, piece, first, second uint16) {
		if len(content) > 1<<16 || len(content)/(int(first)+int(second)+1) > 1000 {
			return
		}
		checkChunks(t, content, int(piece)+1, int(first)+1, int(second)+1)
	})
}

// FuzzBDATSession is chunks among arbitrary commands: what is kept consists of
// octets that were announced, in their order.
func FuzzBDATSession(f *testing.F) {
	for _, seed := range []string{
		enter + "BDAT 6\r\nA: b\r\nBDAT 2 LAST\r\n\r\n" + enter[8:] + "BDAT 0 LAST\r\nBDAT 0 LAST\r\n",
		enter + "BDAT 6\r\nA: b\r\nRSET\r\n" + enter[8:] + "BDAT 4 LAST\r\nc: dDATA\r\n",
		enter + "BDAT 6\r\nA: b\r\nDATA\r\n", enter + "BDAT 6 FIRST\r\nNOOP\r\nBDAT 99999 LAST\r\nA: b\r\n", enter + "BDAT\r\n", enter + "BDAT 6 LAST\r\nA: b",
		"BDAT 6\r\nNOOP\r\n" + enter + "BDAT 1\r\n\rBDAT 1\r\n\nBDAT 1 LAST\r\n\r", enter + "DATA\r\n", "BDAT 6000 LAST\r\n" + strings.Repeat("x", 6000),
	} {
		f.Add([]byte(seed), uint8(0))
		f.Add([]byte(seed), uint8(5))
	}
	f.Fuzz(func(t *testing.T, input []byte, size uint8) {
		h := &recorder{}
		s := newServer(h)
		s.MaxMessageBytes, s.MaxHeaderBytes, s.MaxHeaderFields, s.MaxMIMEDepth = 5000, 1000, 10, 3
		said := play(s, Plain, chunks(input, int(size))...)
		if n := s.Counters.Panics.Load(); n != 0 {
			t.Fatalf("%d panics", n)
		}
		checkReplies(t, said)
		for _, m := range h.messages {
			if !subsequence(m.content(), append(bytes.Clone(input), "\r\n"...)) {
				t.Fatalf("kept %q, which was not sent in %q", m.content(), input)
			}
		}
		if most := bytes.Count(bytes.ToUpper(input), []byte("LAST")) + bytes.Count(input, []byte("\r\n.\r\n")); len(h.messages) > most {
			t.Fatalf("%d messages out of %d ends", len(h.messages), most)
		}
		if kept := strings.Count(said, "250 2.0.0 Kept id="); kept != len(h.messages) {
			t.Fatalf("%d messages, and %d replies of it", len(h.messages), kept)
		}
	})
}

// subsequence says that the octets of part stand in whole, in that order.
func subsequence(part, whole []byte) bool {
	for _, c := range part {
		i := bytes.IndexByte(whole, c)
		if i < 0 {
			return false
		}
		whole = whole[i+1:]
	}
	return true
}

// What comes by BDAT is the same message as by DATA, its hashes included.
func TestChunksAndDataAreTheSameMessage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		header := rapid.SampledFrom([]string{"From: a@a.example\r\n", "From: a@a.example\r\nDKIM-Signature: v=1; c=simple/simple; a=rsa-sha256; d=a.example; s=s; h=from; bh=; b=\r\n"}).Draw(t, "header")
		line := rapid.SampledFrom([]string{"\r\n", ".\r\n", "..\r\n", "text \t \r\n", "caf\xc3\xa9\r\n", strings.Repeat("y", 998) + "\r\n"})
		body := strings.Join(rapid.SliceOfN(line, 0, 50).Draw(t, "body"), "")
		sizes := rapid.SliceOfN(rapid.IntRange(1, 3000), 1, 4).Draw(t, "sizes")
		h := &recorder{}
		s := newServer(h)
		s.SpoolThreshold = int64(rapid.SampledFrom([]int{1, 1000, 1 << 20}).Draw(t, "threshold"))
		input := enter + inChunks(header+"\r\n"+body, sizes...) + "QUIT\r\n"
		said := play(s, Plain, chunks([]byte(input), rapid.IntRange(1, 40000).Draw(t, "piece"))...)
		if len(h.messages) != 1 || !strings.HasSuffix(said, "221 2.0.0 Bye\r\n") {
			t.Fatalf("%d messages kept; the server said %q", len(h.messages), said)
		}
		checkReceived(t, h.messages[0], header, body)
	})
}

// chunked opens a transaction up to where DATA would come.
func (c *client) beginChunks(from string) {
	c.t.Helper()
	c.command("MAIL FROM:<"+from+">", "250")
	c.command("RCPT TO:<b@b.example>", "250")
}

// openChunks is open, up to where DATA would come.
func openChunks(t *testing.T, listener *pipes, mode Mode) *client {
	c := open(t, listener, mode)
	c.write("A: b\r\n.\r\n")
	c.expect("250")
	c.beginChunks("first@a.example")
	return c
}

// TestNothingSmugglesThroughChunks sends what must not end DATA, and what must,
// as the content of a chunk with a whole transaction hidden behind it in the same
// chunk: a bare newline closes; CRLF.CRLF is content.
func TestNothingSmugglesThroughChunks(t *testing.T) {
	must, mustNot := readEndings(t)
	for _, mode := range allModes {
		h := &recorder{}
		listener := newPipes()
		serveUntilEnd(t, newServer(h), listener, mode)
		for _, seq := range append(mustNot, must...) {
			content := "Subject: first\r\n\r\na line" + seq + second
			for at := len("Subject: first\r\n\r\na line"); at <= len("Subject: first\r\n\r\na line")+len(seq); at++ {
				t.Run(fmt.Sprintf("%s/%q/split at %d", mode, seq, at), func(t *testing.T) {
					before, _ := h.calls()
					kept := len(h.kept())
					c := openChunks(t, listener, mode)
					go func() {
						c.writeAnyway(fmt.Sprintf("BDAT %d\r\n", at) + content[:at])
						c.writeAnyway(fmt.Sprintf("BDAT %d LAST\r\n", len(content)-at) + content[at:] + "QUIT\r\n")
					}()
					want, messages := "521", 1
					if seq == must[0] {
						want, messages = "221", 2
					}
					for {
						line, err := c.r.ReadString('\n')
						if err != nil {
							t.Fatal(err)
						}
						if strings.HasPrefix(line, want) {
							break
						}
						if line[0] != '2' {
							t.Fatalf("the server said %q", line)
						}
					}
					if after, _ := h.calls(); after != before+2 || len(h.kept()) != kept+messages {
						t.Errorf("asked about %d senders, %d kept", after-before, len(h.kept())-kept)
					}
				})
			}
		}
		for _, m := range h.kept() {
			if m.envelope.From.Local() == "evil" {
				t.Errorf("%s: a smuggled message was kept", mode)
			}
		}
	}
}

// TestLostInsideAChunkIsNotKept breaks the connection at every octet.
func TestLostInsideAChunkIsNotKept(t *testing.T) {
	dir := t.TempDir()
	const data = "BDAT 20\r\nA: b\r\n\r\nMAIL FROM:<eBDAT 15 LAST\r\nvil@a.example>\r"
	for at := range len(data) + 1 {
		h := &recorder{}
		s := newServer(h)
		s.SpoolDir, s.SpoolThreshold = dir, 1
		play(s, Plain, []byte(enter), []byte(data[:at]))
		if mails, _ := h.calls(); mails != 1 || len(h.kept()) != 0 {
			t.Fatalf("lost after %q: asked about %d senders, %d kept", data[:at], mails, len(h.kept()))
		}
	}
}

func TestSlowChunkIsClosed(t *testing.T) {
	h := &recorder{}
	bubble(t, h, func(t *testing.T, _ *Server, listener *pipes) {
		c := hello(t, listener)
		c.beginChunks("a@a.example")
		begun := time.Now()
		c.write("BDAT 1000000 LAST\r\n")
		dripped := c.drip(time.Second, "MAIL FROM:<evil@a.example>\r\n")
		c.expect("421 4.4.2 Data arrives too slowly")
		if d := time.Since(begun); d != DefaultDataWindow {
			t.Errorf("after %v", d)
		}
		_ = c.conn.Close()
		<-dripped
	})
	if mails, _ := h.calls(); mails != 1 || len(h.kept()) != 0 {
		t.Errorf("asked about %d senders, %d kept", mails, len(h.kept()))
	}
}

// A chunk that nobody wants is not waited for longer than one that is.
func TestSlowChunkInVainIsClosed(t *testing.T) {
	bubble(t, &recorder{}, func(t *testing.T, _ *Server, listener *pipes) {
		c := hello(t, listener)
		begun := time.Now()
		c.write("BDAT 20000000 LAST\r\n")
		dripped := c.drip(time.Second, strings.Repeat("y", 200))
		c.expect("421 4.4.2 Data arrives too slowly")
		if d := time.Since(begun); d != DefaultTransactionTimeout {
			t.Errorf("after %v", d)
		}
		_ = c.conn.Close()
		<-dripped
	})
}

func TestChunksMayTakeAnHourTogether(t *testing.T) {
	bubble(t, &recorder{}, func(t *testing.T, _ *Server, listener *pipes) {
		c := hello(t, listener)
		begun := time.Now()
		c.beginChunks("a@a.example")
		for range 14 {
			time.Sleep(4*time.Minute + 10*time.Second)
			c.command("BDAT 6\r\nA: b", "250")
		}
		c.expect("421 4.4.2 Timed out")
		if d := time.Since(begun); d != DefaultTransactionTimeout {
			t.Errorf("after %v", d)
		}
	})
}

// TestHeaderBombsAreRefusedInBoundedMemory: ten megabytes of header, a hundred
// thousand fields, a header without end, by DATA and by BDAT.
func TestHeaderBombsAreRefusedInBoundedMemory(t *testing.T) {
	for name, content := range map[string]string{
		"ten megabytes in one field":    "Subject: x\r\n" + strings.Repeat(" "+strings.Repeat("y", 900)+"\r\n", 11_000) + "\r\nbody\r\n",
		"ten megabytes in many fields":  strings.Repeat("X: "+strings.Repeat("y", 90)+"\r\n", 110_000) + "\r\nbody\r\n",
		"a hundred thousand fields":     strings.Repeat("X:\r\n", 100_000) + "\r\nbody\r\n",
		"two thousand fields":           strings.Repeat("X: y\r\n", 2_000) + "\r\nbody\r\n",
		"no end of the header":          strings.Repeat("X: y\r\n", 100_000),
		"ten megabytes in a part":       "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n" + strings.Repeat("X: "+strings.Repeat("y", 90)+"\r\n", 110_000) + "\r\n--a--\r\n",
		"a part's Content-Type forever": "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\nContent-Type: a/b" + strings.Repeat(";\r\n x=y", 10_000) + "\r\n\r\n--a--\r\n",
	} {
		for _, input := range []string{enter + "DATA\r\n" + stuff(content) + leave, enter + inChunks(content, 1<<20) + leave} {
			h := &measuring{t: t}
			said := play(newServer(h), Plain, chunks([]byte(input), 0)...)
			if !strings.Contains(said, "[HEADER_TOO_BIG id=") || !strings.HasSuffix(said, "Nothing done\r\n221 2.0.0 Bye\r\n") {
				t.Errorf("%s: the server said %s", name, said)
			}
		}
	}
}

// measuring is a Handler that refuses headers as the relay does, and looks at what
// was kept of the message.
type measuring struct {
	discarder
	t *testing.T
}

func (m *measuring) Data(_ context.Context, _ *Transaction, r *Received) (custody.Receipt, *mail.Refusal) {
	if len(r.RawHeader) > DefaultMaxHeaderBytes || cap(r.RawHeader) > 2*DefaultMaxHeaderBytes || len(r.Header.Fields) > 0 || r.Body.Size() > 0 {
		m.t.Errorf("of a refused header %d octets were kept, %d fields and a body of %d octets", cap(r.RawHeader), len(r.Header.Fields), r.Body.Size())
	}
	return custody.Receipt{}, mail.HeaderTooBig.Because("%v", r.HeaderErr)
}

// owner is a Handler that takes mail of attack.com alone, which its client proved
// to be: what remains of attribution and policy for such a client.
type owner struct{ discarder }

func (owner) Mail(_ context.Context, t *Transaction) *mail.Refusal {
	return owned(t.Envelope.From)
}

func owned(a mail.Address) *mail.Refusal {
	attacker, err := mail.ParseDomain("attack.com")
	if err != nil {
		panic(err)
	}
	if !a.IsZero() && !a.Domain().Within(attacker) {
		return mail.SenderNotOwned.Because("%s", a)
	}
	return nil
}

func (owner) Data(_ context.Context, t *Transaction, r *Received) (custody.Receipt, *mail.Refusal) {
	if r.HeaderErr != nil {
		return custody.Receipt{}, mail.HeaderSyntax.Because("%v", r.HeaderErr)
	}
	o, refusal := t.Envelope.ReadOriginators(r.Header)
	if refusal != nil {
		return custody.Receipt{}, refusal
	}
	for _, a := range append(append(append([]mail.Address{o.From.Address}, o.Sender...), o.ResentFrom...), o.ResentSender...) {
		if owned(a) != nil {
			return custody.Receipt{}, mail.FromNotOwned.Because("%s", a)
		}
	}
	return custody.Receipt{}, mail.Internal.Because("accepted")
}

// TestEspooferAsAClient plays all 22 cases of "Composition Kills" (USENIX Security
// 2020) as mail of a client that proved to be attack.com: by DATA and by BDAT, with
// SMTPUTF8 and without, with the case's MAIL FROM and with an honest one. Each is
// refused for good, and the connection goes on.
func TestEspooferAsAClient(t *testing.T) {
	var cases []struct {
		ID       string
		MailFrom string `json:"mail_from"`
		Message  string
	}
	if err := json.Unmarshal(suite(t, "attacks/espoofer-cases.json"), &cases); err != nil || len(cases) != 22 {
		t.Fatalf("%d cases: %v", len(cases), err)
	}
	for _, c := range cases {
		for _, from := range []string{c.MailFrom, "<any@attack.com>", "<>"} {
			for _, parameter := range []string{"", " SMTPUTF8"} {
				begin := "EHLO a\r\nMAIL FROM:" + from + parameter + "\r\n"
				for way, input := range map[string]string{
					"DATA": begin + "RCPT TO:<b@b.example>\r\nDATA\r\n" + stuff(c.Message),
					"BDAT": begin + "RCPT TO:<b@b.example>\r\n" + inChunks(c.Message, 17),
				} {
					if way == "DATA" && refusesSender(from) { // a client does not send a message that nobody waits for
						input = begin
					}
					said := play(newServer(owner{}), Plain, chunks([]byte(input+leave), 0)...)
					if !strings.Contains(said, "\r\n5") || strings.Contains(said, "INTERNAL") || strings.Contains(said, "Kept") || !strings.HasSuffix(said, "Nothing done\r\n221 2.0.0 Bye\r\n") {
						t.Errorf("%s from %s%s by %s: the server said %s", c.ID, from, parameter, way, said)
					}
				}
			}
		}
	}
}

func refusesSender(from string) bool {
	a, err := mail.ParseAddress(strings.Trim(from, "<>"))
	return from != "<>" && (err != nil || owned(a) != nil)
}

// TestRealMailComesByChunksAsItWas sends real mail in chunks of many sizes: what is
// kept is what was sent, octet for octet.
func TestRealMailComesByChunksAsItWas(t *testing.T) {
	dir := suitePath(t, "real/spamassassin-public-corpus")
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(files) == 0 {
		t.Skipf("no messages in %s: set ANECHOIC_SUITES to the folder of the shared test data", dir)
	}
	sizes := []int{1, 2, 997, 4096, 40_000}
	kept := 0
	for i, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		message := strings.ReplaceAll(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n", "\r\n")
		if strings.HasPrefix(message, "From ") { // of the mailbox file
			_, message, _ = strings.Cut(message, "\r\n")
		}
		if i%10 != 0 || strings.ContainsAny(strings.ReplaceAll(message, "\r\n", ""), "\r\n\x00") {
			continue // a tenth is enough
		}
		h := &recorder{}
		s := newServer(h)
		s.ErrorBudget = 1 << 20
		said := play(s, Plain, []byte(enter+inChunks(message, sizes[i/10%len(sizes)], 1+i%5000)+leave))
		if !strings.HasSuffix(message, "\r\n") {
			message += "\r\n"
		}
		switch {
		case len(h.messages) == 1 && string(h.messages[0].content()) == message:
			kept++
		case !strings.Contains(said, "LINE_TOO_LONG") && !strings.Contains(said, "HEADER_SYNTAX"):
			t.Errorf("%s: %d kept, the server said %s", file, len(h.messages), said)
		}
	}
	if kept < len(files)/12 {
		t.Errorf("%d of %d messages were kept", kept, len(files)/10)
	}
}
