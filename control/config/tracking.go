package config

import (
	"maps"
	"slices"
	"time"

	"anechoic/org"
	"anechoic/watch/tracking"
)

// Tracking is how the index of the ledger is kept, by which messages are found.
type Tracking struct {
	Enabled bool
	Rules   tracking.Policy
}

// Bounds of how long facts are found.
const (
	minTracked = 24 * time.Hour
	maxTracked = 10 * 366 * 24 * time.Hour
)

type trackingTable struct {
	Enabled       bool               `toml:"enabled"`
	Keep          string             `toml:"keep"`
	PersonalData  string             `toml:"personal_data"`
	Organisations []trackingOrgTable `toml:"organisation"`
}

type trackingOrgTable struct {
	ID           string `toml:"id"`
	Keep         string `toml:"keep"`
	PersonalData string `toml:"personal_data"`
}

// personalData are the values of personal_data.
var personalData = []string{string(tracking.Full), string(tracking.Hashed), string(tracking.Off)}

func (c *checker) tracking(t *trackingTable) Tracking {
	k := Tracking{Enabled: t.Enabled}
	k.Rules.Default = c.trackingRule("tracking", t.Keep, t.PersonalData)
	for i, o := range t.Organisations {
		where := element("tracking.organisation", i)
		if o.Keep == "" {
			o.Keep = t.Keep
		}
		if o.PersonalData == "" {
			o.PersonalData = t.PersonalData
		}
		id := org.ID(o.ID)
		if _, twice := k.Rules.Of[id]; twice || id == "" {
			c.refuse(where+".id", "the id of an organisation of the registry, each once", "%q is no organisation, or is named twice", o.ID)
		}
		if k.Rules.Of == nil {
			k.Rules.Of = map[org.ID]tracking.Rule{}
		}
		k.Rules.Of[id] = c.trackingRule(where, o.Keep, o.PersonalData)
	}
	return k
}

func (c *checker) trackingRule(where, keep, mode string) tracking.Rule {
	return tracking.Rule{
		Keep: c.duration(where+".keep", keep, minTracked, maxTracked),
		Mode: tracking.Mode(c.choice(where+".personal_data", mode, personalData...)),
	}
}

func (t Tracking) table() trackingTable {
	table := trackingTable{Enabled: t.Enabled, Keep: span(t.Rules.Default.Keep), PersonalData: string(t.Rules.Default.Mode)}
	for _, id := range sortedIDs(t.Rules.Of) {
		r := t.Rules.Of[id]
		table.Organisations = append(table.Organisations, trackingOrgTable{ID: string(id), Keep: span(r.Keep), PersonalData: string(r.Mode)})
	}
	return table
}

// untracked tells of rules for organisations that there are none of: a name that was
// misspelt would leave the other one's data as it is.
func (t Tracking) untracked(dir *org.Directory) (findings []org.Finding) {
	for _, id := range sortedIDs(t.Rules.Of) {
		if _, ok := dir.Organisation(id); !ok {
			findings = append(findings, org.Finding{Text: "[[tracking.organisation]] names " + string(id) + ", which is no organisation: take it out, or write its id"})
		}
	}
	return findings
}

func sortedIDs(of map[org.ID]tracking.Rule) []org.ID { return slices.Sorted(maps.Keys(of)) }
