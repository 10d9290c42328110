package main

import (
	"bytes"
	"time"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// submission is a message of some size for one recipient.
func submission(size int) (custody.Submission, error) {
	header, err := mail.ParseHeader([]byte("From: a@acme.test\r\nTo: b@else.test\r\nSubject: x\r\n"), mail.HeaderLimits{})
	if err != nil {
		return custody.Submission{}, err
	}
	warrant, err := custody.NewNotice("about", "acme")
	if err != nil {
		return custody.Submission{}, err
	}
	from, err1 := mail.ParseAddress("a@acme.test")
	to, err2 := mail.ParseAddress("b@else.test")
	if err1 != nil || err2 != nil {
		return custody.Submission{}, errOr(err1, err2)
	}
	return custody.Submission{
		ID: mail.NewID(time.Now()), Warrant: warrant, Header: header, Body: mail.NewBody(bytes.Repeat([]byte("sixteen octets\r\n"), size/16)),
		Envelope: mail.Envelope{From: from, Recipients: []mail.Recipient{{Address: to}}},
	}, nil
}

// delivered is the outcome of an attempt that the next hop took whole.
func delivered(l *custody.Lease) []custody.Outcome {
	outcomes := make([]custody.Outcome, len(l.Recipients))
	for i := range outcomes {
		outcomes[i] = custody.Outcome{Index: i, Result: custody.Delivered, Reply: "250 2.0.0 Ok"}
	}
	return outcomes
}
