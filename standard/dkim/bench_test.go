package dkim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"anechoic/mail"
)

// benchBodies are 20 KiB of what bodies are made of.
var benchBodies = map[string][]byte{
	"base64":   fill(strings.Repeat("QmFzZTY0", 9) + "QmF=\r\n"),
	"text":     fill("The quick brown fox jumps over the lazy dog and looks back once more.\r\n"),
	"indented": fill("            <td class=3D\"x\">two  spaces</td>\r\n"),
	"blank":    fill("\r\n"),
}

func fill(line string) []byte { return bytes.Repeat([]byte(line), 20<<10/len(line)) }

func BenchmarkBody(b *testing.B) {
	for name, body := range benchBodies {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				h := NewBodyHasher(mail.Header{})
				h.Write(body)
				h.Sum()
			}
		})
	}
	b.Run("SHA-256 alone", func(b *testing.B) {
		b.SetBytes(int64(len(benchBodies["text"])))
		for b.Loop() {
			sha256.Sum256(benchBodies["text"])
		}
	})
}

func BenchmarkSign(b *testing.B) {
	list, _ := signers(b)
	m := parse(b, text(shapes["a mailing list"]))
	hashes := m.hashes()
	for _, s := range list {
		b.Run(s.Algorithm.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Sign(m.header, hashes, []Signer{s}, noon, sixDays); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	list, z := signers(b)
	for n := 1; n <= len(list); n++ {
		m := signWith(b, text(plainMessage), list[:n])
		hashes := m.hashes()
		b.Run(fmt.Sprint(n, " signatures"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Verify(context.Background(), z, m.header, hashes, noon)
			}
		})
	}
}
