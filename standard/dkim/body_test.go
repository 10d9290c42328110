package dkim

import (
	"bytes"
	"crypto/sha256"
	"regexp"
	"testing"

	"pgregory.net/rapid"

	"anechoic/mail"
)

// The canonical forms once more, as RFC 6376 section 3.4 words them, one whole
// body at a time: slow, and plain to see.
var (
	endSpace  = regexp.MustCompile(`[ \t]+(\r\n|$)`)
	manySpace = regexp.MustCompile(`[ \t]+`)
	emptyEnd  = regexp.MustCompile(`(\r\n)+$`)
)

func plainSimple(body []byte) []byte {
	return append(emptyEnd.ReplaceAll(bytes.Clone(body), nil), "\r\n"...)
}

func plainRelaxed(body []byte) []byte {
	body = endSpace.ReplaceAll(body, []byte("$1"))
	body = manySpace.ReplaceAll(body, []byte(" "))
	body = emptyEnd.ReplaceAll(body, nil)
	if len(body) == 0 {
		return nil
	}
	return append(body, "\r\n"...)
}

// wantsBoth is a header whose signature makes the hasher compute both forms.
var wantsBoth = mail.Header{Fields: []mail.Field{mail.NewField(signatureField, "v=1; c=relaxed")}}

func TestBodiesBecomeCanonical(t *testing.T) {
	for name, c := range map[string]struct{ body, relaxed, simple string }{
		"the example of RFC 6376 section 3.4.5": {" C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n", " C \r\nD \t E\r\n"},
		"empty":                                 {"", "", "\r\n"},
		"one line end":                          {"\r\n", "", "\r\n"},
		"empty lines":                           {"\r\n\r\n\r\n", "", "\r\n"},
		"lines of white space":                  {" \r\n\t\r\n", "", " \r\n\t\r\n"},
		"no line end":                           {"a", "a\r\n", "a\r\n"},
		"white space and no line end":           {"a \t", "a\r\n", "a \t\r\n"},
		"empty lines between":                   {"a\r\n\r\n\r\nb\r\n", "a\r\n\r\n\r\nb\r\n", "a\r\n\r\n\r\nb\r\n"},
		"white lines between":                   {"a\r\n \r\nb\r\n \r\n", "a\r\n\r\nb\r\n", "a\r\n \r\nb\r\n \r\n"},
		"a leading tab":                         {"\ta\r\n", " a\r\n", "\ta\r\n"},
		"empty lines first":                     {"\r\n\r\na\r\n", "\r\n\r\na\r\n", "\r\n\r\na\r\n"},
		"a CR that is no line end":              {"a\rb\r\n", "a\rb\r\n", "a\rb\r\n"},
		"a CR at the end":                       {"a\r", "a\r\r\n", "a\r\r\n"},
		"white space, then a lone CR":           {"a \rb\r\n", "a \rb\r\n", "a \rb\r\n"},
		"an LF that is no line end":             {"a \n b\r\n", "a \n b\r\n", "a \n b\r\n"},
		"two CRs before LF":                     {"a\r\r\n", "a\r\r\n", "a\r\r\n"},
		"dots":                                  {".\r\n..\r\n", ".\r\n..\r\n", ".\r\n..\r\n"},
		"octets past ASCII":                     {"\xa0 \xa0\t\xff\r\n", "\xa0 \xa0 \xff\r\n", "\xa0 \xa0\t\xff\r\n"},
		"NUL":                                   {"a \x00 b\r\n", "a \x00 b\r\n", "a \x00 b\r\n"},
		"two spaces far into a long run":        {"0123456789abcdef 0123456789  x\r\n", "0123456789abcdef 0123456789 x\r\n", "0123456789abcdef 0123456789  x\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			h := NewBodyHasher(wantsBoth)
			h.Write([]byte(c.body))
			got := h.Sum()
			if got.Relaxed != sum(c.relaxed) {
				t.Errorf("relaxed is not %q", c.relaxed)
			}
			if !got.HasSimple || got.Simple != sum(c.simple) {
				t.Errorf("simple is not %q", c.simple)
			}
			if r := plainRelaxed([]byte(c.body)); string(r) != c.relaxed {
				t.Errorf("the plain relaxed form is %q", r)
			}
			if s := plainSimple([]byte(c.body)); string(s) != c.simple {
				t.Errorf("the plain simple form is %q", s)
			}
		})
	}
}

// bodies draws bodies rich in what canonicalisation looks at.
func bodies() *rapid.Generator[[]byte] {
	piece := rapid.SampledFrom([]string{"\r\n", "\r\n", " ", "  ", "\t", " \r\n", "\r\n\r\n", "\r", "\n", ".", "a", "é", "\x00",
		"The quick brown fox jumps over the lazy dog.", "0123456789abcdef0123456789abcdef\r\n", "    indented"})
	return rapid.Custom(func(t *rapid.T) []byte {
		var b []byte
		for _, p := range rapid.SliceOfN(piece, 0, 60).Draw(t, "pieces") {
			b = append(b, p...)
		}
		return bytes.Repeat(b, rapid.SampledFrom([]int{1, 1, 1, 20}).Draw(t, "times"))
	})
}

func TestChunkingDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := bodies().Draw(t, "body")
		h := NewBodyHasher(wantsBoth)
		for rest := body; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			if rapid.Bool().Draw(t, "short") {
				n = min(n, 3)
			}
			h.Write(rest[:n])
			rest = rest[n:]
		}
		got := h.Sum()
		if got.Relaxed != sha256.Sum256(plainRelaxed(body)) {
			t.Fatalf("relaxed form of %q", body)
		}
		if got.Simple != sha256.Sum256(plainSimple(body)) {
			t.Fatalf("simple form of %q", body)
		}
	})
}

func TestPlainRunsEndAtTheFirstTrouble(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SliceOf(rapid.SampledFrom([]byte(" \t\r\nabc!\x00\x1f\x7f\x80\xa0\xff"))).Draw(t, "p")
		want := len(p)
		for i, c := range p {
			if c == '\t' || c == ' ' && (i+1 == len(p) || p[i+1] <= ' ') {
				want = i
				break
			}
		}
		if got := plainRun(p); got != want {
			t.Fatalf("plainRun(%q) = %d, want %d", p, got, want)
		}
	})
}

func TestOnlyWantedFormsAreComputed(t *testing.T) {
	for name, c := range map[string]struct {
		field, value string
		simple       bool
	}{
		"relaxed twice":         {"DKIM-Signature", "v=1; c=relaxed/relaxed", false},
		"relaxed header only":   {"DKIM-Signature", "v=1; c=relaxed", true},
		"no c= at all":          {"dkim-signature", "v=1", true},
		"simple body":           {"DKIM-Signature", "v=1; c=relaxed/simple", true},
		"simple header":         {"DKIM-Signature", "v=1; c=simple/relaxed", false},
		"broken":                {"DKIM-Signature", "v=1; v=1", false},
		"ARC message signature": {"ARC-Message-Signature", "i=1; c=simple/simple", true},
		"another field":         {"Subject", "c=simple/simple", false},
	} {
		header := mail.Header{Fields: []mail.Field{mail.NewField("From", "a@t.example"), mail.NewField(c.field, c.value)}}
		if got := NewBodyHasher(header).Sum().HasSimple; got != c.simple {
			t.Errorf("%s: simple form computed: %v", name, got)
		}
	}
}

func TestABodyEndsOnce(t *testing.T) {
	h := NewBodyHasher(mail.Header{})
	h.Write([]byte("a"))
	first := h.Sum()
	if _, err := h.Write([]byte("b")); err == nil {
		t.Error("written to after the end")
	}
	if h.Sum() != first {
		t.Error("the hashes changed after the end")
	}
}
