package screen

import (
	"slices"
	"strconv"

	"anechoic/mail"
)

// Action is what shall become of a message. The constants are in order of
// strictness but for Lost, which is the zero value, so that what nobody decided
// is never passed.
type Action uint8

// The actions.
const (
	Lost   Action = iota // a scanner did not say: defer or hold, as on_loss says
	Pass                 // nothing against it
	Mark                 // relay it, and say in a field of its own what was found
	Hold                 // keep it for a person
	Defer                // a scanner wants it later
	Refuse               // for good: the Reason says why
)

var actionNames = [...]string{Lost: "lost", Pass: "pass", Mark: "mark", Hold: "hold", Defer: "defer", Refuse: "refuse"}

// String is the word for logs, metrics and the ledger.
func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return actionNames[Lost]
}

// Actions lists them all, for metrics.
func Actions() []Action { return []Action{Lost, Pass, Mark, Hold, Defer, Refuse} }

// rank orders actions: a loss is stricter than a hold, which would keep what
// nobody looked at, and milder than what a scanner did say.
func (a Action) rank() int {
	switch a {
	case Pass:
		return 0
	case Mark:
		return 1
	case Hold:
		return 2
	case Defer:
		return 4
	case Refuse:
		return 5
	default:
		return 3 // Lost, and what is no Action
	}
}

// Finding is one thing a scanner said, or why it was lost. It is safe to show:
// printable ASCII, bounded, and no part of the message.
type Finding struct {
	Scanner string  `json:"scanner"`
	Rule    string  `json:"rule,omitempty"` // the scanner's word: a symbol, a signature, a reply code
	Score   float64 `json:"score,omitempty"`
	Text    string  `json:"text,omitempty"`

	// Alarming says that an organisation should hear of it when one of its own
	// sources sent the message: somebody else may be using the source.
	Alarming bool `json:"alarming,omitempty"`
}

// String is the finding in one line.
func (f Finding) String() string {
	s := f.Scanner
	if f.Rule != "" {
		s += " " + f.Rule
	}
	if f.Score != 0 {
		s += "(" + strconv.FormatFloat(f.Score, 'f', 2, 64) + ")"
	}
	if f.Text != "" {
		s += ": " + f.Text
	}
	return s
}

// Opinion is what one scanner says about one message.
type Opinion struct {
	Action   Action
	Reason   mail.Reason // with Refuse: ReasonMalware or ReasonContentRefused
	Findings []Finding
	Headers  []mail.Field // with Pass, Mark and Hold: what it adds
}

// Verdict is what all scanners say together.
type Verdict struct {
	Action   Action
	Reason   mail.Reason  // why not Pass or Mark; empty with them
	Findings []Finding    // of all scanners, in their order
	Headers  []mail.Field // to put on top of the message; none unless configured
}

// sum makes one verdict of opinions: the strictest wins, malware before other
// reasons. Fields are added to what goes on only. No opinion is no objection.
func sum(opinions []Opinion) Verdict {
	v := Verdict{Action: Pass}
	for _, o := range opinions {
		v.Findings = append(v.Findings, o.Findings...)
		v.Headers = append(v.Headers, o.Headers...)
		if o.Action.rank() > v.Action.rank() {
			v.Action, v.Reason = o.Action, o.reason()
		} else if o.Action == v.Action && o.Reason == mail.ReasonMalware {
			v.Reason = mail.ReasonMalware
		}
	}
	if v.Action.rank() > Hold.rank() {
		v.Headers = nil
	}
	return v
}

// reason is why this opinion is no pass.
func (o Opinion) reason() mail.Reason {
	switch {
	case o.Action == Pass || o.Action == Mark:
		return ""
	case o.Action.rank() == Lost.rank():
		return mail.ReasonScreeningLost
	case o.Action == Refuse && o.Reason == mail.ReasonMalware:
		return mail.ReasonMalware
	}
	return mail.ReasonContentRefused
}

// holdLoss turns a loss into a hold, where on_loss asks for that.
func (v Verdict) holdLoss() Verdict {
	if v.Action.rank() == Lost.rank() {
		v.Action, v.Reason = Hold, mail.ReasonScreeningLost
	}
	return v
}

// Refusal is the reply of a message that does not go on; nil with Pass and Mark.
// With Hold it is what is said where there is no room to hold it: try again.
func (v Verdict) Refusal() *mail.Refusal {
	var r *mail.Refusal
	switch {
	case v.Action == Pass || v.Action == Mark:
		return nil
	case v.Action == Refuse && v.Reason == mail.ReasonMalware:
		r = mail.Malware
	case v.Action == Refuse:
		r = mail.ContentRefused
	case v.Action == Defer, v.Action == Hold && v.Reason != mail.ReasonScreeningLost:
		r = mail.ContentDeferred
	default:
		r = mail.ScreeningLost
	}
	return r.Because("%s", v.Detail())
}

// Alarms gives the rules of the findings that are alarming, each once.
func (v Verdict) Alarms() (rules []string) {
	for _, f := range v.Findings {
		if f.Alarming && !slices.Contains(rules, f.Rule) {
			rules = append(rules, f.Rule)
		}
	}
	return rules
}

// maxDetail bounds what is written into log and ledger of one verdict.
const maxDetail = 400

// Detail is the findings in one line, for log and ledger.
func (v Verdict) Detail() string {
	var text string
	for _, f := range v.Findings {
		if text != "" {
			text += "; "
		}
		if text += f.String(); len(text) > maxDetail {
			return text[:maxDetail]
		}
	}
	return text
}

// clip drops what is past n findings.
func clip(findings []Finding, n int) []Finding {
	return slices.Clip(findings[:min(n, len(findings))])
}
