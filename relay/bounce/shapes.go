package bounce

import (
	"regexp"
	"slices"
	"strings"

	"anechoic/standard/arf"
	"anechoic/standard/dsn"
	"anechoic/standard/report"
)

// Shapes of bounces that have no delivery-status part, as qmail, Exim and many
// gateways write them: who says it, in which words, and where the message begins
// that they give back.
var (
	// daemons are senders that write bounces and nothing else.
	daemons = regexp.MustCompile(`(?i)mailer-daemon|mail delivery (sub)?system|mail-daemon|^postmaster@|[<"]postmaster|mail administrator|<>`)
	// subjects of bounces.
	subjects = regexp.MustCompile(`(?i)failure notice|undeliver|returned mail|delivery (status|fail|notif|report)|mail delivery failed|non[- ]?deliver|message (delivery|not delivered)|could not be delivered|delivery error|mail error|mail system error|nondeliverable|unzustellbar|warning: (message|could not)|permanent error|rejected|not delivered|^failure|email bounce|mail failure|user unknown`)
	// failures are words that a person's answer does not have.
	failures = regexp.MustCompile(`(?i)could not be delivered to|unable to deliver (your )?message|able to deliver your message|delivery to the following recipients? failed`)
	// delays are words of a warning.
	delays = regexp.MustCompile(`(?i)has not yet been delivered|warning message only|warning only|do not need to resend|will be retried|has been delayed`)
	// copies are lines behind which the message stands that is given back.
	copies = regexp.MustCompile(`(?im)^[ \t>]*(-{2,}[ -]*(below this line|this is a copy of (the|your) message|original message|the header of the original|the body of the message|returned (message|mail)|unsent message|undelivered message|rejected message|message header|transcript of message|begin (returned|message)|original mail info|enclosed)|below is a copy of|original message( headers)? follows?|message headers? follow|original message headers?:|the message headers?:?$|return-path: ?|received: ?)`)
	// addresses in the text: in angle brackets, or alone at the start of a line.
	leading   = regexp.MustCompile(`(?m)^[ \t>]*<([^<>\s]{1,64}@[^<>\s]{1,190})>[ \t]*(?:\.{3}|,|:|\(|\r?$)`)
	bracketed = regexp.MustCompile(`<([^<>\s]{1,64}@[^<>\s]{1,190})>`)
	alone     = regexp.MustCompile(`(?m)^[ \t]*(?:to:|recipient:|user:)?[ \t]*([^\s<>:;,()"']{1,64}@[A-Za-z0-9.-]{1,190}[A-Za-z0-9])(?:[: \t].*)?\r?$`)
	within    = regexp.MustCompile(`([A-Za-z0-9._%+=/-]{1,64}@[A-Za-z0-9.-]{1,190}[A-Za-z0-9])`)
)

// maxShapeRecipients bounds the recipients that are read out of words.
const maxShapeRecipients = 20

// fromWords reads a bounce that says in words alone what failed.
func fromWords(header report.Fields, parts []report.Part, words string) (Incoming, bool) {
	failed := header.Get("X-Failed-Recipients")
	told := 0
	for _, says := range []bool{
		daemons.MatchString(header.Get("From")) || strings.TrimSpace(header.Get("Return-Path")) == "<>",
		subjects.MatchString(header.Get("Subject")),
		failures.MatchString(words) && dsn.Returned(parts) != nil,
		failed != "",
	} {
		if says {
			told++
		}
	}
	if told == 0 || told == 1 && isAnswer(header) && failed == "" {
		return Incoming{}, false
	}
	in := Incoming{Kind: KindOldBounce, Returned: dsn.Returned(parts)}
	about, copied := words, ""
	if at := copies.FindStringIndex(words); at != nil {
		about, copied = words[:at[0]], words[at[0]:]
	}
	if in.Returned == nil {
		in.Returned = returnedIn(copied)
	}
	addresses := addressesIn(failed, about, in.Returned, header.Get("To"))
	for _, address := range addresses {
		said := cutAt(around(about, address), addresses, address)
		if strings.TrimSpace(said) == "" {
			said = about
		}
		in.Recipients = append(in.Recipients, one(address, said, about))
	}
	if len(in.Recipients) == 0 {
		if told == 1 && dsn.Classify(0, "", about) == dsn.Unclassified {
			return Incoming{}, false
		}
		in.Recipients = append(in.Recipients, one("", about, about))
	}
	return in, true
}

// one classifies what is said of one address: by the words behind it, else by all
// the words.
func one(address, said, about string) IncomingRecipient {
	_, status := dsn.Codes(said)
	r := IncomingRecipient{Action: dsn.Failed, Status: status, Class: dsn.Classify(0, status, said)}
	if r.Class == dsn.Unclassified {
		r.Class = dsn.Classify(0, status, about)
	}
	if !strings.HasPrefix(status, "5.") && delays.MatchString(about) {
		r.Action = dsn.Delayed
	}
	if address != "" {
		r.Addresses = []string{address}
	}
	return r
}

// cutAt ends what is said of one address where the next begins.
func cutAt(said string, addresses []string, self string) string {
	lower := strings.ToLower(said)
	for _, other := range addresses {
		if i := strings.Index(lower, strings.ToLower(other)); i >= 0 && i <= len(said) && !strings.EqualFold(other, self) {
			said, lower = said[:i], lower[:i]
		}
	}
	return said
}

// addressesIn finds who it is about: a field that says so, addresses in the text
// that stand by themselves, those in the text at all, the To of the message. Whom
// the bounce is addressed to is not it.
func addressesIn(failed, about string, returned report.Fields, sender string) (found []string) {
	add := func(a string) {
		a = strings.Trim(a, ".")
		known := slices.ContainsFunc(found, func(f string) bool { return strings.EqualFold(f, a) })
		if !known && len(found) < maxShapeRecipients && !daemons.MatchString(a) && !strings.Contains(strings.ToLower(sender), strings.ToLower(a)) {
			found = append(found, a)
		}
	}
	for _, s := range []struct {
		shape *regexp.Regexp
		text  string
	}{{within, failed}, {leading, about}, {bracketed, about}, {alone, about}, {within, about}, {within, returned.Get("To")}} {
		for _, m := range s.shape.FindAllStringSubmatch(s.text, maxShapeRecipients) {
			add(m[1])
		}
		if len(found) > 0 {
			break
		}
	}
	return found
}

// returnedIn finds the header of the message that is given back in the text.
func returnedIn(copied string) report.Fields {
	for len(copied) > 0 {
		fields, rest := report.Message([]byte(copied))
		if fields.Get("From") != "" || fields.Get("Message-ID") != "" || fields.Get("Received") != "" {
			return fields
		}
		copied = string(rest)
	}
	return nil
}

// isAnswer says that a message calls itself an automatic answer (RFC 3834 section
// 5), by the field or by those that were in use before.
func isAnswer(header report.Fields) bool {
	if v := strings.ToLower(header.Get("Auto-Submitted")); v != "" && !strings.HasPrefix(v, "no") {
		return true
	}
	return header.Get("X-Autoreply") != "" || header.Get("X-Auto-Response-Suppress") != "" || strings.EqualFold(header.Get("Precedence"), "auto_reply")
}

// fromHotmail reads complaints of the junk mail reporting programme of Outlook.com,
// which are no feedback reports: the message itself, under a subject.
func fromHotmail(header report.Fields, parts []report.Part) (Incoming, bool) {
	if !isHotmail(header.Get("Subject")) {
		return Incoming{}, false
	}
	returned := dsn.Returned(parts)
	recipient := returned.Get("X-HmXmrOriginalRecipient")
	if recipient == "" {
		return Incoming{}, false
	}
	complaint := arf.Report{Type: arf.Abuse, Recipients: []string{strings.Trim(recipient, " <>")}, Incidents: 1, Returned: returned}
	return Incoming{Kind: KindComplaint, Complaint: complaint, Returned: returned}, true
}

func isHotmail(subject string) bool {
	return strings.HasPrefix(strings.ToLower(subject), "complaint about message from ")
}
