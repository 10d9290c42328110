package api

import (
	"fmt"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/relay/custody"
	"anechoic/relay/delivery"
)

// Standing is all that decides why a recipient is still in custody.
type Standing struct {
	Now        time.Time
	State      custody.State
	Due        time.Time
	Attempts   int
	LastReply  string
	Reason     mail.Reason         // of a hold
	Course     *custody.Course     // what a person decided
	Suspension *custody.Suspension // what keeps it back
	Site       delivery.SiteStatus // where it goes; no name: not known
	Began      time.Time           // of the attempt in flight; zero: none began
	Reading    bool                // the queue is still being read back
}

// Why is one sentence that says what a recipient waits for.
func Why(s Standing) string {
	switch {
	case s.State == custody.StateHeld && s.Reason == mail.ReasonHeld:
		return "Held by an operator until somebody releases it."
	case s.State == custody.StateHeld && s.Reason == mail.ReasonRestored:
		return "Held because it came back with a backup and may have been sent since, until somebody releases it."
	case s.State == custody.StateHeld:
		return fmt.Sprintf("Held because policy does not permit it any more (%s), until somebody releases it and it is permitted.", s.Reason)
	case s.Course != nil && s.Course.End:
		return fmt.Sprintf("Ended by %s%s: it is about to go back to its sender.", s.Course.By, because(s.Course.Why))
	case s.State == custody.StateLeased:
		return s.leased()
	case s.Suspension != nil:
		return fmt.Sprintf("Suspended since %s by %s with the %s %s%s, until that is resumed.", clock(s.Suspension.At), s.Suspension.By, s.Suspension.Scope, s.Suspension.Name, because(s.Suspension.Reason))
	case s.Due.After(s.Now):
		return s.scheduled()
	}
	return s.due()
}

func (s Standing) leased() string {
	switch {
	case !s.Began.IsZero():
		return fmt.Sprintf("Being attempted now%s, for %s.", s.where(), round(s.Now.Sub(s.Began)))
	case s.Site.Name != "":
		return fmt.Sprintf("Ready, and waiting for its turn%s, where %d of %d attempts are under way.", s.where(), s.Site.UnderWay, s.Site.Window)
	}
	return "Its next hop is being looked up now."
}

func (s Standing) scheduled() string {
	when := fmt.Sprintf("%s, in %s", clock(s.Due), round(s.Due.Sub(s.Now)))
	switch {
	case s.LastReply != "":
		return fmt.Sprintf("Scheduled for %s%s, after attempt %d came to %q.", when, s.chosen(), s.Attempts, s.LastReply)
	case s.Site.Until.After(s.Now):
		return fmt.Sprintf("Scheduled for %s, because %s.", when, s.paused())
	}
	return fmt.Sprintf("Scheduled for %s%s: there was no room for it.", when, s.chosen())
}

func (s Standing) due() string {
	late := "Due"
	if d := round(s.Now.Sub(s.Due)); d > 0 {
		late = fmt.Sprintf("Due for %s", d)
	}
	switch {
	case s.Site.Until.After(s.Now):
		return fmt.Sprintf("%s, but %s.", late, s.paused())
	case s.Reading:
		return late + ", while the relay reads its queue back after its start."
	case s.Site.Name != "":
		return fmt.Sprintf("%s, and waiting for its organisation's turn%s, where %d of %d attempts are under way and %d are ready.", late, s.where(), s.Site.UnderWay, s.Site.Window, s.Site.Ready)
	}
	return late + ", and waiting for its organisation's turn."
}

// paused tells of a site where nothing begins now.
func (s Standing) paused() string {
	what := "asked for less"
	if s.Site.Dead {
		what = "did not answer"
	}
	text := fmt.Sprintf("the site %s %s, and nothing is attempted there before %s", s.Site.Name, what, clock(s.Site.Until))
	if s.Site.Reply != "" {
		text += fmt.Sprintf(" (%q)", s.Site.Reply)
	}
	return text
}

// where names the site.
func (s Standing) where() string {
	if s.Site.Name == "" {
		return ""
	}
	if c := s.chosen(); c != "" {
		return c
	}
	return " at " + s.Site.Name
}

// chosen names the next hop that a person chose.
func (s Standing) chosen() string {
	if s.Course == nil || s.Course.Via == "" {
		return ""
	}
	return fmt.Sprintf(" at %s, which %s chose", s.Course.Via, s.Course.By)
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return fmt.Sprintf(" (%s)", why)
}

func clock(t time.Time) string { return t.UTC().Format(time.DateTime) }

// round leaves a duration no more than a person reads.
func round(d time.Duration) time.Duration {
	if d >= time.Hour {
		return d.Round(time.Minute)
	}
	return d.Round(time.Second)
}

// explain says of a message and each of its recipients why they are still here.
func (s *Server) explain(e custody.Entry, told *Queued, now time.Time) {
	_, all, _ := s.Queue.Progress()
	for i, r := range e.Recipients {
		told.Recipients[i].Why = Why(s.standing(e, r, told.Recipients[i].Site, !all, now))
	}
	told.Why = whyAll(told.Recipients)
}

// standing gathers what is known of a recipient.
func (s *Server) standing(e custody.Entry, r custody.RecipientEntry, site string, reading bool, now time.Time) Standing {
	told := Standing{
		Now: now, State: r.State, Due: r.Due, Attempts: r.Attempts, LastReply: r.LastReply, Reason: r.Reason, Course: r.Course, Reading: reading,
	}
	if r.State == custody.StateLeased {
		site, told.Began = s.Delivery.UnderWay(e.ID, r.Address.Domain())
	}
	if told.Site.Name = site; site != "" {
		if status, ok := s.Delivery.Site(site); ok {
			told.Site = status
		}
	}
	if suspension, ok := s.Queue.SuspensionOf(e.Organisation, e.Source, r.Address.Domain(), site); ok {
		told.Suspension = &suspension
	}
	return told
}

// whyAll is the sentence of a message: that of its recipients if they share it, else
// those of the first few.
func whyAll(recipients []QueuedRecipient) string {
	shared := true
	for _, r := range recipients {
		shared = shared && r.Why == recipients[0].Why
	}
	if shared {
		return recipients[0].Why
	}
	var parts []string
	for i, r := range recipients {
		if i == namedRecipients {
			parts = append(parts, fmt.Sprintf("and %d more.", len(recipients)-i))
			break
		}
		parts = append(parts, r.Address+": "+r.Why)
	}
	return strings.Join(parts, " ")
}
