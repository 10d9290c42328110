package inbound

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/inbound/echo"
	"anechoic/standard/arc"
	"anechoic/standard/authres"
	"anechoic/standard/dkim"
	"anechoic/standard/dmarc"
	"anechoic/standard/spf"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func domain(s string) mail.Domain {
	d, err := mail.ParseDomain(s)
	if err != nil {
		panic(err)
	}
	return d
}

func address(s string) mail.Address {
	if s == "" {
		return mail.Address{}
	}
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

// directory has acme, which sends here, and globex, whose mail comes in.
func directory(t testing.TB) *org.Directory {
	t.Helper()
	reg, problems := org.ParseRegistry("registry.toml", []byte(`
[[organisation]]
id = "acme"
[[organisation.domain]]
name = "acme.test"
[[organisation.domain]]
name = "wide.test"
subdomains = true
[[organisation]]
id = "globex"
[[organisation.domain]]
name = "globex.test"
[[organisation.inbound]]
domains = ["globex.test"]
deliver_to = "127.0.0.1:2600"
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	dir, problems, _ := org.Build(reg, org.Providers{}, nil, 1, noon)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return dir
}

func route(t testing.TB, dir *org.Directory) org.Inbound {
	t.Helper()
	in, ok := dir.InboundFor(domain("globex.test"))
	if !ok {
		t.Fatal("globex has no inbound route")
	}
	return *in
}

// what is found of a message, in a line.
type found struct {
	from, mailFrom string
	spf            spf.Status
	dmarc          dmarc.Status
	policy         dmarc.Policy
	vouched        string
	echo           echo.Echo
	foreign        bool
	sender         org.ID
}

func (f found) judge(dir *org.Directory, in *org.Inbound) Verdict {
	q := Question{Route: in, MailFrom: address(f.mailFrom), From: domain(f.from), Sender: f.sender}
	r := Results{SPF: spf.Result{Status: f.spf}, DMARC: dmarc.Result{Status: f.dmarc, Policy: f.policy, Author: q.From}}
	more := Found{Echo: echo.Verdict{Echo: f.echo}, Foreign: f.foreign}
	if f.vouched != "" {
		more.Vouched = domain(f.vouched)
	}
	return Judge(dir, &q, &r, more)
}

func TestWhatBecomesOfAMessage(t *testing.T) {
	dir := directory(t)
	for _, c := range []struct {
		about  string
		found  found
		change func(*org.Inbound)
		action Action
		reason mail.Reason
	}{
		{"a partner's", found{from: "partner.test", mailFrom: "x@partner.test", spf: spf.Pass, dmarc: dmarc.Pass}, nil, Admitted, ""},
		{"nothing known of it", found{from: "nobody.test", mailFrom: "x@nobody.test"}, nil, Admitted, ""},
		{"the owner wants it rejected", found{from: "partner.test", dmarc: dmarc.Fail, policy: dmarc.PolicyReject}, nil, Refused, mail.ReasonDMARCReject},
		{"the owner wants it rejected, which is observed", found{from: "partner.test", dmarc: dmarc.Fail, policy: dmarc.PolicyReject}, func(in *org.Inbound) { in.DMARC = org.DMARCObserve }, Admitted, ""},
		{"the owner wants it apart", found{from: "partner.test", dmarc: dmarc.Fail, policy: dmarc.PolicyQuarantine}, nil, Held, mail.ReasonDMARCQuarantine},
		{"the owner wants nothing", found{from: "partner.test", dmarc: dmarc.Fail, policy: dmarc.PolicyNone}, nil, Admitted, ""},
		{"a trusted seal speaks for it", found{from: "partner.test", dmarc: dmarc.Fail, policy: dmarc.PolicyReject, vouched: "list.test"}, nil, Admitted, ""},
		{"DNS does not answer", found{from: "partner.test", dmarc: dmarc.TempError}, nil, Refused, mail.ReasonLookupFailed},
		{"DNS does not answer, and it does not matter", found{from: "partner.test", dmarc: dmarc.TempError}, func(in *org.Inbound) { in.DMARC = org.DMARCObserve }, Admitted, ""},
		{"a record nobody can read", found{from: "partner.test", dmarc: dmarc.PermError}, nil, Admitted, ""},
		{"an echo", found{from: "bank.test", dmarc: dmarc.Pass, echo: echo.Suspect}, nil, Admitted, ""},
		{"an echo that is to be held", found{from: "bank.test", dmarc: dmarc.Pass, echo: echo.Suspect}, func(in *org.Inbound) { in.Echo = org.EchoHold }, Held, mail.ReasonEchoSuspect},
		{"an echo that is to be refused", found{from: "bank.test", dmarc: dmarc.Pass, echo: echo.Suspect}, func(in *org.Inbound) { in.Echo = org.EchoRefuse }, Refused, mail.ReasonEchoSuspect},
		{"no echo", found{from: "bank.test", dmarc: dmarc.Pass, echo: echo.Neutral}, func(in *org.Inbound) { in.Echo = org.EchoRefuse }, Admitted, ""},
		{"a foreign report", found{from: "mx.test", foreign: true}, func(in *org.Inbound) { in.Bounces = org.BouncesOurs }, Refused, mail.ReasonBounceNotOurs},
		{"a foreign report, of which all are taken", found{from: "mx.test", foreign: true}, func(in *org.Inbound) { in.Bounces = org.BouncesAny }, Admitted, ""},
		{"its own domain", found{from: "globex.test"}, nil, Refused, mail.ReasonOwnDomainSpoof},
		{"another organisation's", found{from: "acme.test", spf: spf.Pass, mailFrom: "x@nobody.test"}, nil, Refused, mail.ReasonOwnDomainSpoof},
		{"a trusted seal does not speak for ours", found{from: "acme.test", dmarc: dmarc.Fail, policy: dmarc.PolicyReject, vouched: "list.test"}, nil, Refused, mail.ReasonOwnDomainSpoof},
		{"a sub-domain that is covered", found{from: "a.b.wide.test"}, nil, Refused, mail.ReasonOwnDomainSpoof},
		{"ours, and DNS does not answer", found{from: "acme.test", dmarc: dmarc.TempError}, nil, Refused, mail.ReasonLookupFailed},
		{"ours, and DMARC stands behind it", found{from: "acme.test", mailFrom: "x@acme.test", spf: spf.Fail, dmarc: dmarc.Pass}, nil, Admitted, ""},
		{"ours in MAIL FROM", found{from: "partner.test", mailFrom: "x@acme.test", spf: spf.SoftFail, dmarc: dmarc.Pass}, nil, Refused, mail.ReasonOwnDomainSpoof},
		{"ours in MAIL FROM, and DNS does not answer", found{from: "partner.test", mailFrom: "x@acme.test", spf: spf.TempError, dmarc: dmarc.Pass}, nil, Refused, mail.ReasonLookupFailed},
		{"ours in MAIL FROM, and it authorised the peer", found{from: "partner.test", mailFrom: "x@acme.test", spf: spf.Pass, dmarc: dmarc.Pass}, nil, Admitted, ""},
		{"sent from here", found{from: "acme.test", mailFrom: "x@acme.test", dmarc: dmarc.Fail, policy: dmarc.PolicyReject, sender: "acme"}, nil, Admitted, ""},
	} {
		t.Run(c.about, func(t *testing.T) {
			in := route(t, dir)
			if c.change != nil {
				c.change(&in)
			}
			v := c.found.judge(dir, &in)
			if v.Action != c.action || (v.Why == nil) != (c.reason == "") || v.Why != nil && v.Why.Reason() != c.reason {
				t.Errorf("action %d, %v", v.Action, v.Why)
			}
			_, err := Admit(v)
			if (err == nil) == (c.action == Refused) {
				t.Errorf("warrant: %v", err)
			}
		})
	}
}

// TestNothingAnybodySaysMakesASpoofOfOursComeIn: whatever the results, the echo, the
// seals and the settings are, mail from outside with a domain of an organisation here
// in From comes in only if DMARC passed, and with one in MAIL FROM only if it
// authorised the peer, or is of the same organisation as a From that passed.
func TestNothingAnybodySaysMakesASpoofOfOursComeIn(t *testing.T) {
	dir := directory(t)
	base := route(t, dir)
	names := []string{"acme.test", "globex.test", "x.wide.test", "partner.test", "nobody.test"}
	rapid.Check(t, func(rt *rapid.T) {
		in := base
		in.DMARC = rapid.SampledFrom([]string{org.DMARCEnforce, org.DMARCObserve}).Draw(rt, "dmarc setting")
		in.Echo = rapid.SampledFrom([]string{org.EchoMark, org.EchoHold, org.EchoRefuse}).Draw(rt, "echo setting")
		in.Bounces = rapid.SampledFrom([]string{org.BouncesAny, org.BouncesOurs}).Draw(rt, "bounces setting")
		f := found{
			from: rapid.SampledFrom(names).Draw(rt, "from"), spf: spf.Status(rapid.IntRange(0, int(spf.PermError)).Draw(rt, "spf")),
			dmarc: dmarc.Status(rapid.IntRange(0, int(dmarc.PermError)).Draw(rt, "dmarc")), policy: dmarc.Policy(rapid.IntRange(0, int(dmarc.PolicyReject)).Draw(rt, "policy")),
			vouched: rapid.SampledFrom([]string{"", "list.test"}).Draw(rt, "vouched"), foreign: rapid.Bool().Draw(rt, "foreign"),
			echo: rapid.SampledFrom([]echo.Echo{"", echo.None, echo.Pass, echo.Neutral, echo.Suspect}).Draw(rt, "echo"),
		}
		if sender := rapid.SampledFrom(append(names, "")).Draw(rt, "mail from"); sender != "" {
			f.mailFrom = "x@" + sender
		}
		v := f.judge(dir, &in)
		from, owned := dir.Owner(domain(f.from))
		sender, ownSender := dir.Owner(address(f.mailFrom).Domain())
		if v.Action == 0 || v.Action == Refused {
			return
		}
		if owned && f.dmarc != dmarc.Pass {
			rt.Fatalf("From is ours, dmarc=%s, and it comes in", f.dmarc)
		}
		if ownSender && f.spf != spf.Pass && !(owned && f.dmarc == dmarc.Pass && from.Organisation == sender.Organisation) {
			rt.Fatalf("MAIL FROM is ours, spf=%s, and it comes in", f.spf)
		}
	})
}

func TestWhatIsReleasedIsJudgedByTheDirectoryOfNow(t *testing.T) {
	dir := directory(t)
	held := custody.Detained{
		Organisation: "globex", From: address("dan@careful.test"), Verdicts: custody.Verdicts{SPF: "fail", DMARC: "fail"},
		Envelope: mail.Envelope{From: address("dan@careful.test"), Recipients: []mail.Recipient{{Address: address("bob@globex.test")}}},
	}
	if w, refusal := Reopen(dir, held); refusal != nil || w.Organisation() != "globex" || w.Verdicts() != held.Verdicts {
		t.Errorf("%v, %v", w, refusal)
	}
	for about, c := range map[string]struct {
		change func(*custody.Detained)
		reason mail.Reason
	}{
		"From became an organisation's here":      {func(d *custody.Detained) { d.From = address("ceo@acme.test") }, mail.ReasonOwnDomainSpoof},
		"MAIL FROM became an organisation's here": {func(d *custody.Detained) { d.Envelope.From = address("ceo@acme.test") }, mail.ReasonOwnDomainSpoof},
		"the recipient's domain went to another":  {func(d *custody.Detained) { d.Organisation = "acme" }, mail.ReasonRelayDenied},
		"its mail does not come in any more": {func(d *custody.Detained) {
			d.Envelope.Recipients = []mail.Recipient{{Address: address("bob@acme.test")}}
		}, mail.ReasonRelayDenied},
	} {
		changed := held
		c.change(&changed)
		if w, refusal := Reopen(dir, changed); refusal == nil || refusal.Reason() != c.reason || !w.IsZero() {
			t.Errorf("%s: %v, %v", about, w, refusal)
		}
	}
}

func TestOnlyATrustedSealOfThisFromVouches(t *testing.T) {
	set := func(n int, sealer, results string, seal dkim.Status) arc.Instance {
		parsed, err := authres.Parse([]byte(results))
		if err != nil {
			t.Fatal(err)
		}
		return arc.Instance{Number: n, Results: parsed, Seal: dkim.Result{Status: seal, Domain: domain(sealer)}}
	}
	pass := "mx.list.test; dmarc=pass header.from=partner.test"
	c := Checker{Sealers: []mail.Domain{domain("list.test"), domain("second.test")}}
	for about, test := range map[string]struct {
		status arc.Status
		sets   []arc.Instance
		want   string
	}{
		"it says so":                             {arc.Pass, []arc.Instance{set(1, "list.test", pass, dkim.Pass)}, "list.test"},
		"the older of two trusted ones says so":  {arc.Pass, []arc.Instance{set(1, "list.test", pass, dkim.Pass), set(2, "second.test", "mx.second.test; dmarc=fail header.from=partner.test", dkim.Pass)}, "list.test"},
		"a stranger sealed last":                 {arc.Pass, []arc.Instance{set(1, "list.test", pass, dkim.Pass), set(2, "stranger.test", "mx; dmarc=pass header.from=partner.test", dkim.Pass)}, ""},
		"a stranger alone":                       {arc.Pass, []arc.Instance{set(1, "stranger.test", pass, dkim.Pass)}, ""},
		"the chain does not validate":            {arc.Fail, []arc.Instance{set(1, "list.test", pass, dkim.Pass)}, ""},
		"the seal does not verify":               {arc.Pass, []arc.Instance{set(1, "list.test", pass, dkim.Fail)}, ""},
		"it speaks of another From":              {arc.Pass, []arc.Instance{set(1, "list.test", "mx; dmarc=pass header.from=other.test", dkim.Pass)}, ""},
		"it says that DMARC failed":              {arc.Pass, []arc.Instance{set(1, "list.test", "mx; dmarc=fail header.from=partner.test", dkim.Pass)}, ""},
		"what a stranger under it said is heard": {arc.Pass, []arc.Instance{set(1, "stranger.test", pass, dkim.Pass), set(2, "list.test", "mx; dmarc=fail header.from=partner.test", dkim.Pass)}, ""},
	} {
		r := Results{ARC: arc.Chain{Status: test.status, Instances: test.sets}}
		by, ok := c.Vouched(&r, domain("partner.test"))
		if ok != (test.want != "") || ok && by.String() != test.want {
			t.Errorf("%s: %s, %t", about, by, ok)
		}
	}
	if _, ok := (&Checker{}).Vouched(&Results{ARC: arc.Chain{Status: arc.Pass, Instances: []arc.Instance{set(1, "list.test", pass, dkim.Pass)}}}, domain("partner.test")); ok {
		t.Error("somebody is trusted whom nobody named")
	}
}

func TestOurResultsStandAloneInOurName(t *testing.T) {
	header, err := mail.ParseHeader([]byte("Authentication-Results: relay.test; dmarc=pass\r\nAuthentication-Results: other.test; dmarc=pass\r\nFrom: x@partner.test\r\n"), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	q := Question{MailFrom: address("x@partner.test"), From: domain("partner.test"), Helo: "a\r\nb"}
	r := Results{DKIM: []dkim.Result{{Status: dkim.Fail, Err: errors.New("bad; dmarc=pass (x"), Domain: domain("partner.test"), Selector: "s1"}}, DMARC: dmarc.Result{Status: dmarc.Fail, Policy: dmarc.PolicyReject}}
	marked := Mark(header, r.Authres("relay.test", &q, Found{Vouched: domain("list.test")}, false))
	var ours, others []string
	for _, f := range marked.Fields {
		switch {
		case authres.Ours(f, "relay.test"):
			ours = append(ours, f.Value())
		case f.Is("Authentication-Results"):
			others = append(others, f.Value())
		}
	}
	if len(ours) != 1 || len(others) != 1 || marked.Fields[0].Value() != ours[0] {
		t.Fatalf("ours %q, others %q", ours, others)
	}
	read, err := authres.Parse([]byte(ours[0]))
	if err != nil || len(read.Of("dmarc")) != 1 || read.Of("dmarc")[0].Value != "fail" || !strings.Contains(ours[0], "vouched for by the seal of list.test") {
		t.Errorf("%s: %v", ours[0], err)
	}
	if got := slices.Collect(methods(read)); !slices.Equal(got, []string{"dkim=fail", "dmarc=fail", "arc=none"}) {
		t.Errorf("%v", got)
	}
}

func methods(r authres.Results) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for _, m := range r.Methods {
			if !yield(m.Method + "=" + m.Value) {
				return
			}
		}
	}
}
