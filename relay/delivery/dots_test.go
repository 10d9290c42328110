package delivery

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// slowDots is dot-stuffing as RFC 5321 section 4.5.2 puts it, an octet at a time.
func slowDots(content []byte) ([]byte, error) {
	var out []byte
	last := byte('\n')
	for i, c := range content {
		next := byte(0)
		if i+1 < len(content) {
			next = content[i+1]
		}
		switch {
		case c == 0, c == '\n' && (i == 0 || last != '\r'), c == '\r' && next != '\n':
			return nil, errContent
		case c == '.' && last == '\n':
			out = append(out, '.')
		}
		out, last = append(out, c), c
	}
	if last != '\n' {
		return nil, errContent
	}
	return append(out, ".\r\n"...), nil
}

// stuffed writes content in pieces, through a buffer of that size.
func stuffed(content []byte, buffer int, pieces ...int) ([]byte, error) {
	var out bytes.Buffer
	w := newDotWriter(&out, make([]byte, 0, buffer))
	for _, n := range pieces {
		n = min(n, len(content))
		if _, err := w.Write(content[:n]); err != nil {
			return out.Bytes(), err
		}
		content = content[n:]
	}
	if _, err := w.Write(content); err != nil {
		return out.Bytes(), err
	}
	err := w.Close()
	return out.Bytes(), err
}

func TestLeadingDotsAreDoubled(t *testing.T) {
	for in, want := range map[string]string{
		"":                     ".\r\n",
		"a\r\n":                "a\r\n.\r\n",
		".\r\n":                "..\r\n.\r\n",
		"..\r\n.a\r\n":         "...\r\n..a\r\n.\r\n",
		"a.\r\nb .c\r\n\r\n":   "a.\r\nb .c\r\n\r\n.\r\n",
		"\r\n.\r\nQUIT\r\n":    "\r\n..\r\nQUIT\r\n.\r\n",
		"\r\n.\r\n.\r\n.\r\n.": "",
	} {
		for buffer := 1; buffer < 30; buffer++ {
			for first := range len(in) + 1 {
				got, err := stuffed([]byte(in), buffer, first)
				if want == "" {
					if !errors.Is(err, errContent) {
						t.Errorf("%q: %v", in, err)
					}
				} else if err != nil || string(got) != want {
					t.Errorf("%q in pieces at %d, buffer %d: %q, %v", in, first, buffer, got, err)
				}
			}
		}
	}
}

func TestDamagedContentNeverEnds(t *testing.T) {
	for _, bad := range []string{"\n", "\r", "a\n", "a\rb\r\n", "\r\r\n", "\n\r\n", "\n\r", "a\x00\r\n", "\r\n.\n", "\r\n.\r", "\r.\r\n", "a\r\nb", "a\nb\rc\r\n"} {
		for at := range 3 {
			content := strings.Repeat("line\r\n", at*20000) + bad
			for first := range len(bad) + 1 {
				out, err := stuffed([]byte(content), contentBuffer, len(content)-len(bad)+first)
				if !errors.Is(err, errContent) || bytes.HasSuffix(out, []byte("\r\n.\r\n")) {
					t.Errorf("%q: %v", bad, err)
				}
				for _, octets := range []string{"\x00", "\r.", "\n."} {
					if strings.Contains(bad, octets) && bytes.Contains(out, []byte(octets)) && octets != "\n." {
						t.Errorf("%q: %q was written", bad, octets)
					}
				}
			}
		}
	}
}

func TestSmallContentIsOneWrite(t *testing.T) {
	writes := &countingWriter{}
	w := newDotWriter(writes, make([]byte, 0, contentBuffer))
	for range 300 {
		if _, err := w.Write([]byte(".a line of seventy octets, as mail has them, with a dot at its start\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil || writes.n != 1 {
		t.Errorf("%d writes, %v", writes.n, err)
	}
}

type countingWriter struct{ n int }

func (w *countingWriter) Write(p []byte) (int, error) { w.n++; return len(p), nil }

func TestEightBitIsSeenAnywhere(t *testing.T) {
	for n := range 40 {
		b := bytes.Repeat([]byte{'a'}, n)
		if hasEightBit(b) {
			t.Errorf("%d letters", n)
		}
		for i := range b {
			b[i] = 0x80
			if !hasEightBit(b) {
				t.Errorf("octet %d of %d", i, n)
			}
			b[i] = 'a'
		}
	}
}

// suites finds the data that others made: ANECHOIC_SUITES, or beside the project.
func suites(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("ANECHOIC_SUITES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "suites")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no suites in %s: set ANECHOIC_SUITES to their folder", dir)
	}
	return dir
}

// TestNothingSmuggledLeaves sends what must not end DATA: it is refused, or
// stuffed so that only the last dot ends the message.
func TestNothingSmuggledLeaves(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(suites(t), "smtp", "end-of-data.dev.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		MustNotEnd []struct{ Seq string } `json:"must_not_end"`
	}
	if err := json.Unmarshal(b, &list); err != nil || len(list.MustNotEnd) == 0 {
		t.Fatalf("%d sequences, %v", len(list.MustNotEnd), err)
	}
	for _, c := range list.MustNotEnd {
		content := "Subject: x\r\n\r\nline" + c.Seq + "MAIL FROM:<admin@globex.example>\r\n"
		for first := range len(content) + 1 {
			out, err := stuffed([]byte(content), 64, first)
			ends := bytes.Count(out, []byte("\r\n.\r\n"))
			bare := bytes.Contains(bytes.ReplaceAll(out, []byte("\r\n"), nil), []byte("\r")) || bytes.ContainsAny(bytes.ReplaceAll(out, []byte("\r\n"), nil), "\n\x00")
			if err == nil && (ends != 1 || bare) || err != nil && ends != 0 {
				t.Errorf("%q in pieces at %d: %q, %v", c.Seq, first, out, err)
			}
		}
	}
}

// FuzzDotWriter compares with the slow way, in any pieces and buffers.
func FuzzDotWriter(f *testing.F) {
	f.Add([]byte(".\r\n..\r\n"), uint64(1))
	f.Add([]byte("a\r\n.\n"), uint64(2))
	f.Add([]byte("\r\r\n\x00"), uint64(3))
	f.Fuzz(func(t *testing.T, content []byte, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 0))
		var pieces []int
		for range random.IntN(5) {
			pieces = append(pieces, random.IntN(len(content)+1))
		}
		want, wantErr := slowDots(content)
		got, err := stuffed(content, 1+random.IntN(50), pieces...)
		switch {
		case (err == nil) != (wantErr == nil):
			t.Fatalf("%q: %v, the slow way %v", content, err, wantErr)
		case err == nil && !bytes.Equal(got, want):
			t.Fatalf("%q: %q, the slow way %q", content, got, want)
		}
	})
}

func BenchmarkDotWriter(b *testing.B) {
	content := []byte(strings.Repeat("A line of seventy octets, as mail has them most of the time, to its end.\r\n", 280))
	buf := make([]byte, 0, contentBuffer)
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		w := newDotWriter(&countingWriter{}, buf[:0])
		if _, err := w.Write(content); err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
