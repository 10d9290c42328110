package alert

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
)

// Week is what happened to one organisation's mail in a week.
type Week struct {
	Org       string
	From, To  time.Time
	Accepted  int
	Delivered int // recipients
	Bounced   int // recipients
	Held      int
	Refused   map[mail.Reason]int // in its name, and of its own sources
	Tried     map[string]int      // who was refused: "tenant <guid>", or a network
	TriedMore int                 // refused messages of others beside those
	Incidents []Incident
}

// Happened says that there is something to tell.
func (w *Week) Happened() bool { return len(w.Refused) > 0 || w.Held > 0 || len(w.Incidents) > 0 }

// Bounds of a summary.
const (
	maxTried     = 200 // that are counted apart
	maxTriedTold = 10
	weekOpen     = 30 // incidents in a summary
)

// Weeks reads the ledger of a time and gives each organisation's week. It asks for
// all of it, so it takes a while; nothing waits for it.
func Weeks(ctx context.Context, source ledger.Scanner, from, to time.Time) (map[string]*Week, error) {
	weeks := map[string]*Week{}
	err := ledger.ReadSince(ctx, source, from, func(f ledger.Fact) bool {
		if f.Time.Before(from) || !f.Time.Before(to) {
			return ctx.Err() == nil
		}
		id := cmp.Or(f.Org, f.ClaimedOrg)
		if id == "" {
			return true
		}
		w := weeks[id]
		if w == nil {
			w = &Week{Org: id, From: from, To: to, Refused: map[mail.Reason]int{}, Tried: map[string]int{}}
			weeks[id] = w
		}
		w.count(&f)
		return true
	})
	return weeks, cmp.Or(err, ctx.Err())
}

// count adds a fact.
func (w *Week) count(f *ledger.Fact) {
	n := max(f.Count, 1)
	switch f.Event {
	case ledger.Accepted:
		w.Accepted++
	case ledger.Delivered:
		w.Delivered += max(len(f.Rcpt), 1)
	case ledger.Bounced:
		w.Bounced += max(len(f.Rcpt), 1)
	case ledger.Held:
		w.Held++
	case ledger.Refused:
		w.Refused[f.Reason] += n
		if f.Org == "" {
			w.tried(f, n)
		}
	}
}

// tried notes who sent in the organisation's name and was refused.
func (w *Week) tried(f *ledger.Fact, n int) {
	who := "tenant " + Printable(f.Tenant, maxWord)
	if f.Tenant == "" {
		bits := 24
		if f.Peer.Is6() {
			bits = 64
		}
		if network, err := f.Peer.Unmap().Prefix(bits); err == nil {
			who = "network " + network.String()
		} else {
			who = "unknown"
		}
	}
	if w.Tried[who] == 0 && len(w.Tried) >= maxTried {
		w.TriedMore += n
		return
	}
	w.Tried[who] += n
}

// ComposeWeek writes the summary of a week, by the rules of Compose.
func ComposeWeek(l Letter, w Week) (mail.Header, []byte, error) {
	refused := 0
	for _, n := range w.Refused {
		refused += n
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Hello, this is the mail relay at %s.\n\nThe week from %s to %s, for organisation %s:\n\n", l.Hostname, w.From.UTC().Format(time.DateOnly), w.To.UTC().Format(time.DateOnly), w.Org)
	for _, line := range []struct {
		n    int
		what string
	}{{w.Accepted, "messages taken"}, {w.Delivered, "recipients delivered to"}, {w.Bounced, "recipients bounced"}, {w.Held, "messages held for a person"}, {refused, "messages refused"}} {
		fmt.Fprintf(&b, "%10d  %s\n", line.n, line.what)
	}
	section(&b, "Refused, by reason", numbers(w.Refused), len(w.Refused))
	tried := numbers(w.Tried)
	section(&b, "Who tried to send in its name and was refused", tried, maxTriedTold)
	if w.TriedMore > 0 {
		fmt.Fprintf(&b, "%10d  by others\n", w.TriedMore)
	}
	worstFirst(w.Incidents)
	if len(w.Incidents) > 0 {
		b.WriteString("\nWhat was found:\n\n")
	}
	for _, i := range w.Incidents[:min(len(w.Incidents), weekOpen)] {
		state := "open"
		if !i.Ended.IsZero() {
			state = "over"
		}
		fmt.Fprintf(&b, "    %s  %-8s  %s  %s\n", i.Opened.UTC().Format("2006-01-02 15:04"), i.Severity, state, Defanged(i.Title))
	}
	b.WriteString("\nWhat a reason means: anechoic explain REASON\nEach message: anechoic log search --org " + w.Org + "\n")
	subject := fmt.Sprintf("Your week: %d refused, %d held, %d found", refused, w.Held, len(w.Incidents))
	return l.mail(subject, b.String())
}

// numbered is a count with what it counts.
type numbered struct {
	n    int
	what string
}

// numbers are counts, the highest first.
func numbers[K ~string](counts map[K]int) (list []numbered) {
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, numbered{counts[k], string(k)})
	}
	slices.SortStableFunc(list, func(x, y numbered) int { return y.n - x.n })
	return list
}

func section(b *strings.Builder, title string, list []numbered, most int) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n\n", title)
	rest := 0
	for k, one := range list {
		if k >= most {
			rest += one.n
			continue
		}
		fmt.Fprintf(b, "%10d  %s\n", one.n, Defanged(one.what))
	}
	if rest > 0 {
		fmt.Fprintf(b, "%10d  by others\n", rest)
	}
}
