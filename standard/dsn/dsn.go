// Package dsn reads delivery status notifications (RFC 3464, with the types of
// RFC 6533) and says in a few words what stood in the way of a message.
//
// Parse takes a message that has a message/delivery-status part and gives what it
// says of each recipient, and the header of the message it tells of. Classify puts
// a reply or a report into a class (class.go), for which docs/bounces.md is the
// manual.
//
// A report is a stranger's text: whether it tells of a message of ours, and
// whether it may be believed, is not decided here. Texts are as they were written;
// see report.Printable.
package dsn

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"anechoic/standard/report"
)

// ErrNoStatus says that a message has no delivery-status part with a recipient.
var ErrNoStatus = errors.New("dsn: there is no delivery status in this message")

// Action is what became of a recipient (RFC 3464 section 2.3.3).
type Action string

// The actions.
const (
	Failed    Action = "failed"
	Delayed   Action = "delayed"
	Delivered Action = "delivered"
	Relayed   Action = "relayed"
	Expanded  Action = "expanded"
)

// Report is a delivery status notification.
type Report struct {
	EnvelopeID   string    // Original-Envelope-Id
	ReportingMTA string    // without its type
	Arrival      time.Time // zero: not told
	Recipients   []Recipient
	Returned     report.Fields // header of the message it tells of; nil: not returned
}

// Recipient is what a report says of one recipient.
type Recipient struct {
	Original   string // address; empty: not told
	Final      string // address
	Action     Action
	Status     string // RFC 3463: "5.1.1"; empty: none that can be read
	Remote     string // name of the host that said it, without its type
	Diagnostic string // what it said, without its type
	SMTP       bool   // Diagnostic is an SMTP reply
}

// maxRecipients bounds how many recipients of one report are read.
const maxRecipients = 100

// statusTypes hold groups of status fields: RFC 3464, RFC 6533 section 6, and a
// name from before they were registered.
var statusTypes = map[string]bool{"message/delivery-status": true, "message/global-delivery-status": true, "message/xdelivery-status": true}

// returnedTypes hold the message a report tells of, or its header (RFC 6522
// section 3, RFC 6533 section 5).
var returnedTypes = map[string]bool{"message/rfc822": true, "text/rfc822-headers": true, "message/global": true, "message/global-headers": true, "text/rfc822": true, "message/partial": true}

// Parse reads a report from the parts of a message. ErrNoStatus: it is none. Where
// no part has the type of one, the fields are looked for in the text: so write
// programs that lost the boundaries of their parts.
func Parse(parts []report.Part) (Report, error) {
	var r Report
	for _, p := range parts {
		if statusTypes[p.Type] {
			r.read(report.Groups(p.Body))
		}
	}
	for _, p := range parts {
		if len(r.Recipients) == 0 && p.Type == "text/plain" {
			r.read(report.Groups(p.Body))
		}
	}
	if len(r.Recipients) == 0 {
		return Report{}, ErrNoStatus
	}
	r.Returned = Returned(parts)
	return r, nil
}

// Returned is the header of the message that parts give back: of the first part
// that holds one.
func Returned(parts []report.Part) report.Fields {
	for _, p := range parts {
		if !returnedTypes[p.Type] {
			continue
		}
		body := p.Body
		for len(body) > 0 && (body[0] == '\r' || body[0] == '\n') {
			body = body[1:] // some begin with an empty line
		}
		if fields, _ := report.Message(body); len(fields) > 0 {
			return fields
		}
	}
	return nil
}

// read takes the groups of a delivery-status part: those that name a recipient,
// and what tells of the message before them. Some programs write both as one
// group.
func (r *Report) read(groups []report.Fields) {
	for _, g := range groups {
		if v := g.Get("Reporting-MTA"); v != "" && r.ReportingMTA == "" {
			_, r.ReportingMTA = typed(v)
		}
		if v := g.Get("Original-Envelope-Id"); v != "" && r.EnvelopeID == "" {
			r.EnvelopeID = v
		}
		if v := g.Get("Arrival-Date"); v != "" && r.Arrival.IsZero() {
			r.Arrival = date(v)
		}
		if rcpt, ok := recipient(g); ok && len(r.Recipients) < maxRecipients {
			r.Recipients = append(r.Recipients, rcpt)
		}
	}
}

// recipient reads a group of per-recipient fields (RFC 3464 section 2.3).
func recipient(g report.Fields) (r Recipient, ok bool) {
	r.Original, r.Final = address(g.Get("Original-Recipient")), address(g.Get("Final-Recipient"))
	if actual := address(g.Get("X-Actual-Recipient")); r.Final == "" {
		r.Final = actual
	}
	if r.Final == "" && r.Original == "" {
		return r, false
	}
	if r.Final == "" {
		r.Final = r.Original
	}
	if g.Get("Action") == "" && g.Get("Status") == "" {
		return r, false // both are required
	}
	word, _, _ := strings.Cut(strings.TrimSpace(g.Get("Action")), " ")
	r.Action = Action(strings.ToLower(strings.Trim(word, ";,.")))
	r.Status = Status(g.Get("Status"))
	_, r.Remote = typed(g.Get("Remote-MTA"))
	kind := ""
	kind, r.Diagnostic = typed(g.Get("Diagnostic-Code"))
	r.SMTP = strings.EqualFold(kind, "smtp")
	return r, true
}

// typed reads "type; value"; without a type all is value (RFC 3464 section 2.1.2).
func typed(v string) (kind, value string) {
	kind, value, ok := strings.Cut(v, ";")
	if kind = strings.TrimSpace(kind); !ok || strings.ContainsAny(kind, " \t<@") {
		return "", strings.TrimSpace(v)
	}
	return kind, strings.TrimSpace(value)
}

// address reads an address field: its type goes, and so do angle brackets; one of
// type utf-8 may be written in ASCII (RFC 6533 section 3).
func address(v string) string {
	kind, value := typed(v)
	if i, j := strings.IndexByte(value, '<'), strings.LastIndexByte(value, '>'); i >= 0 && j > i {
		value = value[i+1 : j]
	}
	value = strings.Trim(value, " <>")
	if strings.EqualFold(kind, "utf-8") {
		value = decodeUTF8(value)
	}
	if len(value) > 254 || !strings.Contains(value, "@") && kind == "" {
		return ""
	}
	return value
}

// decodeUTF8 reads utf-8-addr-xtext: \x{HEX} stands for a character.
func decodeUTF8(s string) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, `\x{`)
		b.WriteString(before)
		digits, rest, closed := strings.Cut(after, "}")
		n, err := strconv.ParseUint(digits, 16, 21)
		if !found || !closed || err != nil {
			if found {
				b.WriteString(`\x{` + after)
			}
			return b.String()
		}
		b.WriteRune(rune(n))
		s = rest
	}
}

// Status finds a status code (RFC 3463 section 2) at the start of a text; empty:
// there is none. Leading zeros of a detail go.
func Status(s string) string {
	s = strings.TrimSpace(s)
	parts := strings.SplitN(s, ".", 3)
	if len(parts) != 3 || len(parts[0]) != 1 || !strings.Contains("245", parts[0]) {
		return ""
	}
	end := 0
	for end < len(parts[2]) && parts[2][end] >= '0' && parts[2][end] <= '9' {
		end++
	}
	subject, err := strconv.ParseUint(parts[1], 10, 16)
	detail, err2 := strconv.ParseUint(parts[2][:end], 10, 16)
	if err != nil || err2 != nil || subject > 999 || detail > 999 {
		return ""
	}
	return parts[0] + "." + strconv.Itoa(int(subject)) + "." + strconv.Itoa(int(detail))
}

// date reads the date forms that reports use; zero where it is none.
func date(v string) time.Time {
	if i := strings.IndexByte(v, '('); i >= 0 {
		v = v[:i]
	}
	v = strings.TrimSpace(v)
	for _, layout := range []string{time.RFC1123Z, "Mon, _2 Jan 2006 15:04:05 -0700", "_2 Jan 2006 15:04:05 -0700", time.RFC1123} {
		if t, err := time.Parse(layout, v); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}
