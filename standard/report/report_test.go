package report

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// told lists parts a line each: type, size, first octets.
func told(parts []Part) (lines []string) {
	for _, p := range parts {
		lines = append(lines, p.Type+": "+Printable(string(p.Body), 60))
	}
	return lines
}

func crlf(lines ...string) []byte { return []byte(strings.Join(lines, "\r\n")) }

func TestPartsAreListedHoweverTheyStand(t *testing.T) {
	for _, test := range []struct {
		name    string
		message []byte
		want    []string
	}{
		{"no MIME", crlf("Subject: x", "", "words"), []string{"text/plain: words"}},
		{"a report", crlf(`Content-Type: multipart/report; report-type=delivery-status; boundary="b c"`, "", "preamble", "--b c", "", "words", "--b c", "Content-Type: message/delivery-status", "", "Reporting-MTA: dns; x", "--b c--", "epilogue"),
			[]string{"text/plain: words", "message/delivery-status: Reporting-MTA: dns; x"}},
		{"parts in parts", crlf("Content-Type: multipart/mixed; boundary=a", "", "--a", "Content-Type: multipart/alternative; boundary=b", "", "--b", "", "one", "--b", "Content-Type: TEXT/HTML", "", "<p>two", "--b--", "--a", "Content-Type: message/rfc822", "", "Subject: y", "", "z", "--a--"),
			[]string{"text/plain: one", "text/html: <p>two", "message/rfc822: Subject: y z"}},
		{"the end is missing", crlf("Content-Type: multipart/mixed; boundary=a", "", "--a", "", "one", "--a", "", "two"), []string{"text/plain: one", "text/plain: two"}},
		{"the boundary never comes", crlf("Content-Type: multipart/report; boundary=a", "", "words"), []string{"text/plain: words"}},
		{"a boundary that begins like another", crlf("Content-Type: multipart/mixed; boundary=a", "", "--ab", "no", "--a", "", "one", "--a--"), []string{"text/plain: one"}},
		{"LF alone", []byte("Content-Type: multipart/mixed; boundary=a\n\n--a\n\none\n--a--\n"), []string{"text/plain: one"}},
		{"encodings", crlf("Content-Type: multipart/mixed; boundary=a", "", "--a", "Content-Transfer-Encoding: base64", "", "d29yZHM=", "--a", "Content-Transfer-Encoding: Quoted-Printable", "", "w=6Frds", "--a--"), []string{"text/plain: words", "text/plain: words"}},
		{"a type that cannot be read", crlf(`Content-Type: multipart/report; boundary=a; x=; report-type`, "", "--a", "Content-Type: ;;;", "", "one", "--a--"), []string{": one"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, told(Read(Message(test.message)))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestFieldsAreUnfoldedAndOthersPassedOver(t *testing.T) {
	fields, rest := Message(crlf(" lost", "A: one", "\ttwo", "no field", "B :three", ": nameless", "a:four", "", "body"))
	want := Fields{{"A", "one two"}, {"B", "three"}, {"a", "four"}}
	if diff := cmp.Diff(want, fields); diff != "" || string(rest) != "body" {
		t.Errorf("rest %q; -want +got:\n%s", rest, diff)
	}
	if diff := cmp.Diff([]string{"one two", "four"}, fields.All("A")); diff != "" {
		t.Error(diff)
	}
}

func TestGroupsEndAtEmptyLines(t *testing.T) {
	got := Groups(crlf("", "A: 1", "B: 2", "", "", " ", "C: 3", ""))
	if diff := cmp.Diff([]Fields{{{"A", "1"}, {"B", "2"}}, {{"C", "3"}}}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWorkIsBounded(t *testing.T) {
	deep := "Content-Type: multipart/mixed; boundary=a\n\n"
	message := []byte(strings.Repeat("--a\n"+deep, 1000))
	if parts := Read(Message([]byte(deep + string(message)))); len(parts) > maxParts {
		t.Errorf("%d parts", len(parts))
	}
	long := bytes.Repeat([]byte("--a\n\nx\n"), MaxOctets)
	if parts := Read(Fields{{"Content-Type", "multipart/mixed; boundary=a"}}, long); len(parts) > maxParts {
		t.Errorf("%d parts", len(parts))
	}
	if fields, _ := Message(bytes.Repeat([]byte("A: b\n"), 5*maxFields)); len(fields) != maxFields {
		t.Errorf("%d fields", len(fields))
	}
}

func TestPrintableFitsALine(t *testing.T) {
	for in, want := range map[string]string{"a\r\n b\tc": "a b c", " x ": "x", "gr\xc3\xbcn\x00\xff": "gr?n??", "0123456789": "01234"} {
		if got := Printable(in, 6); len(got) > 6 || !strings.HasPrefix(want, got) {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// FuzzRead lets anybody write a report: the parts stay within bounds and inside
// the message.
func FuzzRead(f *testing.F) {
	f.Add([]byte("Content-Type: multipart/report; boundary=a\n\n--a\n\nx\n--a\nContent-Type: message/delivery-status\n\nA: b\n--a--\n"))
	f.Add([]byte("Content-Type: multipart/mixed; boundary=\"\"\n\n--\n\n----\n"))
	f.Add([]byte("Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n####"))
	f.Fuzz(func(t *testing.T, message []byte) {
		fields, rest := Message(message)
		total := 0
		parts := Read(fields, rest)
		for _, p := range parts {
			total += len(p.Body)
			Groups(p.Body)
		}
		if len(parts) > maxParts || total > len(rest) || len(fields) > maxFields {
			t.Fatalf("%d parts of %d octets out of %d, %d fields", len(parts), total, len(rest), len(fields))
		}
		if p := Printable(string(message), 100); len(p) > 100 || strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Fatalf("%q", p)
		}
	})
}
