package api

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"anechoic/org"
)

// The answer is Yes while one proof is all that stands between, and No with what
// somebody should know otherwise.
func TestTheAnswerNamesWhatOpens(t *testing.T) {
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	address := &org.Source{Organisation: "acme", ID: "server", Kind: org.Address, Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/28")}}
	single := &org.Source{Organisation: "acme", ID: "m365", Kind: org.Microsoft365, SingleProofUntil: now.AddDate(0, 0, 9)}
	secret := &org.Source{Organisation: "acme", ID: "m365", Kind: org.Microsoft365, Secret: &org.SecretHeader{Name: "X-Key"}}
	leak := org.Finding{Organisation: "acme", Source: "m365", Text: "the secret header X-Key has leaked", Opens: true}
	learning := org.Finding{Organisation: "acme", Text: "it is still learning"}
	for _, tt := range []struct {
		name     string
		source   *org.Source
		findings []org.Finding
		standing string
		because  string
		but      string
	}{
		{"two proofs", secret, nil, "verified", "", ""},
		{"one proof", single, nil, "verified", "m365", ""},
		{"a secret that leaked", secret, []org.Finding{leak}, "verified", "has leaked", ""},
		{"another organisation's leak", secret, []org.Finding{{Organisation: "globex", Opens: true, Text: "leak"}}, "verified", "", ""},
		{"a network of machines", address, nil, "verified", "", "every machine there"},
		{"a domain that DNS does not prove", secret, nil, "unverified", "", "DNS does not prove acme.test"},
		{"a finding about the organisation", secret, []org.Finding{learning}, "verified", "", "learning"},
	} {
		o := &org.Organisation{ID: "acme", Sources: []*org.Source{tt.source}}
		if got := Posture(o, tt.findings, now); (got == "") != (tt.because == "") || !strings.Contains(got, tt.because) {
			t.Errorf("%s: because %q", tt.name, got)
		}
		standing := org.Verified.String()
		if tt.standing != "verified" {
			standing = tt.standing
		}
		got := strings.Join(Reservations(o, []Domain{{Name: "acme.test", Standing: standing}}, tt.findings, now), "; ")
		if (got == "") != (tt.but == "") || !strings.Contains(got, tt.but) {
			t.Errorf("%s: but %q", tt.name, got)
		}
	}
}
