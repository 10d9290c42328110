package app

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"anechoic/control/config"
	"anechoic/engine/memory"
	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
	"anechoic/relay/delivery"
)

// busyFor is a way out that takes mail for one domain and puts off all other; it
// notes what it took, and when.
type busyFor struct {
	takes mail.Domain

	mu    sync.Mutex // guards what follows
	took  []arrival
	pools map[string]bool // that attempts were to leave from, behind the domain they went to
}

// arrival is a message that was taken.
type arrival struct {
	at   time.Time
	from string
	text string
}

func (b *busyFor) Deliver(_ context.Context, a delivery.Attempt) []delivery.Result {
	to := a.Envelope.Recipients[0].Address.Domain()
	b.mu.Lock()
	b.pools[to.String()+" from "+a.Egress] = true
	b.mu.Unlock()
	result := delivery.Result{Status: delivery.Deferred, Said: true, Enhanced: "4.2.2", Reply: "452 4.2.2 Full", Host: "mx"}
	if to == b.takes {
		body, err := io.ReadAll(a.Content.Body())
		if err != nil {
			panic(err) // it is in memory
		}
		b.mu.Lock()
		b.took = append(b.took, arrival{time.Now(), a.Envelope.From.String(), string(a.Content.Header()) + string(body)})
		b.mu.Unlock()
		result = delivery.Result{Status: delivery.Delivered, Said: true, Enhanced: "2.0.0", Reply: "250 2.0.0 Ok", Host: "mx"}
	}
	results := make([]delivery.Result, len(a.Envelope.Recipients))
	for i := range results {
		results[i] = result
	}
	return results
}

// delaying is a relay's way out as its configuration makes it, with a message of
// acme's in custody that nobody takes.
func delaying(t *testing.T, text string) (*App, *busyFor) {
	t.Helper()
	c, problems := config.Parse("relay.toml", []byte("hostname = \"relay.test\"\ndata_dir = \"data\"\nregistry = \"registry.toml\"\n[delivery]\nretry_after = [\"30m\"]\nexpire_after = \"24h\"\n"+text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	a := &App{config: c, log: slog.New(slog.DiscardHandler)}
	a.security = &transportSecurity{app: a}
	a.shaping.Store(delivery.BuiltinShaping())
	registry, problems := org.ParseRegistry("registry.toml", []byte(strings.Join([]string{
		`[[organisation]]`, `id = "acme"`, `name = "Acme"`, `egress = "billing"`, `[[organisation.domain]]`, `name = "acme.test"`, `[[organisation.source]]`,
		`id = "app"`, `kind = "credential"`, `role = "application"`, `username = "app@acme"`, `from = ["*@acme.test"]`,
		`password = { argon2id = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE" }`,
	}, "\n")))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	dir, problems, _ := org.Build(registry, org.Providers{}, nil, 7, time.Now())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	a.directory.Store(dir)
	var err error
	if a.queue, err = custody.OpenQueue(t.Context(), memory.New(), custody.Options{SealKey: make([]byte, 32), RetryAfter: c.Delivery.RetryAfter, ExpireAfter: c.Delivery.ExpireAfter}); err != nil {
		t.Fatal(err)
	}
	if err := a.makeDispatcher(); err != nil {
		t.Fatal(err)
	}
	out := &busyFor{takes: domainOf(t, "acme.test"), pools: map[string]bool{}}
	zone := &dns.Zone{}
	for _, d := range []string{"acme.test", "busy.test"} {
		zone.SetMX(d, mail.MX{Preference: 10, Host: "mx." + d})
		zone.SetAddresses("mx."+d, netip.MustParseAddr("192.0.2.1"))
	}
	a.dispatcher.Transport, a.dispatcher.Router.Resolver = out, zone
	a.dispatcher.Ask = nil // policy has its own tests
	a.keepForNobody(t, dir)
	return a, out
}

// keepForNobody takes custody of a message of acme's for a server that is busy.
func (a *App) keepForNobody(t *testing.T, dir *org.Directory) {
	t.Helper()
	proof, refusal := attribution.Attribute(dir, &attribution.Evidence{TLS: true, Username: "app@acme", From: domainOf(t, "acme.test")}, time.Now())
	if refusal != nil {
		t.Fatal(refusal)
	}
	warrant, err := custody.NewProven(proof, domainOf(t, "acme.test"))
	if err != nil {
		t.Fatal(err)
	}
	header, err := mail.ParseHeader([]byte("From: ann@acme.test\r\nSubject: hello\r\n"), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	from, err := mail.ParseAddress("ann@acme.test")
	if err != nil {
		t.Fatal(err)
	}
	var to []mail.Recipient
	for _, text := range []string{"bob@busy.test", "dan@busy.test"} {
		rcpt, err := mail.ParseAddress(text)
		if err != nil {
			t.Fatal(err)
		}
		to = append(to, mail.Recipient{Address: rcpt})
	}
	s := custody.Submission{ID: mail.NewID(time.Now()), Warrant: warrant, Envelope: mail.Envelope{From: from, Recipients: to}, Header: header, Body: mail.NewBody([]byte("Hello.\r\n"))}
	if _, err := a.queue.Keep(t.Context(), s, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// The time of the configuration is that of the notice, which comes once a message,
// from the null sender, and says how long attempts go on.
func TestASenderIsToldOnceOfADelayAfterTheTimeThatIsConfigured(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		after time.Duration // zero: never
	}{
		"as configured": {"delay_notice_after = \"90m\"\n", 90 * time.Minute},
		"by default":    {"", 4 * time.Hour},
		"never":         {"delay_notice_after = \"48h\"\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, out := delaying(t, c.text)
				kept := time.Now()
				a.dispatcher.Start()
				time.Sleep(20 * time.Hour)
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				a.dispatcher.Stop(ctx)
				a.queue.Close()
				out.mu.Lock()
				defer out.mu.Unlock()
				if c.after == 0 {
					if len(out.took) > 0 {
						t.Errorf("told %+v", out.took)
					}
					return
				}
				if len(out.pools) != 2 || !out.pools["busy.test from billing"] || !out.pools["acme.test from "] {
					t.Errorf("the organisation's mail and the relay's own left from the pools %v", out.pools)
				}
				if len(out.took) != 1 {
					t.Fatalf("told %d times: %+v", len(out.took), out.took)
				}
				told := out.took[0]
				if late := told.at.Sub(kept); late < c.after || late > c.after+40*time.Minute {
					t.Errorf("told after %s", late)
				}
				if told.from != "" || strings.Count(told.text, "Action: delayed\r\n") != 2 || !strings.Contains(told.text, "Will-Retry-Until: "+kept.Add(24*time.Hour).UTC().Format(time.RFC1123Z)) {
					t.Errorf("from %q:\n%s", told.from, told.text)
				}
			})
		})
	}
}
