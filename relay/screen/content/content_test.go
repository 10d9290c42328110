package content

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anechoic/mail"
)

// messageOf makes a message of text with plain line ends. Header lines that mail
// would refuse are left out.
func messageOf(tb testing.TB, text string) mail.Message {
	tb.Helper()
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
	head, body, _ := strings.Cut(text, "\r\n\r\n")
	h, err := mail.ParseHeader([]byte(head+"\r\n"), mail.HeaderLimits{})
	if err != nil {
		h = salvage(head)
	}
	return mail.Message{Header: h, Body: mail.NewBody([]byte(body))}
}

// salvage keeps the fields that are well formed, with their continuation lines.
func salvage(head string) (h mail.Header) {
	raw := ""
	keep := func() {
		if one, err := mail.ParseHeader([]byte(raw), mail.HeaderLimits{}); err == nil {
			h.Fields = append(h.Fields, one.Fields...)
		}
	}
	for line := range strings.Lines(head + "\r\n") {
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			raw += line
			continue
		}
		keep()
		raw = line
	}
	keep()
	return h
}

func read(tb testing.TB, text string) Content {
	tb.Helper()
	c, err := Read(messageOf(tb, text), Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// attachment is a message with one file.
func attachment(kind, disposition string, data []byte) string {
	return "From: a@a.example\nContent-Type: multipart/mixed; boundary=b\n\npreamble\n--b\nContent-Type: text/plain\n\nhello\n--b\nContent-Type: " + kind +
		"\nContent-Disposition: " + disposition + "\nContent-Transfer-Encoding: base64\n\n" + wrapped(data) + "\n--b--\nepilogue http://epilogue.example/\n"
}

func wrapped(data []byte) string {
	var b strings.Builder
	text := base64.StdEncoding.EncodeToString(data)
	for len(text) > 76 {
		b.WriteString(text[:76] + "\n")
		text = text[76:]
	}
	return b.String() + text
}

// codes lists the codes of findings with their severities, each once, in order.
func codes(findings []Finding) string {
	var list []string
	seen := map[string]bool{}
	for _, f := range findings {
		word := string(f.Code) + ":" + f.Severity.String()
		if !seen[word] {
			list = append(list, word)
		}
		seen[word] = true
	}
	return strings.Join(list, " ")
}

// domains parses names.
func domains(tb testing.TB, names ...string) (list []mail.Domain) {
	tb.Helper()
	for _, n := range names {
		d, err := mail.ParseDomain(n)
		if err != nil {
			tb.Fatal(err)
		}
		list = append(list, d)
	}
	return list
}

// suites gives a folder of the shared test data, which is no part of the project.
func suites(tb testing.TB, path ...string) string {
	tb.Helper()
	dir := os.Getenv("ANECHOIC_SUITES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "shared", "suites")
	}
	dir = filepath.Join(append([]string{dir}, path...)...)
	if _, err := os.Stat(dir); err != nil {
		tb.Skip("the shared suites are not here; set ANECHOIC_SUITES to their folder")
	}
	return dir
}

var windowsProgram = append([]byte("MZ\x90\x00\x03\x00\x00\x00"), bytes.Repeat([]byte{0, 1, 2}, 100)...)

func TestEveryCodeIsDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "screening.md"))
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, c := range Codes() {
		want.WriteString("### " + string(c) + "\n")
	}
	var got strings.Builder
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "### ") {
			got.WriteString(line)
		}
	}
	for line := range strings.Lines(want.String()) {
		if strings.Count(got.String(), line) != 1 {
			t.Errorf("docs/screening.md does not have one section %q", strings.TrimSpace(line))
		}
	}
}
