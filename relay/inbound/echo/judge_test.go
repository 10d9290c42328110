package echo

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"anechoic/mail"
	"anechoic/relay/attribution"
)

func TestVerdicts(t *testing.T) {
	behindRelay := func(alias string, groups ...any) Observation {
		return seen(t, OtherPeer, alias, lines(append([]any{signature, relayHop}, groups...)...))
	}
	direct := func(alias string, groups ...any) Observation {
		return seen(t, ProviderPeer, alias, lines(groups...))
	}
	known := taught(t)
	broken := acmeFails
	broken.Intact = false
	other := acmeFails
	other.Attested.HeaderFrom = domain("globex.example")
	rescued := attribution.Sealed{Instance: 2, Intact: true, Attested: attribution.Attested{DMARC: "pass", HeaderFrom: domain("acme.example"), Outside: true, DKIM: []mail.Domain{domain("acme.example")}}}
	bySPF := rescued
	bySPF.Instance, bySPF.Attested.DKIM = 1, nil
	noDMARC := echoed(t)
	noDMARC.DMARC = false
	named := echoed(t)
	named.Named = []mail.Domain{domain("acmecorp.onmicrosoft.com")}
	named.Stamps.Originator = domain("acmecorp.onmicrosoft.com")
	vouched := Rule{Vouched: []Vouch{{domain("acme.example"), acmeSecond}}}

	for _, test := range []struct {
		name    string
		rule    Rule
		profile Profile
		o       Observation
		want    Echo
		codes   []Code
	}{
		{"no trace of the provider", Rule{}, known, direct("", signature), None, nil},
		{"not DMARC-pass", Rule{}, known, noDMARC, None, nil},
		{"a seal, and no stamps", Rule{}, known, direct("", signature).sealed(acmeInside), None, nil},

		{"the provider signs", Rule{}, Profile{}, fromCloud(t), Pass, []Code{SignedAtProvider}},
		{"and its signature comes through a relay", Rule{}, Profile{}, behindRelay(acmeAlias, signature, providerHop, mailbox(acmeSecond, "brand.example")), Pass, []Code{SignedAtProvider}},
		{"a relay's key on the same place", Rule{}, Profile{}, behindRelay("s1.keys.relay.example", signature, providerHop, mailbox(acmeSecond, "brand.example")), Neutral, []Code{ForeignTenant}},
		{"the originator is of From's domain", Rule{}, Profile{}, behindRelay("", providerHop, mailbox(acmeTenant, "mail.acme.example")), Pass, []Code{OriginatorOfFrom}},
		{"the originator's name ends like From's", Rule{}, Profile{}, behindRelay("", providerHop, mailbox(evilTenant, "notacme.example")), Neutral, []Code{ForeignTenant}},
		{"DNS names the tenant", Rule{}, Profile{}, named, Pass, []Code{NamedByDNS}},
		{"DNS named the tenant some days ago", Rule{}, known, behindRelay("", providerHop, connector(acmeSecond, "acmecorp.onmicrosoft.com")), Pass, []Code{NamedByDNS}},
		{"a learned tenant, another brand's originator", Rule{}, known, behindRelay("", providerHop, mailbox(acmeTenant, "brand.example")), Pass, []Code{LearnedTenant}},
		{"vouched for", vouched, known, behindRelay("", providerHop, connector(acmeSecond, "brand.example")), Pass, []Code{VouchedFor}},
		{"another is vouched for", vouched, known, echoed(t), Suspect, []Code{ForeignTenant, UsualTenantsOther, EnteredFromOut}},

		{"an echo of a domain never seen", Rule{}, Profile{}, echoed(t), Neutral, []Code{ForeignTenant, EnteredFromOut}},
		{"a stricter rule", Rule{SuspectAt: 50}, Profile{}, echoed(t), Suspect, []Code{ForeignTenant, EnteredFromOut}},
		{"an echo of a domain that is known", Rule{}, known, echoed(t), Suspect, []Code{ForeignTenant, UsualTenantsOther, EnteredFromOut}},
		{"an echo of which the provider saw DMARC fail", Rule{}, Profile{}, echoed(t).sealed(acmeFails), Suspect, []Code{AttestedFail, ForeignTenant, EnteredFromOut}},
		{"the same, and the relay changed the message", Rule{}, Profile{}, echoed(t).sealed(broken), Suspect, []Code{ForeignTenant, AttestedFail, EnteredFromOut}},
		{"a seal about another From", Rule{}, Profile{}, echoed(t).sealed(other), Neutral, []Code{ForeignTenant, EnteredFromOut}},
		{"an echo through the provider's shared addresses", Rule{}, Profile{}, direct("", providerHop, ingressHop, connector(evilTenant, "evil.onmicrosoft.com")), Suspect, []Code{ForeignTenant, EnteredFromOut, SPFAlone}},
		{"without an originator stamp", Rule{}, known, behindRelay("", providerHop, outside(evilTenant, "x")[1:]), Suspect, []Code{ForeignTenant, UsualTenantsOther, EnteredFromOut}},
		{"a stamp twice", Rule{}, known, behindRelay("", providerHop, mailbox(acmeTenant, "acme.example"), "X-OriginatorOrg: evil.example"), Neutral, []Code{StampRepeated}},
		{"stamps that name nobody", Rule{}, known, behindRelay("", providerHop, "X-MS-Exchange-CrossTenant-Id: none"), Neutral, []Code{TenantUnstated}},

		{"forwarded by somebody's tenant", Rule{}, known, direct("", providerHop, signature, outside(evilTenant, "alumni.example")), Neutral, []Code{GenuineForwarded}},
		{"forwarded, the signature checked on the way in", Rule{}, known, echoed(t).sealed(func() attribution.Sealed { s := rescued; s.Instance = 1; return s }()), Neutral, []Code{GenuineForwarded}},
		{"SPF on the way in proves nothing", Rule{}, known, echoed(t).sealed(bySPF), Suspect, []Code{ForeignTenant, UsualTenantsOther, EnteredFromOut}},
		{"an echo forwarded by its recipient", Rule{}, known, direct("", providerHop, signature, outside(acmeSecond, "victim.example")).sealed(acmeFails, rescued), Suspect, []Code{AttestedFail, GenuineForwarded}},

		{"own server that SPF does not list", Rule{}, known, behindRelay("", providerHop, ingressHop, connector(acmeTenant, "acme.example")).sealed(acmeFails), Neutral, []Code{AttestedFail, OriginatorOfFrom}},
		{"spoof forwarded through the own tenant", Rule{}, known, direct(acmeAlias, signature, providerHop, ingressHop, outside(acmeTenant, "acme.example")).sealed(acmeFails), Suspect, []Code{AttestedFail, SignedAtProvider}},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := Judge(test.rule, test.profile, test.o)
			var codes []Code
			for _, r := range v.Reasons {
				codes = append(codes, r.Code)
			}
			if v.Echo != test.want || !slices.Equal(codes, test.codes) {
				t.Errorf("%s %d %q, want %s %q", v.Echo, v.Score, codes, test.want, test.codes)
			}
		})
	}
}

func TestAConsumerMailboxBelongsToConsumerDomainsOnly(t *testing.T) {
	o := seen(t, OtherPeer, "", lines(signature, relayHop, providerHop, mailbox(consumerTenant, "sct-15-20-7719-20-msonline-outlook-448bf.templateTenant")))
	if v := Judge(Rule{}, taught(t), o); v.Has(ConsumerMailbox) || v.Echo == Pass {
		t.Errorf("as acme.example: %+v", v)
	}
	for _, name := range []string{"outlook.com", "hotmail.co.uk", "live.nl"} {
		o.From, o.Organisational = domain(name), domain(name)
		if v := Judge(Rule{}, Profile{}, o); v.Echo != Pass || !v.Has(ConsumerMailbox) {
			t.Errorf("as %s: %+v", name, v)
		}
	}
}

// One stranger after the other on one day: from the third on they are a burst.
func TestABurstOfStrangersIsSuspect(t *testing.T) {
	p := Profile{}
	for i, want := range []Echo{Neutral, Neutral, Suspect, Suspect} {
		o := echoed(t).at(noon)
		o.Stamps.Tenant = "eeeeeeee-eeee-4eee-8eee-00000000000" + string(rune('0'+i))
		v := Judge(Rule{}, p, o)
		if v.Echo != want || v.Has(ManyStrangers) != (want == Suspect) {
			t.Errorf("stranger %d: %+v", i+1, v)
		}
		p = Learn(Rule{}, p, o)
	}
	later := echoed(t).at(noon.Add(2 * day))
	if v := Judge(Rule{}, p, later); v.Has(ManyStrangers) {
		t.Errorf("two days later, one stranger is none: %+v", v)
	}
}

// A verdict's parts agree, whatever the observation.
func TestScoresAreTheSumOfTheirReasons(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := anyObservation(t)
		v := Judge(Rule{}, anyProfile(t), o)
		sum := 0
		for _, r := range v.Reasons {
			sum += r.Points
			if r.Text == "" || !v.Has(r.Code) {
				t.Fatalf("%+v", r)
			}
		}
		ok := sum == v.Score && (v.Echo == Suspect) == (v.Score >= DefaultSuspectAt) && (v.Echo == None) == (len(v.Reasons) == 0)
		if !ok || v.Echo == Pass && sum > 0 || v.Echo != None && !o.DMARC {
			t.Fatalf("%+v", v)
		}
	})
}

// A seal that says fail never makes a message look better.
func TestAttestedFailuresOnlyAddToAScore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, o := anyProfile(t), anyObservation(t)
		before, after := Judge(Rule{}, p, o), Judge(Rule{}, p, o.sealed(acmeFails))
		if after.Score < before.Score || before.Echo == Suspect && after.Echo != Suspect {
			t.Fatalf("%+v, with the seal %+v", before, after)
		}
	})
}
