package migrate

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"anechoic/mail"
)

// Choice is an organisation as a person names it: its id, and domains or networks that
// are its own. The item * stands for every domain that no other choice names.
type Choice struct {
	ID    string
	Items []string
}

// Wishes are what a person decides, beside what was read.
type Wishes struct {
	Organisations []Choice
	Shared        []Shared     // addresses that strangers share, beside those known here
	TakePorts     bool         // write the ports of master.cf, not those beside it
	InboundBind   []netip.Addr // where mail for the organisations' own servers leaves from
}

// Plan is what the old configuration becomes.
type Plan struct {
	Organisations []*Organisation `json:"organisations"`
	Undecided     []Undecided     `json:"undecided"` // not written: a person has to decide
	Holes         []Hole          `json:"holes"`     // what would have been an echo, worst first
	Left          []Left          `json:"not_taken"` // what was not taken over, most important first
	Unread        []Unread        `json:"unread"`

	relay     relayDraft
	passwords []newPassword
	keyFiles  []keyFile
}

// Organisation is one of the new registry.
type Organisation struct {
	ID      string    `json:"id"`
	Why     string    `json:"why"` // what told it from the others
	Domains []*Domain `json:"domains"`
	Sources []*Source `json:"sources"`
	Inbound []Inbound `json:"inbound,omitempty"`
}

// Domain is one of an organisation's.
type Domain struct {
	Name mail.Domain `json:"name"`
	At   Place       `json:"at"`
	Keys []Key       `json:"keys"`
}

// Key is a signing key of the new registry.
type Key struct {
	Selector  string `json:"selector"`
	Algorithm string `json:"algorithm"`
	File      string `json:"file,omitempty"` // in the written folder; empty: a new key is made
	At        Place  `json:"at"`
}

// Source is one way in of the new registry.
type Source struct {
	ID        string         `json:"id"`
	Kind      string         `json:"kind"`
	Username  string         `json:"username,omitempty"`
	From      []string       `json:"from"`
	Addresses []netip.Prefix `json:"addresses,omitempty"`
	At        []Place        `json:"at"`

	hash string
	note string
}

// Inbound is where mail for an organisation goes.
type Inbound struct {
	Domains   []mail.Domain `json:"domains"`
	DeliverTo string        `json:"deliver_to"`
	At        Place         `json:"at"`
}

// Undecided is something that may send today, and of which nobody said as whom.
type Undecided struct {
	What string `json:"what"`
	Why  string `json:"why"`
	At   Place  `json:"at"`

	kind, username string
	address        netip.Prefix
}

// Draft makes the plan. It reads key files, and nothing else that Read did not.
func (e *Estate) Draft(w Wishes) *Plan {
	d := &drafting{Estate: e, wishes: w, plan: &Plan{}, byDomain: make(map[mail.Domain]*Organisation), ids: make(map[string]bool), listed: make(map[Hole]bool)}
	d.owners()
	d.organise()
	d.keys()
	d.relay()
	d.credentials()
	d.addresses()
	d.inbound()
	d.holes()
	d.leftovers()
	d.plan.Unread = e.settle()
	d.sort()
	return d.plan
}

// drafting is a plan in the making.
type drafting struct {
	*Estate
	wishes   Wishes
	plan     *Plan
	byDomain map[mail.Domain]*Organisation
	evidence []evidence           // domains, with where they were seen
	owned    map[string][]pattern // by login: what it may send as
	logins   []string             // of owned, in order
	openMaps []Entry              // entries of sender_login_maps that name no single address or domain
	asked    map[string]bool      // parameters that something was made of, or said about
	ids      map[string]bool      // organisation/source
	listed   map[Hole]bool        // holes that are listed
	realms   []string             // of this machine's users
}

// pattern is what a login may send as.
type pattern struct {
	text   string // local@domain or *@domain
	domain mail.Domain
	at     Place
}

// evidence is a domain that the old configuration treats as its own.
type evidence struct {
	domain mail.Domain
	at     Place
	owner  bool // it says something about who sends as it
}

// sort puts everything in an order that does not depend on chance.
func (d *drafting) sort() {
	p := d.plan
	for _, o := range p.Organisations {
		slices.SortFunc(o.Domains, func(a, b *Domain) int { return strings.Compare(a.Name.String(), b.Name.String()) })
	}
	slices.SortFunc(p.Organisations, func(a, b *Organisation) int { return strings.Compare(a.ID, b.ID) })
	slices.SortStableFunc(p.Holes, func(a, b Hole) int { return cmp.Compare(a.rank, b.rank) })
	slices.SortStableFunc(p.Left, func(a, b Left) int { return cmp.Compare(a.rank, b.rank) })
}

// get asks for a parameter, and notes that it was looked at.
func (d *drafting) get(name string) Setting {
	d.note(name)
	return d.Main.Get(name)
}

func (d *drafting) note(names ...string) {
	if d.asked == nil {
		d.asked = make(map[string]bool)
	}
	for _, name := range names {
		d.asked[name] = true
	}
}
