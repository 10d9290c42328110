package content

import (
	"strings"

	"anechoic/mail"
)

// Bounds of one calendar: a meeting of a whole company has some hundred attendees.
const (
	maxAttendees = 500
	maxCalLine   = 16 << 10 // octets of one unfolded line
)

// Invite is what a calendar object says about who meets (RFC 5545, RFC 5546).
type Invite struct {
	Place      string
	Method     string         // in capitals: REQUEST, REPLY, CANCEL, …; empty: none
	Organizers []Person       // each that the object names, once
	SentBy     []mail.Address // who writes for the organizers
	Attendees  []mail.Address
}

// calendar reads a text/calendar part.
func (w *walk) calendar(place, text string) {
	v, cut := readCalendar(text)
	if cut {
		w.cut("a calendar")
	}
	if v.Method != "" || len(v.Organizers) > 0 || len(v.Attendees) > 0 {
		v.Place = place
		w.content.Invites = append(w.content.Invites, v)
	}
	for line := range unfolded(text) {
		_, _, value := cutProperty(line)
		w.plainLinks(place, strings.NewReplacer(`\n`, "\n", `\N`, "\n", `\,`, ",", `\;`, ";").Replace(value))
	}
}

// readCalendar takes from an iCalendar text who organizes and who is asked. What it
// cannot read it passes over.
func readCalendar(text string) (v Invite, cut bool) {
	for line := range unfolded(text) {
		name, parameters, value := cutProperty(line)
		switch name {
		case "METHOD":
			v.Method = strings.ToUpper(clip(strings.TrimSpace(value), 32))
		case "ORGANIZER":
			cut = !v.organizer(parameters, value) || cut
		case "ATTENDEE":
			a, ok := calAddress(value)
			if !ok {
				continue
			}
			if len(v.Attendees) >= maxAttendees {
				return v, true
			}
			v.Attendees = append(v.Attendees, a)
		}
	}
	return v, cut
}

// organizer adds an ORGANIZER (RFC 5545 section 3.8.4.3) that is not there yet;
// false: there are too many.
func (v *Invite) organizer(parameters, value string) bool {
	a, ok := calAddress(value)
	if !ok {
		return true
	}
	p := Person{Address: a, Name: clip(calParameter(parameters, "CN"), maxName)}
	for _, q := range v.Organizers {
		if q == p {
			return true
		}
	}
	if len(v.Organizers) >= maxAttendees {
		return false
	}
	v.Organizers = append(v.Organizers, p)
	if by, ok := calAddress(calParameter(parameters, "SENT-BY")); ok {
		v.SentBy = append(v.SentBy, by)
	}
	return true
}

// unfolded gives the lines of a calendar: a line end before a space or tab is none
// (RFC 5545 section 3.1). Of a very long line it gives the beginning.
func unfolded(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		var line []byte
		for piece := range strings.Lines(text) {
			piece = strings.TrimRight(piece, "\r\n")
			if piece != "" && (piece[0] == ' ' || piece[0] == '\t') {
				line = append(line, clip(piece[1:], max(0, maxCalLine-len(line)))...)
				continue
			}
			if len(line) > 0 && !yield(string(line)) {
				return
			}
			line = append(line[:0], clip(piece, maxCalLine)...)
		}
		if len(line) > 0 {
			yield(string(line))
		}
	}
}

// cutProperty splits a line into name, parameters and value (RFC 5545 section 3.1);
// a colon in quotes separates nothing.
func cutProperty(line string) (name, parameters, value string) {
	quoted := false
	for i := range len(line) {
		switch c := line[i]; {
		case c == '"':
			quoted = !quoted
		case c == ':' && !quoted:
			name, parameters, _ = strings.Cut(line[:i], ";")
			return strings.ToUpper(strings.TrimSpace(name)), parameters, line[i+1:]
		}
	}
	return "", "", ""
}

// calParameter gives the value of a parameter, without quotes.
func calParameter(parameters, name string) string {
	for parameters != "" {
		key, rest, _ := strings.Cut(parameters, "=")
		var value string
		if inner, ok := strings.CutPrefix(rest, `"`); ok {
			value, rest, _ = strings.Cut(inner, `"`)
			_, rest, _ = strings.Cut(rest, ";")
		} else {
			value, rest, _ = strings.Cut(rest, ";")
		}
		if strings.EqualFold(strings.TrimSpace(key), name) {
			return value
		}
		parameters = rest
	}
	return ""
}

// calAddress reads a cal-address (RFC 5545 section 3.3.3) that is a mailto URI.
func calAddress(value string) (mail.Address, bool) {
	value = strings.TrimSpace(value)
	if len(value) < len("mailto:") || !strings.EqualFold(value[:len("mailto:")], "mailto:") {
		return mail.Address{}, false
	}
	value = string(appendUnescaped(nil, []byte(clip(value[len("mailto:"):], mail.MaxPath*3)), '%'))
	value, _, _ = strings.Cut(value, "?")
	a, err := mail.ParseAddressUTF8(strings.TrimSpace(value))
	return a, err == nil
}
