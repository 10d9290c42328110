package mail

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// scan gives the whole body to a scanner in pieces of so many lines; 0: at once.
func scan(contentType, body string, maxDepth, maxHeader, lines int) error {
	var h Header
	if contentType != "" {
		h = Header{Fields: []Field{NewField("Content-Type", contentType)}}
	}
	s := NewMIMEScanner(h, maxDepth, maxHeader)
	for len(body) > 0 {
		n := len(body)
		for i, at := 0, 0; lines > 0 && i < lines && at < len(body); i++ {
			at += strings.Index(body[at:], "\r\n") + 2
			n = at
		}
		s.Scan([]byte(body[:n]))
		body = body[n:]
	}
	return s.Err()
}

// depthOf is the smallest limit that a message passes.
func depthOf(contentType, body string) int {
	for n := 1; ; n++ {
		if scan(contentType, body, n, 0, 0) == nil {
			return n
		}
	}
}

// wrapped is a body so many levels deep, each a multipart of one part, and the
// Content-Type of the outermost.
func wrapped(levels int) (contentType, body string) {
	contentType, body = "text/plain", "text\r\n"
	for n := range levels {
		body = fmt.Sprintf("--b%d\r\nContent-Type: %s\r\n\r\n%s\r\n--b%d--\r\n", n, contentType, body, n)
		contentType = fmt.Sprintf("multipart/mixed; boundary=b%d", n)
	}
	return contentType, body
}

func TestDepthOfMIMEParts(t *testing.T) {
	const a, b = "multipart/mixed; boundary=a", "multipart/mixed; boundary=b"
	part := func(boundary, header, body string) string {
		return "--" + boundary + "\r\n" + header + "\r\n\r\n" + body + "\r\n"
	}
	deep := func(boundary string) string { return part(boundary, "Content-Type: "+b, part("b", "A: b", "")) }
	for _, tt := range []struct {
		story, contentType, body string
		want                     int // levels; 1 is also what has none
	}{
		{"no MIME", "", "--a\r\nContent-Type: " + b + "\r\n\r\n--b\r\n", 1},
		{"text with lines that look like boundaries", "text/plain; boundary=a", deep("a"), 1},
		{"one multipart", a, part("a", "A: b", "text") + "--a--\r\n", 1},
		{"a multipart in a multipart", a, deep("a"), 2},
		{"siblings", a, deep("a") + deep("a") + deep("a") + "--a--\r\n", 2},
		{"a message in a part", a, part("a", "Content-Type: message/rfc822", "From: x\r\n\r\ntext"), 2},
		{"a multipart in a message in a part", a, part("a", "Content-Type: message/rfc822", "Content-Type: "+b+"\r\n\r\n"+part("b", "A: b", "")), 3},
		{"a message alone", "message/rfc822", "Content-Type: " + b + "\r\n\r\n" + part("b", "A: b", ""), 2},
		{"a message of RFC 6532", a, part("a", "Content-Type: message/global", "A: b\r\n\r\n"), 2},
		{"a digest", "multipart/digest; boundary=a", "--a\r\n\r\nContent-Type: " + b + "\r\n\r\n" + deep("b"), 4},
		{"a digest with parts that say what they are", "multipart/digest; boundary=a", part("a", "Content-Type: text/plain", deep("x")), 1},
		{"the part behind a nested one", a, deep("a") + part("a", "Content-Type: text/plain", "--b\r\nContent-Type: "+b+"\r\n\r\n"), 2},
		{"an epilogue", a, "--a--\r\n" + deep("a"), 1},
		{"an inner end that never comes", a, deep("a") + "--a--\r\n--b\r\nContent-Type: " + b + "\r\n\r\n", 2},
		{"a quoted boundary", `multipart/mixed; boundary="a b=(c)"`, deep("a b=(c)"), 2},
		{"an escaped quote in it", `multipart/mixed; boundary="a\"b"`, deep(`a"b`), 2},
		{"space around everything", "multipart / mixed ; x=y ; boundary = a ", deep("a \t"), 2},
		{"comments", "multipart/mixed (; boundary=x (y)) ; (z) boundary=a (w)", deep("a"), 2},
		{"capitals", "MULTIPART/Mixed; BOUNDARY=a", strings.ReplaceAll(deep("a"), "Content-Type", "CONTENT-TYPE"), 2},
		{"a boundary in pieces", "multipart/mixed; boundary*0=a; boundary*1=b", deep("ab"), 2},
		{"a boundary in percent signs", "multipart/mixed; boundary*=utf-8'en'%61%2Fb", deep("a/b"), 2},
		{"no boundary", "multipart/mixed", deep(""), 1},
		{"a boundary longer than any line", "multipart/mixed; boundary*0=" + strings.Repeat("x", 900) + ";\r\n boundary*1=" + strings.Repeat("x", 97), deep("x"), 1},
		{"a folded Content-Type", a, "--a\r\nContent-Type: multipart/mixed;\r\n\tboundary=b\r\n\r\n" + part("b", "A: b", ""), 2},
		{"space before the colon", a, "--a\r\nContent-Type : " + b + "\r\n\r\n" + part("b", "A: b", ""), 2},
		{"two of them, the second nests", a, "--a\r\nContent-Type: text/plain\r\nContent-Type: " + b + "\r\n\r\n" + part("b", "A: b", ""), 2},
		{"no empty line behind the header", a, "--a\r\nContent-Type: " + b + "\r\n--b\r\nContent-Type: multipart/x; boundary=c\r\n--c\r\n", 3},
		{"a header cut off by a boundary", a, "--a\r\nContent-Type: message/rfc822\r\n--a\r\nContent-Type: " + b + "\r\n\r\n", 2},
		{"a line that goes on behind the boundary", a, "--ax\r\nContent-Type: " + b + "\r\n\r\n--by\r\nContent-Type: multipart/x; boundary=c\r\n\r\n", 3},
		{"a longer boundary in a shorter one", a, part("a", "Content-Type: multipart/x; boundary=ab", "--ab\r\nContent-Type: multipart/x; boundary=abc\r\n\r\n--abc--\r\n--ab--"), 3},
		{"the same boundary twice", a, part("a", "Content-Type: "+a, part("a", "Content-Type: "+a, "--a--\r\n--a--\r\n--a--\r\nx")), 3},
		{"a boundary that ends like an end", "multipart/mixed; boundary=a--", deep("a--"), 2},
	} {
		if got := depthOf(tt.contentType, tt.body); got != tt.want {
			t.Errorf("%s: %d levels, want %d", tt.story, got, tt.want)
		}
		for _, lines := range []int{1, 2, 3} {
			if err := scan(tt.contentType, tt.body, tt.want, 0, lines); err != nil {
				t.Errorf("%s: %d lines at a time: %v", tt.story, lines, err)
			}
		}
	}
}

func TestMIMELimits(t *testing.T) {
	contentType, body := wrapped(100)
	if err := scan(contentType, body, 0, 0, 0); err != nil {
		t.Errorf("a hundred levels: %v", err)
	}
	contentType, body = wrapped(101)
	if err := scan(contentType, body, 0, 0, 0); !errors.Is(err, ErrMIMETooDeep) {
		t.Errorf("a hundred and one levels: %v", err)
	}
	messages := strings.Repeat("Content-Type: message/rfc822\r\n\r\n", 100)
	if err := scan("message/rfc822", messages, 0, 0, 1); !errors.Is(err, ErrMIMETooDeep) {
		t.Errorf("messages in messages: %v", err)
	}
	const a = "multipart/mixed; boundary=a"
	giant := "--a\r\n" + strings.Repeat("X: y\r\n", 100) + "\r\ntext\r\n--a--\r\n"
	if err := scan(a, giant, 0, 601, 0); !errors.Is(err, ErrHeaderTooBig) {
		t.Errorf("a part's header over the limit: %v", err)
	}
	if err := scan(a, giant+giant, 0, 602, 0); err != nil {
		t.Errorf("a part's header at the limit: %v", err)
	}
	long := "--a\r\nContent-Type: x/y;\r\n" + strings.Repeat(" x=yyyyyyyyyyyyyyyyyyyyy;\r\n", 400) + "\r\n"
	if err := scan(a, long, 0, 0, 1); !errors.Is(err, ErrHeaderTooBig) {
		t.Errorf("a Content-Type without end: %v", err)
	}
	if err := scan("x/y;\r\n "+strings.Repeat("x;\r\n ", 3000)+"x", "", 0, 0, 0); !errors.Is(err, ErrHeaderTooBig) {
		t.Errorf("a Content-Type of the message without end: %v", err)
	}
}

// tree writes a random structure and gives its depth.
func tree(t *rapid.T, levels int, path string) (contentType, body string, depth int) {
	kinds := []string{"text", "multipart", "message", "digest"}
	if levels == 0 {
		kinds = kinds[:1]
	}
	newline := "\r\n"
	switch rapid.SampledFrom(kinds).Draw(t, "kind") {
	case "message":
		inner, text, d := tree(t, levels-1, path+"m")
		return "message/rfc822", "Subject: x" + newline + "Content-Type: " + inner + newline + newline + text, d + 1
	case "digest":
		inner, text, d := tree(t, levels-1, path+"d")
		boundary := "=_" + path
		return `multipart/digest; boundary="` + boundary + `"`,
			"--" + boundary + "\r\n\r\nContent-Type: " + inner + "\r\n\r\n" + text + "\r\n--" + boundary + "--\r\n", d + 2
	case "multipart":
		boundary := "=_" + path
		var b strings.Builder
		b.WriteString("preamble\r\n--\r\n")
		for i := range rapid.IntRange(1, 3).Draw(t, "parts") {
			inner, text, d := tree(t, levels-1, fmt.Sprint(path, i))
			fmt.Fprintf(&b, "--%s\r\nContent-Type: %s\r\nX-Other: y\r\n\r\n%s\r\n", boundary, inner, text)
			depth = max(depth, d)
		}
		fmt.Fprintf(&b, "--%s--\r\nepilogue\r\n", boundary)
		return "multipart/mixed;\r\n\tboundary=\"" + boundary + `"`, b.String(), depth + 1
	}
	return "text/plain; charset=utf-8", "-- \r\nContent-Type: multipart/mixed; boundary=none\r\n--none\r\n", 0
}

// Whatever is built of parts has exactly the depth it was built with, in whatever
// pieces it arrives.
func TestDepthIsThatOfTheStructure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		contentType, body, depth := tree(t, rapid.IntRange(0, 5).Draw(t, "levels"), "")
		lines := rapid.IntRange(0, 4).Draw(t, "lines")
		if err := scan(contentType, body, max(depth, 1), 0, lines); err != nil {
			t.Fatalf("depth %d: %v\n%s\n%s", depth, err, contentType, body)
		}
		if depth > 1 {
			if err := scan(contentType, body, depth-1, 0, lines); !errors.Is(err, ErrMIMETooDeep) {
				t.Fatalf("depth %d passes a limit of %d\n%s\n%s", depth, depth-1, contentType, body)
			}
		}
	})
}

func FuzzMIMEDepth(f *testing.F) {
	for _, n := range []int{1, 3, 12} {
		contentType, body := wrapped(n)
		f.Add(contentType, body, uint8(10))
	}
	f.Add("multipart/digest; boundary=a", "--a\r\n\r\nContent-Type: message/rfc822\r\n\r\n\r\n--a--\r\n--a", uint8(2))
	f.Add("multipart/x; boundary*0*=u''%41; boundary*1=b (c", "--Ab--\r\n--Ab \t\r\nContent-Type: message/rfc822\r\nx\r\n", uint8(1))
	f.Add(`multipart/x (a\)) ; boundary="a\`, "--a\\\r\n \r\n\tContent-Type:a\r\n", uint8(1))
	f.Fuzz(func(t *testing.T, contentType, body string, limit uint8) {
		if strings.ContainsAny(contentType, "\r\n\x00") || len(contentType) > 900 || len(body) > 1<<16 {
			return
		}
		body = strings.TrimRight(strings.ReplaceAll(strings.ReplaceAll(body, "\r", ""), "\n", "\r\n"), "\r\n") + "\r\n"
		whole := scan(contentType, body, int(limit), 500, 0)
		if whole != nil && !errors.Is(whole, ErrMIMETooDeep) && !errors.Is(whole, ErrHeaderTooBig) {
			t.Fatal(whole)
		}
		for _, lines := range []int{1, 2} {
			if got := scan(contentType, body, int(limit), 500, lines); fmt.Sprint(got) != fmt.Sprint(whole) {
				t.Fatalf("%v at once, %v by %d lines", whole, got, lines)
			}
		}
		if more := scan(contentType, body, int(limit)+1, 500, 0); limit > 0 && whole == nil && more != nil {
			t.Fatalf("it passes %d levels and not %d: %v", limit, limit+1, more)
		}
	})
}

// The odd messages that other MIME libraries keep for their tests are not deep.
func TestMessagesOfOtherLibrariesAreNotTooDeep(t *testing.T) {
	n := 0
	err := filepath.WalkDir(suites(t, "mime"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		message, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		message = asReceived(message)
		h, err := ParseHeader(headerOf(message), HeaderLimits{})
		if err != nil {
			return nil // refused for that
		}
		_, body, _ := bytes.Cut(message, []byte("\r\n\r\n"))
		s := NewMIMEScanner(h, 20, 256<<10)
		s.Scan(append(body, "\r\n"...))
		if n++; s.Err() != nil {
			t.Errorf("%s: %v", path, s.Err())
		}
		return nil
	})
	if err != nil || n < 100 {
		t.Fatalf("%d messages: %v", n, err)
	}
}

func BenchmarkMIMEScanner(b *testing.B) {
	body := []byte("--a\r\nContent-Type: text/plain\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 270) + "--a--\r\n")
	h := Header{Fields: []Field{NewField("Content-Type", "multipart/mixed; boundary=a")}}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		NewMIMEScanner(h, 100, 1<<18).Scan(body)
	}
}

// BenchmarkHostileMIME is the worst that fits: as deep as may be, and nothing but
// lines that could be boundaries.
func BenchmarkHostileMIME(b *testing.B) {
	_, open := wrapped(100)
	open = open[:strings.Index(open, "text\r\n")]
	body := []byte(open + strings.Repeat("--b\r\n", 200_000))
	h := Header{Fields: []Field{NewField("Content-Type", "multipart/mixed; boundary=b99")}}
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		NewMIMEScanner(h, 100, 1<<18).Scan(body)
	}
}
