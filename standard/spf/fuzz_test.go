package spf

import (
	"context"
	"net/netip"
	"testing"

	"anechoic/mail"
	"anechoic/standard/authres"
)

// FuzzCheck holds any record, HELO and sender against Check: it ends within its
// limits, with a result that fits together and can be reported.
func FuzzCheck(f *testing.F) {
	for _, record := range []string{
		"v=spf1 a mx ptr ip4:192.0.2.0/24 ip6:2001:db8::/32 exists:%{i}.t.example include:t.example -all exp=why.example",
		"v=spf1 redirect=%{d}", "v=spf1 a:foo:bar/baz.example/24//64 x=%{c}%{r}%{t} ~all", "v=spf1 exists:%{L2r+-}.%{H}.%{p}.%{v}%%%_%-.t.example",
		"v=spf1 mx/33", "V=SPF1 ?all redirect=t.example redirect=t.example", "v=spf10", "v=spf1 include:%{s} +all",
	} {
		f.Add(record, "%{l} of %{o} is not welcome at %{r}", "mx.t.example", "ada@t.example")
	}
	f.Fuzz(func(t *testing.T, record, why, helo, from string) {
		z := zone{
			"t.example":              {{rrtype: "TXT", text: record}, {rrtype: "A", text: "192.0.2.1"}, {rrtype: "MX", mx: mail.MX{Host: "t.example"}}},
			"why.example":            {{rrtype: "TXT", text: why}},
			"1.2.0.192.in-addr.arpa": {{rrtype: "PTR", text: "t.example"}},
		}
		counted := &counting{Resolver: z}
		q := Request{IP: netip.MustParseAddr("192.0.2.1"), HELO: helo, MailFrom: from + "@t.example", Receiver: "mx.example"}
		r := Check(context.Background(), counted, q)
		if counted.n > 60 || r.Lookups > MaxLookups+1 {
			t.Fatalf("%d questions, %d terms", counted.n, r.Lookups)
		}
		decided := r.Status == Pass || r.Status == Fail || r.Status == SoftFail || r.Status == Neutral
		if decided != (r.Err == nil) || decided != (r.Mechanism != "") || r.Explanation != "" && r.Status != Fail {
			t.Fatalf("%+v", r)
		}
		if len(r.Explanation) > MaxExplanation || !isPrintable(r.Explanation) {
			t.Fatalf("%q", r.Explanation)
		}
		if isRecord(record) {
			if _, err := parseRecord(record); err != nil && r.Status != PermError {
				t.Fatalf("%s, but the record has an error: %v", r.Status, err)
			}
		}
		field := authres.Results{ID: "mx.example", Methods: []authres.Result{r.AuthResult(q)}}.Field()
		if got, err := authres.Parse(field.RawValue()); err != nil || len(got.Methods) != 1 || got.Methods[0].Value != r.Status.String() {
			t.Fatalf("%q: %v", field.RawValue(), err)
		}
		received := r.Received(q).Field()
		if got, err := authres.ParseReceivedSPF(received.RawValue()); err != nil || got.Result != r.Status.String() || got.Receiver != "mx.example" {
			t.Fatalf("%q: %v", received.RawValue(), err)
		}
	})
}
