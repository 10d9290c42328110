package smtpd

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"anechoic/mail"
	"anechoic/standard/dkim"
)

// verdict is what reading message data can come to.
type verdict struct {
	content  string // without dot-stuffing; not compared if tooLong
	consumed int
	done     bool
	tooLong  bool
	bare     bool
}

// readOctets is the reference: one octet after the other, no cleverness.
func readOctets(input string) (v verdict) {
	var line []byte // the current line so far, with its stuffed dot
	var content strings.Builder
	previous := byte('\n')
	for i := 0; i < len(input); i++ {
		c := input[i]
		if c == 0 || (previous == '\r') != (c == '\n') {
			return verdict{bare: true}
		}
		previous = c
		line = append(line, c)
		if c != '\n' {
			continue
		}
		if string(line) == ".\r\n" {
			v.content, v.consumed, v.done = content.String(), i+1, true
			return v
		}
		if line[0] == '.' {
			line = line[1:]
		}
		if len(line)-2 > mail.MaxLine {
			v.tooLong = true
		}
		content.Write(line)
		line = line[:0]
	}
	return v
}

// readChunks is the decoder, given what arrives in pieces of at most size octets,
// with a buffer like the wire's.
func readChunks(input string, size int) (v verdict) {
	var d decoder
	var content, buffer []byte
	for at := 0; ; {
		n, done, err := d.decode(buffer, func(run []byte) { content = append(content, run...) })
		if err != nil {
			return verdict{bare: true}
		}
		v.consumed += n
		buffer = buffer[n:]
		if done {
			v.content, v.done, v.tooLong = string(content), true, d.tooLong
			return v
		}
		if at == len(input) {
			return verdict{}
		}
		end := min(at+size, len(input))
		buffer = append(buffer, input[at:end]...)
		at = end
	}
}

// compare fails if decoder and reference differ on input in any chunking.
func compare(t interface {
	Helper()
	Fatalf(string, ...any)
}, input string, size int) {
	t.Helper()
	want, got := readOctets(input), readChunks(input, size)
	if !want.done && !want.bare {
		want = verdict{}
	}
	if want.tooLong {
		got.content = want.content
	}
	if got != want {
		t.Fatalf("%q in pieces of %d:\nthe decoder says   %+v\nthe reference says %+v", input, size, got, want)
	}
}

var dataSeeds = []string{
	".\r\n", "a\r\n.\r\n", "..\r\n.\r\n", "...\r\n.\r\nMAIL", ".a\r\n.\r\n", "\r\n.\r\n", "\r\n\r\n.\r\n", "a\n.\n", "a\r.\r\n",
	"a\r\n.\r\r\n", "a\r\n\x00.\r\n", "\n", "\r", "\r\r\n", ".", ".\r", "a", ".\n", ".\r\r\n.\r\n", "a\r\n.\r", "a\r\n.\r\n\r",
	strings.Repeat("x", 998) + "\r\n.\r\n", strings.Repeat("x", 999) + "\r\n.\r\n", "." + strings.Repeat("x", 998) + "\r\n.\r\n",
	"." + strings.Repeat("x", 999) + "\r\n.\r\n", strings.Repeat("x", 2000) + "\r\n.y\r\n.\r\n", strings.Repeat("x", 1500) + "\r.\r\n",
	strings.Repeat("x", 1500) + "\n.\r\n", strings.Repeat(".", 1200) + "\r\n.\r\n",
}

func FuzzData(f *testing.F) {
	for _, seed := range dataSeeds {
		f.Add(seed, uint16(1))
		f.Add(seed, uint16(3))
		f.Add(seed, uint16(1000))
	}
	f.Fuzz(func(t *testing.T, input string, size uint16) { compare(t, input, int(size)+1) })
}

func TestDecoderAgreesWithOneOctetAtATime(t *testing.T) {
	token := rapid.SampledFrom([]string{"\r\n", "\r\n.", ".", "\r\n.\r\n", "text", "\r", "\n", "\x00", strings.Repeat("y", 997), strings.Repeat("z", 1001)})
	common := rapid.SampledFrom([]string{"\r\n", "\r\n.", ".", "text", "more text", strings.Repeat("y", 300)})
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.OneOf(common, common, common, common, token)).Draw(t, "parts")
		compare(t, strings.Join(parts, "")+"\r\n.\r\nQUIT", rapid.IntRange(1, 3000).Draw(t, "size"))
	})
}

// What the Handler gets is what the client sent, octet for octet, in whatever
// pieces it came, and its hashes are those of the whole body.
func TestMessageArrivesAsSent(t *testing.T) {
	word := rapid.SampledFrom([]string{"a", ".", "..", " ", "\t", "text", "caf\xc3\xa9", "\xff\xfe", strings.Repeat("long ", 150)})
	line := rapid.Custom(func(t *rapid.T) string {
		s := strings.Join(rapid.SliceOfN(word, 0, 6).Draw(t, "words"), "")
		return s[:min(len(s), mail.MaxLine)] + "\r\n"
	})
	headers := rapid.SampledFrom([]string{
		"From: a@a.example\r\n",
		"From: a@a.example\r\nSubject: folded\r\n and on\r\n",
		"Subject: simple\r\nDKIM-Signature: v=1; a=rsa-sha256; d=a.example; s=s; h=from; bh=; b=\r\n",
		"X: " + strings.Repeat("x", 900) + "\r\nY: y\r\n",
	})
	rapid.Check(t, func(t *rapid.T) {
		header := headers.Draw(t, "header")
		body := strings.Join(rapid.SliceOfN(line, 0, 200).Draw(t, "body"), "")
		h := &recorder{}
		s := newServer(h)
		s.SpoolThreshold = int64(rapid.SampledFrom([]int{1, 1000, 1 << 20}).Draw(t, "threshold"))
		pieces := [][]byte{[]byte("EHLO a\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n")}
		data := []byte(stuff(header+"\r\n"+body) + "QUIT\r\n")
		for len(data) > 0 {
			n := min(len(data), rapid.IntRange(1, 40000).Draw(t, "piece"))
			pieces = append(pieces, data[:n])
			data = data[n:]
		}
		said := play(s, Plain, pieces...)
		if len(h.messages) != 1 || !strings.HasSuffix(said, "221 2.0.0 Bye\r\n") {
			t.Fatalf("%d messages kept; the server said %q", len(h.messages), said)
		}
		checkReceived(t, h.messages[0], header, body)
	})
}

func checkReceived(t *rapid.T, m keptMessage, header, body string) {
	if string(m.header) != header || string(m.body) != body || m.size != int64(len(header)+2+len(body)) {
		t.Fatalf("sent %q and %q\ngot  %q and %q, %d octets", header, body, m.header, m.body, m.size)
	}
	parsed, err := mail.ParseHeader([]byte(header), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	whole := dkim.NewBodyHasher(parsed)
	if _, err := whole.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	if m.hashes != whole.Sum() {
		t.Fatalf("the hashes of %q are not those of the whole", body)
	}
}

func TestBodyPastTheThresholdIsInAFile(t *testing.T) {
	dir := t.TempDir()
	m := message{maximum: 1 << 20}
	m.body = mail.BodyWriter{Dir: dir, Threshold: 10}
	m.take([]byte("A: b\r\n\r\n0123456789"))
	m.take([]byte("more\r\n"))
	r := m.received()
	defer r.Body.Close()
	if _, inMemory := r.Body.InMemory(); inMemory || r.Body.Size() != 16 {
		t.Errorf("a body of %d octets is in memory", r.Body.Size())
	}
}

func TestDiskThatFailsDefers(t *testing.T) {
	h := &recorder{}
	s := newServer(h)
	s.SpoolDir, s.SpoolThreshold = t.TempDir()+"/absent", 1
	said := play(s, Plain,
		[]byte("EHLO a\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n"),
		[]byte("A: b\r\n\r\nbody\r\nmore\r\n.\r\nNOOP\r\nQUIT\r\n"))
	if !strings.Contains(said, "\r\n451 4.3.0 The message could not be stored, try again later [CUSTODY_FAILED id=") || !strings.HasSuffix(said, "Nothing done\r\n221 2.0.0 Bye\r\n") {
		t.Errorf("the server said %q", said)
	}
	if len(h.messages) != 0 {
		t.Error("a message was kept")
	}
}

func BenchmarkDecode(b *testing.B) {
	data := []byte(stuff(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 270)))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		var d decoder
		if _, done, err := d.decode(data, func([]byte) {}); err != nil || !done {
			b.Fatal(err)
		}
	}
}

// BenchmarkMessage is a whole transaction of 20 KiB, hashing included, custody not.
func BenchmarkMessage(b *testing.B) {
	s := newServer(&discarder{})
	message := []byte(stuff("From: a@a.example\r\nTo: b@b.example\r\nSubject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 270)))
	var pieces [][]byte
	for range 100 {
		pieces = append(pieces, []byte("MAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n"), message)
	}
	b.ReportAllocs()
	for n := 0; n < b.N; n += 100 {
		run := append([][]byte{[]byte("EHLO a\r\n")}, pieces...)
		if said := play(s, Plain, run...); strings.Count(said, "RELAY_DENIED") != 100 {
			b.Fatal(said)
		}
	}
}
