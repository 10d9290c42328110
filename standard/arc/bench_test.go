package arc

import (
	"bytes"
	"context"
	"fmt"
	"testing"
)

// BenchmarkValidate is the cost of a chain beside that of its body, which DKIM needs
// hashed anyway.
func BenchmarkValidate(b *testing.B) {
	body := bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog and looks back once more.\r\n"), 20<<10/71)
	list, z := handlers(b)
	for _, n := range []int{0, 1, 3} {
		m := parse(b, append(text(plainMessage), body...))
		for range n {
			m = m.passOn(b, z, list[0])
		}
		hashes := m.hashes()
		b.Run(fmt.Sprint(n, " sets"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if c := Validate(context.Background(), z, m.header, hashes, noon); c.Status == Fail {
					b.Fatal(c.Err)
				}
			}
		})
	}
}
