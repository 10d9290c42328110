package delivery

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// remembers gives a station Sites that are stored, and what ends them.
func (s *station) remembers() (forget func()) {
	s.Known = &custody.Sites{Store: s.engine}
	running, stop := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { defer close(over); s.Known.Run(running) }()
	return func() { stop(); <-over }
}

func TestADomainThatTurnsOutToLeadToASuspendedSiteGetsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "big.example")
		for _, alias := range []string{"one.example", "two.example"} {
			s.zone.SetMX(alias, mail.MX{Preference: 5, Host: "mx.big.example"})
		}
		what := custody.Suspension{Scope: custody.ScopeSite, Name: "big.example", By: "ann", At: time.Now()}
		if err := s.queue.Suspend(context.Background(), what); err != nil {
			t.Fatal(err)
		}
		for n := range 30 {
			s.keepOf("acme", to(t, fmt.Sprintf("r%d@one.example", n))...)
			s.keepOf("globex", to(t, fmt.Sprintf("r%d@two.example", n))...)
		}
		s.Start()
		time.Sleep(10 * time.Hour)
		if n := len(s.made()); n != 0 || s.left() != 60 {
			t.Errorf("%d attempts, %d left", n, s.left())
		}
		before := len(s.events())
		time.Sleep(10 * time.Hour)
		if after := s.events(); len(after) != before {
			t.Errorf("known to lead there, it was leased again: %d facts more", len(after)-before)
		}
		if err := s.queue.Resume(context.Background(), what); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		s.stop()
		if s.left() != 0 {
			t.Errorf("%d are left", s.left())
		}
	})
}

// After a restart mail for a suspended site is not even leased: where its domain leads is
// known from before.
func TestASuspensionOfASiteHoldsFromTheFirstMomentAfterAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(t, "big.example")
		s.zone.SetMX("alias.example", mail.MX{Preference: 5, Host: "mx.big.example"})
		s.answer = func(a Attempt) []Result { return each(a, deferred("4.2.0", "450 4.2.0 Greylisted")) }
		forget := s.remembers()
		s.keepOf("acme", to(t, "bob@alias.example")...)
		s.Start()
		synctest.Wait()
		s.stop()
		forget()
		s.engine = s.engine.Reopen()
		s.open(s.engine)
		s.answer = nil
		what := custody.Suspension{Scope: custody.ScopeSite, Name: "big.example", By: "ann", At: time.Now()}
		if err := s.queue.Suspend(context.Background(), what); err != nil {
			t.Fatal(err)
		}
		forget = s.remembers()
		if err := s.SitesRead(t.Context()); err != nil {
			t.Fatal(err)
		}
		if site, ok := s.LeadsTo(domainOf(t, "alias.example")); !ok || site != "big.example" {
			t.Errorf("it leads to %q", site)
		}
		before := s.events()
		s.Start()
		time.Sleep(10 * time.Hour)
		if after := s.events(); len(after) != len(before) {
			t.Errorf("%v", after[len(before):])
		}
		if err := s.queue.Resume(context.Background(), what); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		s.stop()
		forget()
		if s.left() != 0 || !slices.ContainsFunc(s.events(), func(e string) bool { return strings.HasPrefix(e, "delivered") }) {
			t.Errorf("%d are left: %v", s.left(), s.events())
		}
	})
}

// What comes in for a domain, and what others here send to it, do not turn its site to and fro.
func TestADomainWhoseMailComesInHereIsAtTheSiteOfItsOwnServer(t *testing.T) {
	var b board
	b.open(4, 9, 100, nil)
	b.suspended = func(*custody.Lease, string) bool { return false }
	d := domainOf(t, "acme.example")
	now := time.Now()
	for range 2 {
		b.enqueue(d, Route{Site: LocalSite, Local: true}, nil, now)
		b.enqueue(d, Route{Site: "10.0.0.7:25"}, nil, now)
		b.enqueue(d, Route{Site: LocalSite, Local: true}, nil, now)
		if site, _ := b.known.Site(d); site != "10.0.0.7:25" {
			t.Errorf("it is at %s", site)
		}
	}
}

func TestWhereAllGoesToTheSmartHostEverySiteIsKnown(t *testing.T) {
	d := &Dispatcher{Router: &Router{SmartHost: SmartHost{"out.example", 587}, Inner: func(d mail.Domain) (OwnServer, bool) {
		return OwnServer{}, d == domainOf(t, "acme.example")
	}}}
	if site, ok := d.LeadsTo(domainOf(t, "globex.example")); !ok || site != "out.example:587" {
		t.Errorf("it leads to %q", site)
	}
	if site, ok := d.LeadsTo(domainOf(t, "acme.example")); ok {
		t.Errorf("what comes in here leads to %q", site)
	}
}
