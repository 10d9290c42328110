package alert

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"time"
)

// Change says what an alert did to its incident, as far as it is worth telling.
type Change string

// The changes.
const (
	Nothing Change = ""
	Opened  Change = "opened"
	Updated Change = "updated" // it doubled, became more severe, or is another step
	Ended   Change = "ended"
)

// Incident is what all alerts of one key are about, as it stands.
type Incident struct {
	ID       string      `json:"id"` // of the key, for file names and URLs
	Key      string      `json:"key"`
	Org      string      `json:"org,omitempty"`
	Kind     string      `json:"kind"`
	Severity string      `json:"severity"` // the highest it had
	Title    string      `json:"title"`
	Text     string      `json:"text"`
	Campaign string      `json:"campaign,omitempty"`
	Finding  string      `json:"finding,omitempty"`
	Fields   [][2]string `json:"fields,omitempty"`
	Opened   time.Time   `json:"opened"`
	Updated  time.Time   `json:"updated"`
	Ended    time.Time   `json:"ended,omitzero"`
	Alerts   int         `json:"alerts"` // that were taken together
	Count    int         `json:"count"`  // of messages, or of alerts where nobody counted those

	Told         int    `json:"told"` // how often it was worth telling
	ToldCount    int    `json:"told_count"`
	ToldSeverity string `json:"told_severity"`
	Mailed       [2]int `json:"mailed"` // the Told that each reader got by mail
}

// The readers of mail, as indices of Mailed.
const (
	toContact = iota
	toOperator
)

// idOf is a key as a name that is safe everywhere.
func idOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:16])
}

// After is an incident after one more alert of its key, and whether that is worth
// telling. The zero Incident is none: an alert opens it, unless it only says that
// it is over. One that is over opens anew.
func (i Incident) After(a Alert) (Incident, Change) {
	if i.ID == "" || !i.Ended.IsZero() {
		if a.Ended {
			return i, Nothing
		}
		i = Incident{ID: idOf(a.Key), Key: a.Key, Org: a.Org, Opened: a.Time}
	}
	i.Kind, i.Title, i.Text, i.Fields, i.Updated = a.Kind, a.Title, a.Text, a.Fields, a.Time
	i.Campaign, i.Finding = cmp.Or(a.Campaign, i.Campaign), cmp.Or(a.Finding, i.Finding)
	if rank(a.Severity) > rank(i.Severity) {
		i.Severity = a.Severity
	}
	i.Alerts++
	i.Count = max(i.Count, a.Count)
	if a.Count == 0 {
		i.Count = max(i.Count, i.Alerts)
	}
	change := i.worth(a)
	if a.Ended {
		i.Ended = a.Time
	}
	if change != Nothing {
		i.Told++
		i.ToldCount, i.ToldSeverity = i.Count, i.Severity
	}
	return i, change
}

// worth says what of an incident is news since it was told of last.
func (i *Incident) worth(a Alert) Change {
	switch {
	case a.Ended:
		return Ended
	case i.Told == 0:
		return Opened
	case a.News, rank(i.Severity) > rank(i.ToldSeverity), i.Count >= 2*i.ToldCount:
		return Updated
	}
	return Nothing
}

// standing is what the newest telling said.
func (i *Incident) standing() Change {
	switch {
	case !i.Ended.IsZero():
		return Ended
	case i.Told <= 1:
		return Opened
	}
	return Updated
}

// worstFirst orders incidents as they should be read: severe ones first, then those
// who suffer most.
func worstFirst(list []Incident) {
	slices.SortStableFunc(list, func(x, y Incident) int {
		return cmp.Or(rank(y.Severity)-rank(x.Severity), cmp.Compare(y.Count, x.Count), x.Opened.Compare(y.Opened), cmp.Compare(x.ID, y.ID))
	})
}
