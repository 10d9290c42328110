package tracking

import (
	"errors"
	"strings"
	"testing"
)

func TestAQueryIsUnderstoodAsItSaysBack(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"from:ann@acme.example reason:FROM_NOT_OWNED since:24h word", "from:ann@acme.example reason:FROM_NOT_OWNED word:word since:2026-11-21T12:00:00Z"},
		{"ann@acme.example", "address:ann@acme.example"},
		{"ann@*", "address:ann@*"},
		{"acme.example *.example", "domain:acme.example domain:*.example"},
		{"192.0.2.0/24 2001:db8::1 fe80::1", "peer:192.0.2.0/24 peer:2001:db8::1 peer:fe80::1"},
		{"2al274bqphlahvjvb252eqy6ao", "id:2al274bqphlahvjvb252eqy6ao"},
		{"9f3c0000-1111-2222-3333-444455556666", "tenant:9f3c0000-1111-2222-3333-444455556666"},
		{"TENANT_NOT_AUTHORIZED", "reason:TENANT_NOT_AUTHORIZED"},
		{"5.1.1 Unknown", "word:5.1.1 word:Unknown"},
		{`"user unknown" unkn*`, "word:user word:unknown word:unkn*"},
		{"<x1@acme.example>", "message_id:<x1@acme.example>"},
		{`source:"the printer",exchange`, `source:"the printer",exchange`},
		{"RCPT:bob@example.org", "to:bob@example.org"},
		{"", ""},
	} {
		q, err := Parse(c.line, noon)
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		if q.String() != c.want {
			t.Errorf("%s is %s, not %s", c.line, q, c.want)
		}
	}
}

func TestAMistakeInAQueryIsShownWhereItStands(t *testing.T) {
	for _, c := range []struct {
		line   string
		column int
		text   string
	}{
		{"from:ann@acme.example form:bob", 23, `no field "form"`},
		{`word "unknown`, 6, "not closed"},
		{"reason:", 8, "value is missing"},
		{"since:yesterday", 1, "no time"},
		{"since:1h since:2h", 10, "twice"},
		{"peer:banana", 1, "no address and no network"},
		{"disposition:lost", 1, "none of"},
		{"from:ann", 1, "no address"},
		{"id:*", 1, "star"},
		{`"user"x`, 7, "follows a quote"},
		{strings.Repeat("x", 5000), 1, "longer"},
	} {
		_, err := Parse(c.line, noon)
		var mistake *ParseError
		if !errors.As(err, &mistake) || mistake.Column != c.column || !strings.Contains(mistake.Text, c.text) || mistake.Hint == "" {
			t.Errorf("%.40s: %v", c.line, err)
		}
	}
}
