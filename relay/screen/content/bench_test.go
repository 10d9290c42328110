package content

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"anechoic/mail"
)

// BenchmarkRead reads a message of two texts, as newsletters are: 100 KiB, in
// quoted-printable, with a tag every few words.
func BenchmarkRead(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	words := strings.Fields(`order invoice parcel delivery address customer thank you for your purchase please find the details below =3D=3D total caf=C3=A9 <b>bold</b> <td=20class=3D"x"> <a=20href=3D"https://example.org/">link</a> reply.`)
	fill := func(octets int) string {
		var text strings.Builder
		for text.Len() < octets {
			for line := 0; line < 70; line = text.Len() % 78 {
				text.WriteString(words[random.IntN(len(words))] + " ")
			}
			text.WriteString("=\r\n")
		}
		return text.String()
	}
	body := []byte("--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + fill(33<<10) +
		"\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + fill(67<<10) + "\r\n--b--\r\n")
	header, err := mail.ParseHeader([]byte("From: a@b.example\r\nContent-Type: multipart/alternative; boundary=b\r\n"), mail.HeaderLimits{})
	if err != nil {
		b.Fatal(err)
	}
	m := mail.Message{Header: header, Body: mail.NewBody(bytes.Clone(body))}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Read(m, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
