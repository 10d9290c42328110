package campaign

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"anechoic/watch/detect"
)

// tell is the campaign with what is worth telling of the change.
func (g *Grouper) tell(c *incident, change Change) (Campaign, Change) {
	worth := len(c.Organisations) > c.ToldOrgs || c.Left > 0 && !c.ToldLeft || c.Messages >= 2*c.Told
	switch {
	case !c.Alarmed:
		change = Opened
	case change == Merged:
	case worth:
		change = Grew
	default:
		change = Unchanged
	}
	if change != Unchanged {
		c.Alarmed, c.Told, c.ToldOrgs, c.ToldLeft = true, max(c.Messages, 1), len(c.Organisations), c.Left > 0
	}
	return c.view(), change
}

// view is a copy for others, sorted and titled.
func (c *incident) view() Campaign {
	v := c.Campaign
	for _, counts := range []*[]Count{&v.Domains, &v.Organisations, &v.Reasons} {
		*counts = slices.Clone(*counts)
		slices.SortFunc(*counts, func(a, b Count) int {
			return cmp.Or(cmp.Compare(b.Messages, a.Messages), cmp.Compare(a.Name, b.Name))
		})
	}
	for _, names := range []*[]string{&v.Sources, &v.Tenants, &v.Addresses, &v.Hosts, &v.Families, &v.Findings, &v.Sentences, &v.IDs, &v.More} {
		*names = slices.Clone(*names)
	}
	v.Kinds, v.Merged = slices.Clone(v.Kinds), slices.Clone(v.Merged)
	slices.Sort(v.Kinds)
	v.Title = v.title()
	return v
}

// merge makes one campaign of two: the older stays.
func (g *Grouper) merge(a, b *incident, by string, now time.Time) *incident {
	if cmp.Or(b.Start.Compare(a.Start), cmp.Compare(b.ID, a.ID)) < 0 {
		a, b = b, a
	}
	if len(a.Merged) < maxMerges {
		a.Merged = append(a.Merged, Merge{ID: b.ID, Time: now, By: by})
	}
	a.Messages, a.Refused, a.Left = a.Messages+b.Messages, a.Refused+b.Refused, a.Left+b.Left
	if b.PeakMessages > a.PeakMessages {
		a.Peak, a.PeakMessages = b.Peak, b.PeakMessages
	}
	if b.Last.After(a.Last) {
		a.Last = b.Last
	}
	for _, lists := range [][2]*[]Count{{&a.Domains, &b.Domains}, {&a.Organisations, &b.Organisations}, {&a.Reasons, &b.Reasons}} {
		for _, n := range *lists[1] {
			a.count(lists[0], "counts", n.Name, n.Messages)
		}
	}
	for _, lists := range [][2]*[]string{{&a.Sources, &b.Sources}, {&a.Tenants, &b.Tenants}, {&a.Addresses, &b.Addresses}, {&a.Hosts, &b.Hosts}, {&a.Families, &b.Families}, {&a.Findings, &b.Findings}} {
		for _, name := range *lists[1] {
			a.add(lists[0], "names", name)
		}
	}
	for _, k := range b.Kinds {
		if !slices.Contains(a.Kinds, k) {
			a.Kinds = append(a.Kinds, k)
		}
	}
	a.Score, a.Step = max(a.Score, b.Score), max(a.Step, b.Step)
	a.Sentences = append(a.Sentences, b.Sentences[:min(len(b.Sentences), maxSamples-len(a.Sentences))]...)
	for _, id := range b.IDs {
		a.sample(id)
	}
	for id, m := range b.Members {
		if len(a.Members) < maxMembers {
			known := a.Members[id]
			a.Members[id] = member{max(m.Messages, known.Messages), max(m.Left, known.Left)}
		}
	}
	g.hand(a, b)
	return a
}

// hand gives what leads to b to a, and forgets b.
func (g *Grouper) hand(a, b *incident) {
	for _, k := range b.Keys {
		at := g.keys[k]
		switch {
		case at == nil || at.Campaign != b.ID:
		case len(a.Keys) >= maxOwnKeys:
			delete(g.keys, k)
			a.more("keys")
		default:
			at.Campaign = a.ID
			a.Keys = append(a.Keys, k)
		}
	}
	delete(g.campaigns, b.ID)
	for from, to := range g.merged {
		if to == b.ID {
			g.merged[from] = a.ID
		}
	}
	if len(g.merged) < 2*g.o.Campaigns {
		g.merged[b.ID] = a.ID
	}
}

// wait counts a refusal under its keys, and says that one of them has come often
// enough to be a campaign.
func (g *Grouper) wait(keys []string, e *detect.Event) (enough bool) {
	for _, k := range keys {
		p := g.pending[k]
		if p == nil || e.Time.Sub(p.Last) > pendingLast {
			if p == nil && len(g.pending) >= maxPending {
				g.forgetPending(e.Time)
			}
			p = &pending{First: e.Time}
			g.pending[k] = p
		}
		p.count(e)
		enough = enough || p.Messages >= g.o.Threshold
	}
	return enough
}

// count counts a refusal; of very many names the first ones are kept.
func (p *pending) count(e *detect.Event) {
	const few = 20
	n := max(e.Count, 1)
	p.Last = e.Time
	p.Messages += n
	addCount(&p.Organisations, few, cmp.Or(e.Claimed, e.Org), n)
	addCount(&p.Domains, few, domainOf(e.From), n)
	addCount(&p.Reasons, few, string(e.Reason), n)
	if id := word(string(e.ID)); id != "" && len(p.IDs) < 3 {
		p.IDs = append(p.IDs, id)
	}
}

// waited is the refusals under the most frequent of keys; they wait no more.
func (g *Grouper) waited(keys []string) (most *pending) {
	for _, k := range keys {
		if p := g.pending[k]; p != nil && (most == nil || p.Messages > most.Messages) {
			most = p
		}
		delete(g.pending, k)
	}
	return most
}

// forgetPending drops what did not come again for an hour, or else everything: a
// flood of keys that never repeat is no campaign.
func (g *Grouper) forgetPending(now time.Time) {
	maps.DeleteFunc(g.pending, func(_ string, p *pending) bool { return now.Sub(p.Last) > pendingLast })
	if len(g.pending) >= maxPending {
		maps.DeleteFunc(g.pending, func(_ string, p *pending) bool { return p.Messages < 2 })
	}
	if len(g.pending) >= maxPending {
		clear(g.pending)
	}
}

// advance is the newest time; a clock set back by more than a day counts.
func (g *Grouper) advance(now time.Time) {
	if now.After(g.now) || g.now.Sub(now) > 24*time.Hour {
		g.now = now.UTC().Round(0)
	}
}

// Tick says that it is now and gives the campaigns that end, the oldest first.
func (g *Grouper) Tick(now time.Time) (out []Update) {
	g.advance(now)
	for _, c := range g.inOrder() {
		switch {
		case c.Open && g.now.Sub(c.Last) >= g.o.Quiet:
			c.Open, c.End = false, c.Last
			out = append(out, Update{c.view(), Ended})
		case !c.Open && g.now.Sub(c.Last) >= g.o.Keep:
			g.forget(c)
		}
	}
	maps.DeleteFunc(g.keys, func(_ string, k *key) bool { return g.now.Sub(k.Last) >= g.o.Quiet })
	maps.DeleteFunc(g.pending, func(_ string, p *pending) bool { return g.now.Sub(p.Last) > pendingLast })
	return out
}

// inOrder is the campaigns by their start.
func (g *Grouper) inOrder() []*incident {
	return slices.SortedFunc(maps.Values(g.campaigns), func(a, b *incident) int {
		return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.ID, b.ID))
	})
}

// List is the campaigns, the latest first.
func (g *Grouper) List() (list []Campaign) {
	for _, c := range slices.Backward(g.inOrder()) {
		list = append(list, c.view())
	}
	return list
}

// Get is a campaign by its ID, or by that of one that was merged into it.
func (g *Grouper) Get(id string) (Campaign, bool) {
	if to, ok := g.merged[id]; ok {
		id = to
	}
	c := g.campaigns[id]
	if c == nil {
		return Campaign{}, false
	}
	return c.view(), true
}

// unique is keys without those that are empty or come again.
func unique(keys []string) (kept []string) {
	for _, k := range keys {
		if _, name, _ := strings.Cut(k, ":"); name != "" && !slices.Contains(kept, k) {
			kept = append(kept, k)
		}
	}
	return kept
}

// word makes a stranger's text printable and short.
func word(s string) string { return printable(s, maxWord) }

// sentence is for our own sentences, in which strangers' words may be.
func sentence(s string) string { return printable(s, 600) }

func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), limit)])
	return s
}

// title is the campaign in one line.
func (c Campaign) title() string {
	who := "nobody"
	if len(c.Organisations) > 0 {
		who = c.Organisations[0].Name
		if more := len(c.Organisations) - 1; more > 0 {
			who += fmt.Sprintf(" and %d more", more)
		}
	}
	switch {
	case c.Left > 0:
		return fmt.Sprintf("Mail in the name of %s that looks like an attack: %d got through, %d were refused", who, c.Left, c.Refused)
	case c.Refused > 0:
		return fmt.Sprintf("Attempts to send in the name of %s: %d messages, all refused", who, c.Refused)
	}
	return fmt.Sprintf("Something unusual at %s", who)
}
