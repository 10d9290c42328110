package acceptance

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/mail"
	"anechoic/org"
)

func (r *relay) seen(t *testing.T, query url.Values) []api.SeenTenant {
	t.Helper()
	page, err := r.api.Seen(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	return page.Tenants
}

// A21: a tenant that is new is refused and shown, flows once a person added it,
// and the one it replaced is refused.
func TestATenantThatMovedIsShownAndNeverAddedByItself(t *testing.T) {
	moved := lab.Tenant{GUID: "77777777-7777-4777-8777-777777777777", Originator: "acme.test", SecretName: acme.SecretName, Secret: acmeSecret}
	r := newRelay(t, registry(), nil)
	stranger := mailThrough(attacker, lab.BlindRelay, vps, "ceo@acme.test")
	for range 3 {
		if _, answer := r.send(t, stranger); answer.reason != mail.ReasonTenantNotAuthorized {
			t.Fatalf("a stranger was answered %s", answer)
		}
	}
	r.send(t, mailThrough(attacker, lab.BlindRelay, vps, "ceo@globex.test"))
	if _, answer := r.send(t, mailFromMicrosoft(moved, "ann@acme.test")); answer.reason != mail.ReasonAttributionConflict {
		t.Fatalf("the moved tenant was answered %s", answer)
	}
	// Nothing is noted of who only claims to be the provider, or is known.
	r.send(t, letter{peer: vpsNamed, from: "ann@acme.test", data: string(moved.Stamp(lab.Cloud, draft("ann@acme.test"), nobody))})
	r.send(t, mailThrough(acme, lab.Forward, vps, "ceo@acme.test"))
	r.restart(t)

	all := r.seen(t, nil)
	if len(all) != 2 || all[0].Tenant.Tenant != attacker.GUID || all[0].Messages != 4 || len(all[0].From) != 2 || len(all[0].Claimed) != 2 {
		t.Fatalf("seen are %+v", all)
	}
	if s := all[0].Samples; len(s) != 4 || s[0].Peer.String() != eop || s[0].Rcpt.String() != mailbox {
		t.Errorf("the samples are %+v", s)
	}
	if got := r.seen(t, url.Values{"org": {"globex"}}); len(got) != 1 || got[0].Tenant.Tenant != attacker.GUID {
		t.Errorf("of globex: %+v", got)
	}
	if got := r.seen(t, url.Values{"tenant": {moved.GUID}}); len(got) != 1 || got[0].Source != "" || len(got[0].Replace) != 0 {
		t.Errorf("the moved tenant is %+v", got)
	}

	r.writeRegistry(t, strings.Replace(registry(), acme.GUID, moved.GUID, 1))
	r.reload(t)
	if got := r.seen(t, url.Values{"tenant": {moved.GUID}}); len(got) != 1 || got[0].Source != "acme/m365" {
		t.Errorf("when it was added it is %+v", got)
	}
	if _, answer := r.send(t, mailFromMicrosoft(moved, "ann@acme.test")); answer.code != 250 {
		t.Errorf("when it was added it was answered %s", answer)
	}
	if _, answer := r.send(t, mailFromMicrosoft(acme, "ann@acme.test")); answer.code != 550 {
		t.Errorf("the old tenant was answered %s", answer)
	}
}

// A17: a right secret in mail of a stranger's tenant is of no use to it, and its
// owner is told until the secret is replaced.
func TestALeakedSecretIsToldUntilItIsReplaced(t *testing.T) {
	thief := attacker
	thief.SecretName, thief.Secret = acme.SecretName, acmeSecret
	r := newRelay(t, registry(), nil)
	for range 2 {
		if _, answer := r.send(t, mailFromMicrosoft(thief, "ceo@acme.test")); answer.reason != mail.ReasonTenantNotAuthorized {
			t.Fatalf("it was answered %s", answer)
		}
	}
	if n := strings.Count(r.log.String(), "a secret header has leaked"); n != 1 {
		t.Errorf("the log tells it %d times", n)
	}
	findings := func() (n int) {
		for _, f := range r.status(t).Findings {
			if f.Organisation == "acme" && strings.Contains(f.Text, "has leaked") {
				n++
			}
		}
		return n
	}
	r.restart(t)
	if n := findings(); n != 1 {
		t.Errorf("there are %d findings", n)
	}
	got := r.seen(t, nil)
	if len(got) != 1 || len(got[0].Replace) != 1 || got[0].Replace[0].Organisation != "acme" {
		t.Fatalf("seen is %+v", got)
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	for what, shown := range map[string]string{"the list": string(text), "the log": r.log.String()} {
		if strings.Contains(shown, acmeSecret) || strings.Contains(shown, digest(acmeSecret)) {
			t.Errorf("%s shows the secret or its digest", what)
		}
	}
	r.writeRegistry(t, strings.Replace(registry(), digest(acmeSecret), digest(org.NewSecret()), 1))
	r.reload(t)
	if n := findings(); n != 0 {
		t.Errorf("after it was replaced there are %d findings", n)
	}
	if got := r.seen(t, nil); len(got[0].Replace) != 0 {
		t.Errorf("after it was replaced: %+v", got[0].Replace)
	}
}
