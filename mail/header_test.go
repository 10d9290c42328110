package mail

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestHeadersKeepEveryByte(t *testing.T) {
	for _, header := range []string{
		"\r\n",
		"A: b\r\n\r\n",
		"a:b\r\n\r\n",
		"Subject:\r\n folded \t\r\n\tagain\r\nSubject: twice\r\n\r\n",
		"X-8bit: gr\xfc\xdfe \xff\r\n\r\n",
		"X-Control: \x01\x7f\x1b[31m\r\n\r\n",
		"X-Empty:\r\nX-Space: \r\nX-Colons:::\r\n\r\n",
		"!#$%&'*+-./^_`{|}~()<>@,;\\\"[]?=: any printable name\r\n\r\n",
		"X: " + strings.Repeat("a", MaxLine-3) + "\r\n\r\n",
	} {
		h, err := ParseHeader([]byte(header), HeaderLimits{})
		if err != nil {
			t.Errorf("%.60q: %v", header, err)
			continue
		}
		if got := string(h.Bytes()); got != header || h.Size() != len(header) {
			t.Errorf("%q became %q, %d octets", header, got, h.Size())
		}
	}
}

func TestMalformedHeadersAreRefused(t *testing.T) {
	limits := HeaderLimits{Bytes: 4096, Fields: 3}
	for _, tt := range []struct {
		story, header string
		want          error
	}{
		{"a space before the first field (A28)", " From: a@b.example\r\n\r\n", ErrHeaderSyntax},
		{"a tab before the first field", "\tFrom: a@b.example\r\n\r\n", ErrHeaderSyntax},
		{"a space before the colon", "From : a@b.example\r\n\r\n", ErrHeaderSyntax},
		{"a tab before the colon", "From\t: a@b.example\r\n\r\n", ErrHeaderSyntax},
		{"a folded name", "From\r\n : a@b.example\r\n\r\n", ErrHeaderSyntax},
		{"NUL in the name", "Fr\x00om: a@b.example\r\n\r\n", ErrHeaderSyntax},
		{"NUL in the value", "From: a\x00@b.example\r\n\r\n", ErrHeaderSyntax},
		{"8 bits in the name", "Fr\xf6m: a@b.example\r\n\r\n", ErrHeaderSyntax},
		{"DEL in the name", "From\x7f: a@b.example\r\n\r\n", ErrHeaderSyntax},
		{"no name", ": a@b.example\r\n\r\n", ErrHeaderSyntax},
		{"no colon", "From a@b.example\r\n\r\n", ErrHeaderSyntax},
		{"no colon at the end", "From", ErrHeaderSyntax},
		{"the From line of a mailbox", "From a@b.example Thu Aug 22 12:36:23 2002\r\nFrom: a@b.example\r\n\r\n", ErrHeaderSyntax},
		{"bare LF", "From: a@b.example\nTo: c@d.example\r\n\r\n", ErrHeaderSyntax},
		{"bare CR", "From: a@b.example\rTo: c@d.example\r\n\r\n", ErrHeaderSyntax},
		{"CR CR LF", "From: a@b.example\r\r\n\r\n", ErrHeaderSyntax},
		{"LF first", "\nFrom: a@b.example\r\n\r\n", ErrHeaderSyntax},
		{"no end of line", "From: a@b.example", ErrHeaderSyntax},
		{"half an end of line", "From: a@b.example\r", ErrHeaderSyntax},
		{"a line of white space", "From: a@b.example\r\n \r\nTo: c@d.example\r\n\r\n", ErrHeaderSyntax},
		{"a first line and one of white space", "From:\r\n\t \r\n a@b.example\r\n\r\n", ErrHeaderSyntax},
		{"text behind the empty line", "From: a@b.example\r\n\r\nbody\r\n", ErrHeaderSyntax},
		{"999 octets", "X: " + strings.Repeat("a", MaxLine-2) + "\r\n\r\n", ErrLineTooLong},
		{"999 octets folded", "X: a\r\n " + strings.Repeat("a", MaxLine) + "\r\n\r\n", ErrLineTooLong},
		{"four fields", "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\r\n", ErrHeaderTooBig},
		{"4097 octets", "A: 1\r\n" + strings.Repeat(" a\r\n", 1023) + "\r\n", ErrHeaderTooBig},
	} {
		h, err := ParseHeader([]byte(tt.header), limits)
		if !errors.Is(err, tt.want) || len(h.Fields) > 0 {
			t.Errorf("%s: %v, %d fields; want %v", tt.story, err, len(h.Fields), tt.want)
		}
	}
	if _, err := ParseHeader([]byte("A: 1\r\nB: 2\r\nC: 3\r\n\r\n"), limits); err != nil {
		t.Errorf("at the limit: %v", err)
	}
}

func TestFieldsAreFoundWithoutRegardToCase(t *testing.T) {
	h := must(ParseHeader([]byte("Received: 1\r\nX-Org: a\r\nRECEIVED:\r\n 2\t\r\n\t3 \r\nX-OrgName: b\r\n\r\n"), HeaderLimits{}))
	if h.Count("received") != 2 || len(h.All("Received")) != 2 || h.Count("Rec") != 0 {
		t.Error("Received is there twice")
	}
	f, ok := h.First("rEcEiVeD")
	if !ok || f.Value() != "1" || f.Name() != "Received" || string(f.Raw()) != "Received: 1\r\n" || string(f.RawValue()) != " 1" {
		t.Errorf("%q %v", f.Raw(), ok)
	}
	if v := h.All("received")[1].Value(); v != "2\t\t3" {
		t.Errorf("unfolded: %q", v)
	}
	if _, ok := h.First("From"); ok {
		t.Error("there is no From")
	}
	without := h.Without(func(f Field) bool { return f.HasPrefix("x-org") })
	if got := string(without.Bytes()); got != "Received: 1\r\nRECEIVED:\r\n 2\t\r\n\t3 \r\n\r\n" {
		t.Errorf("%q", got)
	}
	top := without.Prepend(NewField("A", "1"), NewField("B", "2\r\n\t3"))
	if got := string(top.Bytes()); !strings.HasPrefix(got, "A: 1\r\nB: 2\r\n\t3\r\nReceived: 1\r\n") {
		t.Errorf("%q", got)
	}
	if len(without.Fields) != 2 || len(h.Fields) != 4 {
		t.Error("Without or Prepend changed its header")
	}
}

func TestOurOwnFieldsCannotEndTheHeader(t *testing.T) {
	for _, bad := range []struct{ name, value string }{
		{"X", "a\r\nFrom: b"}, {"X", "a\r\n\r\nbody"}, {"X", "a\nb"}, {"X", "a\x00"}, {"X: y\r\nZ", "a"}, {"", "a"}, {"X ", "a"}, {"X", strings.Repeat("a", MaxLine)},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("NewField(%q, %.40q) made a field", bad.name, bad.value)
				}
			}()
			NewField(bad.name, bad.value)
		}()
	}
}

func FuzzParseHeader(f *testing.F) {
	for _, s := range []string{"From: a@b.example\r\n\r\n", "A:\r\n b\r\nFrom: x <a@b.example>\r\nSender: c@d.example\r\nResent-From: e@f, g@h\r\n", " A: b\r\n", "A : b\r\n\r\n", "\r\n", "A: b\n\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b, HeaderLimits{Bytes: 1 << 16, Fields: 100})
		if err != nil {
			return
		}
		whole := b
		if !bytes.HasSuffix(b, []byte("\r\n\r\n")) && !bytes.Equal(b, crlf) {
			whole = append(bytes.Clone(b), crlf...)
		}
		if !bytes.Equal(h.Bytes(), whole) || h.Size() != len(whole) || len(h.Fields) > 100 {
			t.Errorf("%q became %q", b, h.Bytes())
		}
		for _, f := range h.Fields {
			if strings.ContainsAny(f.Value(), "\r\n\x00") || strings.ContainsAny(f.Name(), " \t\r\n:") || !f.Is(f.Name()) {
				t.Errorf("%q: %q", f.Raw(), f.Value())
			}
		}
		if o, refusal := ReadOriginators(h); refusal == nil && (o.From.Address.IsZero() || h.Count("From") != 1 || h.Count("Sender") != len(o.Sender)) {
			t.Errorf("%q: %+v", b, o)
		}
	})
}

// benchmarkHeader is about what a message of Microsoft 365 carries.
func benchmarkHeader() []byte {
	var b bytes.Buffer
	for i := range 30 {
		fmt.Fprintf(&b, "X-Field-%d: some value that is about as long as a line of a header is\r\n and folded once\r\n", i)
	}
	b.WriteString("From: \"A. Person\" <person@t.example>\r\nTo: x@y.example\r\nSubject: z\r\nDate: Thu, 22 Aug 2002 12:36:23 +0000\r\n\r\n")
	return b.Bytes()
}

func BenchmarkParseHeader(b *testing.B) {
	raw := benchmarkHeader()
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseHeader(raw, HeaderLimits{Bytes: 1 << 20, Fields: 1000}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadOriginators(b *testing.B) {
	h := must(ParseHeader(benchmarkHeader(), HeaderLimits{}))
	b.ReportAllocs()
	for b.Loop() {
		if _, refusal := ReadOriginators(h); refusal != nil {
			b.Fatal(refusal)
		}
	}
}

// Every field means the same however it is folded (RFC 5322 section 2.2.3): only
// the line ends go.
func TestEveryFoldingIsTheSameValue(t *testing.T) {
	word := rapid.SampledFrom([]string{"a", "b;", "c=d", "\"q", "r\"", "(x", "y)", "<a@b.example>", "11111111-1111-4111-8111-111111111111", "anx1_3abigakvquj4hqwgnv7k4x7gvhi", "[10.0.0.1]", "\xfc", ":"})
	blank := rapid.SampledFrom([]string{" ", "\t", "  ", " \t"})
	rapid.Check(t, func(t *rapid.T) {
		value := ""
		for range rapid.IntRange(1, 8).Draw(t, "words") {
			value += blank.Draw(t, "blank") + word.Draw(t, "word")
		}
		name := rapid.SampledFrom([]string{"Subject", "X-OriginatorOrg", "received", "CONTENT-TYPE"}).Draw(t, "name")
		read := func(value string) Field {
			h, err := ParseHeader([]byte("Before: x\r\n"+name+":"+value+"\r\nAfter: x\r\n\r\n"), HeaderLimits{})
			if err != nil || len(h.Fields) != 3 {
				t.Fatalf("%q: %d fields, %v", value, len(h.Fields), err)
			}
			return h.Fields[1]
		}
		plain, folded := read(value), read(foldedBeforeWords(t, value))
		if plain.Value() != folded.Value() || plain.Name() != folded.Name() || !folded.Is(name) {
			t.Fatalf("%q is %q; folded %q", value, plain.Value(), folded.Value())
		}
	})
}

// foldedBeforeWords breaks lines before some of the blanks that a word follows: no
// line is white space alone.
func foldedBeforeWords(t *rapid.T, value string) string {
	var b strings.Builder
	for i := range len(value) {
		isBlank := value[i] == ' ' || value[i] == '\t'
		if isBlank && value[i+1] != ' ' && value[i+1] != '\t' && rapid.Bool().Draw(t, "fold") {
			b.WriteString("\r\n")
		}
		b.WriteByte(value[i])
	}
	return b.String()
}
