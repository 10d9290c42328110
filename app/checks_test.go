package app

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"anechoic/org"
	"anechoic/relay/screen"
)

// screeningRegistry has two organisations, of which the second looks at nothing.
const screeningRegistry = `
[[organisation]]
id = "acme"
name = "Acme"
screening.protected_people = ["Ann Example"]
screening.protected_domains = ["partner.test"]
  [[organisation.domain]]
  name = "acme.test"
  [[organisation.source]]
  id = "m365"
  kind = "microsoft365"
  tenant_ids = ["6f1a2b3c-0000-4000-8000-00000000acde"]
  originator_orgs = ["acme.test"]
  provider_domains = ["acme.onmicrosoft.com"]
  require_dkim = true

[[organisation]]
id = "globex"
name = "Globex"
screening.inbound = { checks = "refuse", blocked = [] }
screening.outbound = { checks = "off" }
  [[organisation.domain]]
  name = "globex.test"
`

// directoryOf builds a registry as a generation.
func directoryOf(t *testing.T, text string, generation uint64) *org.Directory {
	t.Helper()
	path := filepath.Join(t.TempDir(), "registry.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	reg, problems := org.ReadRegistry(path)
	dir, more, _ := org.Build(reg, org.Providers{}, nil, generation, time.Now())
	if dir == nil {
		t.Fatalf("%v %v", problems, more)
	}
	return dir
}

func organisationOf(t *testing.T, dir *org.Directory, id org.ID) *org.Organisation {
	t.Helper()
	o, ok := dir.Organisation(id)
	if !ok {
		t.Fatalf("there is no %s", id)
	}
	return o
}

func TestRulesOfChecksAreMadeOncePerDirectory(t *testing.T) {
	var c checkRules
	first := directoryOf(t, screeningRegistry, 1)
	acme := organisationOf(t, first, "acme")
	made := c.of(first)
	rules := made.rules(acme)
	if c.of(first) != made || made.rules(acme) != rules {
		t.Error("they are made for each message")
	}
	for name, want := range map[string]bool{"acme.test": true, "mail.globex.test": true, "partner.test": true, "nobody.test": false} {
		if got := rules.Protected.Has(domainOf(t, name)); got != want {
			t.Errorf("%s is protected: %v", name, got)
		}
	}
	globex := organisationOf(t, first, "globex")
	if made.rules(globex).Protected.Has(domainOf(t, "partner.test")) {
		t.Error("one organisation's partner is another's")
	}
	if like, _ := rules.Protected.LookAlike(domainOf(t, "g1obex.test")); like != domainOf(t, "globex.test") {
		t.Errorf("g1obex.test looks like %q", like)
	}
	if len(rules.Own) != 2 || rules.Own[1] != domainOf(t, "acme.onmicrosoft.com") {
		t.Errorf("its own are %v", rules.Own)
	}
	if _, ok := rules.People.Find("Example, Ann"); !ok {
		t.Error("nobody is protected")
	}

	second := directoryOf(t, screeningRegistry+"\n  [[organisation.domain]]\n  name = \"newcomer.test\"\n", 2)
	next := c.of(second)
	if next == made || !next.rules(organisationOf(t, second, "acme")).Protected.Has(domainOf(t, "newcomer.test")) {
		t.Error("a reload changes nothing")
	}
	if c.of(first) != next || !next.rules(globex).Own[1].Within(domainOf(t, "newcomer.test")) {
		t.Error("a message from before the reload undoes it")
	}
}

func TestAnOrganisationSaysWhatItsChecksDo(t *testing.T) {
	var c checkRules
	dir := directoryOf(t, screeningRegistry, 1)
	acme, globex := organisationOf(t, dir, "acme"), organisationOf(t, dir, "globex")
	for _, k := range []struct {
		name      string
		o         *org.Organisation
		way       *org.ScreeningWay
		asked     bool
		dangerous screen.Action
		blocks    bool
	}{
		{"inbound by default", acme, &acme.Screening.Inbound, true, screen.Hold, true},
		{"outbound by default", acme, &acme.Screening.Outbound, true, screen.Mark, true},
		{"refuse, and nothing blocked", globex, &globex.Screening.Inbound, true, screen.Refuse, false},
		{"off", globex, &globex.Screening.Outbound, false, screen.Lost, false},
	} {
		got := c.checking(dir, k.o, k.way)
		if (got.Rules != nil) != k.asked || got.Dangerous != k.dangerous || k.asked && len(got.Rules.Blocked) > 0 != k.blocks {
			t.Errorf("%s: %+v", k.name, got)
		}
	}
}

// counted is a scanner that says how often it was asked whether it is there.
type counted struct {
	pings int
	err   error
	takes time.Duration
}

func (c *counted) Name() string { return "counted" }

func (c *counted) Ask(context.Context, *screen.Question) (screen.Opinion, error) {
	return screen.Opinion{Action: screen.Pass}, nil
}

func (c *counted) Ping(ctx context.Context) error {
	c.pings++
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(c.takes):
		return c.err
	}
}

func TestStatusAsksScannersSeldomAndNotForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &counted{err: errors.New("no socket\x1b[31m")}
		h := &scannerHealth{screen: screen.New(screen.Options{Scanners: []screen.Scanner{s}})}
		for range 3 {
			if got := h.ask(t.Context()); len(got) != 1 || got[0].Answers || got[0].Detail != "no socket?[31m" || got[0].Circuit != "closed" {
				t.Fatalf("%+v", got)
			}
		}
		if s.pings != 1 {
			t.Errorf("it was asked %d times", s.pings)
		}
		time.Sleep(pingKept)
		s.takes = time.Hour
		start := time.Now()
		if got := h.ask(t.Context()); got[0].Answers || time.Since(start) != pingTimeout || s.pings != 2 {
			t.Errorf("%+v after %v", got, time.Since(start))
		}
	})
}
