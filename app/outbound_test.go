package app

import (
	"context"
	"testing"
	"time"

	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
)

func TestPolicyIsAskedAgainUnlessItHasJustBeenAsked(t *testing.T) {
	zone := &dns.Zone{}
	zone.SetTXT("_anechoic.acme.test", "v=anechoic1; org=acme")
	a := &App{domains: &org.Proofs{Resolver: zone, Relay: domainOf(t, "relay.test")}}
	if err := a.domains.Start(); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Add(time.Second) // after Start
	lease := func(attempt int, kept time.Time) *custody.Lease {
		return &custody.Lease{Attempt: attempt, Message: &custody.Message{Kept: kept}}
	}
	var proof attribution.Proof // of the generation of the empty Directory
	later, problems, _ := org.Build(org.Registry{}, org.Providers{}, nil, 2, now)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for name, c := range map[string]struct {
		lease *custody.Lease
		dir   *org.Directory
		now   time.Time
		want  bool
	}{
		"a first attempt at once":         {lease(1, now), &org.Directory{}, now.Add(time.Second), true},
		"a second attempt":                {lease(2, now), &org.Directory{}, now.Add(time.Second), false},
		"after a reload":                  {lease(1, now), later, now.Add(time.Second), false},
		"released after a while":          {lease(1, now), &org.Directory{}, now.Add(answerStands), false},
		"kept before the relay's restart": {lease(1, now.Add(-time.Minute)), &org.Directory{}, now, false},
	} {
		if got := a.justAsked(c.lease, proof, c.dir, c.now); got != c.want {
			t.Errorf("%s: it has just been asked is %t", name, got)
		}
	}
	d := &org.Domain{Organisation: "acme", Name: domainOf(t, "acme.test")}
	a.domains.Check(context.Background(), d, time.Now())
	kept := time.Now().Add(time.Millisecond)
	if !a.justAsked(lease(1, kept), proof, &org.Directory{}, kept) {
		t.Error("a domain that was verified makes policy be asked again")
	}
	zone.SetTXT("_anechoic.acme.test", "v=anechoic1; org=globex")
	kept = time.Now()
	a.domains.Check(context.Background(), d, time.Now())
	if a.justAsked(lease(1, kept), proof, &org.Directory{}, kept) {
		t.Error("a domain that was lost does not make policy be asked again")
	}
}

func domainOf(t *testing.T, s string) mail.Domain {
	t.Helper()
	d, err := mail.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
