package bounce

import (
	"regexp"
	"strings"

	"anechoic/standard/arf"
	"anechoic/standard/dsn"
	"anechoic/standard/report"
)

// Kind is what a message that came back is.
type Kind string

// The kinds.
const (
	KindStatus    Kind = "status"    // a delivery status notification (RFC 3464)
	KindComplaint Kind = "complaint" // a feedback report (RFC 5965)
	KindOldBounce Kind = "bounce"    // says in words alone that a message was not delivered
	KindReply     Kind = "reply"     // an automatic answer (RFC 3834)
	KindOther     Kind = "other"     // none of these
)

// Incoming is what a message that came back tells. All of it is a stranger's
// text: the kind and the classes are ours, addresses are to be compared with what
// was sent, and nothing else is shown to anybody.
type Incoming struct {
	Kind       Kind
	Recipients []IncomingRecipient
	Complaint  arf.Report    // of KindComplaint
	Returned   report.Fields // header of the message it tells of; nil: not returned
	MessageIDs []string      // of that message, with their brackets; nil: not told
}

// IncomingRecipient is what is told of one recipient.
type IncomingRecipient struct {
	Addresses []string // original and final; empty where only the whole message is told of
	Action    dsn.Action
	Status    string // RFC 3463; empty: none that can be read
	Class     dsn.Class
}

// Permanent says that the recipient failed for good.
func (r IncomingRecipient) Permanent() bool {
	return r.Action == dsn.Failed && !strings.HasPrefix(r.Status, "4.")
}

// ReadIncoming reads a message that came back. Steps: a feedback report; a
// delivery status; the shapes of old bounces; an automatic answer.
func ReadIncoming(header report.Fields, body []byte) Incoming {
	in := readIncoming(header, body)
	in.MessageIDs = messageIDs(header, in)
	return in
}

func readIncoming(header report.Fields, body []byte) Incoming {
	parts := report.Read(header, body)
	if complaint, err := arf.Parse(parts); err == nil {
		return Incoming{Kind: KindComplaint, Complaint: complaint, Returned: complaint.Returned}
	}
	if in, ok := fromHotmail(header, parts); ok {
		return in
	}
	words := text(parts)
	if status, err := dsn.Parse(parts); err == nil {
		return fromStatus(status, words)
	}
	if in, ok := fromWords(header, parts, words); ok {
		return in
	}
	if isAnswer(header) {
		return Incoming{Kind: KindReply}
	}
	return Incoming{Kind: KindOther}
}

// fromStatus classifies what a delivery status notification says. Where its
// diagnostic says nothing, the text for people may.
func fromStatus(status dsn.Report, words string) Incoming {
	in := Incoming{Kind: KindStatus, Returned: status.Returned}
	for _, r := range status.Recipients {
		one := IncomingRecipient{Action: r.Action, Status: r.Status}
		for _, a := range []string{r.Original, r.Final} {
			if a != "" {
				one.Addresses = append(one.Addresses, a)
			}
		}
		if one.Action == "" && one.Status != "" {
			one.Action = actionOf(one.Status)
		}
		if one.Action != dsn.Delivered && one.Action != dsn.Relayed && one.Action != dsn.Expanded {
			one.Class = classOf(r, words)
		}
		in.Recipients = append(in.Recipients, one)
	}
	return in
}

func actionOf(status string) dsn.Action {
	switch status[0] {
	case '2':
		return dsn.Delivered
	case '4':
		return dsn.Delayed
	}
	return dsn.Failed
}

// classOf classifies one recipient: by its diagnostic, else by the words about it
// in the text for people, else by its status alone.
func classOf(r dsn.Recipient, words string) dsn.Class {
	if r.Diagnostic != "" {
		if class := dsn.Classify(0, r.Status, r.Diagnostic); class != dsn.Unclassified {
			return class
		}
	}
	if class := dsn.Classify(0, r.Status, around(words, r.Final)); class != dsn.Unclassified {
		return class
	}
	return dsn.Classify(0, r.Status, "")
}

// aboutSpan is how much of the text behind an address is about it.
const aboutSpan = 600

// around cuts out of the text what stands behind an address.
func around(words, address string) string {
	if address == "" {
		return ""
	}
	i := strings.Index(strings.ToLower(words), strings.ToLower(address))
	if i < 0 || i >= len(words) { // lower case may be longer
		return ""
	}
	return words[i+min(len(address), len(words)-i) : min(len(words), i+aboutSpan)]
}

// maxWords bounds the text for people that is looked at.
const maxWords = 16 << 10

// text is what the report says in words: its plain parts up to the message it
// gives back, with text taken out of HTML where there is nothing else.
func text(parts []report.Part) string {
	var plain, rich strings.Builder
	for _, p := range parts {
		switch {
		case strings.HasPrefix(p.Type, "message/") || strings.HasSuffix(p.Type, "-headers") || p.Type == "text/rfc822":
			continue
		case p.Type == "text/html":
			rich.WriteString(tags.ReplaceAllString(string(p.Body[:min(len(p.Body), maxWords)]), " "))
		case strings.HasPrefix(p.Type, "text/"):
			plain.Write(p.Body[:min(len(p.Body), maxWords)])
			plain.WriteByte('\n')
		}
	}
	words := plain.String()
	if strings.TrimSpace(words) == "" {
		words = rich.String()
	}
	return words[:min(len(words), maxWords)]
}

var tags = regexp.MustCompile(`(?s)<(style|script)[^>]*>.*?</(style|script)>|<[/!a-zA-Z][^<>@]{0,400}>`)
