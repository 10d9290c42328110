package screen

import (
	"context"
	"runtime"
	"slices"
	"strings"

	"anechoic/mail"
	"anechoic/relay/screen/content"
)

// Checking is what the relay's own checks are to do with a message. The zero value
// leaves them out.
type Checking struct {
	Rules     *content.Rules // nil: they are not asked
	Dangerous Action         // what a dangerous finding does: Mark, Hold or Refuse; anything else is Hold
}

// Checks is the relay's own scanner: package content, with what its findings do. It
// is asked beside the others, and its loss is a loss like theirs.
//
//   - A dangerous finding does what the organisation wants.
//   - A suspicious one marks.
//   - What could not be read whole is never passed: it is marked, and held if it says
//     itself that the rest is elsewhere, unless the organisation wants marks only.
//   - Notes pass.
//
// It reads a message once, within the bounds of content.Limits, which also bound how
// long it takes: it does not look at the clock. It has no connection, so it is never
// left alone; and it runs on as many messages at a time as there are processors,
// because each may hold tens of megabytes of archives.
type Checks struct {
	Limits content.Limits // zero: content.DefaultLimits
}

// Name implements Scanner.
func (*Checks) Name() string { return "checks" }

// Ping implements Scanner: it is always there.
func (*Checks) Ping(context.Context) error { return nil }

// places is how many messages it looks at at a time.
func (*Checks) places() int { return max(2, runtime.GOMAXPROCS(0)) }

// Ask implements Scanner.
func (c *Checks) Ask(_ context.Context, q *Question) (Opinion, error) {
	if q.Rules.Checks.Rules == nil {
		return Opinion{Action: Pass}, nil
	}
	seen, err := content.Read(q.Message, c.Limits)
	if err != nil {
		return Opinion{}, err
	}
	return q.Rules.Checks.opinion(content.Judge(seen, *q.Rules.Checks.Rules)), nil
}

// opinion is what the findings come to.
func (c Checking) opinion(found []content.Finding) Opinion {
	o := Opinion{Action: Pass}
	for _, f := range found {
		if a := c.action(f); a.rank() > o.Action.rank() {
			o.Action = a
		}
		o.Findings = append(o.Findings, ofCheck(f))
	}
	if o.Action == Refuse {
		o.Reason = mail.ReasonContentRefused
	}
	o.Findings = clip(o.Findings, maxChecked)
	return o
}

// maxChecked bounds the findings of our own checks that a verdict bears; they come
// the worst first.
const maxChecked = 20

// action is what one finding does.
func (c Checking) action(f content.Finding) Action {
	dangerous := c.Dangerous
	if dangerous != Mark && dangerous != Refuse {
		dangerous = Hold
	}
	switch {
	case f.Severity >= content.Dangerous:
		return dangerous
	case f.Code == content.MessageFragment:
		return min(dangerous, Hold)
	case f.Severity == content.Suspicious, f.Code == content.MessageCut, f.Code == content.FileUnopened:
		return Mark
	}
	return Pass
}

// impersonations are the findings that say the message is not from whom its reader
// takes it to be from.
var impersonations = []content.Code{
	content.NameIsAddress, content.NameIsProtected, content.SenderLookAlike, content.SenderLetters, content.ReplyLookAlike, content.InviteOther, content.InviteProtected,
}

// ofCheck is a finding without the words of the message that its sentence quotes:
// the code, and where it was found. What is alarming about it is told when an
// organisation's own source sent it.
func ofCheck(f content.Finding) Finding {
	place, _, _ := strings.Cut(f.Place, ",")
	place, _, _ = strings.Cut(place, " (")
	return Finding{
		Scanner: "checks", Rule: string(f.Code), Text: safe(f.Severity.String()+" in "+place, maxText),
		Alarming: f.Severity >= content.Dangerous || f.Severity == content.Suspicious && slices.Contains(impersonations, f.Code),
	}
}
