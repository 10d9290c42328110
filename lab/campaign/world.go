package campaign

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"anechoic/relay/limit"
)

// World is everybody who sends in one run. It is fixed by its parameters and seed.
type World struct {
	Parameters    Parameters
	Seed          uint64
	Organisations []*Organisation
	Cases         []Case

	flows []*flow
}

// Organisation is a customer of the relay.
type Organisation struct {
	ID      string
	Domain  string
	Zone    time.Duration // its clock against UTC
	Daily   float64       // messages of its people on a working day
	Free    float64       // share of its usual recipients at free-mail providers
	Novelty float64       // share of recipients it never wrote to
	Sources []*Source

	people   int
	contacts int // whom it has written to; grows
	partners int // whose people these are
	seed     uint64
	seasons  []season
}

// Role is what a source is for.
type Role string

// The roles.
const (
	Office  Role = "office"  // people, by Microsoft 365
	Server  Role = "server"  // the organisation's own server, handed over by Microsoft 365 (hybrid)
	Billing Role = "billing" // an application with a password: invoices, and what it tells customers
	News    Role = "news"    // an application with a password: newsletters
)

// Source is one way in.
type Source struct {
	ID         string
	Role       Role
	From       string // the only address in From; empty: people
	Peers      []netip.Addr
	Tenant     string
	Origin     string
	Connecting string  // hybrid: the organisation's own server
	IDHost     string  // in Message-ID
	Daily      float64 // messages on a working day
	Tier       limit.Tier

	seasons []season
	later   []change
}

// zones are where organisations are: most in Europe.
var zones = []time.Duration{0, time.Hour, time.Hour, time.Hour, 2 * time.Hour, -5 * time.Hour, -6 * time.Hour, -8 * time.Hour, 9 * time.Hour, 11 * time.Hour}

// New makes a world.
func New(p Parameters, seed uint64) (*World, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	w := &World{Parameters: p, Seed: seed}
	for i := range p.Organisations {
		w.Organisations = append(w.Organisations, w.organisation(i))
	}
	w.stage()
	for _, o := range w.Organisations {
		w.ordinary(o)
	}
	return w, nil
}

func (w *World) organisation(i int) *Organisation {
	p, r := w.Parameters, generator(w.Seed, "organisation", i)
	id := fmt.Sprintf("org%03d", i)
	o := &Organisation{
		ID: id, Domain: id + ".example", Zone: pick(r, zones), seed: sum(w.Seed, id),
		Daily:   pareto(r, p.Smallest, p.Largest, p.Tail),
		Free:    around(r, p.Free),
		Novelty: around(r, p.Novelty),
	}
	o.people = max(3, int(o.Daily/12)) // a dozen messages a person and day
	o.contacts = max(40, int(o.Daily*4))
	o.partners = 20 + o.contacts/8
	o.Sources = append(o.Sources, w.office(o, r))
	if r.Float64() < 0.7 {
		o.Sources = append(o.Sources, o.application(r, Billing, o.Daily*(0.1+0.5*r.Float64())))
	}
	if r.Float64() < 0.3 {
		o.Sources = append(o.Sources, o.application(r, News, 0)) // once a week
	}
	if r.Float64() < 0.3 {
		o.Sources = append(o.Sources, w.server(o, r))
	}
	return o
}

// around is a share that differs from one organisation to the next by a factor of
// about two.
func around(r *rand.Rand, mean float64) float64 {
	const spread, most = 0.5, 0.95
	return math.Min(most, mean*lognormal(r, spread))
}

// providerHosts is how many sending hosts of the provider there are for everybody.
const providerHosts = 24

func providerPeers(r *rand.Rand) (peers []netip.Addr) {
	for range 6 {
		peers = append(peers, netip.AddrFrom4([4]byte{127, 40, 1, byte(1 + r.IntN(providerHosts))}))
	}
	return peers
}

func (w *World) office(o *Organisation, r *rand.Rand) *Source {
	return &Source{
		ID: o.ID + "-m365", Role: Office, Peers: providerPeers(r), Tenant: guid(w.Seed, o.ID), Origin: "hosted",
		IDHost: fmt.Sprintf("eurprd%02d.prod.outlook.com", 1+r.IntN(20)), Daily: o.Daily, Tier: limit.Established,
	}
}

func (w *World) server(o *Organisation, r *rand.Rand) *Source {
	s := w.office(o, r)
	s.ID, s.Role, s.Origin = o.ID+"-hybrid", Server, "hybrid"
	s.Connecting = ownAddress(o, "server").String()
	s.IDHost, s.Daily = "mail."+o.Domain, o.Daily*0.2
	return s
}

func (o *Organisation) application(r *rand.Rand, role Role, daily float64) *Source {
	return &Source{
		ID: o.ID + "-" + string(role), Role: role, From: string(role) + "@" + o.Domain, Peers: []netip.Addr{ownAddress(o, string(role))},
		IDHost: string(role) + "." + o.Domain, Daily: daily, Tier: limit.Known, // a password alone gets no further
	}
}

// ownAddress is an address of an organisation's own machines.
func ownAddress(o *Organisation, name string) netip.Addr {
	n := sum(o.seed, name)
	return netip.AddrFrom4([4]byte{127, 60, byte(n >> 8), byte(1 + n%250)})
}

// hostingAddress is an address of a hosting company: attackers rent there.
func hostingAddress(r *rand.Rand) netip.Addr {
	return netip.AddrFrom4([4]byte{127, 80, byte(r.IntN(8)), byte(1 + r.IntN(250))})
}

// Source gives an organisation's source of a role.
func (o *Organisation) Source(role Role) (*Source, bool) {
	for _, s := range o.Sources {
		if s.Role == role {
			return s, true
		}
	}
	return nil, false
}

// FindOrganisation gives an organisation by its id.
func (w *World) FindOrganisation(id string) (*Organisation, bool) {
	for _, o := range w.Organisations {
		if o.ID == id {
			return o, true
		}
	}
	return nil, false
}

// FreeMail are the providers whose mailboxes are free, with how often they are met.
var FreeMail = []string{"gmail.com", "gmail.com", "gmail.com", "yahoo.com", "yahoo.com", "gmx.net", "outlook.com", "hotmail.com"}

var (
	givenNames  = []string{"anna", "ben", "carla", "david", "eva", "felix", "greta", "henry", "ines", "jonas", "karin", "leon", "marta", "nils", "olga", "paul", "rosa", "stefan", "tina", "viktor"}
	familyNames = []string{"adler", "brandt", "costa", "dorn", "ernst", "fuchs", "garcia", "haas", "ivanov", "jung", "kern", "lang", "meyer", "novak", "otto", "peters", "quinn", "roth", "silva", "tanaka", "ulrich", "vogel", "wagner", "young", "zimmer"}
)

func personName(n uint64) string {
	name := givenNames[n%20] + "." + familyNames[n/20%25]
	if again := n / 500 % 40; again > 0 {
		name += fmt.Sprint(again)
	}
	return name
}

// Person is the address of one of an organisation's people.
func (o *Organisation) Person(n int) string { return personName(uint64(n%o.people)) + "@" + o.Domain }

// Contact is the address of somebody the organisation writes to.
func (o *Organisation) Contact(n int) string {
	h := mix(o.seed + uint64(n))
	if float64(h%1000) < 1000*o.Free {
		return stranger(h)
	}
	return fmt.Sprintf("%s@partner%d.example", personName(h>>32), h>>16%uint64(o.partners))
}

// stranger is an address at a free-mail provider.
func stranger(h uint64) string {
	return fmt.Sprintf("%s%d@%s", personName(h>>20), h>>40%1000, FreeMail[h>>8%uint64(len(FreeMail))])
}

// recipient draws one of an organisation's recipients: most are old friends.
func (o *Organisation) recipient(r *rand.Rand) string {
	if r.Float64() < o.Novelty {
		o.contacts++
		return o.Contact(o.contacts)
	}
	u := r.Float64()
	return o.Contact(int(float64(o.contacts) * u * u * u))
}
