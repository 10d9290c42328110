package dmarc

import (
	"context"
	"testing"
)

// BenchmarkEvaluate is an ordinary message: SPF of a bounce domain, two
// signatures, one of them the sender's service, and answers at hand.
func BenchmarkEvaluate(b *testing.B) {
	resolver := plain{texts: records{"_dmarc.example.com": {"v=DMARC1; p=reject; sp=quarantine; rua=mailto:dmarc@example.com; adkim=r; aspf=r"}}}
	m := message(b, "news.example.com", "pass bounce.example.com", "pass example.com, pass sender.example.net")
	b.ReportAllocs()
	for b.Loop() {
		if r := Evaluate(context.Background(), resolver, TreeWalk, m); r.Status != Pass {
			b.Fatal(r.Err)
		}
	}
}
