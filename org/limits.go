package org

import "slices"

// Limits bounds a source, an organisation or a domain; zero of any is no bound.
type Limits struct {
	Preset   string // of a source: published limits of its provider; empty: none
	Licences int    // the numbers of a preset depend on them

	MessagesPerMinute         int
	MessagesPerHour           int
	MessagesPerDay            int
	RecipientsPerMinute       int
	RecipientsPerHour         int
	RecipientsPerDay          int
	UniqueRecipientsPerDay    int
	RecipientsPerDomainPerDay int // of a source, for each domain of recipients
	MegabytesPerHour          int
	MegabytesPerDay           int
}

// The presets (package relay/limit has their numbers).
const (
	PresetMicrosoft365      = "microsoft365"
	PresetMicrosoft365Trial = "microsoft365-trial"
	PresetGoogle            = "google"
)

// LimitPresets are all presets.
var LimitPresets = []string{PresetMicrosoft365, PresetMicrosoft365Trial, PresetGoogle}

// TrustTiers are how far a person may say that a source is trusted, from the least on
// (package relay/limit has what they mean).
var TrustTiers = []string{"new", "known", "established", "trusted"}

// trustHint lists them as a hint shows them.
const trustHint = `"new", "known", "established" or "trusted"; or leave it out, and it grows by itself`

// LimitsEntry bounds a source.
type LimitsEntry struct {
	Preset                    string `toml:"preset"`
	Licences                  int    `toml:"licences"`
	MessagesPerMinute         int    `toml:"messages_per_minute"`
	MessagesPerHour           int    `toml:"messages_per_hour"`
	MessagesPerDay            int    `toml:"messages_per_day"`
	RecipientsPerMinute       int    `toml:"recipients_per_minute"`
	RecipientsPerHour         int    `toml:"recipients_per_hour"`
	RecipientsPerDay          int    `toml:"recipients_per_day"`
	UniqueRecipientsPerDay    int    `toml:"unique_recipients_per_day"`
	RecipientsPerDomainPerDay int    `toml:"recipients_per_domain_per_day"`
	MegabytesPerHour          int    `toml:"megabytes_per_hour"`
	MegabytesPerDay           int    `toml:"megabytes_per_day"`
}

// SharedLimitsEntry bounds an organisation or a domain.
type SharedLimitsEntry struct {
	MessagesPerMinute      int `toml:"messages_per_minute"`
	MessagesPerHour        int `toml:"messages_per_hour"`
	MessagesPerDay         int `toml:"messages_per_day"`
	RecipientsPerMinute    int `toml:"recipients_per_minute"`
	RecipientsPerHour      int `toml:"recipients_per_hour"`
	RecipientsPerDay       int `toml:"recipients_per_day"`
	UniqueRecipientsPerDay int `toml:"unique_recipients_per_day"`
	MegabytesPerHour       int `toml:"megabytes_per_hour"`
	MegabytesPerDay        int `toml:"megabytes_per_day"`
}

// Entry is l as it is written for an organisation or a domain; nil for none.
func (l *Limits) Entry() *SharedLimitsEntry {
	if l == nil {
		return nil
	}
	return &SharedLimitsEntry{
		l.MessagesPerMinute, l.MessagesPerHour, l.MessagesPerDay, l.RecipientsPerMinute, l.RecipientsPerHour, l.RecipientsPerDay,
		l.UniqueRecipientsPerDay, l.MegabytesPerHour, l.MegabytesPerDay,
	}
}

// maxMegabytes keeps octets below what a number holds: a petabyte.
const maxMegabytes = 1 << 30

// readLimits checks a table of limits.
func (b *builder) readLimits(where string, e *LimitsEntry) Limits {
	for _, n := range []struct {
		key   string
		value int
	}{
		{"licences", e.Licences}, {"messages_per_minute", e.MessagesPerMinute}, {"messages_per_hour", e.MessagesPerHour}, {"messages_per_day", e.MessagesPerDay},
		{"recipients_per_minute", e.RecipientsPerMinute}, {"recipients_per_hour", e.RecipientsPerHour}, {"recipients_per_day", e.RecipientsPerDay},
		{"unique_recipients_per_day", e.UniqueRecipientsPerDay}, {"recipients_per_domain_per_day", e.RecipientsPerDomainPerDay},
		{"megabytes_per_hour", e.MegabytesPerHour}, {"megabytes_per_day", e.MegabytesPerDay},
	} {
		if n.value < 0 {
			b.refuse(where+".limits."+n.key, "a number above 0, or leave it out", "a limit below nothing")
		}
	}
	if e.MegabytesPerHour > maxMegabytes || e.MegabytesPerDay > maxMegabytes {
		b.refuse(where+".limits", "a smaller number, or leave it out", "more than %d megabytes", maxMegabytes)
	}
	return Limits(*e)
}

// limits checks a source's.
func (b *builder) limits(s *Source, where string, e *SourceEntry) {
	s.Trust = b.trust(where, e.Trust)
	if e.Limits == nil {
		return
	}
	s.Limits = b.readLimits(where, e.Limits)
	own := map[Kind][]string{Microsoft365: {PresetMicrosoft365, PresetMicrosoft365Trial}, Google: {PresetGoogle}}[s.Kind]
	switch {
	case s.Limits.Preset != "" && !slices.Contains(LimitPresets, s.Limits.Preset):
		b.refuse(where+".limits.preset", `"microsoft365", "microsoft365-trial" or "google"`, "%q is no preset", s.Limits.Preset)
	case s.Limits.Preset != "" && !slices.Contains(own, s.Limits.Preset):
		b.refuse(where+".limits.preset", "write the numbers themselves", "preset %q is not for a source of kind %s", s.Limits.Preset, s.Kind)
	case s.Limits.Licences > 0 && len(own) == 0:
		b.refuse(where+".limits.licences", "take it out, and write the numbers themselves", "licences mean nothing for a source of kind %s", s.Kind)
	case s.Limits.Licences > 0 && s.Limits.Preset == "":
		s.Limits.Preset = own[0]
	}
}

// sharedLimits checks those of an organisation or a domain: nil if there are none.
func (b *builder) sharedLimits(where string, e *SharedLimitsEntry) *Limits {
	if e == nil {
		return nil
	}
	l := b.readLimits(where, &LimitsEntry{
		MessagesPerMinute: e.MessagesPerMinute, MessagesPerHour: e.MessagesPerHour, MessagesPerDay: e.MessagesPerDay,
		RecipientsPerMinute: e.RecipientsPerMinute, RecipientsPerHour: e.RecipientsPerHour, RecipientsPerDay: e.RecipientsPerDay,
		UniqueRecipientsPerDay: e.UniqueRecipientsPerDay, MegabytesPerHour: e.MegabytesPerHour, MegabytesPerDay: e.MegabytesPerDay,
	})
	return &l
}

func (b *builder) trust(where, tier string) string {
	if tier != "" && !slices.Contains(TrustTiers, tier) {
		b.refuse(where+".trust", trustHint, "%q is no tier of trust", tier)
	}
	return tier
}
