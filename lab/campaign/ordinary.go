package campaign

import (
	"math/rand/v2"
	"time"

	"anechoic/ledger"
	"anechoic/watch/detect"
)

// season is a time in which an organisation sends more or less than usual.
type season struct {
	from, until time.Time
	factor      float64
}

func seasonOf(list []season, at time.Time) float64 {
	factor := 1.0
	for _, s := range list {
		if !at.Before(s.from) && at.Before(s.until) {
			factor *= s.factor
		}
	}
	return factor
}

// ordinary has an organisation send what it always does.
func (w *World) ordinary(o *Organisation) {
	for _, s := range o.Sources {
		f := flow{from: w.Parameters.Start, until: w.Parameters.End(), noise: w.noise}
		switch s.Role {
		case Office, Server:
			f.mean = func(at time.Time) float64 { return s.Daily * officeShare(at, o.Zone) * seasonOf(o.seasons, at) }
			f.write = func(r *rand.Rand, at time.Time) message { return w.letter(o, s, r, at) }
		case Billing:
			f.mean = func(at time.Time) float64 { return s.billing(o, at) }
			f.write = func(r *rand.Rand, at time.Time) message { return w.invoice(o, s, r, at) }
		case News:
			f.mean = newsletterMean(o)
			f.write = func(r *rand.Rand, at time.Time) message { return w.newsletter(o, s, r, at, 0) }
		}
		w.add(f, "ordinary", s.ID)
	}
}

// noise is the factor of a day.
func (w *World) noise(r *rand.Rand, _ time.Time) float64 { return lognormal(r, w.Parameters.Noise) }

// billing is what an application sends in an hour: two and a half times as much when
// a month ends.
func (s *Source) billing(o *Organisation, at time.Time) float64 {
	const monthEnd = 2.5
	mean := s.Daily * machineShare(at, o.Zone) * seasonOf(o.seasons, at) * seasonOf(s.seasons, at)
	if isMonthEnd(at.Add(o.Zone)) {
		mean *= monthEnd
	}
	return mean
}

// newsletterHours is how long a newsletter takes to be sent.
const newsletterHours = 2

// newsletterMean is once a week, at an hour of the organisation's own.
func newsletterMean(o *Organisation) func(time.Time) float64 {
	weekday, hour := time.Weekday(1+o.seed%5), int(8+o.seed>>8%8)
	return func(at time.Time) float64 {
		local := at.Add(o.Zone)
		if local.Weekday() != weekday || local.Hour() < hour || local.Hour() >= hour+newsletterHours {
			return 0
		}
		return o.list() / newsletterHours
	}
}

// list is how many read an organisation's newsletter.
func (o *Organisation) list() float64 { return o.Daily * 3 }

// event is what every proven message of a source has.
func (w *World) event(o *Organisation, s *Source, r *rand.Rand, at time.Time) detect.Event {
	s = s.now(at)
	e := detect.Event{
		Time: at, What: detect.Sent, Org: o.ID, Source: s.ID, From: s.From, MailFrom: s.From, Peer: pick(r, s.Peers),
		Tenant: s.Tenant, Origin: s.Origin, ConnectingIP: s.Connecting, Size: int64(2000 * lognormal(r, 1.2)),
	}
	e.Print.IDHost = s.IDHost
	if s.Tenant != "" {
		e.Originator = o.Domain
		e.Print.Signature = r.Uint64() | 1
	}
	return e
}

// letter is what people write.
func (w *World) letter(o *Organisation, s *Source, r *rand.Rand, at time.Time) message {
	const several, short = 0.15, 0.2
	e := w.event(o, s, r, at)
	u := r.Float64()
	e.From = o.Person(int(float64(o.people) * u * u)) // some write much more than others
	e.MailFrom = e.From
	e.Rcpt = []string{o.recipient(r)}
	if r.Float64() < several {
		for range 1 + r.IntN(4) {
			e.Rcpt = append(e.Rcpt, o.recipient(r))
		}
	}
	e.Print.Shape = r.Uint32() | 1
	if r.Float64() > short {
		e.Print.Text = r.Uint64() | 1
	}
	e.Print.Hosts = linked(o, r)
	e.Size += attached(o, e.Print.Shape)
	return message{event: e, label: ordinaryLabel(Ordinary), bounce: w.Parameters.Bounce, complain: 0}
}

// attached is the octets of what a letter carries: one in eight has attachments, half of
// them over 400 kilobytes, and few as much as providers take. It follows from a number
// that the letter has already, so that what it draws besides stays what it was.
func attached(o *Organisation, letter uint32) int64 {
	const share, middle, spread, most = 8, 400_000, 1.5, 35e6
	n := mix(o.seed ^ uint64(letter))
	if n%share != 0 {
		return 0
	}
	return int64(min(middle*lognormal(rand.New(rand.NewPCG(n, share)), spread), most))
}

// commonHosts are what everybody links to.
var commonHosts = []string{"www.linkedin.com", "maps.google.com", "teams.microsoft.com", "zoom.us", "www.youtube.com", "www.dropbox.com"}

// linked is what a usual letter links to.
func linked(o *Organisation, r *rand.Rand) []string {
	switch u := r.Float64(); {
	case u < 0.4:
		return []string{"www." + o.Domain}
	case u < 0.55:
		return []string{pick(r, commonHosts)}
	}
	return nil
}

// invoice is one of many from the same template to somebody who is a customer.
func (w *World) invoice(o *Organisation, s *Source, r *rand.Rand, at time.Time) message {
	e := w.event(o, s, r, at)
	e.Rcpt = []string{o.recipient(r)}
	e.Print.Text = near(r, sum(o.seed, "invoice", r.IntN(3)))
	e.Print.Shape = uint32(sum(o.seed, "invoice")) | 1
	e.Print.Hosts = []string{"pay." + o.Domain}
	return message{event: e, label: ordinaryLabel(Invoices), bounce: w.Parameters.Bounce}
}

// newsletter is one of a week's newsletter to those on the list; new is the share of
// recipients who were never written to.
func (w *World) newsletter(o *Organisation, s *Source, r *rand.Rand, at time.Time, fresh float64) message {
	e := w.event(o, s, r, at)
	reader := r.IntN(int(o.list()) + 1)
	if r.Float64() < fresh {
		reader += readers
	}
	e.Rcpt = []string{o.Contact(readers + reader)}
	e.MailFrom = "bounce@" + o.Domain
	week := at.Unix() / int64(7*day/time.Second)
	e.Print = ledger.Print{
		Text: near(r, sum(o.seed, "news", week)), Shape: uint32(sum(o.seed, "news", week)) | 1,
		Hosts: []string{"news." + o.Domain}, IDHost: e.Print.IDHost, Signature: e.Print.Signature,
	}
	return message{event: e, label: ordinaryLabel(Newsletter), bounce: 2 * w.Parameters.Bounce, complain: w.Parameters.Complaint}
}

// readers is where the numbers of those begin who are on a list, apart from contacts.
const readers = 1 << 24

func ordinaryLabel(kind string) Label { return Label{Kind: kind, Case: -1} }
