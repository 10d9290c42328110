package campaign

import (
	"math/rand/v2"
	"time"
)

// stresses are the scripts of what only looks like an attack.
func stresses() []script {
	return []script{
		{kind: StressNewsletter, victims: 1, lasts: 3 * time.Hour, needs: News, play: (*World).grownNewsletter},
		{kind: StressMonthEnd, victims: 1, lasts: 3 * day, needs: Billing, play: (*World).monthEnd},
		{kind: StressOffice, victims: 1, lasts: 10 * day, play: (*World).newOffice},
		{kind: StressMigration, victims: 1, lasts: 5 * day, needs: Server, play: (*World).migration},
		{kind: StressHoliday, victims: 1, lasts: 9 * day, play: (*World).holiday},
		{kind: StressMerge, victims: 1, lasts: time.Hour, play: (*World).mailMerge},
	}
}

// grownNewsletter goes to three times the list; half of the readers are new.
func (w *World) grownNewsletter(s *setting) Case {
	const times, fresh = 3, 0.5
	news := s.source(News)
	s.start, s.end = officeTime(s.o, s.start, 3*time.Hour)
	w.play(s, even(times*s.o.list()/3), func(r *rand.Rand, at time.Time) message {
		m := w.newsletter(s.o, news, r, at, fresh)
		m.label = s.label(false)
		return m
	})
	return Case{Orgs: []string{s.o.ID}, Source: news.ID, Domain: s.o.Domain}
}

// officeTime moves a time to ten o'clock of the next working day.
func officeTime(o *Organisation, at time.Time, lasts time.Duration) (start, end time.Time) {
	start = at.Add(o.Zone).Truncate(day).Add(10*time.Hour - o.Zone)
	for start.Add(o.Zone).Weekday() == time.Saturday || start.Add(o.Zone).Weekday() == time.Sunday {
		start = start.Add(day)
	}
	return start, start.Add(lasts)
}

// monthEnd is eight times the invoices for three days.
func (w *World) monthEnd(s *setting) Case {
	const times = 8
	billing := s.source(Billing)
	s.start, s.end = officeTime(s.o, s.start, 3*day)
	w.play(s, func(at time.Time) float64 { return (times - 1) * billing.Daily * machineShare(at, s.o.Zone) }, func(r *rand.Rand, at time.Time) message {
		m := w.invoice(s.o, billing, r, at)
		m.label = s.label(false)
		return m
	})
	return Case{Orgs: []string{s.o.ID}, Source: billing.ID, Domain: s.o.Domain}
}

// newOffice is half as many people more, eight hours to the east, behind a server of
// their own, who write to people of their own.
func (w *World) newOffice(s *setting) Case {
	const more, east, fresh = 0.5, 8 * time.Hour, 0.5
	office := s.source(Office)
	address := ownAddress(s.o, "new office").String()
	w.play(s, func(at time.Time) float64 { return more * s.o.Daily * officeShare(at, s.o.Zone+east) }, func(r *rand.Rand, at time.Time) message {
		m := w.letter(s.o, office, r, at)
		m.label = s.label(false)
		m.event.Origin, m.event.ConnectingIP, m.event.Print.IDHost = "hybrid", address, "mail2."+s.o.Domain
		m.event.From = personName(uint64(s.o.people+r.IntN(s.o.people/2+1))) + "@" + s.o.Domain
		m.event.MailFrom = m.event.From
		if r.Float64() < fresh {
			m.event.Rcpt = []string{s.o.Contact(newcomers + r.IntN(int(s.o.Daily)))}
		}
		return m
	})
	return Case{Orgs: []string{s.o.ID}, Source: office.ID, Domain: s.o.Domain}
}

// newcomers is where the numbers of a new office's contacts begin.
const newcomers = 1 << 25

// migration moves the people behind an own server into the cloud: from that moment
// nothing comes through the server, and all of it in another class.
func (w *World) migration(s *setting) Case {
	server, office := s.source(Server), s.source(Office)
	moved := *office
	moved.Peers = providerPeers(s.r)
	moved.IDHost = "jpnprd01.prod.outlook.com"
	server.later = append(server.later, change{s.start, &moved})
	office.later = append(office.later, change{s.start, &moved})
	return Case{Orgs: []string{s.o.ID}, Source: office.ID, Domain: s.o.Domain}
}

// change is what a source is from a time on.
type change struct {
	since time.Time
	to    *Source
}

// now is what a source is at a time.
func (s *Source) now(at time.Time) *Source {
	for _, c := range s.later {
		if !at.Before(c.since) {
			return c.to
		}
	}
	return s
}

// holiday is a tenth for a week, then twice and a half for two days.
func (w *World) holiday(s *setting) Case {
	const away, back = 0.1, 2.5
	s.start = s.start.Truncate(day)
	s.end = s.start.Add(9 * day)
	s.o.seasons = append(s.o.seasons, season{s.start, s.start.Add(7 * day), away}, season{s.start.Add(7 * day), s.end, back})
	return Case{Orgs: []string{s.o.ID}, Domain: s.o.Domain}
}

// mailMerge is one letter of one person, four times to everybody, and a list that is
// old.
func (w *World) mailMerge(s *setting) Case {
	const times, old = 4, 0.15
	office := s.source(Office)
	s.start, s.end = officeTime(s.o, s.start, time.Hour)
	everybody := int(s.o.Daily * 1.5)
	from, text, n := s.o.Person(1), s.r.Uint64()|1, 0
	w.play(s, even(float64(times*everybody)), func(r *rand.Rand, at time.Time) message {
		m := w.letter(s.o, office, r, at)
		m.label, m.bounce = s.label(false), old
		m.event.From, m.event.MailFrom, m.event.Rcpt = from, from, []string{s.o.Contact(n % everybody)}
		m.event.Print.Text, m.event.Print.Shape, m.event.Print.Hosts = near(r, text), uint32(text)|1, []string{"www." + s.o.Domain}
		n++
		return m
	})
	return Case{Orgs: []string{s.o.ID}, Source: office.ID, Domain: s.o.Domain}
}
