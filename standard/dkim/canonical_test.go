package dkim

import (
	"testing"

	"anechoic/mail"
)

func TestFieldsBecomeCanonical(t *testing.T) {
	header, err := mail.ParseHeader([]byte("A: X\r\nB:Y\t\r\n\tZ  \r\nSubJect:  \t\r\n  a\r\n\t b\tc  \r\nEmpty:\r\nBlank: \r\n"), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a:X\r\n", "b:Y Z\r\n", "subject:a b c\r\n", "empty:\r\n", "blank:\r\n"} // the first two: RFC 6376 section 3.4.5
	for i, f := range header.Fields {
		if got := string(AppendField(nil, f, Relaxed)); got != want[i] {
			t.Errorf("relaxed: %q, want %q", got, want[i])
		}
		if got := string(AppendField(nil, f, Simple)); got != string(f.Raw()) {
			t.Errorf("simple: %q, want %q", got, f.Raw())
		}
	}
}

func TestASignatureDoesNotCoverItself(t *testing.T) {
	for name, c := range map[string]struct{ value, relaxed, simple string }{
		"last":                   {"v=1; b=aGk=", "dkim-signature:v=1; b=", "DKIM-Signature: v=1; b="},
		"folded":                 {"v=1;\r\n b=aG\r\n k=", "dkim-signature:v=1; b=", "DKIM-Signature: v=1;\r\n b="},
		"in the middle":          {"b= aG k= ; bh=xx", "dkim-signature:b=; bh=xx", "DKIM-Signature: b=; bh=xx"},
		"space before the sign":  {"v=1; b = aGk= ;", "dkim-signature:v=1; b =;", "DKIM-Signature: v=1; b =;"},
		"bh is another tag":      {"bh=aGk=; b=xx", "dkim-signature:bh=aGk=; b=", "DKIM-Signature: bh=aGk=; b="},
		"without any b":          {"v=1", "dkim-signature:v=1", "DKIM-Signature: v=1"},
		"not a list of any kind": {"v", "dkim-signature:v", "DKIM-Signature: v"},
	} {
		f := mail.NewField("DKIM-Signature", c.value)
		if got := string(AppendUnsigned(nil, f, Relaxed)); got != c.relaxed {
			t.Errorf("%s, relaxed: %q, want %q", name, got, c.relaxed)
		}
		if got := string(AppendUnsigned(nil, f, Simple)); got != c.simple {
			t.Errorf("%s, simple: %q, want %q", name, got, c.simple)
		}
	}
}

func TestFieldsAreTakenFromTheBottom(t *testing.T) {
	header, err := mail.ParseHeader([]byte("X: 1\r\nDKIM-Signature: upper\r\nx: 2\r\nY: 3\r\nDKIM-Signature: lower\r\nX: 4\r\n"), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	own := header.Fields[4]
	got := string(NewIndex(header).AppendFields(nil, []string{"x", "y", "x", "y", "dkim-signature", "x", "x", "dkim-signature"}, own, Relaxed))
	if want := "x:4\r\ny:3\r\nx:2\r\ndkim-signature:upper\r\nx:1\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
