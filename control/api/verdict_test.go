package api

import (
	"net/netip"
	"strings"
	"testing"

	"anechoic/ledger"
	"anechoic/mail"
)

func TestAVerdictIsOnePlainSentenceAndTheNextStep(t *testing.T) {
	const id = mail.ID("2al274bqphlahvjvb252eqy6ao")
	peer := netip.MustParseAddr("192.0.2.1")
	taken := ledger.Fact{ID: id, Event: ledger.Accepted, Org: "acme", Source: "billing", Identity: ledger.Proven, From: "ann@acme.test", Rcpt: []string{"bob@example.org"}}
	accepts := func(string) []string { return []string{"51aa"} }
	for _, c := range []struct {
		name        string
		facts       []ledger.Fact
		disposition string
		want        string
		next        string
	}{
		{"a stranger's tenant", []ledger.Fact{{ID: id, Event: ledger.Refused, Reason: mail.ReasonTenantNotAuthorized, Tenant: "9f3c1111-0000-4000-8000-000000000000", From: "ceo@acme.test", ClaimedOrg: "acme"}},
			"refused", "Refused: the mail came from Microsoft 365 tenant 9f3c1111-0000-4000-8000-000000000000, but acme.test only accepts tenant 51aa. Nothing was signed. If 9f3c1111… is yours, add it as a source.", "anechoic explain TENANT_NOT_AUTHORIZED"},
		{"nobody's peer", []ledger.Fact{{ID: id, Event: ledger.Refused, Reason: mail.ReasonRelayDenied, Peer: peer}},
			"refused", "Refused: 192.0.2.1 has nothing that proves which organisation it sends for. Nothing was signed. If it is yours, give it a user name, a certificate or an address source.", "anechoic log show"},
		{"another reason", []ledger.Fact{{ID: id, Event: ledger.Refused, Reason: mail.ReasonFromNotOwned, Peer: peer, From: "x@other.test", Reply: "550 5.7.1 The From domain does not belong to the organisation that sent this [FROM_NOT_OWNED id=x]", Detail: "other.test"}},
			"refused", "Refused: the mail from x@other.test that 192.0.2.1 brought was not taken: The From domain does not belong to the organisation that sent this (other.test). Nothing was signed.", "anechoic explain FROM_NOT_OWNED"},
		{"delivered", []ledger.Fact{taken, {ID: id, Event: ledger.Delivered, Rcpt: taken.Rcpt, Site: "mx.example.org"}},
			"relayed", "Delivered: the mail from ann@acme.test, proven to be acme's by source billing, went to bob@example.org at mx.example.org.", ""},
		{"waiting", []ledger.Fact{taken, {ID: id, Event: ledger.Deferred, Rcpt: taken.Rcpt, Reply: "450 later"}},
			"deferred", `another attempt follows by itself.`, "anechoic queue show"},
		{"held", []ledger.Fact{taken, {ID: id, Event: ledger.Held, Rcpt: taken.Rcpt, Reason: mail.ReasonKeyRevoked}}, "held", "Held (KEY_REVOKED)", "anechoic queue release"},
		{"nothing", nil, "", "The ledger says nothing of what became of it.", ""},
	} {
		v := VerdictOf(c.facts, accepts)
		if v.Disposition != c.disposition || !strings.Contains(v.Sentence, c.want) || !strings.Contains(strings.Join(v.Next, "\n"), c.next) {
			t.Errorf("%s: it is %+v, want %q and then %q", c.name, v, c.want, c.next)
		}
	}
}

func TestTheVerdictOfEveryEventSaysSomething(t *testing.T) {
	for _, e := range Events() {
		v := VerdictOf([]ledger.Fact{{ID: "x", Event: e, From: "a@b.test", Rcpt: []string{"c@d.test"}}}, func(string) []string { return nil })
		if v.Sentence == "" || strings.Contains(v.Sentence, "  ") || strings.HasSuffix(v.Sentence, ",.") || v.Next == nil {
			t.Errorf("%s gives %+v", e, v)
		}
	}
}
