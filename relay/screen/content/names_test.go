package content

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
)

func TestFilesAreJudgedByNameTypeAndFirstOctets(t *testing.T) {
	picture, pdf, text := []byte("\x89PNG\r\n\x1a\n...."), []byte("%PDF-1.7"), []byte("hello")
	shell := []byte("#!/bin/sh\nrm")
	for _, c := range []struct {
		behaviour, kind, disposition string
		data                         []byte
		want                         string
	}{
		{"a picture", "image/png", `attachment; filename="a.png"`, picture, ""},
		{"a picture of another format", "image/jpeg", `attachment; filename="a.jpg"`, picture, ""},
		{"a document", "application/pdf", `attachment; filename="a.pdf"`, pdf, ""},
		{"a text", "text/plain", `attachment; filename="a.txt"`, text, ""},
		{"a program", "application/octet-stream", `attachment; filename="a.exe"`, windowsProgram, "file-blocked:dangerous file-program:dangerous"},
		{"a program without a name", "application/octet-stream", "inline", windowsProgram, "file-program:dangerous"},
		{"a program as a picture", "image/png", `attachment; filename="a.png"`, windowsProgram, "file-program:dangerous file-contradicts:dangerous"},
		{"a program by its type only", "image/png", `attachment`, windowsProgram, "file-program:dangerous file-contradicts:dangerous"},
		{"MZ that begins a text", "text/plain", `attachment; filename="a.txt"`, []byte("MZ is how programs begin, and here it is only the beginning of a sentence."), ""},
		{"a shortcut", "application/octet-stream", `attachment; filename="a.pdf"`, []byte("L\x00\x00\x00\x01\x14\x02\x00..."), "file-script:dangerous file-contradicts:dangerous"},
		{"an archive as a picture", "image/gif", `attachment; filename="a.gif"`, []byte("Rar!\x1a\x07\x01\x00"), "file-contradicts:suspicious file-unopened:note"},
		{"a page as a document", "application/pdf", `attachment; filename="a.pdf"`, []byte("<!DOCTYPE html><p>x"), "file-contradicts:suspicious"},
		{"two endings", "application/octet-stream", `attachment; filename="invoice.pdf.scr"`, text, "file-blocked:dangerous file-program:dangerous file-two-endings:dangerous"},
		{"two endings that are usual", "application/gzip", `attachment; filename="a.tar.xz"`, text, ""},
		{"a version in the name", "application/pdf", `attachment; filename="release-1.2.pdf"`, pdf, ""},
		{"a dot and space behind the ending", "application/octet-stream", `attachment; filename="a.exe . "`, text, "file-blocked:dangerous file-program:dangerous"},
		{"wide letters", "application/octet-stream", `attachment; filename*=utf-8''a%EF%BC%8Eex%EF%BD%85`, text, "file-blocked:dangerous file-program:dangerous"},
		{"turned direction", "application/octet-stream", `attachment; filename*=utf-8''annual-%E2%80%AEfdp.exe`, text, "file-blocked:dangerous file-program:dangerous file-hidden-name:dangerous"},
		{"letters that nobody sees", "application/octet-stream", `attachment; filename*=utf-8''a%E2%80%8B.pdf`, pdf, "file-hidden-name:suspicious"},
		{"an emoji that is joined", "application/pdf", `attachment; filename*=utf-8''%F0%9F%91%A9%E2%80%8D%F0%9F%92%BB.pdf`, pdf, ""},
		{"space before the ending", "application/octet-stream", `attachment; filename="a.pdf                      .exe"`, text, "file-blocked:dangerous file-program:dangerous file-two-endings:dangerous file-hidden-name:suspicious"},
		{"an encoded-word", "application/octet-stream", `attachment; filename="=?utf-8?B?YS5leGU=?="`, text, "file-blocked:dangerous file-program:dangerous"},
		{"pieces in any order", "application/octet-stream", `attachment; filename*1="exe"; filename*0="a."`, text, "file-blocked:dangerous file-program:dangerous"},
		{"two names that disagree", `application/octet-stream; name="a.pdf"`, `attachment; filename="a.exe"`, text, "file-blocked:dangerous file-program:dangerous file-two-names:suspicious"},
		{"two forms of a name that disagree", "application/octet-stream", `attachment; filename="a.pdf"; filename*=utf-8''a.exe`, text, "file-blocked:dangerous file-program:dangerous file-two-names:suspicious"},
		{"two forms that differ in letters only", "application/pdf", `attachment; filename="Uebersicht.pdf"; filename*=utf-8''%C3%9Cbersicht.pdf`, pdf, ""},
		{"a disk image", "application/octet-stream", `attachment; filename="a.iso"`, text, "file-disk-image:suspicious"},
		{"source text", "text/x-python", `attachment; filename="a.py"`, shell, "file-script:note"},
		{"a page with a script", "text/html", `attachment; filename="a.html"`, []byte("<script>x()</script>"), "file-page:suspicious"},
		{"a page with a form", "text/html", `attachment; filename="a.htm"`, []byte("<form action='http://evil.example/'><input type=password>"), "file-page:suspicious"},
		{"a page without", "text/html", `attachment; filename="a.html"`, []byte("<p>hello"), ""},
		{"a picture with a script", "image/svg+xml", `attachment; filename="a.svg"`, []byte("<svg onload=x()></svg>"), "file-page:suspicious"},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			content := read(t, attachment(c.kind, c.disposition, c.data))
			if got := codes(Judge(content, Rules{Blocked: DefaultBlocked()})); got != c.want {
				t.Errorf("findings %q, want %q\n%+v", got, c.want, content.Files)
			}
		})
	}
}

func TestNamesAreDecoded(t *testing.T) {
	for _, c := range []struct {
		disposition string
		want        []string
	}{
		{`attachment; filename="a.txt"`, []string{"a.txt"}},
		{`attachment; filename*=iso-8859-1'de'B%FCcher.txt`, []string{"Bücher.txt"}},
		{`attachment; filename*0*=utf-8''%C3%A4; filename*1*=%2E; filename*2="t%41xt"`, []string{"ä.t%41xt"}},
		{`attachment; filename*0="a"; filename*2="c"`, []string{"a"}},
		{`attachment; filename==?iso-8859-1?q?=FC.txt?=`, []string{"ü.txt"}},
		{`attachment; filename="a.txt"; filename=b.txt`, []string{"a.txt", "b.txt"}},
		{`attachment; filename="=?nonsense?q?a?="`, []string{"a"}},
	} {
		content := read(t, attachment("application/octet-stream", c.disposition, []byte("x")))
		if diff := cmp.Diff(c.want, content.Files[1].Names); diff != "" {
			t.Errorf("%s (-want +got)\n%s", c.disposition, diff)
		}
	}
}

func TestEveryPlaceIsRead(t *testing.T) {
	nested := "From: a@a.example\nContent-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/alternative; boundary=\"i\"\n\n--i\n\nsee http://one.example/\n--i\nContent-Type: text/html\n\n<a href='http://two.example'>x</a>\n--i--\n" +
		"--o\nContent-Type: message/rfc822\n\nFrom: \"ceo@b.example\" <x@c.example>\nContent-Type: text/html; charset=utf-16le\nContent-Transfer-Encoding: base64\n\n" + wrapped(utf16le("<a href=http://three.example/>x</a>")) + "\n" +
		"--o\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\n" + wrapped([]byte("Subject: x\nContent-Type: multipart/mixed; boundary=o\n\n--o\n\nhttp://four.example\n--o\nContent-Disposition: attachment; filename=x.exe\n\nx\n--o--")) + "\n" +
		"--o\nContent-Type: multipart/digest; boundary=d\n\n--d\n\nSubject: y\n\nhttp://five.example\nbegin 644 old.exe\n--d--\n--o--\n"
	c := read(t, nested)
	var places, hosts []string
	for _, f := range c.Files {
		places = append(places, f.Place+" "+f.Name())
	}
	for _, l := range c.Links {
		hosts = append(hosts, l.Place+" "+l.Host)
	}
	if diff := cmp.Diff([]string{"part 1.1 ", "part 1.2 ", "part 2.1 ", "part 3.1.1 ", "part 3.1.2 x.exe", "part 4.1.1, in the text old.exe", "part 4.1.1 "}, places); diff != "" {
		t.Errorf("files (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"part 1.1 one.example", "part 1.2 two.example", "part 2.1 three.example", "part 3.1.1 four.example", "part 4.1.1 five.example"}, hosts); diff != "" {
		t.Errorf("links (-want +got)\n%s", diff)
	}
	if got, want := codes(Judge(c, Rules{})), "file-program:dangerous"; got != want {
		t.Errorf("the header of a message in the message counts: %q, want %q", got, want)
	}
}

func TestAPieceOfAMessageIsAFinding(t *testing.T) {
	c := read(t, "From: a@a.example\nContent-Type: message/partial; number=1; total=2; id=x\n\nx\n")
	if got, want := codes(Judge(c, Rules{})), "message-fragment:suspicious"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestWhatProgramsReadDifferentlyIsAFinding(t *testing.T) {
	for _, c := range []struct{ behaviour, text, want string }{
		{"two boundaries", "Content-Type: multipart/mixed; boundary=a; boundary=b\n\n--a\n\nx\n--a--\n", twoBoundaries},
		{"no boundary", "Content-Type: multipart/mixed\n\n--a\n\nx\n--a--\n", noBoundary},
		{"another boundary", "Content-Type: multipart/mixed; boundary=b\n\n--a\n\nx\n--a--\n", noParts},
		{"two types", "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\nContent-Type: text/html\n\nx\n--b--\n", twoTypes},
		{"two encodings", "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: base64\nContent-Transfer-Encoding: 7bit\n\nx\n--b--\n", twoEncodings},
		{"packed parts", "Content-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: base64\n\n--b\n\nx\n--b--\n", packedParts},
	} {
		content := read(t, c.text)
		if diff := cmp.Diff([]string{c.want}, content.Ambiguous); diff != "" || codes(Judge(content, Rules{})) != "message-ambiguous:suspicious" {
			t.Errorf("%s: %s (-want +got)\n%s", c.behaviour, codes(Judge(content, Rules{})), diff)
		}
	}
}

func TestHostileMIMEIsBounded(t *testing.T) {
	var deep, many strings.Builder
	deep.WriteString("Subject: x\nContent-Type: message/rfc822\n\n" + strings.Repeat("Content-Type: message/rfc822\n\n", 5000))
	many.WriteString("Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\nx\n", 5000))
	for _, c := range []struct {
		behaviour, text string
		want            []string
	}{
		{"messages in messages", deep.String(), []string{"parts in parts"}},
		{"many parts", many.String(), []string{"parts"}},
		{"a header without end", "Content-Type: multipart/mixed; boundary=b\n\n--b\n" + strings.Repeat("X: y\n", 50000), []string{"the header of a part"}},
		{"much text", "Subject: x\n\n" + strings.Repeat("text ", 1<<20), []string{"text"}},
		{"many links", "Subject: x\n\n" + strings.Repeat("http://a.example/1 http://a.example/2 ", 10) + manyLinks(1000), []string{"links"}},
		{"a tag with many attributes", "Content-Type: text/html\n\n<a " + manyAttributes(1000) + ">", []string{"attributes"}},
		{"a calendar with many people", "Content-Type: text/calendar\n\nBEGIN:VCALENDAR\n" + strings.Repeat("ATTENDEE:mailto:a@a.example\n", 1000), []string{"a calendar"}},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			content := read(t, c.text)
			if diff := cmp.Diff(c.want, content.Cut); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if findings := Judge(content, Rules{}); !slices.ContainsFunc(findings, func(f Finding) bool { return f.Code == MessageCut }) {
				t.Errorf("findings %v", findings)
			}
		})
	}
}

func manyAttributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "x%d=y ", i)
	}
	return b.String()
}

func manyLinks(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("http://" + strings.Repeat("a", i%50+1) + string(rune('a'+i%26)) + strings.Repeat("b", i/50) + ".example/ ")
	}
	return b.String()
}

func TestABigFileIsStreamed(t *testing.T) {
	m := messageOf(t, attachment("application/octet-stream", `attachment; filename="a.dat"`, make([]byte, 12<<20)))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if c, err := Read(m, Limits{}); err != nil || c.Files[1].Size != 12<<20 {
		t.Fatal(err, c.Files)
	}
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 1<<20 {
		t.Errorf("reading 12 MiB takes %d octets of memory", taken)
	}
}

func TestASetSharesALargerOne(t *testing.T) {
	all := Protect(domains(t, "acme.example", "globex.example"))
	both := all.And(domains(t, "partner.example"))
	for name, want := range map[string]bool{"acme.example": true, "mail.partner.example": true, "shop.example": false} {
		if got := both.Has(domains(t, name)[0]); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for name, want := range map[string]Trick{"gl0bex.example": TrickLetters, "part-ner.example": TrickHyphen, "partner.example": TrickNone, "acme.example": TrickNone} {
		if _, got := both.LookAlike(domains(t, name)[0]); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if all.Has(domains(t, "partner.example")[0]) || all.And(nil) != all {
		t.Error("the larger set changed")
	}
	var none *Protected
	if d := domains(t, "partner.example")[0]; none.Has(d) || !none.And([]mail.Domain{d}).Has(d) {
		t.Error("a set in front of none")
	}
}
