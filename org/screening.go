package org

import (
	"slices"
	"strings"

	"anechoic/mail"
)

// Screening is what an organisation wants of scanners and of the relay's own
// checks, each way.
type Screening struct {
	Inbound, Outbound ScreeningWay

	People  []string      // whom nobody outside may be called as
	Domains []mail.Domain // of partners, which nobody may imitate; the registered ones count anyway
}

// ScreeningWay is one of them.
type ScreeningWay struct {
	Off      bool     // nobody is asked, neither scanners nor our own checks
	OnLoss   string   // ScreeningDefer or ScreeningHold; empty: the node's on_loss
	HoldAt   int      // a score from which a message is held; 0: as the scanner says
	RefuseAt int      // from which it is refused; 0: as the scanner says
	Checks   string   // what dangerous findings of our own checks do: ScreeningOff, ScreeningMark, ScreeningHold or ScreeningRefuse
	Blocked  []string // extensions of files that are not taken; nil: the list that comes with the relay
}

// The values of ScreeningWay.OnLoss and ScreeningWay.Checks.
const (
	ScreeningDefer  = "defer"
	ScreeningHold   = "hold"
	ScreeningOff    = "off"
	ScreeningMark   = "mark"
	ScreeningRefuse = "refuse"
)

// What our own checks do where nothing is written. What comes in from anybody is
// held if it is dangerous: a person can release it. What an organisation itself was
// proven to send goes on, and is told: its business is not to stop because of what
// its own staff mail to each other's customers.
const (
	inboundChecks  = ScreeningHold
	outboundChecks = ScreeningMark
)

// maxScore bounds scores that can be configured: those of scanners are in the tens.
const maxScore = 1000

// ScreeningEntry is [organisation.screening].
type ScreeningEntry struct {
	Inbound  ScreeningWayEntry `toml:"inbound"`
	Outbound ScreeningWayEntry `toml:"outbound"`

	ProtectedPeople  []string `toml:"protected_people"`
	ProtectedDomains []string `toml:"protected_domains"`
}

// ScreeningWayEntry is one of its tables.
type ScreeningWayEntry struct {
	Off      bool     `toml:"off"`
	OnLoss   string   `toml:"on_loss"`
	HoldAt   int      `toml:"hold_at"`
	RefuseAt int      `toml:"refuse_at"`
	Checks   string   `toml:"checks"`
	Blocked  []string `toml:"blocked"`
}

// Bounds of ours on the lists of one organisation.
const (
	maxProtectedPeople  = 500
	maxProtectedDomains = 1000
	maxBlocked          = 500
)

// noScreening is what an organisation says that says nothing.
var noScreening ScreeningEntry

// screening checks what an organisation wants of scanners and checks.
func (b *builder) screening(i int) {
	e := b.reg.Organisations[i].Screening
	if e == nil {
		e = &noScreening
	}
	where := b.below("organisation", i) + ".screening"
	b.dir.organisations[i].Screening = Screening{
		Inbound:  b.screeningWay(where+".inbound", &e.Inbound, inboundChecks),
		Outbound: b.screeningWay(where+".outbound", &e.Outbound, outboundChecks),
		People:   b.protectedPeople(where+".protected_people", e.ProtectedPeople),
		Domains:  b.protectedDomains(where+".protected_domains", e.ProtectedDomains),
	}
}

func (b *builder) screeningWay(where string, e *ScreeningWayEntry, checks string) ScreeningWay {
	if e.OnLoss != "" && e.OnLoss != ScreeningDefer && e.OnLoss != ScreeningHold {
		b.refuse(where+".on_loss", `"defer" or "hold"`, "%q is none of the choices", e.OnLoss)
	}
	b.scores(where, e)
	way := ScreeningWay{Off: e.Off, OnLoss: e.OnLoss, HoldAt: e.HoldAt, RefuseAt: e.RefuseAt, Checks: checks}
	if e.Checks != "" {
		way.Checks = b.choice(where+".checks", e.Checks, ScreeningOff, ScreeningMark, ScreeningHold, ScreeningRefuse)
	}
	if e.Blocked != nil {
		way.Blocked = b.blocked(where+".blocked", e.Blocked)
	}
	if e.Off {
		way.Checks = ScreeningOff
		if e.OnLoss != "" || e.HoldAt != 0 || e.RefuseAt != 0 || e.Checks != "" || e.Blocked != nil {
			b.refuse(where+".off", "take out off, or the rest", "nobody is asked, and it is said what to do with the answers")
		}
	}
	return way
}

// scores checks what scores of rspamd do.
func (b *builder) scores(where string, e *ScreeningWayEntry) {
	for _, score := range []struct {
		key   string
		value int
	}{{".hold_at", e.HoldAt}, {".refuse_at", e.RefuseAt}} {
		if score.value < 0 || score.value > maxScore {
			b.refuse(where+score.key, "a score of rspamd, from 1 to 1000; 0 for none", "%d is out of bounds", score.value)
		}
	}
	if e.HoldAt > 0 && e.RefuseAt > 0 && e.HoldAt >= e.RefuseAt {
		b.refuse(where+".hold_at", "hold at a lower score than refuse_at", "what would be held from %d is refused from %d already", e.HoldAt, e.RefuseAt)
	}
}

// blocked reads extensions, without the dot and in lower case. An empty list is one.
func (b *builder) blocked(where string, entries []string) []string {
	if len(entries) > maxBlocked {
		b.refuse(where, "leave it out for the list that comes with the relay", "%d extensions, the limit is %d", len(entries), maxBlocked)
	}
	list := []string{}
	for k, text := range entries {
		if text == "" || len(text) > 32 || strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			b.refuse(b.below(where, k), `as "exe": in lower case, without a dot`, "%q is no extension", text)
		}
		list = append(list, text)
	}
	return list
}

// protectedPeople reads names as they are shown.
func (b *builder) protectedPeople(where string, names []string) []string {
	if len(names) > maxProtectedPeople {
		b.refuse(where, "list those whose word moves money", "%d names, the limit is %d", len(names), maxProtectedPeople)
	}
	for k, name := range names {
		if len(strings.Fields(name)) < 2 || len(name) > 200 {
			b.refuse(b.below(where, k), `as "Ann Example": one word is many people's name`, "%q is no name of two words or more", name)
		}
	}
	return slices.Clone(names)
}

// protectedDomains reads the domains of partners.
func (b *builder) protectedDomains(where string, entries []string) (list []mail.Domain) {
	if len(entries) > maxProtectedDomains {
		b.refuse(where, "list those that are worth imitating", "%d domains, the limit is %d", len(entries), maxProtectedDomains)
	}
	for k, text := range entries {
		d, err := mail.ParseDomain(text)
		switch at := b.below(where, k); {
		case err != nil:
			b.refuse(at, `as "partner.example"`, "%v", err)
		case d.IsPublicSuffix():
			b.refuse(at, "name the domain that somebody registered", "%s is a public suffix", d)
		default:
			list = append(list, d)
		}
	}
	return list
}
