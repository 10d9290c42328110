package campaign

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/watch/detect"
)

// What attacks do in an hour, at speed 1. Of the campaign of 2024 three million
// messages a day were published, over all customers together; its share here is
// what three small ones would see.
const (
	campaignHourly   = 2400
	campaignTenants  = 60
	credentialHourly = 2000
	dripHourly       = 6
	insiderHourly    = 60
	replayHourly     = 1500
	connectorHourly  = 1000
	mistakeHourly    = 150
)

// attacks are the scripts of attacks.
func attacks() []script {
	return []script{
		{kind: AttackCampaign, victims: 3, lasts: 2 * time.Hour, play: (*World).foreignCampaign},
		{kind: AttackOpen, victims: 3, lasts: 2 * time.Hour, play: (*World).openCampaign},
		{kind: AttackCredential, victims: 1, lasts: 3 * time.Hour, needs: Billing, play: (*World).stolenCredential},
		{kind: AttackDrip, victims: 1, lasts: 10 * day, play: (*World).slowDrip},
		{kind: AttackInsider, victims: 1, lasts: 3 * day, play: (*World).insider},
		{kind: AttackReplay, victims: 1, lasts: 3 * time.Hour, play: (*World).replay},
		{kind: AttackConnector, victims: 1, lasts: 3 * time.Hour, play: (*World).connector},
		{kind: AttackMistake, victims: 1, lasts: day, needs: Billing, play: (*World).webForm},
	}
}

// strike has an attack's messages sent at its speed.
func (w *World) strike(s *setting, hourly float64, write func(*rand.Rand, time.Time) message) {
	w.play(s, even(hourly*w.Parameters.Speed), write)
}

// kit is what an attacker works with: a few texts, some hosts that links lead to, and
// rented machines.
type kit struct {
	texts []uint64
	hosts []string
	from  []netip.Addr
}

func newKit(r *rand.Rand, texts, hosts, machines int) kit {
	var k kit
	for range texts {
		k.texts = append(k.texts, r.Uint64()|1)
	}
	for range hosts {
		k.hosts = append(k.hosts, letters(r, 9)+".example")
	}
	for range machines {
		k.from = append(k.from, hostingAddress(r))
	}
	return k
}

// print is that of one of its messages, from a machine it has.
func (k kit) print(r *rand.Rand) ledger.Print {
	text := pick(r, k.texts)
	return ledger.Print{Text: near(r, text), Shape: uint32(text) | 1, Hosts: []string{pick(r, k.hosts)}, IDHost: "vps" + fmt.Sprint(r.IntN(len(k.from))) + ".hosting.example"}
}

// junk is a message to somebody who has a free mailbox: a list that was bought, and
// readers who complain.
func (s *setting) junk(e detect.Event, r *rand.Rand) message {
	const stale, angry = 0.1, 0.004
	e.Rcpt = []string{stranger(r.Uint64())}
	e.Size = int64(6000 * lognormal(r, 0.2))
	return message{event: e, label: s.label(true), bounce: stale, complain: angry}
}

// foreign is a message of the campaign from one of many tenants that are nobody's
// here: refused, whoever it claims to be.
func (s *setting) foreign(w *World, k kit, r *rand.Rand, at time.Time) message {
	victim := pick(r, s.victims())
	tenant := r.IntN(campaignTenants)
	from := "admin_support" + letters(r, 6) + "@" + victim.Domain
	return s.junk(detect.Event{
		Time: at, What: detect.Refused, Claimed: victim.ID, Reason: mail.ReasonTenantNotAuthorized, From: from, MailFrom: from,
		Peer: pick(r, s.peers), Tenant: guid(w.Seed, s.number, "tenant", tenant), Originator: fmt.Sprintf("trial%d.onmicrosoft.com", tenant),
		Origin: "hybrid", ConnectingIP: pick(r, k.from).String(), Print: k.print(r),
	}, r)
}

func (s *setting) victims() []*Organisation { return append([]*Organisation{s.o}, s.more...) }

func (s *setting) victimIDs() (ids []string) {
	for _, o := range s.victims() {
		ids = append(ids, o.ID)
	}
	return ids
}

func (w *World) foreignCampaign(s *setting) Case {
	k := newKit(s.r, 5, 6, 40)
	w.strike(s, campaignHourly, func(r *rand.Rand, at time.Time) message { return s.foreign(w, k, r, at) })
	return Case{Orgs: s.victimIDs()}
}

// openCampaign is the same against an organisation whose source lists a hosting
// company's network among its own servers: a third of it is proven.
func (w *World) openCampaign(s *setting) Case {
	k := newKit(s.r, 5, 6, 40)
	office := s.source(Office)
	w.strike(s, campaignHourly, func(r *rand.Rand, at time.Time) message {
		m := s.foreign(w, k, r, at)
		if m.event.Claimed != s.o.ID {
			return m
		}
		e := w.event(s.o, office, r, at)
		e.From, e.MailFrom, e.Origin, e.ConnectingIP, e.Print = m.event.From, m.event.MailFrom, "hybrid", m.event.ConnectingIP, m.event.Print
		return s.junk(e, r)
	})
	return Case{Orgs: s.victimIDs(), Source: office.ID, Domain: s.o.Domain, Open: true}
}

// stolenCredential is the password of an application, from machines it never used.
// From is the application's: the source allows no other.
func (w *World) stolenCredential(s *setting) Case {
	k := newKit(s.r, 2, 2, 5)
	billing := s.source(Billing)
	w.strike(s, credentialHourly, func(r *rand.Rand, at time.Time) message {
		e := w.event(s.o, billing, r, at)
		e.Peer, e.Print = pick(r, k.from), k.print(r)
		return s.junk(e, r)
	})
	return s.open(billing)
}

// open is a case of one source through which something leaves.
func (s *setting) open(through *Source) Case {
	return Case{Orgs: []string{s.o.ID}, Source: through.ID, Domain: s.o.Domain, Open: true}
}

// slowDrip is one person's mailbox, a few messages an hour, day and night, each to
// somebody new; text and link change every day.
func (w *World) slowDrip(s *setting) Case {
	k := newKit(s.r, 10, 10, 3)
	office := s.source(Office)
	from := s.o.Person(2)
	w.strike(s, dripHourly, func(r *rand.Rand, at time.Time) message {
		e := w.event(s.o, office, r, at)
		today := int(at.Sub(s.start)/day) % len(k.texts)
		e.From, e.MailFrom = from, from
		e.Print.Text, e.Print.Shape, e.Print.Hosts = near(r, k.texts[today]), uint32(k.texts[today])|1, []string{k.hosts[today]}
		return s.junk(e, r)
	})
	return s.open(office)
}

// insider is one person who sends what is not theirs to a mailbox of their own, large
// messages, three nights.
func (w *World) insider(s *setting) Case {
	office := s.source(Office)
	from, to := s.o.Person(3), stranger(s.r.Uint64())
	night := func(at time.Time) float64 {
		if hour := at.Add(s.o.Zone).Hour(); hour < 1 || hour > 4 {
			return 0
		}
		return insiderHourly * w.Parameters.Speed
	}
	w.play(s, night, func(r *rand.Rand, at time.Time) message {
		e := w.event(s.o, office, r, at)
		e.From, e.MailFrom, e.Rcpt = from, from, []string{to}
		e.Size = int64(4e6 * lognormal(r, 0.8))
		e.Print.Text, e.Print.Shape = r.Uint64()|1, r.Uint32()|1
		return message{event: e, label: s.label(true)}
	})
	return s.open(office)
}

// replay is one message that Microsoft signed for the organisation, sent again and
// again to others: half of it by foreign tenants, half through its own.
func (w *World) replay(s *setting) Case {
	k := newKit(s.r, 1, 1, 8)
	office := s.source(Office)
	original := k.print(s.r)
	original.Signature = s.r.Uint64() | 1
	from := s.o.Person(0)
	w.strike(s, replayHourly, func(r *rand.Rand, at time.Time) message {
		e := w.event(s.o, office, r, at)
		e.From, e.MailFrom, e.Print = from, letters(r, 8)+"@bulk.example", original
		if r.IntN(2) == 0 {
			e.What, e.Claimed, e.Org, e.Source, e.Reason = detect.Refused, s.o.ID, "", "", mail.ReasonTenantNotAuthorized
			e.Tenant, e.Originator = guid(w.Seed, s.number, "tenant", r.IntN(8)), "replay.onmicrosoft.com"
		}
		return s.junk(e, r)
	})
	return s.open(office)
}

// connector is mail through a connector that somebody with an administrator's rights
// added: the organisation's tenant, a hosting company's address, any MAIL FROM.
func (w *World) connector(s *setting) Case {
	k := newKit(s.r, 3, 3, 6)
	office := s.source(Office)
	w.strike(s, connectorHourly, func(r *rand.Rand, at time.Time) message {
		e := w.event(s.o, office, r, at)
		e.Origin, e.ConnectingIP, e.Print = "hybrid", pick(r, k.from).String(), k.print(r)
		e.From = pick(r, []string{"info", "service", "accounts", "noreply"}) + "@" + s.o.Domain
		e.MailFrom = letters(r, 8) + "@bulk.example"
		return s.junk(e, r)
	})
	return s.open(office)
}

// webForm is an application that sends whatever strangers type into it to whomever
// they name: peer, From and Message-ID are as ever.
func (w *World) webForm(s *setting) Case {
	k := newKit(s.r, 3, 4, 3)
	billing := s.source(Billing)
	w.strike(s, mistakeHourly, func(r *rand.Rand, at time.Time) message {
		e := w.event(s.o, billing, r, at)
		host := e.Print.IDHost
		e.Print = k.print(r)
		e.Print.IDHost = host
		return s.junk(e, r)
	})
	return s.open(billing)
}
