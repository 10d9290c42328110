package campaign

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/watch/detect"
)

// FactOf is the fact that the relay would have written of an event: detect.Of of it is
// the event again.
func FactOf(e detect.Event) ledger.Fact {
	f := ledger.Fact{
		Time: e.Time, ID: e.ID, Event: eventOf(e.What), Org: e.Org, ClaimedOrg: e.Claimed, Source: e.Source, Direction: "outbound", Peer: e.Peer,
		MailFrom: e.MailFrom, From: e.From, Rcpt: e.Rcpt, Size: e.Size, Reason: e.Reason, Class: e.Class, Origin: e.Origin, Tenant: e.Tenant,
		Originator: e.Originator, ConnectingIP: e.ConnectingIP, Print: e.Print,
	}
	if e.Count > 1 {
		f.Count = e.Count
	}
	return f
}

func eventOf(what detect.What) ledger.Event {
	switch what {
	case detect.Sent:
		return ledger.Accepted
	case detect.Refused:
		return ledger.Refused
	case detect.Delivered:
		return ledger.Delivered
	case detect.Bounced:
		return ledger.Bounced
	}
	return ledger.ComplaintReceived
}

// Counts is what was written.
type Counts struct {
	Events   int `json:"events"`
	Messages int `json:"messages"` // sent or refused
	Labelled int `json:"labelled"` // of a case
	Attacks  int `json:"attacks"`  // of a case that is one
}

// labelLine is the truth about one message, as a JSON line.
type labelLine struct {
	ID     mail.ID `json:"id"`
	Kind   string  `json:"kind"`
	Case   string  `json:"case"`
	Attack bool    `json:"attack"`
}

// WriteFacts writes every event as a fact, one JSON line each, and the truth beside
// it: a line for every Case, then one for every message of a case. What has no line
// there is ordinary. The world is used up.
func (w *World) WriteFacts(facts, labels io.Writer) (c Counts, err error) {
	out, truth := bufio.NewWriter(facts), bufio.NewWriter(labels)
	toFacts, toLabels := json.NewEncoder(out), json.NewEncoder(truth)
	for _, one := range w.Cases {
		if err := toLabels.Encode(one); err != nil {
			return c, fmt.Errorf("campaign: write labels: %w", err)
		}
	}
	for item := range w.Items(nil) {
		if err = errors.Join(toFacts.Encode(FactOf(item.Event)), w.writeLabel(toLabels, item)); err != nil {
			return c, fmt.Errorf("campaign: write: %w", err)
		}
		c.count(item)
	}
	return c, errors.Join(out.Flush(), truth.Flush())
}

// begins says that the event is the first of its message.
func begins(e detect.Event) bool { return e.What == detect.Sent || e.What == detect.Refused }

func (w *World) writeLabel(to *json.Encoder, item Item) error {
	if item.Label.Case < 0 || !begins(item.Event) {
		return nil
	}
	return to.Encode(labelLine{item.Event.ID, item.Label.Kind, w.Cases[item.Label.Case].Name, item.Label.Attack})
}

func (c *Counts) count(item Item) {
	c.Events++
	if !begins(item.Event) {
		return
	}
	c.Messages++
	if item.Label.Case >= 0 {
		c.Labelled++
	}
	if item.Label.Attack {
		c.Attacks++
	}
}
