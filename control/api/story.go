package api

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
)

// Story tells what happened to one message in plain words, one line a fact and
// a last one that says how it stands. Facts are in order and of one id.
func Story(facts []ledger.Fact) []string {
	var story []string
	for i, f := range facts {
		if line := tell(f, facts[i+1:]); line != "" {
			story = append(story, f.Time.UTC().Format(time.DateTime)+"  "+line)
		}
	}
	return append(story, standing(facts))
}

// tell is one fact in words; empty if a later one says the same and more.
func tell(f ledger.Fact, later []ledger.Fact) string {
	switch f.Event {
	case ledger.Accepted:
		return accepted(f)
	case ledger.Refused:
		return refused(f)
	case ledger.Leased:
		if slices.ContainsFunc(later, func(l ledger.Fact) bool { return endedBy(f, l) }) {
			return ""
		}
		return fmt.Sprintf("Attempt %d for %s began.", f.Attempt, list(f.Rcpt))
	case ledger.Delivered:
		return fmt.Sprintf("Delivered to %s%s%s.", list(f.Rcpt), at(f), answered(f))
	case ledger.Deferred:
		return fmt.Sprintf("Attempt %d for %s failed for now%s%s; another follows.", f.Attempt, list(f.Rcpt), at(f), answered(f))
	case ledger.Bounced:
		return fmt.Sprintf("Given up for %s%s%s%s.", list(f.Rcpt), at(f), answered(f), detail(f))
	case ledger.Held:
		if isDetention(f) {
			return detained(f)
		}
		return fmt.Sprintf("Held for %s%s%s: not sent until somebody releases it.", list(f.Rcpt), reason(f), detail(f))
	case ledger.Released:
		return fmt.Sprintf("Released for %s%s: due again.", list(f.Rcpt), aside(f))
	case ledger.Dropped:
		return fmt.Sprintf("Dropped for %s by an operator%s: never sent.", list(f.Rcpt), aside(f))
	case ledger.Rerouted:
		return fmt.Sprintf("Rerouted for %s%s.", list(f.Rcpt), detail(f))
	case ledger.Ended:
		return fmt.Sprintf("Ended for %s%s.", list(f.Rcpt), detail(f))
	case ledger.SetAside:
		return fmt.Sprintf("Set aside%s: what was stored did not read back as it was kept, so it is never sent.", detail(f))
	}
	return returned(f)
}

// returned tells of what came back later on.
func returned(f ledger.Fact) string {
	switch f.Event {
	case ledger.BounceReceived:
		return fmt.Sprintf("A report came back about %s%s%s.", list(f.Rcpt), class(f), detail(f))
	case ledger.ComplaintReceived:
		return fmt.Sprintf("A complaint came back about %s%s.", list(f.Rcpt), detail(f))
	case ledger.ContentAlarm:
		return fmt.Sprintf("Our own checks alarmed about what source %s of %s sent%s.", f.Source, f.Org, detail(f))
	case ledger.SuppressionChanged:
		return fmt.Sprintf("The suppression list changed for %s%s.", list(f.Rcpt), detail(f))
	}
	return judged(f)
}

// judged tells of people who judge held mail.
func judged(f ledger.Fact) string {
	switch f.Event {
	case ledger.WouldRefuse:
		return fmt.Sprintf("It would have been refused%s%s, but organisation %s is still learning.", reason(f), detail(f), f.ClaimedOrg)
	case ledger.Finding:
		return fmt.Sprintf("Not as usual%s.", detail(f))
	case ledger.Campaign:
		return fmt.Sprintf("A campaign%s.", detail(f))
	case ledger.ResponseChanged:
		return fmt.Sprintf("The response changed%s.", detail(f))
	case ledger.Exported:
		return fmt.Sprintf("An operator took a copy%s.", detail(f))
	}
	return fmt.Sprintf("%s%s.", f.Event, detail(f))
}

// aside is a detail in brackets.
func aside(f ledger.Fact) string {
	if f.Detail == "" {
		return ""
	}
	return " (" + f.Detail + ")"
}

func class(f ledger.Fact) string {
	if f.Class == "" {
		return ""
	}
	return " (" + f.Class + ")"
}

// isDetention says that a held fact is of a message that nobody proved: such a
// message was never accepted.
func isDetention(f ledger.Fact) bool { return f.Event == ledger.Held && f.Identity == ledger.Unproven }

func detained(f ledger.Fact) string {
	if f.Reason == mail.ReasonHeld {
		return fmt.Sprintf("Detained%s%s: From %s, for %s, handed over by source %s of %s%s. It is neither signed nor sent; a release judges it again.",
			from(f), reason(f), orNone(f.From), list(f.Rcpt), f.Source, f.Org, detail(f))
	}
	return fmt.Sprintf("Detained%s%s: From %s, for %s, handed over by source %s of %s, which nothing proves to have written it%s. It is neither signed nor sent; a release judges it again.",
		from(f), reason(f), orNone(f.From), list(f.Rcpt), f.Source, f.Org, detail(f))
}

// endedBy says that later is what an attempt that f began came to.
func endedBy(f, later ledger.Fact) bool {
	switch later.Event {
	case ledger.Delivered, ledger.Deferred, ledger.Bounced, ledger.Held, ledger.SetAside, ledger.Dropped:
	default:
		return false
	}
	return later.Attempt == 0 || f.Attempt == 0 || later.Attempt == f.Attempt
}

func accepted(f ledger.Fact) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Taken into custody%s: From %s", from(f), orNone(f.From))
	if f.MailFrom != f.From {
		fmt.Fprintf(&b, ", sender %s", orNone(f.MailFrom))
	}
	fmt.Fprintf(&b, ", for %s", list(f.Rcpt))
	if f.Size > 0 {
		fmt.Fprintf(&b, ", %d octets", f.Size)
	}
	b.WriteString(".")
	if f.Org != "" && f.Identity == ledger.Proven {
		fmt.Fprintf(&b, " Proven to be %s's", f.Org)
		if f.Source != "" {
			fmt.Fprintf(&b, ", by source %s", f.Source)
		}
		if len(f.Proofs) > 0 {
			fmt.Fprintf(&b, " with %s", strings.Join(f.Proofs, " and "))
		}
		b.WriteString(".")
	}
	return b.String()
}

// refused tells why, what was seen, that nothing left, and what the organisation
// can do about it.
func refused(f ledger.Fact) string {
	var b strings.Builder
	b.WriteString("Refused")
	if f.Count > 1 {
		fmt.Fprintf(&b, " %d times", f.Count)
	}
	fmt.Fprintf(&b, "%s%s", from(f), reason(f))
	if f.From != "" {
		fmt.Fprintf(&b, ": From %s", f.From)
		if f.ClaimedOrg != "" {
			fmt.Fprintf(&b, ", a domain of %s", f.ClaimedOrg)
		}
	}
	b.WriteString(detail(f))
	if f.Tenant != "" && !strings.Contains(f.Detail, f.Tenant) {
		fmt.Fprintf(&b, "; the mail came from Microsoft 365 tenant %s", f.Tenant)
	}
	if f.Reply != "" {
		fmt.Fprintf(&b, "; the peer was told %q", f.Reply)
	}
	b.WriteString(". Nothing was signed or kept.")
	if f.Reason == mail.ReasonTenantNotAuthorized && f.Tenant != "" {
		fmt.Fprintf(&b, " If tenant %s is yours, add it as a source.", f.Tenant)
	}
	return b.String()
}

// standing is the last line: how each recipient stands after all facts.
func standing(facts []ledger.Fact) string {
	last := make(map[string]ledger.Event)
	var order []string
	accepted := false
	for _, f := range facts {
		if f.Event == ledger.Accepted || isDetention(f) {
			accepted = true
		}
		if f.Event == ledger.SetAside && len(f.Rcpt) == 0 {
			for _, r := range order {
				last[r] = f.Event
			}
		}
		if f.Event == ledger.BounceReceived || f.Event == ledger.ComplaintReceived || f.Event == ledger.SuppressionChanged {
			continue // the attempts are over
		}
		if f.Event == ledger.Rerouted || f.Event == ledger.WouldRefuse || f.Event == ledger.Exported {
			continue // they stand as they did
		}
		for _, r := range f.Rcpt {
			if _, known := last[r]; !known {
				order = append(order, r)
			}
			last[r] = f.Event
		}
	}
	if !accepted {
		return "It never came into custody."
	}
	counts := make(map[ledger.Event]int)
	for _, r := range order {
		counts[last[r]]++
	}
	var parts []string
	for _, s := range []struct {
		event ledger.Event
		word  string
	}{
		{ledger.Delivered, "delivered"}, {ledger.Accepted, "waiting"}, {ledger.Released, "waiting"}, {ledger.Ended, "about to be returned to the sender"}, {ledger.Leased, "being attempted, or in flight when the relay stopped"},
		{ledger.Deferred, "waiting for another attempt"}, {ledger.Held, "held"}, {ledger.Bounced, "given up"}, {ledger.Dropped, "dropped"}, {ledger.SetAside, "set aside"},
	} {
		if counts[s.event] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[s.event], s.word))
		}
	}
	return "Recipients now: " + strings.Join(parts, ", ") + "."
}

func from(f ledger.Fact) string {
	if !f.Peer.IsValid() {
		return ""
	}
	s := " from " + f.Peer.String()
	if f.TLS != "" {
		return s + " over " + f.TLS
	}
	return s + " without TLS"
}

func at(f ledger.Fact) string {
	s := ""
	if f.Site != "" {
		s = " at " + f.Site
	}
	if f.TLS != "" {
		s += " over " + f.TLS
	}
	return s
}

func answered(f ledger.Fact) string {
	if f.Reply == "" {
		return ""
	}
	return fmt.Sprintf(", which answered %q", f.Reply)
}

func reason(f ledger.Fact) string {
	if f.Reason == "" {
		return ""
	}
	return " (" + string(f.Reason) + ")"
}

func detail(f ledger.Fact) string {
	if f.Detail == "" {
		return ""
	}
	return ": " + f.Detail
}

// namedRecipients is how many recipients a line names; the facts have them all.
const namedRecipients = 3

func list(rcpt []string) string {
	switch n := len(rcpt); {
	case n == 0:
		return "its recipients"
	case n <= namedRecipients:
		return strings.Join(rcpt, ", ")
	default:
		return fmt.Sprintf("%s and %d more", strings.Join(rcpt[:namedRecipients], ", "), n-namedRecipients)
	}
}

func orNone(address string) string {
	if address == "" {
		return "<>"
	}
	return address
}
