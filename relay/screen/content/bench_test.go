package content

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"anechoic/mail"
)

// ordinary is the message with which relays are loaded: a text and the same as a
// page, each one paragraph of short words in quoted-printable.
func ordinary(tb testing.TB, octets int) mail.Message {
	tb.Helper()
	random := rand.New(rand.NewPCG(1, 1))
	words := strings.Fields("order invoice parcel delivery address customer thank you for your purchase please find the details below =3D=3D total amount caf=C3=A9 " +
		`<b>bold</b> <a href=3D"https://example.org/">link</a> if you have any questions reply to this message`)
	var body strings.Builder
	fill := func(end int) {
		for body.Len() < end {
			for begin := body.Len(); body.Len()-begin < 75; {
				body.WriteString(words[random.IntN(len(words))] + " ")
			}
			body.WriteString("=\r\n")
		}
	}
	body.WriteString("--=_7f3a91c2d4\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	fill(octets / 3)
	body.WriteString("\r\n--=_7f3a91c2d4\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
	fill(octets)
	body.WriteString("\r\n--=_7f3a91c2d4--\r\n")
	return benchMessage(tb, "Content-Type: multipart/alternative;\r\n\tboundary=\"=_7f3a91c2d4\"\r\n", body.String())
}

// newsletter is a page as programs for mass mail make it: tables, styles, a link with
// a long address every few words, in quoted-printable.
func newsletter(tb testing.TB, octets int) mail.Message {
	tb.Helper()
	var page strings.Builder
	page.WriteString("<!DOCTYPE html><html><head><title>News</title><style>td { font-family: Arial; color: #333 } @media (max-width: 600px) { td { width: 100% } }</style></head><body>\r\n")
	for n := 0; page.Len() < octets; n++ {
		fmt.Fprintf(&page, `<table width="600" cellpadding="0" border="0"><tr><td style="padding:0 20px;font-size:14px" align="left"><img src="https://img.shop.example/%d.png" width="120" alt="">`+
			"</td></tr>\r\n<tr><td class=\"text\">Our new collection is here &ndash; and it is worth a look, as our customers say: &bdquo;sch&ouml;n&ldquo;.<br>\r\n"+
			`<a href="https://click.shop.example/ls/click?upn=u001.%d&amp;utm_source=mail&amp;utm_campaign=spring" target="_blank">See <b>more</b> of it</a></td></tr></table>`+"\r\n", n%40, n%200)
	}
	page.WriteString("</body></html>\r\n")
	return benchMessage(tb, "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n", quoted(page.String()))
}

// quoted encodes as programs do: lines of at most 76 characters.
func quoted(text string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(strings.ReplaceAll(text, "=", "=3D"), "\r\n") {
		for len(line) > 75 {
			cut := 75
			if i := strings.LastIndexByte(line[:cut], '='); i > cut-3 {
				cut = i
			}
			b.WriteString(line[:cut] + "=\r\n")
			line = line[cut:]
		}
		b.WriteString(line + "\r\n")
	}
	return b.String()
}

// attached is a short text with a picture in base64.
func attached(tb testing.TB, octets int) mail.Message {
	tb.Helper()
	data := make([]byte, octets*3/4)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(data)
	return benchMessage(tb, "Content-Type: multipart/mixed; boundary=b\r\n", "--b\r\nContent-Type: text/plain\r\n\r\nSee the picture, please.\r\n--b\r\nContent-Type: image/jpeg; name=\"p.jpg\"\r\n"+
		"Content-Disposition: attachment; filename=\"p.jpg\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"+strings.ReplaceAll(wrapped(append([]byte("\xff\xd8\xff"), data...)), "\n", "\r\n")+"\r\n--b--\r\n")
}

func benchMessage(tb testing.TB, fields, body string) mail.Message {
	tb.Helper()
	header, err := mail.ParseHeader([]byte("From: Shop <news@shop.example>\r\nSubject: Your order 100123 has been shipped\r\nMessage-ID: <1.2@shop.example>\r\n"+fields), mail.HeaderLimits{})
	if err != nil {
		tb.Fatal(err)
	}
	return mail.Message{Header: header, Body: mail.NewBody(bytes.Clone([]byte(body)))}
}

// benchmarked are the messages that cost what most mail costs.
func benchmarked(tb testing.TB) map[string]mail.Message {
	return map[string]mail.Message{
		"ordinary-20K": ordinary(tb, 20<<10), "ordinary-100K": ordinary(tb, 100<<10),
		"newsletter-60K": newsletter(tb, 60<<10), "attached-200K": attached(tb, 200<<10),
	}
}

func BenchmarkRead(b *testing.B) {
	for name, m := range benchmarked(b) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(m.Body.Size())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Read(m, Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPrintOf is what every message pays, refused ones too.
func BenchmarkPrintOf(b *testing.B) {
	for name, m := range benchmarked(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				PrintOf(m)
			}
		})
	}
}

func BenchmarkJudge(b *testing.B) {
	rules := Rules{Blocked: DefaultBlocked(), Protected: Protect(domains(b, "acme.example", "example.com")), People: NewPeople([]string{"Ada Lovelace"}), Own: domains(b, "acme.example")}
	for name, m := range benchmarked(b) {
		c, err := Read(m, Limits{})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Judge(c, rules)
			}
		})
	}
}
