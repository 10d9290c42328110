package delivery

import (
	"context"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
	"anechoic/standard/mtasts"
)

// keepProven takes custody of one message that acme was proven to send.
func (s *station) keepProven(rcpt ...mail.Recipient) mail.ID {
	s.t.Helper()
	registry, problems := org.ParseRegistry("registry.toml", []byte(`
[[organisation]]
id = "acme"
name = "Acme"
security_contact = "security@acme.example"
[[organisation.domain]]
name = "acme.example"
[[organisation.source]]
id = "app"
kind = "credential"
role = "application"
username = "app@acme"
password = { argon2id = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE" }
from = ["*@acme.example"]
`))
	if len(problems) > 0 {
		s.t.Fatal(problems)
	}
	dir, problems, _ := org.Build(registry, org.Providers{}, nil, 7, time.Now())
	if len(problems) > 0 {
		s.t.Fatal(problems)
	}
	proof, refusal := attribution.Attribute(dir, &attribution.Evidence{TLS: true, Username: "app@acme", From: domainOf(s.t, "acme.example")}, time.Now())
	if refusal != nil {
		s.t.Fatal(refusal)
	}
	warrant, err := custody.NewProven(proof, domainOf(s.t, "acme.example"))
	if err != nil {
		s.t.Fatal(err)
	}
	id := mail.NewID(time.Now())
	sub := custody.Submission{
		ID: id, Warrant: warrant, Envelope: mail.Envelope{From: address(s.t, "alice@acme.example"), Recipients: rcpt},
		Header: mail.Header{Fields: []mail.Field{mail.NewField("Subject", "hello")}}, Body: mail.NewBody([]byte("Hello.\r\n")),
	}
	if _, err := s.queue.Keep(context.Background(), sub, time.Now()); err != nil {
		s.t.Fatal(err)
	}
	return id
}

func TestReroutedMailGoesToTheChosenNextHopThoughItsSiteIsDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "globex.example")
		s.zone.SetAddresses("hop.example", netip.MustParseAddr("10.0.0.7"))
		s.answer = func(a Attempt) []Result {
			if a.Route.Chosen {
				return each(a, Result{Status: Delivered, Enhanced: "2.0.0", Reply: "250 Ok", Said: true, Host: "hop.example"})
			}
			return each(a, deferred("4.4.1", "connection refused"))
		}
		var asked atomic.Int64
		s.Ask = func(context.Context, *custody.Lease, custody.Content, custody.Warrant) *mail.Refusal {
			asked.Add(1)
			return nil
		}
		for range 5 {
			s.keepProven(to(t, "bob@globex.example")...)
		}
		s.Start()
		synctest.Wait()
		if status, ok := s.SiteOf(domainOf(t, "globex.example")); !ok || !status.Dead {
			t.Fatalf("the site is %+v", status)
		}
		id := s.keepProven(to(t, "carol@globex.example")...)
		before := asked.Load()
		done, err := s.queue.Reroute(t.Context(), custody.Filter{}, custody.Course{Via: "hop.example:2525", By: "ann"}, time.Now())
		if err != nil || done.Messages != 6 {
			t.Fatalf("%+v, %v", done, err)
		}
		synctest.Wait()
		s.stop()
		if s.left() != 0 || asked.Load()-before != 6 {
			t.Errorf("%d recipients are left, policy was asked %d times", s.left(), asked.Load()-before)
		}
		last := s.made()[len(s.made())-1]
		if last.Route.Site != "hop.example:2525" || last.Route.Hosts[0].Port != 2525 || last.Route.Hosts[0].Addresses[0] != netip.MustParseAddr("10.0.0.7") {
			t.Errorf("the route was %+v", last.Route)
		}
		if status, _ := s.SiteOf(domainOf(t, "globex.example")); status.Name != "globex.example" {
			t.Errorf("the chosen next hop is taken for the domain's site: %+v (%s)", status, id)
		}
	})
}

func TestAChosenNextHopThatIsThisRelayIsNotUsed(t *testing.T) {
	r := &Router{Hostname: "relay.test", Own: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:2525")}}
	for hop, want := range map[string]string{"127.0.0.1:2525": "4.4.6", "nonsense": "4.3.5", "": "4.3.5"} {
		if route, end := r.Via(t.Context(), hop); end == nil || end.Status != Deferred || end.Enhanced != want || len(route.Hosts) > 0 {
			t.Errorf("%q: %+v, %+v", hop, route, end)
		}
	}
}

func TestWhatAPersonEndedGoesBackToItsSenderWithoutAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "globex.example")
		told := s.bounces()
		s.Ask = func(context.Context, *custody.Lease, custody.Content, custody.Warrant) *mail.Refusal {
			t.Error("policy was asked about mail that goes nowhere")
			return nil
		}
		err := s.queue.Suspend(t.Context(), custody.Suspension{Scope: custody.ScopeOrganisation, Name: "acme", By: "ann", At: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		s.keepProven(to(t, "bob@globex.example", "carol@nowhere.example")...)
		if _, err := s.queue.Bounce(t.Context(), custody.Filter{}, custody.Course{By: "ann", Why: "the house moved"}, time.Now()); err != nil {
			t.Fatal(err)
		}
		s.Start()
		synctest.Wait()
		s.stop()
		if len(*told) != 2 || (*told)[0].Expired || !strings.Contains((*told)[0].Result.Reply, "the house moved") || len(s.made()) != 0 {
			t.Errorf("told %+v, %d attempts", *told, len(s.made()))
		}
		var events []ledger.Event
		err = ledger.Read(context.Background(), s.engine, 0, func(f ledger.Fact) bool {
			if f.Event == ledger.Bounced {
				events = append(events, f.Event)
			}
			return true
		})
		if err != nil || len(events) != 2 {
			t.Errorf("%v, %v", events, err)
		}
	})
}

// A next hop that a person chose must show what the domain's own would have to.
func TestAChosenNextHopNeverLowersWhatTheDomainAsksFor(t *testing.T) {
	enforce := policy(mtasts.ModeEnforce, "mx1.globex.example")
	for name, c := range map[string]struct {
		rules TLSRules
		want  SecurityLevel
	}{
		"nothing asked for":  {TLSRules{}, LevelOpportunistic},
		"the configuration":  {TLSRules{Default: LevelEncrypted}, LevelEncrypted},
		"the domain's rule":  {TLSRules{Overrides: []TLSOverride{{Domain: domainOf(t, "globex.example"), Level: LevelVerified}}}, LevelVerified},
		"a signed domain":    {TLSRules{DANE: func() bool { return true }}, LevelVerified},
		"an MTA-STS policy":  {TLSRules{STS: enforce}, LevelVerified},
		"both, and a weaker": {TLSRules{STS: enforce, Default: LevelEncrypted}, LevelVerified},
	} {
		t.Run(name, func(t *testing.T) {
			zone := globex(t)
			zone.SetAddresses("hop.example", netip.MustParseAddr("10.0.0.7"))
			c.rules.Resolver = zone
			a := testAttempt(t, Route{Site: "hop.example:25", Chosen: true}, "Subject: x\r\n\r\n", "bob@globex.example")
			plan, end := c.rules.Plan(t.Context(), &a)
			if end != nil {
				t.Fatalf("%+v", end)
			}
			s, err := plan.Host(t.Context(), Host{Name: "hop.example", Port: 25})
			if err != nil || s.Level != c.want {
				t.Errorf("%+v, %v; want level %d", s, err, c.want)
			}
		})
	}
}
