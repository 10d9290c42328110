package mtasts

import (
	"time"

	"anechoic/mail"
)

// Times of a cache.
const (
	refreshAfter = 24 * time.Hour  // section 10.2: daily, whatever DNS says
	retryAfter   = 5 * time.Minute // section 3.3: between fetches that fail
)

// Entry is what a cache knows of a domain. The zero Entry knows nothing.
type Entry struct {
	Domain  mail.Domain `json:"domain"`
	ID      string      `json:"id"` // of the record the policy was fetched for
	Policy  Policy      `json:"policy"`
	Fetched time.Time   `json:"fetched"`         // zero: never
	Tried   time.Time   `json:"tried,omitzero"`  // the last fetch that failed, if it is newer
	Fault   string      `json:"fault,omitempty"` // why it failed
}

// InForce says that the policy counts now (section 3.2, max_age). A clock that
// was set back ends no policy.
func (e Entry) InForce(now time.Time) bool {
	return !e.Fetched.IsZero() && now.Before(e.Fetched.Add(e.Policy.MaxAge))
}

// Due says that the policy is to be fetched. id is what the record says now,
// empty if there is none or DNS cannot tell: a record that is gone ends nothing
// (section 5.1), but asks for no new policy either, except that what is in force
// is refreshed in time (section 10.2).
func (e Entry) Due(id string, now time.Time) bool {
	if !e.Tried.IsZero() && !now.Before(e.Tried) && now.Before(e.Tried.Add(retryAfter)) {
		return false
	}
	if !e.InForce(now) {
		return id != ""
	}
	return id != "" && id != e.ID || e.Stale(now)
}

// Stale says that a policy in force is to be refreshed: a day after it was
// fetched, or when half its time is over.
func (e Entry) Stale(now time.Time) bool {
	return e.InForce(now) && !now.Before(e.Fetched.Add(min(refreshAfter, e.Policy.MaxAge/2)))
}

// Renewed is the entry after a fetch for a record of that id.
func (e Entry) Renewed(id string, p Policy, now time.Time) Entry {
	if id == "" {
		id = e.ID
	}
	return Entry{Domain: e.Domain, ID: id, Policy: p, Fetched: now}
}

// Failed is the entry after a fetch that failed: what was in force stays so.
func (e Entry) Failed(err error, now time.Time) Entry {
	e.Tried, e.Fault = now, err.Error()
	return e
}

// Forgettable says that nothing is lost with the entry.
func (e Entry) Forgettable(now time.Time) bool {
	return !e.InForce(now) && !now.Before(e.Tried.Add(retryAfter))
}
