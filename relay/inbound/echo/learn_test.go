package echo

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/mail"
	"anechoic/relay/attribution"
)

// after is a profile after a message on each of the days.
func after(t testing.TB, o Observation, days ...int) (p Profile) {
	t.Helper()
	for _, d := range days {
		p = Learn(Rule{}, p, o.at(noon.Add(time.Duration(d)*day)))
	}
	return p
}

func TestATenantIsLearnedOnSeveralDays(t *testing.T) {
	for name, test := range map[string]struct {
		days []int
		want bool
	}{
		"one day":                          {[]int{0}, false},
		"many messages of one day":         {[]int{0, 0, 0, 0, 0}, false},
		"three days in a row":              {[]int{0, 1, 2}, false},
		"two days, a week apart":           {[]int{0, 7}, false},
		"three days over a week":           {[]int{0, 3, 7}, true},
		"three days over a month":          {[]int{0, 14, 28}, true},
		"with a gap that makes it forgot":  {[]int{0, 1, 40}, false},
		"that arrive in the wrong order":   {[]int{7, 3, 0}, false},
		"each day of a week":               {[]int{0, 1, 2, 3, 4, 5, 6, 7}, true},
		"a week of days, less by an hour:": {[]int{0, 1, 2, 3, 4, 5, 6}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := after(t, fromCloud(t), test.days...)
			last := noon.Add(time.Duration(slices.Max(test.days)) * day)
			if got := slices.Contains(p.Known(last), acmeTenant); got != test.want {
				t.Errorf("learned: %v, %+v", got, p)
			}
		})
	}
}

// What does not teach, each for one reason: every day for a month.
func TestOnlyTheProvidersOwnHandsTeach(t *testing.T) {
	change := func(f func(o *Observation)) Observation {
		o := fromCloud(t)
		f(&o)
		return o
	}
	inside := func(originator string, s attribution.Sealed) Observation {
		return seen(t, ProviderPeer, "", lines(providerHop, mailbox(acmeTenant, originator))).sealed(s)
	}
	for name, test := range map[string]struct {
		o    Observation
		want bool
	}{
		"a mailbox, the domain's key":              {fromCloud(t), true},
		"a mailbox, originator and seal":           {inside("acme.example", acmeInside), true},
		"a seal, another originator":               {inside("evil.example", acmeInside), false},
		"a seal that does not cover the message":   {inside("acme.example", func() attribution.Sealed { s := acmeInside; s.Intact = false; return s }()), false},
		"a seal of a message from outside":         {inside("acme.example", func() attribution.Sealed { s := acmeInside; s.Attested.Outside = true; return s }()), false},
		"a second seal":                            {inside("acme.example", acmeInside).sealed(func() attribution.Sealed { s := acmeInside; s.Instance = 2; return s }()), false},
		"the key, and a seal of a failure":         {fromCloud(t).sealed(acmeFails), false},
		"not DMARC-pass":                           {change(func(o *Observation) { o.DMARC = false }), false},
		"through a relay":                          {change(func(o *Observation) { o.Peer = OtherPeer }), false},
		"a key that the provider does not keep":    {change(func(o *Observation) { o.Signatures[0].Alias = "s1.relay.example" }), false},
		"a key of another domain":                  {change(func(o *Observation) { o.Signatures[0].Domain = domain("evil.example") }), false},
		"a signature from before":                  {seen(t, ProviderPeer, acmeAlias, lines(providerHop, signature, mailbox(evilTenant, "evil.example"))), false},
		"a signature from before, entry forged in": {seen(t, ProviderPeer, acmeAlias, lines(providerHop, ingressHop, signature, providerHop, mailbox(evilTenant, "evil.example"))), false},
		"a connector":                              {seen(t, ProviderPeer, acmeAlias, lines(signature, providerHop, connector(acmeTenant, "acme.example"))), false},
		"from outside":                             {seen(t, ProviderPeer, acmeAlias, lines(signature, providerHop, outside(acmeTenant, "acme.example"))), false},
		"forwarded":                                {seen(t, ProviderPeer, acmeAlias, lines(signature, providerHop, mailbox(acmeTenant, "acme.example"), "Resent-From: a@b.example")), false},
		"a stamp twice":                            {seen(t, ProviderPeer, acmeAlias, lines(signature, providerHop, mailbox(acmeTenant, "acme.example"), "X-OriginatorOrg: acme.example")), false},
		"the consumer tenant":                      {seen(t, ProviderPeer, acmeAlias, lines(signature, providerHop, mailbox(consumerTenant, "acme.example"))), false},
	} {
		t.Run(name, func(t *testing.T) {
			var days []int
			for d := range 30 {
				days = append(days, d)
			}
			if p := after(t, test.o, days...); (len(p.Tenants) > 0) != test.want {
				t.Errorf("%+v", p.Tenants)
			}
		})
	}
}

func TestABurstOfNewcomersIsNotLearned(t *testing.T) {
	p := Profile{}
	for d := range 30 {
		for i := range maxNewcomers + 1 {
			o := fromCloud(t).at(noon.Add(time.Duration(d)*day + time.Duration(i)*time.Minute))
			o.Stamps.Tenant = fmt.Sprintf("11111111-1111-4111-8111-00000000000%d", i)
			p = Learn(Rule{}, p, o)
		}
	}
	if known := p.Known(noon.Add(30 * day)); len(known) > 0 {
		t.Errorf("%d learned of %d that came at once", len(known), maxNewcomers+1)
	}
}

// A full list loses newcomers, those not seen for longest first, and nobody who is
// learned.
func TestAFullProfileKeepsWhatIsLearned(t *testing.T) {
	numberedTenant := func(i int) string { return fmt.Sprintf("11111111-1111-4111-8111-0000000001%02d", i) }
	p := Profile{Domain: domain("acme.example")}
	for i := range maxTenants {
		p.noteTenant(numberedTenant(i), noon.Add(time.Duration(i)*time.Minute))
	}
	p.Tenants[0].Days, p.Tenants[0].First = LearnDays, noon.Add(-LearnSpan)
	p.noteTenant(numberedTenant(50), noon.Add(time.Hour))
	has := func(i int) bool {
		return slices.ContainsFunc(p.Tenants, func(k Tenant) bool { return k.ID == numberedTenant(i) })
	}
	if len(p.Tenants) != maxTenants || !has(0) || has(1) || !has(2) || !has(50) {
		t.Errorf("%+v", p.Tenants)
	}
	for i := range p.Tenants {
		p.Tenants[i].Days, p.Tenants[i].First = LearnDays, p.Tenants[i].Last.Add(-LearnSpan)
	}
	if p.noteTenant(numberedTenant(51), noon.Add(2*time.Hour)); has(51) || len(p.Tenants) != maxTenants {
		t.Errorf("a newcomer pushed out one that is learned: %+v", p.Tenants)
	}
	for i := range maxNames + 1 {
		p.noteName(numbered(i), noon.Add(time.Duration(i)*time.Minute))
	}
	if p.names(numbered(0), noon) || !p.names(numbered(1), noon) || len(p.Names) != maxNames {
		t.Errorf("%+v", p.Names)
	}
}

func TestWhatWasLearnedIsForgotten(t *testing.T) {
	p := after(t, fromCloud(t), 0, 3, 7)
	last := noon.Add(7 * day)
	for at, want := range map[time.Duration]int{0: 1, Memory: 1, Memory + 1: 0} {
		if got := len(p.Known(last.Add(at))); got != want {
			t.Errorf("after %v: %d tenants, want %d", at, got, want)
		}
	}
	idle := seen(t, OtherPeer, "", lines(signature)).at(last.Add(Memory + time.Hour))
	if p := Learn(Rule{}, p, idle); !p.Empty() {
		t.Errorf("kept %+v", p)
	}
}

func TestLearnLeavesItsArgumentAlone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyProfile(t)
		was := p.clone()
		Learn(Rule{}, p, anyObservation(t))
		if diff := cmp.Diff(was, p, cmp.Comparer(func(a, b mail.Domain) bool { return a == b })); diff != "" {
			t.Fatal(diff)
		}
	})
}

// What an attacker can make arrive, whoever comes first, however often and in
// whatever order with the domain's own mail: his tenant is never learned, never
// named by DNS, and no verdict on him gets better by his own mail.
func TestAnAttackersMailTeachesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, when := Profile{}, noon
		for range rapid.IntRange(1, 60).Draw(t, "messages") {
			when = when.Add(time.Duration(rapid.IntRange(0, 5*24).Draw(t, "hours")) * time.Hour)
			if rapid.Bool().Draw(t, "own") {
				p = Learn(Rule{}, p, ownObservation(t).at(when))
				continue
			}
			o := attackersObservation(t).at(when)
			before := Judge(Rule{}, p, o)
			p = Learn(Rule{}, p, o)
			if slices.ContainsFunc(p.Tenants, func(k Tenant) bool { return k.ID == evilTenant }) {
				t.Fatalf("taught by %+v", o)
			}
			if again := Judge(Rule{}, p, o); again.Score < before.Score {
				t.Fatalf("a repetition of %+v went from %+v to %+v", o, before, again)
			}
		}
		if v := Judge(Rule{}, p, echoedBy(evilTenant).at(when)); v.Echo == Pass || v.Has(LearnedTenant) || v.Has(NamedByDNS) {
			t.Fatalf("%+v", v)
		}
	})
}

// Whatever is learned, in whatever order: the lists keep their bounds.
func TestProfilesAreBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, when := Profile{}, noon
		for range rapid.IntRange(1, 200).Draw(t, "messages") {
			when = when.Add(time.Duration(rapid.IntRange(-2, 48).Draw(t, "hours")) * time.Hour)
			o := anyObservation(t).at(when)
			p = Learn(Rule{}, p, o)
			checkBounds(t, p)
		}
		text, err := json.Marshal(p)
		if err != nil || len(text) > maxOctets {
			t.Fatalf("%d octets, %v", len(text), err)
		}
		if got, ok := decode(key(p.Domain), text); !p.Empty() && !p.Domain.IsZero() && (!ok || !slices.EqualFunc(got.Tenants, p.Tenants, func(a, b Tenant) bool { return a.ID == b.ID && a.Days == b.Days && a.First.Equal(b.First) })) {
			t.Fatalf("%s reads back as %+v", text, got)
		}
	})
}

func checkBounds(t rapid.TB, p Profile) {
	t.Helper()
	if len(p.Tenants) > maxTenants || len(p.Names) > maxNames || len(p.Strangers) > maxStrangers {
		t.Fatalf("%+v", p)
	}
	for _, k := range p.Tenants {
		if k.Last.Before(k.First) || k.Days < 1 {
			t.Fatalf("%+v", k)
		}
	}
}

// echoedBy is a foreign tenant's message as Acme's, without a header behind it.
func echoedBy(tenant string) Observation {
	return Observation{
		Time: noon, From: domain("acme.example"), Organisational: domain("acme.example"), DMARC: true,
		Stamps:     Stamps{Any: true, Tenant: tenant, Originator: domain("evil.onmicrosoft.com"), Entry: Connector, Place: []Place{After}},
		Signatures: []Signature{{Domain: domain("acme.example"), Selector: "pps1"}},
	}
}

func anyObservation(t *rapid.T) Observation {
	domains := []mail.Domain{domain("acme.example"), domain("mail.acme.example"), domain("evil.example"), domain("evil.onmicrosoft.com"), domain("acmecorp.onmicrosoft.com"), {}}
	pick := func(name string) mail.Domain { return rapid.SampledFrom(domains).Draw(t, name) }
	o := Observation{
		Time: noon, From: domain("acme.example"), Organisational: domain("acme.example"),
		DMARC: rapid.IntRange(0, 9).Draw(t, "dmarc") > 0,
		SPF:   rapid.Bool().Draw(t, "spf"),
		Peer:  rapid.SampledFrom([]Peer{OtherPeer, ProviderPeer}).Draw(t, "peer"),
		Stamps: Stamps{
			Tenant:     rapid.SampledFrom([]string{"", acmeTenant, acmeSecond, evilTenant, consumerTenant, fmt.Sprintf("33333333-3333-4333-8333-0000000000%02d", rapid.IntRange(0, 60).Draw(t, "n"))}).Draw(t, "tenant"),
			Originator: pick("originator"), Any: true,
			Repeated: rapid.IntRange(0, 9).Draw(t, "repeated") == 0,
			Entry:    rapid.SampledFrom([]Entry{UnknownEntry, Mailbox, Connector, Outside}).Draw(t, "entry"),
			Place:    rapid.SliceOfN(rapid.SampledFrom([]Place{Nowhere, Egress, Before, After}), 0, 3).Draw(t, "places"),
		},
	}
	for i := range o.Stamps.Place {
		o.Signatures = append(o.Signatures, Signature{Domain: pick("d"), Field: i, Alias: rapid.SampledFrom([]string{"", acmeAlias, "s._domainkey.evil.onmicrosoft.com", "s._domainkey.relay.example"}).Draw(t, "alias")})
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "seals") {
		o.Seals = append(o.Seals, attribution.Sealed{Instance: i + 1, Intact: rapid.Bool().Draw(t, "intact"), Attested: attribution.Attested{
			DMARC: rapid.SampledFrom([]string{"pass", "fail", "none"}).Draw(t, "attested"), HeaderFrom: pick("header.from"), Outside: rapid.Bool().Draw(t, "outside"), DKIM: []mail.Domain{pick("header.d")},
		}})
	}
	return o
}

// ownObservation is Acme's own mail, from one of its tenants.
func ownObservation(t *rapid.T) Observation {
	o := echoedBy(rapid.SampledFrom([]string{acmeTenant, acmeSecond}).Draw(t, "own tenant"))
	o.Peer, o.Stamps.Entry, o.Stamps.Place = ProviderPeer, Mailbox, []Place{Egress}
	o.Stamps.Originator = domain("acme.example")
	o.Signatures[0].Alias = acmeAlias
	return o
}

// attackersObservation is what somebody with a tenant of his own can make arrive. He
// chooses nearly everything; but
//
//   - the provider signs with Acme's key for nobody else, so that no such signature
//     stands at the egress of his tenant, unless the stamps are not the provider's;
//   - DNS of Acme names no tenant of his;
//   - from the provider's hands his originator is not Acme's, and what the provider
//     attests of a message from inside is of his own domain.
func attackersObservation(t *rapid.T) Observation {
	o := anyObservation(t)
	o.Stamps.Tenant, o.DMARC = evilTenant, true
	for i := range o.Signatures {
		s := &o.Signatures[i]
		if s.Alias != "" && s.Alias != acmeAlias {
			s.Domain = domain("evil.example") // his own
		}
		if o.Peer == ProviderPeer && o.place(*s) == Egress {
			s.Domain, s.Alias = domain("evil.example"), "s._domainkey.evil.onmicrosoft.com"
		}
	}
	if o.Peer == ProviderPeer && o.aligned(o.Stamps.Originator) {
		o.Stamps.Originator = domain("evil.onmicrosoft.com")
	}
	return o
}

func anyProfile(t *rapid.T) (p Profile) {
	when := noon.Add(-40 * day)
	for range rapid.IntRange(0, 20).Draw(t, "learned") {
		when = when.Add(time.Duration(rapid.IntRange(0, 47).Draw(t, "hours")) * time.Hour)
		p = Learn(Rule{}, p, anyObservation(t).at(when))
	}
	return p
}
