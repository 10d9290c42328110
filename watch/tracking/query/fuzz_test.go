// Package query_test fuzzes the language of queries. It stands apart from the other tests
// of tracking, which link SQLite: its code takes minutes to be made ready for fuzzing.
package query_test

import (
	"errors"
	"testing"
	"time"

	"anechoic/watch/tracking"
)

// What is parsed says itself back so that it is parsed to the same, and a mistake has a
// place in the line.
func FuzzParseQuery(f *testing.F) {
	for _, seed := range []string{
		`from:ann@acme.example reason:FROM_NOT_OWNED,RELAY_DENIED since:24h "user unknown" 192.0.2.0/24`, `to:*.example source:"a \"b\" \\c",d until:2026-11-22`,
		"peer:2001:db8::/32 id:a* tenant:9F3C*", "fe80::1%eth0", ":", "a:", `"`, `x:"`, "peer:0.0.0.0/0", "site:*.net,mx.example", "word:a*", "*.", "@", "from:@*",
	} {
		f.Add(seed)
	}
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, line string) {
		q, err := tracking.Parse(line, noon)
		if err != nil {
			var mistake *tracking.ParseError
			if !errors.As(err, &mistake) || mistake.Column < 1 || mistake.Column > len([]rune(line))+1 {
				t.Fatalf("%q: %v", line, err)
			}
			return
		}
		said := q.String()
		again, err := tracking.Parse(said, noon.Add(time.Hour))
		if err != nil && len(said) > len(line) && len(said) > 4096 {
			return // written out it is too long
		}
		if err != nil || again.String() != said {
			t.Fatalf("%q says %q, which says %q: %v", line, said, again, err)
		}
	})
}
