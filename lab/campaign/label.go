package campaign

import (
	"time"

	"anechoic/watch/detect"
)

// Label is the truth about a message.
type Label struct {
	Kind   string // of attack, stress, or ordinary traffic
	Case   int    // which of World.Cases it belongs to; -1: none
	Attack bool   // nobody in the organisation wanted it
}

// Item is an event with the truth about its message.
type Item struct {
	Event detect.Event
	Label Label
}

// Case is one attack, or one thing that only looks like one.
type Case struct {
	Name   string    `json:"case"`
	Kind   string    `json:"kind"`
	Attack bool      `json:"attack"`
	Orgs   []string  `json:"orgs"`             // whom it is about
	Source string    `json:"source,omitempty"` // through which it leaves, if it does
	Domain string    `json:"domain,omitempty"` // in From, if it is one only
	Open   bool      `json:"open,omitempty"`   // something of it is proven, and leaves unless somebody stops it
	Start  time.Time `json:"start"`
	End    time.Time `json:"end"`
}

// The kinds of ordinary traffic.
const (
	Ordinary   = "ordinary"   // people in their offices
	Invoices   = "invoices"   // an application, each with one recipient
	Newsletter = "newsletter" // every week, to everybody on a list
)

// The kinds of stress: what organisations do that looks like an attack.
const (
	StressNewsletter = "newsletter-grown" // a newsletter to three times as many as ever
	StressMonthEnd   = "month-end"        // invoices of a month in three days
	StressOffice     = "new-office"       // more people, in another time zone, from a new address
	StressMigration  = "migration"        // from own servers to the cloud: class, addresses and Message-IDs change
	StressHoliday    = "holiday"          // a week of hardly anything, then all at once
	StressMerge      = "mail-merge"       // a mail merge gone wrong: the same letter four times to everybody, with many bounces
)

// The kinds of attack.
const (
	AttackCampaign   = "campaign"         // 2024: many small tenants, rotated From, free-mail recipients; all of it foreign
	AttackOpen       = "campaign-open"    // the same, but one source lets its part through
	AttackCredential = "credential"       // a stolen password of an application
	AttackDrip       = "slow-drip"        // a few messages an hour for days, under every threshold of volume
	AttackInsider    = "insider"          // one person sends a lot to one address of their own, at night
	AttackReplay     = "replay"           // one signed message, again and again
	AttackConnector  = "connector"        // a connector somebody added to the tenant, with a hosting company's address
	AttackMistake    = "permissive-error" // a web form that lets anybody choose recipients and text
)

// AttackKinds are all kinds of attack.
func AttackKinds() []string {
	return []string{AttackCampaign, AttackOpen, AttackCredential, AttackDrip, AttackInsider, AttackReplay, AttackConnector, AttackMistake}
}

// StressKinds are all kinds of stress.
func StressKinds() []string {
	return []string{StressNewsletter, StressMonthEnd, StressOffice, StressMigration, StressHoliday, StressMerge}
}
