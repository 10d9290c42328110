// Package campaign puts findings and refusals together that belong to one incident.
//
//	Finding, refused Event ─► what they share ─► Campaign ─► one alert when it opens, then at doublings and at its end
//
// It is a function of what it is given, in order: time is that of the findings and
// events. What is shared has a weight: a text, a tenant, a made-up name, a server or a
// finding's scope belongs to one campaign only; a host in links or a From domain
// does so while it is rare. Keys are forgotten when nothing came with them for as
// long as a campaign may be quiet. Two campaigns that turn out to have something in
// common become one, the older, which says so.
//
// Everything is bounded; texts of strangers are made printable and cut.
package campaign

import (
	"time"

	"anechoic/watch/detect"
)

// Change says what a finding, an event or time did to a campaign.
type Change int

// The changes. Opened, Grew and Ended are worth telling people.
const (
	Unchanged Change = iota // nothing to tell; with the zero Campaign: it belongs to none
	Opened
	Grew   // doubled, reached another organisation, or something got through for the first time
	Merged // another campaign turned out to be the same; Campaign.Merged says why
	Ended
)

// Campaign is one incident. Lists of names are bounded: a Count list says how many
// messages each stands for, the most first; More says which lists were cut.
type Campaign struct {
	ID            string        `json:"id"`
	Open          bool          `json:"open"`
	Title         string        `json:"title"`
	Start         time.Time     `json:"start"`
	Peak          time.Time     `json:"peak"` // the ten minutes with the most messages
	Last          time.Time     `json:"last"`
	End           time.Time     `json:"end,omitzero"`
	Messages      int           `json:"messages"`
	PeakMessages  int           `json:"peak_messages"`
	Refused       int           `json:"refused"`
	Left          int           `json:"left"`          // what got through
	Domains       []Count       `json:"domains"`       // in From: the victims
	Organisations []Count       `json:"organisations"` // whose these are
	Sources       []string      `json:"sources,omitempty"`
	Reasons       []Count       `json:"reasons,omitempty"`
	Tenants       []string      `json:"tenants,omitempty"`
	Addresses     []string      `json:"addresses,omitempty"` // networks of the servers it came from
	Hosts         []string      `json:"hosts,omitempty"`
	Families      []string      `json:"families,omitempty"` // how made-up local parts begin
	Kinds         []detect.Kind `json:"kinds,omitempty"`
	Score         float64       `json:"score"`
	Step          detect.Step   `json:"step"` // the strongest that was proposed
	Findings      []string      `json:"findings,omitempty"`
	Sentences     []string      `json:"sentences,omitempty"` // of the first findings
	IDs           []string      `json:"ids,omitempty"`       // of some messages
	Merged        []Merge       `json:"merged,omitempty"`
	More          []string      `json:"more,omitempty"` // lists that hold not all
}

// Count is how many messages a name stands for.
type Count struct {
	Name     string `json:"name"`
	Messages int    `json:"messages"`
}

// Merge is why two campaigns became one.
type Merge struct {
	ID   string    `json:"id"` // the one that is no more
	Time time.Time `json:"time"`
	By   string    `json:"by"` // what both had
}

// Update is a campaign and what happened to it.
type Update struct {
	Campaign Campaign
	Change   Change
}

// Options bound a Grouper; zero values mean the defaults.
type Options struct {
	Campaigns int           // that are remembered; default 1,000
	Quiet     time.Duration // without anything new a campaign has ended; default 6 hours
	Keep      time.Duration // after its end it is forgotten; default 90 days
	Threshold int           // refusals that share something and open a campaign; default 50
}

func (o Options) withDefaults() Options {
	if o.Campaigns <= 0 {
		o.Campaigns = 1000
	}
	if o.Quiet <= 0 {
		o.Quiet = 6 * time.Hour
	}
	if o.Keep <= 0 {
		o.Keep = 90 * 24 * time.Hour
	}
	if o.Threshold <= 0 {
		o.Threshold = 50
	}
	return o
}
