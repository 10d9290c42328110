// Package arf reads complaints in the Abuse Reporting Format (RFC 5965, with the
// fields of RFC 6591 for authentication failures; RFC 6650 says how they are used).
//
// Parse takes the parts of a message that has a message/feedback-report and gives
// its fields and the header of the message that was complained of. Fields that may
// stand once and are there twice are not read: their readers may differ.
//
// A complaint is a stranger's text: whether it tells of a message of ours is not
// decided here.
package arf

import (
	"errors"
	"strings"

	"anechoic/standard/dsn"
	"anechoic/standard/report"
)

// ErrNoFeedback says that a message has no feedback-report part that can be read.
var ErrNoFeedback = errors.New("arf: there is no feedback report in this message")

// Type is what a complaint is about (RFC 5965 section 7.3, RFC 6591 section 3.1).
type Type string

// The types. One that is not here reads as Other (RFC 5965 section 7.3).
const (
	Abuse       Type = "abuse"
	Fraud       Type = "fraud"
	Virus       Type = "virus"
	NotSpam     Type = "not-spam"
	OptOut      Type = "opt-out"
	AuthFailure Type = "auth-failure"
	Other       Type = "other"
)

// Report is one complaint.
type Report struct {
	Type         Type
	UserAgent    string
	Version      string
	MailFrom     string   // Original-Mail-From, without angle brackets
	Recipients   []string // Original-Rcpt-To, without angle brackets
	EnvelopeID   string   // Original-Envelope-Id
	SourceIP     string
	ReportingMTA string
	Incidents    int           // 1 where it is not told
	Returned     report.Fields // header of the message; nil: not returned
}

// Bounds of one complaint.
const (
	maxRecipients = 100
	maxIncidents  = 1_000_000
)

// Parse reads a complaint from the parts of a message. ErrNoFeedback: it is none,
// or does not say its type (RFC 5965 section 3.1 requires it).
func Parse(parts []report.Part) (Report, error) {
	for _, p := range parts {
		if p.Type != "message/feedback-report" {
			continue
		}
		for _, g := range report.Groups(p.Body) { // one group; some begin with an empty line
			if r, ok := read(g); ok {
				r.Returned = dsn.Returned(parts)
				return r, nil
			}
		}
	}
	return Report{}, ErrNoFeedback
}

func read(g report.Fields) (r Report, ok bool) {
	kind := strings.ToLower(once(g, "Feedback-Type"))
	if kind == "" {
		return r, false
	}
	r = Report{
		Type: known(kind), UserAgent: once(g, "User-Agent"), Version: once(g, "Version"), MailFrom: bare(once(g, "Original-Mail-From")),
		EnvelopeID: once(g, "Original-Envelope-Id"), SourceIP: once(g, "Source-IP"), ReportingMTA: once(g, "Reporting-MTA"),
		Incidents: number(once(g, "Incidents")),
	}
	for _, v := range g.All("Original-Rcpt-To") {
		if address := bare(v); address != "" && len(r.Recipients) < maxRecipients {
			r.Recipients = append(r.Recipients, address)
		}
	}
	return r, true
}

func known(kind string) Type {
	switch t := Type(kind); t {
	case Abuse, Fraud, Virus, NotSpam, OptOut, AuthFailure:
		return t
	}
	return Other
}

// once gives a field that is there exactly once.
func once(g report.Fields, name string) string {
	if values := g.All(name); len(values) == 1 {
		return values[0]
	}
	return ""
}

// bare takes angle brackets off an address, and what is too long for one.
func bare(v string) string {
	v = strings.Trim(v, " <>")
	if len(v) > 254 {
		return ""
	}
	return v
}

// number reads Incidents: a positive number, 1 where it is none (RFC 5965 section
// 3.2).
func number(v string) int {
	n := 0
	for _, c := range v {
		if c < '0' || c > '9' || n > maxIncidents {
			return 1
		}
		n = n*10 + int(c-'0')
	}
	return min(max(n, 1), maxIncidents)
}
