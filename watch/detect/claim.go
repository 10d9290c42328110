package detect

import (
	"fmt"
	"strconv"

	"anechoic/mail"
)

// Bounds of what is remembered of the refusals in one name.
const (
	maxClaims  = 20_000
	maxTenants = 64
	longKnown  = 3 * 86400 // a tenant that tries for longer is no news
)

// claim is what was refused in the name of one domain.
type claim struct {
	tenants []place
	counted [len(outsideKinds)]tally
}

// tally is the messages of the last hour, in steps of ten minutes.
type tally struct {
	Step  int64
	Slots [hourSteps]uint32
}

// outsideKinds are the kinds of refusals that are counted.
var outsideKinds = [...]Kind{ForeignTenant, SecondProof, UnknownHybrid, Contradicted}

// outsideOf is what a refusal means; -1: nothing here.
func outsideOf(r mail.Reason) int {
	switch r {
	case mail.ReasonTenantNotAuthorized, mail.ReasonTenantReserved:
		return 0
	case mail.ReasonSecondProofMissing:
		return 1
	case mail.ReasonHybridUnknown, mail.ReasonOwnEcho:
		return 2
	case mail.ReasonOriginContradicted, mail.ReasonRelayPool:
		return 3
	}
	return -1
}

// add counts n messages at now and gives the hour's.
func (t *tally) add(now int64, n uint32) (hour uint32) {
	step := now / hourStep
	if step < t.Step || step-t.Step >= hourSteps {
		*t = tally{Step: step}
	}
	for t.Step < step {
		t.Step++
		t.Slots[t.Step%hourSteps] = 0
	}
	t.Slots[step%hourSteps] += n
	for _, s := range t.Slots {
		hour += s
	}
	return hour
}

// refused counts a refusal in this name.
func (c *claim) refused(e *Event, t *Thresholds, now int64) (r reading, ok bool) {
	i := outsideOf(e.Reason)
	if i < 0 {
		return reading{}, false
	}
	kind, n := outsideKinds[i], uint32(e.Count)
	inHour := c.counted[i].add(now, n)
	if kind == ForeignTenant {
		return c.foreign(e, t, now, inHour)
	}
	r = reading{kind: kind, messages: n, score: AlarmScore - 0.2, explain: func() (string, []Value) {
		return fmt.Sprintf("%s: %s messages were refused in an hour", outsideWords[kind], grouped(float64(inHour))),
			[]Value{{"refused in an hour", grouped(float64(inHour)), strconv.Itoa(t.RefusedBurst)}, {"reason", string(e.Reason), ""}}
	}}
	if inHour >= uint32(t.RefusedBurst) {
		r.score = over(kind, float64(inHour)/float64(t.RefusedBurst))
	}
	return r, true
}

var outsideWords = map[Kind]string{
	SecondProof:   "mail of its own tenant came without the second proof",
	UnknownHybrid: "its tenant passed on mail of servers that are not listed",
	Contradicted:  "the provider itself says that mail in its name is not genuine",
}

// foreign is about tenants: one new one is worth a note, several, or many messages,
// are a campaign.
func (c *claim) foreign(e *Event, t *Thresholds, now int64, inHour uint32) (reading, bool) {
	news, known := c.tenant(sumOf(e.Tenant), now)
	if known && news == 0 {
		return reading{}, false
	}
	r := reading{kind: ForeignTenant, messages: uint32(e.Count), score: AlarmScore - 0.2, explain: func() (string, []Value) {
		return fmt.Sprintf("%s tried to send in its name within a day; all was refused, %s messages in the last hour", tenants(news), grouped(float64(inHour))),
			[]Value{{"foreign tenants of a day", strconv.Itoa(news), strconv.Itoa(t.TenantsDay)}, {"refused in an hour", grouped(float64(inHour)), strconv.Itoa(t.RefusedBurst)}}
	}}
	if news >= t.TenantsDay || inHour >= uint32(t.RefusedBurst) {
		r.score = over(ForeignTenant, max(float64(news)/float64(t.TenantsDay), float64(inHour)/float64(t.RefusedBurst)))
	}
	return r, true
}

func tenants(n int) string {
	switch {
	case n >= maxTenants:
		return strconv.Itoa(maxTenants) + " foreign tenants or more"
	case n == 1:
		return "a foreign tenant"
	}
	return strconv.Itoa(n) + " foreign tenants"
}

// tenant notes a tenant: how many new ones were seen within a day, and whether this
// one tries for days already.
func (c *claim) tenant(sum uint64, now int64) (news int, known bool) {
	at := -1
	for i, p := range c.tenants {
		if p.Sum == sum {
			at = i
		}
	}
	if at < 0 {
		at = c.makeRoom()
		c.tenants[at] = place{Sum: sum, First: now}
	}
	c.tenants[at].Last = now
	c.tenants[at].Messages++
	for _, p := range c.tenants {
		if now-p.Last < 86400 && now-p.First < longKnown {
			news++
		}
	}
	return news, now-c.tenants[at].First >= longKnown
}

// makeRoom is the index for one more tenant.
func (c *claim) makeRoom() int {
	if len(c.tenants) < maxTenants {
		c.tenants = append(c.tenants, place{})
		return len(c.tenants) - 1
	}
	oldest := 0
	for i, p := range c.tenants {
		if p.Last < c.tenants[oldest].Last {
			oldest = i
		}
	}
	return oldest
}
