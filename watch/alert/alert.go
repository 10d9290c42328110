package alert

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// The severities, least first.
const (
	Info     = "info"
	Warning  = "warning"
	Critical = "critical"
)

// KindTest and KindWebhook are the alerts that this package makes itself: an event
// that a person asks for, and a webhook that cannot be delivered.
const (
	KindTest    = "test"
	KindWebhook = "webhook_failed"
)

// Alert is something that people should know. Its texts may hold what strangers
// wrote.
type Alert struct {
	Key      string    // same key: an update of the same incident
	Org      string    // empty: for the operator alone
	Kind     string    // a stable word, as "campaign" or "response"
	Severity string    // Info, Warning or Critical; anything else is Warning
	Title    string    // one line
	Text     string    // what happened, and what to do
	Time     time.Time // when it happened; zero: now
	Campaign string    // id, if it is about one
	Finding  string    // id, if it is about one
	Fields   [][2]string
	Count    int  // how many messages it is about; zero: updates are counted instead
	News     bool // worth telling, however little changed
	Ended    bool // the incident is over
}

// Bounds of ours on what one alert may hold: a webhook's payload is to stay below
// 20 kB (Standard Webhooks, "Payload size").
const (
	maxKey    = 200
	maxWord   = 64
	maxTitle  = 200
	maxText   = 8000
	maxFields = 30
	maxField  = 200
)

// clean bounds an alert and makes it printable.
func (a Alert) clean(now time.Time) Alert {
	if a.Time.IsZero() {
		a.Time = now
	}
	a.Time = a.Time.UTC()
	if rank(a.Severity) == 0 {
		a.Severity = Warning
	}
	a.Key, a.Org, a.Title = Printable(a.Key, maxKey), Printable(a.Org, maxWord), Printable(a.Title, maxTitle)
	a.Kind, a.Campaign, a.Finding = word(a.Kind), Printable(a.Campaign, maxWord), Printable(a.Finding, maxWord)
	if a.Title == "" {
		a.Title = a.Kind
	}
	a.Text = printableLines(a.Text, maxText)
	fields := make([][2]string, 0, min(len(a.Fields), maxFields))
	for _, f := range a.Fields[:min(len(a.Fields), maxFields)] {
		fields = append(fields, [2]string{Printable(f[0], maxWord), Printable(f[1], maxField)})
	}
	a.Fields = fields
	return a
}

// rank orders severities; 0 is none of them.
func rank(severity string) int {
	switch severity {
	case Info:
		return 1
	case Warning:
		return 2
	case Critical:
		return 3
	}
	return 0
}

// word is a name that every format can bear.
func word(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, s)
	if s == "" {
		return "alert"
	}
	return s[:min(len(s), 32)]
}

// Printable is a text as one line of at most so many octets, without anything that
// a terminal, a log or a browser would obey.
func Printable(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s[:min(len(s), 4*most)])
	if len(s) <= most {
		return s
	}
	cut := most - len("...")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}

// printableLines is Printable for a text of several lines.
func printableLines(s string, most int) string {
	if len(s) > most {
		s = s[:most] + "..."
	}
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(Printable(line, most), " ")
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}

// Defanged is a text in ASCII of which no mail program makes a link: "hxxps://bad[.]example",
// "eve[at]bad[.]example". Full stops at the end of words and between digits stay.
func Defanged(s string) string {
	ascii := []byte(strings.Map(func(r rune) rune {
		if r > '~' || r < ' ' && r != '\n' {
			return '?'
		}
		return r
	}, s))
	var out strings.Builder
	for i, c := range ascii {
		switch {
		case c == '@':
			out.WriteString("[at]")
		case c == '.' && joins(ascii, i):
			out.WriteString("[.]")
		case (c == 't' || c == 'T') && i > 0 && (ascii[i-1] == 'h' || ascii[i-1] == 'H') && i+2 < len(ascii) && strings.EqualFold(string(ascii[i:i+3]), "ttp"):
			out.WriteByte('x')
		case (c == 't' || c == 'T') && i > 1 && i+1 < len(ascii) && strings.EqualFold(string(ascii[i-2:i+2]), "http"):
			out.WriteByte('x')
		case c == ':' && i+2 < len(ascii) && ascii[i+1] == '/' && ascii[i+2] == '/':
			out.WriteString("[:]")
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// joins says that a full stop stands within a name rather than after a sentence or
// within a number.
func joins(s []byte, i int) bool {
	if i == 0 || i+1 == len(s) {
		return false
	}
	before, after := s[i-1], s[i+1]
	digits := before >= '0' && before <= '9' && after >= '0' && after <= '9'
	return before > ' ' && after > ' ' && !digits
}
