package delivery

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/standard/mtasts"
	"anechoic/standard/tlsrpt"
)

// signedZone is DNS as a validating resolver gives it: authentic, but for the
// names that are listed.
type signedZone struct {
	*dns.Zone
	insecure []string
}

func (z signedZone) secure(name string) bool { return !slices.Contains(z.insecure, name) }

func (z signedZone) MX(ctx context.Context, name string) (mail.Answer[mail.MX], error) {
	a, err := z.Zone.MX(ctx, name)
	a.Authentic = a.Authentic && z.secure(name)
	return a, err
}

func (z signedZone) Addresses(ctx context.Context, name string) (mail.Answer[netip.Addr], error) {
	a, err := z.Zone.Addresses(ctx, name)
	a.Authentic = a.Authentic && z.secure(name)
	return a, err
}

func (z signedZone) TLSA(ctx context.Context, name string) (mail.Answer[mail.TLSA], error) {
	a, err := z.Zone.TLSA(ctx, name)
	a.Authentic = a.Authentic && z.secure(name)
	return a, err
}

const (
	tlsaName  = "_25._tcp.mx1.globex.example"
	aliasName = "_25._tcp.real.globex.example"
)

// globex is a signed zone with two exchangers and no TLSA records.
func globex(t testing.TB) signedZone {
	t.Helper()
	z, err := dns.ParseZone([]byte(`{
		"globex.example": {"MX": [[10, "mx1.globex.example"], [20, "mx2.globex.example"]]},
		"mx1.globex.example": {"A": ["192.0.2.1"]}, "mx2.globex.example": {"A": ["192.0.2.2"]},
		"bare.example": {"A": ["192.0.2.3"]}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	z.SetAuthentic(true)
	return signedZone{Zone: z}
}

// keyRecord is "3 1 1" of a certificate.
func keyRecord(t testing.TB, c tls.Certificate) mail.TLSA {
	t.Helper()
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return mail.TLSA{Usage: 3, Selector: 1, Matching: 1, Data: sum[:]}
}

var unusable = mail.TLSA{Usage: 1, Selector: 1, Matching: 1, Data: make([]byte, 32)}

func domainOf(t testing.TB, s string) mail.Domain {
	t.Helper()
	d, err := mail.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// policy is an MTA-STS cache that has one for every domain.
func policy(mode mtasts.Mode, mx ...string) func(context.Context, mail.Domain) (mtasts.Entry, error) {
	return func(_ context.Context, d mail.Domain) (mtasts.Entry, error) {
		return mtasts.Entry{Domain: d, ID: "1", Fetched: time.Now(), Policy: mtasts.Policy{Mode: mode, MX: mx, MaxAge: time.Hour}}, nil
	}
}

func on() bool { return true }

// ask plans an attempt and asks about mx1.globex.example, or the first host.
func ask(t testing.TB, rules *TLSRules, change func(*Attempt)) (Security, error) {
	t.Helper()
	a := testAttempt(t, Route{Hosts: []Host{{Name: "mx1.globex.example", Port: 25}}}, "Subject: x\r\n\r\n", "bob@globex.example")
	if change != nil {
		change(&a)
	}
	plan, end := rules.Plan(t.Context(), &a)
	if end != nil {
		return Security{}, errors.New(end.Reply)
	}
	return plan.Host(t.Context(), a.Route.Hosts[0])
}

func requiringTLS(a *Attempt) { a.Envelope.RequireTLS = true }

func TestWhatAHostMustShow(t *testing.T) {
	key := keyRecord(t, testRoots().right)
	dane := func(change func(z *signedZone)) *TLSRules {
		z := globex(t)
		if change != nil {
			change(&z)
		}
		return &TLSRules{Resolver: z, DANE: on}
	}
	with := func(r *TLSRules, change func(r *TLSRules)) *TLSRules { change(r); return r }
	published := func(z *signedZone) { z.SetTLSA(tlsaName, key) }
	override := func(level SecurityLevel, names ...string) []TLSOverride {
		return []TLSOverride{{Domain: domainOf(t, "globex.example"), Level: level, Names: names}}
	}
	for _, c := range []struct {
		about   string
		rules   *TLSRules
		attempt func(*Attempt)
		level   SecurityLevel
		by      SecuredBy
		names   string
		fault   string
	}{
		{"nobody says anything", &TLSRules{Resolver: globex(t)}, nil, LevelOpportunistic, "", "", ""},
		{"the configuration says it of all", &TLSRules{Resolver: globex(t), Default: LevelVerified}, nil, LevelVerified, ByConfig, "", ""},
		{"the configuration says it of the domain", &TLSRules{Resolver: globex(t), Overrides: override(LevelVerified, "mx.hosting.example")}, nil, LevelVerified, ByConfig, "mx.hosting.example", ""},
		{"the configuration says less of the domain than of all", &TLSRules{Resolver: globex(t), Default: LevelVerified, Overrides: override(LevelNone)}, nil, LevelNone, ByConfig, "", ""},

		{"DANE, TLSA records", dane(published), nil, LevelVerified, ByDANE, "mx1.globex.example globex.example", ""},
		{"DANE is off", with(dane(published), func(r *TLSRules) { r.DANE = nil }), nil, LevelOpportunistic, "", "", ""},
		{"DANE, no TLSA records", dane(nil), nil, LevelOpportunistic, "", "", ""},
		{"DANE, none that can be used: TLS all the same", dane(func(z *signedZone) { z.SetTLSA(tlsaName, unusable) }), nil, LevelEncrypted, ByDANE, "", ""},
		{"DANE raises what the configuration says", with(dane(published), func(r *TLSRules) { r.Overrides = override(LevelNone) }), nil, LevelVerified, ByDANE, "mx1.globex.example globex.example", ""},
		{"insecure exchangers: no DANE", dane(func(z *signedZone) { published(z); z.insecure = []string{"globex.example"} }), nil, LevelOpportunistic, "", "", ""},
		{"insecure TLSA records: no DANE", dane(func(z *signedZone) { published(z); z.insecure = []string{tlsaName} }), nil, LevelOpportunistic, "", "", ""},
		{"an insecure host: its TLSA records are not asked for", dane(func(z *signedZone) {
			z.SetFault(tlsaName, true)
			z.insecure = []string{"mx1.globex.example"}
		}), nil, LevelOpportunistic, "", "", ""},
		{"bogus TLSA records", dane(func(z *signedZone) { z.SetFault(tlsaName, true) }), nil, 0, "", "", "TLSA records could not be looked up"},
		{"bogus addresses", dane(func(z *signedZone) { z.SetFault("mx1.globex.example", true) }), nil, 0, "", "", "could not be looked up"},
		{"bogus exchangers", dane(func(z *signedZone) { z.SetFault("globex.example", true) }), nil, 0, "", "", "DNSSEC"},
		{"a host that DNS no longer names", dane(published), func(a *Attempt) { a.Route.Hosts[0].Name = "mx.attacker.example" }, 0, "", "", "changed"},
		{"a domain without exchangers is its own", dane(func(z *signedZone) { z.SetTLSA("_25._tcp.bare.example", key) }), func(a *Attempt) {
			a.Envelope.Recipients[0].Address, a.Route.Hosts[0].Name = address(t, "bob@bare.example"), "bare.example"
		}, LevelVerified, ByDANE, "bare.example", ""},
		{"an alias: the records of its end", dane(func(z *signedZone) {
			z.SetCNAME("mx1.globex.example", "real.globex.example")
			z.SetAddresses("real.globex.example", netip.MustParseAddr("192.0.2.9"))
			z.SetTLSA(aliasName, key)
		}), nil, LevelVerified, ByDANE, "real.globex.example mx1.globex.example globex.example", ""},
		{"an alias into an insecure zone: no DANE unless the alias has records itself", dane(func(z *signedZone) {
			z.SetCNAME("mx1.globex.example", "real.globex.example")
			z.SetAddresses("real.globex.example", netip.MustParseAddr("192.0.2.9"))
			z.SetFault(aliasName, true)
			z.insecure = []string{"mx1.globex.example"} // the chain as a whole
		}), nil, LevelOpportunistic, "", "", ""},
		{"another port has its own records", dane(published), func(a *Attempt) { a.Route.Hosts[0].Port = 26 }, LevelOpportunistic, "", "", ""},

		{"MTA-STS enforced", &TLSRules{Resolver: globex(t), STS: policy(mtasts.ModeEnforce, "*.globex.example")}, nil, LevelVerified, BySTS, "", ""},
		{"MTA-STS enforced, and the host is not in it", &TLSRules{Resolver: globex(t), STS: policy(mtasts.ModeEnforce, "mx.other.example")}, nil, 0, "", "", "does not name the host"},
		{"MTA-STS tested", &TLSRules{Resolver: globex(t), STS: policy(mtasts.ModeTesting, "*.globex.example")}, nil, LevelOpportunistic, BySTS, "", ""},
		{"MTA-STS tested, and the host is not in it", &TLSRules{Resolver: globex(t), STS: policy(mtasts.ModeTesting, "mx.other.example")}, nil, LevelOpportunistic, "", "", ""},
		{"MTA-STS with mode none", &TLSRules{Resolver: globex(t), STS: policy(mtasts.ModeNone)}, nil, LevelOpportunistic, "", "", ""},
		{"MTA-STS keeps the names that the configuration asks for", &TLSRules{Resolver: globex(t), Overrides: override(LevelVerified, "mx.hosting.example"), STS: policy(mtasts.ModeEnforce, "*.globex.example")}, nil, LevelVerified, BySTS, "mx.hosting.example", ""},
		{"DANE comes before MTA-STS", with(dane(published), func(r *TLSRules) { r.STS = policy(mtasts.ModeEnforce, "mx.other.example") }), nil, LevelVerified, ByDANE, "mx1.globex.example globex.example", ""},
		{"TLSA records that cannot be used, and MTA-STS", with(dane(func(z *signedZone) { z.SetTLSA(tlsaName, unusable) }), func(r *TLSRules) { r.STS = policy(mtasts.ModeEnforce, "*.globex.example") }), nil, LevelVerified, BySTS, "", ""},
		{"MTA-STS does not override a DANE failure", with(dane(func(z *signedZone) { z.SetFault(tlsaName, true) }), func(r *TLSRules) { r.STS = policy(mtasts.ModeEnforce, "*.globex.example") }), nil, 0, "", "", "TLSA"},

		{"REQUIRETLS with DANE", dane(published), requiringTLS, LevelVerified, ByDANE, "mx1.globex.example globex.example", ""},
		{"REQUIRETLS with DNSSEC and no TLSA records", dane(nil), requiringTLS, LevelVerified, ByMessage, "", ""},
		{"REQUIRETLS with MTA-STS", &TLSRules{Resolver: globex(t), STS: policy(mtasts.ModeEnforce, "*.globex.example")}, requiringTLS, LevelVerified, BySTS, "", ""},
		{"REQUIRETLS, and nobody vouches for the host", &TLSRules{Resolver: globex(t)}, requiringTLS, 0, "", "", "vouches"},
		{"REQUIRETLS, and a policy that is only tested", &TLSRules{Resolver: globex(t), STS: policy(mtasts.ModeTesting, "*.globex.example")}, requiringTLS, 0, "", "", "vouches"},
		{"REQUIRETLS to a smart host of ours", &TLSRules{Resolver: globex(t), SmartHost: true}, requiringTLS, LevelVerified, ByMessage, "", ""},

		{"TLS-Required: No", with(dane(published), func(r *TLSRules) { r.STS = policy(mtasts.ModeEnforce, "mx.other.example") }), func(a *Attempt) {
			a.Content = newContent("Subject: x\r\nTLS-required:  no \r\n\r\n")
		}, LevelOpportunistic, "", "", ""},
		{"TLS-Required: No, never below the configuration", with(dane(published), func(r *TLSRules) { r.Overrides = override(LevelVerified) }), func(a *Attempt) {
			a.Content = newContent("TLS-Required: No\r\n\r\n")
		}, LevelVerified, ByConfig, "", ""},
		{"TLS-Required: No counts for nothing beside REQUIRETLS", dane(published), func(a *Attempt) {
			a.Content = newContent("TLS-Required: No\r\n\r\n")
			requiringTLS(a)
		}, LevelVerified, ByDANE, "mx1.globex.example globex.example", ""},
		{"TLS-Required: anything else", dane(published), func(a *Attempt) { a.Content = newContent("TLS-Required: Nope\r\n\r\n") }, LevelVerified, ByDANE, "mx1.globex.example globex.example", ""},
		{"TLS-Required in the body", dane(published), func(a *Attempt) { a.Content = newContent("Subject: x\r\n\r\nTLS-Required: No\r\n") }, LevelVerified, ByDANE, "mx1.globex.example globex.example", ""},
	} {
		t.Run(c.about, func(t *testing.T) {
			s, err := ask(t, c.rules, c.attempt)
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Errorf("error %v does not say %q", err, c.fault)
				}
				return
			}
			if err != nil || s.Level != c.level || s.By != c.by || strings.Join(s.Names, " ") != c.names {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

func TestOverridesAreForTheNearestName(t *testing.T) {
	rules := TLSRules{Default: LevelOpportunistic, Overrides: []TLSOverride{
		{Domain: domainOf(t, "example"), Subdomains: true, Level: LevelEncrypted},
		{Domain: domainOf(t, "globex.example"), Level: LevelVerified},
		{Domain: domainOf(t, "old.globex.example"), Subdomains: true, Level: LevelNone},
	}}
	for name, want := range map[string]SecurityLevel{
		"globex.example": LevelVerified, "sub.globex.example": LevelEncrypted, "old.globex.example": LevelNone,
		"very.old.globex.example": LevelNone, "acme.example": LevelEncrypted, "acme.test": LevelOpportunistic,
	} {
		if got := rules.floor(domainOf(t, name)).Level; got != want {
			t.Errorf("%s: level %d", name, got)
		}
	}
}

// Whatever policies say, they ask for no less than the configuration does.
func TestPoliciesOnlyEverRaise(t *testing.T) {
	key := keyRecord(t, testRoots().right)
	rapid.Check(t, func(rt *rapid.T) {
		level := rapid.SampledFrom([]SecurityLevel{LevelNone, LevelOpportunistic, LevelEncrypted, LevelVerified}).Draw(rt, "level")
		z := globex(t)
		switch rapid.IntRange(0, 3).Draw(rt, "tlsa") {
		case 1:
			z.SetTLSA(tlsaName, key)
		case 2:
			z.SetTLSA(tlsaName, unusable)
		case 3:
			z.SetFault(tlsaName, true)
		}
		mode := rapid.SampledFrom([]mtasts.Mode{mtasts.ModeNone, mtasts.ModeTesting, mtasts.ModeEnforce}).Draw(rt, "mode")
		rules := &TLSRules{Resolver: z, DANE: rapid.SampledFrom([]func() bool{nil, on}).Draw(rt, "dane"), Default: level, STS: policy(mode, rapid.SampledFrom([]string{"*.globex.example", "mx.other.example"}).Draw(rt, "mx"))}
		required, optional := rapid.Bool().Draw(rt, "requiretls"), rapid.Bool().Draw(rt, "tls-required: no")
		s, err := ask(t, rules, func(a *Attempt) {
			a.Envelope.RequireTLS = required
			if optional {
				a.Content = newContent("TLS-Required: No\r\n\r\n")
			}
		})
		if err != nil {
			unknown := strings.Contains(err.Error(), "could not be looked up")
			if errors.Is(err, ErrRequireTLS) != (required && !unknown) {
				rt.Fatalf("%v with REQUIRETLS %v: it is a reason to give up only where it is known", err, required)
			}
			return
		}
		if s.Level.raised(level) != s.Level {
			rt.Fatalf("the configuration says %d, it became %d", level, s.Level)
		}
		if required && (s.Level != LevelVerified || !s.Require || s.Testing) {
			rt.Fatalf("REQUIRETLS became %+v", s)
		}
	})
}

// deliverTo sends to a sink whose certificate is right or other, as mx1.globex.example.
func deliverTo(t *testing.T, which string, rules *TLSRules, change func(*Attempt)) Result {
	t.Helper()
	sink := newSink(t, testRoots().server(which))
	transport := &SMTP{Helo: "relay.example", Rules: rules, Roots: testRoots().pool}
	defer transport.Close()
	a := testAttempt(t, sink.route(), "Subject: x\r\n\r\n", "bob@globex.example")
	if z, ok := rules.Resolver.(signedZone); ok { // the sink's port is what it is
		r, err := z.Zone.TLSA(t.Context(), tlsaName)
		if err == nil && len(r.Records) > 0 {
			_, port, _ := strings.Cut(sink.Addr().String(), ":")
			z.SetTLSA("_"+port+"._tcp.mx1.globex.example", r.Records...)
		}
	}
	if change != nil {
		change(&a)
	}
	return transport.Deliver(t.Context(), a)[0]
}

func TestCertificatesAreHeldAgainstTheRules(t *testing.T) {
	key := keyRecord(t, testRoots().right) // every certificate here has this key
	wrong := key
	wrong.Data = make([]byte, 32)
	dane := func(r mail.TLSA) *TLSRules {
		z := globex(t)
		z.SetTLSA(tlsaName, r)
		return &TLSRules{Resolver: z, DANE: on}
	}
	for _, c := range []struct {
		about  string
		server string
		rules  *TLSRules
		status Status
		says   string // in Result.TLS or Result.Reply
	}{
		{"opportunistic, a valid certificate", "right", &TLSRules{}, Delivered, " verified"},
		{"opportunistic, another name", "other", &TLSRules{}, Delivered, " unverified"},
		{"encrypted, another name", "other", &TLSRules{Default: LevelEncrypted}, Delivered, " unverified"},
		{"verified, another name", "other", &TLSRules{Default: LevelVerified}, Deferred, "other.example"},
		{"verified, the name that is asked for", "other", &TLSRules{Overrides: []TLSOverride{{Domain: domainOf(t, "globex.example"), Level: LevelVerified, Names: []string{"other.example"}}}}, Delivered, " verified"},
		{"none", "right", &TLSRules{Default: LevelNone}, Delivered, ""},
		{"DANE, the right key", "right", dane(key), Delivered, "verified dane"},
		{"DANE, the right key and another name", "other", dane(key), Delivered, "verified dane"},
		{"DANE, another key", "right", dane(wrong), Deferred, "no TLSA record matches"},
		{"DANE, records that cannot be used", "other", dane(unusable), Delivered, " unverified"},
		{"MTA-STS enforced", "right", &TLSRules{STS: policy(mtasts.ModeEnforce, "mx1.globex.example")}, Delivered, "verified mta-sts"},
		{"MTA-STS enforced, another name", "other", &TLSRules{STS: policy(mtasts.ModeEnforce, "mx1.globex.example")}, Deferred, "other.example"},
		{"MTA-STS tested, another name", "other", &TLSRules{STS: policy(mtasts.ModeTesting, "mx1.globex.example")}, Delivered, " unverified"},
	} {
		t.Run(c.about, func(t *testing.T) {
			r := deliverTo(t, c.server, c.rules, nil)
			if said := r.TLS + r.Reply; r.Status != c.status || !strings.Contains(said, c.says) || c.says == "" && r.TLS != "" {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestAnOrganisationsOwnServerIsHeldAgainstItsOwnWord(t *testing.T) {
	pin := [32]byte(keyRecord(t, testRoots().right).Data)
	strict := &TLSRules{Default: LevelVerified, STS: policy(mtasts.ModeEnforce, "elsewhere.example")} // none of it is asked there
	for _, c := range []struct {
		about    string
		server   string
		security Security
		status   Status
		says     string
	}{
		{"nothing asked for", "other", Security{}, Delivered, " unverified"},
		{"the name that is asked for", "other", Security{Level: LevelVerified, Names: []string{"other.example"}}, Delivered, " verified"},
		{"another name", "right", Security{Level: LevelVerified, Names: []string{"mail.inside.example"}}, Deferred, "mail.inside.example"},
		{"the pinned key", "other", Security{Level: LevelVerified, Pins: [][32]byte{{1}, pin}}, Delivered, " verified pinned"},
		{"another key", "right", Security{Level: LevelVerified, Pins: [][32]byte{{1}}}, Deferred, "not one that is pinned"},
	} {
		t.Run(c.about, func(t *testing.T) {
			r := deliverTo(t, c.server, strict, func(a *Attempt) { a.Route.Own = &OwnServer{Security: c.security} })
			if said := r.TLS + r.Reply; r.Status != c.status || !strings.Contains(said, c.says) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestInboundMailGoesToTheOrganisationsServerAndNowhereElse(t *testing.T) {
	r := testRouter(t)
	own := OwnServer{Address: SmartHost{Name: "10.1.2.3", Port: 2600}, LMTP: true}
	r.Inner = func(d mail.Domain) (OwnServer, bool) { return own, d == domainOf(t, "plain.example") }
	route, end := r.Inward(t.Context(), domainOf(t, "plain.example"))
	if end != nil || route.Own == nil || route.Own.Address != own.Address || route.Site != "10.1.2.3:2600" {
		t.Errorf("%+v, %+v", route, end)
	}
	if _, end := r.Inward(t.Context(), domainOf(t, "implicit.example")); end == nil || end.Status != Deferred {
		t.Errorf("inbound mail follows DNS: %+v", end)
	}
	if route, end := r.Route(t.Context(), domainOf(t, "plain.example")); end != nil || !route.Local || len(route.Hosts) > 0 {
		t.Errorf("mail from here for a domain whose mail comes in here: %+v, %+v", route, end)
	}
}

func TestAHostWithoutREQUIRETLSSendsTheMessageBack(t *testing.T) {
	r := deliverTo(t, "right", &TLSRules{STS: policy(mtasts.ModeEnforce, "mx1.globex.example")}, requiringTLS)
	if r.Status != Failed || r.Enhanced != "5.7.30" || !strings.Contains(r.Reply, "REQUIRETLS") {
		t.Errorf("%+v", r)
	}
}

// TestWhatIsNotKnownNowIsNoReasonToGiveUp: a look-up or a policy host that fails today
// delays a message with REQUIRETLS; one that says no sends it back.
func TestWhatIsNotKnownNowIsNoReasonToGiveUp(t *testing.T) {
	failing := func(err error) *TLSRules {
		return &TLSRules{STS: func(context.Context, mail.Domain) (mtasts.Entry, error) { return mtasts.Entry{}, err }}
	}
	dark := globex(t)
	dark.SetFault(tlsaName, true)
	for about, c := range map[string]struct {
		rules  *TLSRules
		status Status
		says   string
	}{
		"TLSA records that cannot be looked up": {&TLSRules{Resolver: dark, DANE: on}, Deferred, "could not be looked up"},
		"a policy host that does not answer":    {failing(errors.New("connection refused")), Deferred, "could not be fetched"},
		"a policy that is none":                 {failing(mtasts.ErrPolicy), Failed, "vouches"},
		"a policy host of another name":         {failing(mtasts.ErrCertificate), Failed, "vouches"},
		"no policy":                             {failing(nil), Failed, "vouches"},
	} {
		a := testAttempt(t, Route{Site: "globex.example", Hosts: []Host{{Name: "mx1.globex.example", Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Port: 25}}}, "Subject: x\r\n\r\n", "bob@globex.example")
		a.Envelope.RequireTLS = true
		transport := &SMTP{Helo: "relay.example", Rules: c.rules}
		r := transport.Deliver(t.Context(), a)[0]
		transport.Close()
		if r.Status != c.status || !strings.Contains(r.Reply, c.says) || (r.Enhanced == "5.7.30") != (c.status == Failed) {
			t.Errorf("%s: %+v", about, r)
		}
	}
}

// RFC 8689 section 5: a report about such a message is not lost because of that, and needs
// everything else.
func TestAReportWithREQUIRETLSGoesOverVerifiedTLSToAHostWithoutIt(t *testing.T) {
	asReport := func(a *Attempt) { a.Envelope.RequireTLS, a.Envelope.From = true, mail.Address{} }
	enforced := &TLSRules{STS: policy(mtasts.ModeEnforce, "mx1.globex.example")}
	if r := deliverTo(t, "right", enforced, asReport); r.Status != Delivered || !strings.Contains(r.TLS, "verified") {
		t.Errorf("%+v", r)
	}
	if r := deliverTo(t, "other", enforced, asReport); r.Status != Failed || r.Enhanced != "5.7.30" {
		t.Errorf("to a host with another's certificate: %+v", r)
	}
	if r := deliverTo(t, "right", &TLSRules{}, asReport); r.Status != Failed || r.Enhanced != "5.7.30" {
		t.Errorf("to a host that nobody vouches for: %+v", r)
	}
}

func TestSessionsAreReported(t *testing.T) {
	type line struct {
		Policy  tlsrpt.PolicyType
		Failure tlsrpt.ResultType
	}
	key := keyRecord(t, testRoots().right)
	wrong := mail.TLSA{Usage: 3, Selector: 1, Matching: 1, Data: make([]byte, 32)}
	for _, c := range []struct {
		about  string
		server string
		rules  TLSRules
		tlsa   mail.TLSA
		want   []line
	}{
		{"no policy", "right", TLSRules{}, mail.TLSA{}, []line{{tlsrpt.PolicyNone, ""}}},
		{"no policy promised a name", "other", TLSRules{}, mail.TLSA{}, []line{{tlsrpt.PolicyNone, ""}}},
		{"MTA-STS", "right", TLSRules{STS: policy(mtasts.ModeEnforce, "mx1.globex.example")}, mail.TLSA{}, []line{{tlsrpt.PolicySTS, ""}}},
		{"MTA-STS enforced, another name", "other", TLSRules{STS: policy(mtasts.ModeEnforce, "mx1.globex.example")}, mail.TLSA{}, []line{{tlsrpt.PolicySTS, tlsrpt.HostMismatch}}},
		{"MTA-STS tested, another name", "other", TLSRules{STS: policy(mtasts.ModeTesting, "mx1.globex.example")}, mail.TLSA{}, []line{{tlsrpt.PolicySTS, tlsrpt.HostMismatch}}},
		{"MTA-STS tested, another host", "right", TLSRules{STS: policy(mtasts.ModeTesting, "mx.other.example")}, mail.TLSA{}, []line{{tlsrpt.PolicySTS, tlsrpt.ValidationFailure}, {tlsrpt.PolicyNone, ""}}},
		{"MTA-STS enforced, another host", "right", TLSRules{STS: policy(mtasts.ModeEnforce, "mx.other.example")}, mail.TLSA{}, []line{{tlsrpt.PolicySTS, tlsrpt.ValidationFailure}}},
		{"a policy host that answers HTML", "right", TLSRules{STS: func(context.Context, mail.Domain) (mtasts.Entry, error) { return mtasts.Entry{}, mtasts.ErrMediaType }}, mail.TLSA{}, []line{{tlsrpt.PolicySTS, tlsrpt.STSInvalid}, {tlsrpt.PolicyNone, ""}}},
		{"a policy host with a bad certificate", "right", TLSRules{STS: func(context.Context, mail.Domain) (mtasts.Entry, error) { return mtasts.Entry{}, mtasts.ErrCertificate }}, mail.TLSA{}, []line{{tlsrpt.PolicySTS, tlsrpt.STSWebPKIInvalid}, {tlsrpt.PolicyNone, ""}}},
		{"DANE", "other", TLSRules{DANE: on}, key, []line{{tlsrpt.PolicyDANE, ""}}},
		{"DANE, another key", "right", TLSRules{DANE: on}, wrong, []line{{tlsrpt.PolicyDANE, tlsrpt.ValidationFailure}}},
	} {
		t.Run(c.about, func(t *testing.T) {
			z := globex(t)
			if c.tlsa.Usage != 0 {
				z.SetTLSA(tlsaName, c.tlsa)
			}
			var got []line
			c.rules.Resolver = z
			c.rules.Report = func(d mail.Domain, p tlsrpt.Policy, f tlsrpt.Failure) {
				if d != domainOf(t, "globex.example") {
					t.Errorf("reported to %s", d)
				}
				got = append(got, line{p.Type, f.Type})
			}
			deliverTo(t, c.server, &c.rules, nil)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestASinkWithoutTLSIsReportedAndNotUsedWhereTLSIsAsked(t *testing.T) {
	for _, c := range []struct {
		rules  TLSRules
		status Status
	}{{TLSRules{}, Delivered}, {TLSRules{STS: policy(mtasts.ModeTesting, "mx1.globex.example")}, Delivered}, {TLSRules{STS: policy(mtasts.ModeEnforce, "mx1.globex.example")}, Deferred}, {TLSRules{Default: LevelEncrypted}, Deferred}} {
		sink := newSink(t, nil)
		transport := &SMTP{Helo: "relay.example", Rules: &c.rules}
		var failures []tlsrpt.ResultType
		c.rules.Report = func(_ mail.Domain, p tlsrpt.Policy, f tlsrpt.Failure) { failures = append(failures, f.Type) }
		r := transport.Deliver(t.Context(), testAttempt(t, sink.route(), "Subject: x\r\n\r\n", "bob@globex.example"))[0]
		transport.Close()
		if r.Status != c.status {
			t.Errorf("%+v", r)
		}
		if c.status == Deferred && !slices.Equal(failures, []tlsrpt.ResultType{tlsrpt.STARTTLSNotSupported}) {
			t.Errorf("reported %v", failures)
		}
	}
}

func TestConnectionsAreSharedOnlyUnderOnePolicy(t *testing.T) {
	base := Security{Level: LevelVerified, By: ByDANE, Names: []string{"a"}, TLSA: []mail.TLSA{unusable}}
	others := []func(*Security){
		func(s *Security) { s.Level = LevelEncrypted }, func(s *Security) { s.By = BySTS }, func(s *Security) { s.Names = []string{"b"} },
		func(s *Security) { s.SNI = "x" }, func(s *Security) { s.TLSA = nil }, func(s *Security) { s.TLSA = []mail.TLSA{keyRecord(t, testRoots().right)} },
		func(s *Security) { s.Testing = true }, func(s *Security) { s.Require = true }, func(s *Security) { s.Returns = true },
	}
	seen := map[string]bool{base.Key(): true}
	for i, change := range others {
		s := base
		change(&s)
		if seen[s.Key()] {
			t.Errorf("case %d has a key of another", i)
		}
		seen[s.Key()] = true
	}
	same := base
	same.Policy = tlsrpt.Policy{Type: tlsrpt.PolicyDANE}
	if same.Key() != base.Key() {
		t.Error("what is reported divides connections")
	}
}
