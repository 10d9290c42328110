// Package maillog judges what a Postfix sent, as far as its log tells, by a registry
// that is not in force yet: a dry run.
//
//	lines ─► Parse ─► Joiner: one message for each queue id ─► Judge ─► Tally
//
// A log holds client address, SASL user, MAIL FROM, Message-ID and recipients. It does
// not hold the From field, nor the headers by which a shared provider's mail is told
// apart: what depends on them cannot be told, and is said so. MAIL FROM stands in for
// From.
//
// Memory is bounded however long the log is: of open messages, of recipients and of
// names that are counted. A log line is a stranger's text: values are cut, and printable.
package maillog

import (
	"net/netip"
	"strings"
	"unicode"
)

// Line is one line of the log that says something of a message.
type Line struct {
	Daemon  string // smtpd, cleanup, qmgr, smtp, …; without the instance's and the service's name
	Queue   string // id of the message; NOQUEUE for what was refused before it had one
	Client  string // name of the client
	Address netip.Addr
	User    string // sasl_username
	ID      string // message-id
	From    *string
	To      string
	Relay   string // what took the recipient
	Status  string // sent, deferred, bounced, …
	Again   bool   // handed in again, by a filter: the message was counted already
	Local   bool   // by the sendmail command of this machine
	Removed bool
}

// maxValue bounds what is kept of a value: an address has at most 254 octets and angle
// brackets (RFC 5321 section 4.5.3.1).
const maxValue = 320

// Parse reads a line as syslog or Postfix itself wrote it: a time as RFC 3339 or as
// "Nov 22 17:56:03", host, program[pid], message. ok is false for what says nothing of a
// message.
func Parse(text string) (l Line, ok bool) {
	program, message, ok := body(text)
	if !ok {
		return l, false
	}
	l.Daemon = program[strings.LastIndexByte(program, '/')+1:]
	queue, rest, found := strings.Cut(message, ": ")
	if !found || !isQueueID(queue) {
		return l, false
	}
	l.Queue = queue
	switch l.Daemon {
	case "smtpd":
		return l, l.smtpd(rest)
	case "pickup":
		l.Local = strings.HasPrefix(rest, "uid=")
		return l, l.Local
	case "cleanup":
		id, ok := strings.CutPrefix(rest, "message-id=")
		l.ID = clean(id)
		return l, ok
	case "qmgr":
		return l, l.qmgr(rest)
	}
	return l, l.delivery(rest)
}

// body cuts time and host off, and gives program and message.
func body(text string) (program, message string, ok bool) {
	text = strings.TrimRight(text, "\r\n")
	var rest string
	if len(text) > 4 && text[3] == ' ' {
		if len(text) < 16 || text[6] != ' ' || text[9] != ':' || text[12] != ':' || text[15] != ' ' {
			return "", "", false
		}
		rest = text[16:]
	} else if _, rest, ok = strings.Cut(text, " "); !ok || len(text) < 11 || text[4] != '-' || text[7] != '-' {
		return "", "", false
	}
	_, rest, ok = strings.Cut(rest, " ") // the host
	if !ok {
		return "", "", false
	}
	tag, message, ok := strings.Cut(rest, ": ")
	program, _, bracket := strings.Cut(tag, "[")
	return program, message, ok && bracket && strings.Contains(program, "/") && !strings.Contains(program, " ")
}

// isQueueID takes short ids (hexadecimal), long ones (letters and digits), and NOQUEUE.
func isQueueID(s string) bool {
	return len(s) >= 6 && len(s) <= 20 && strings.IndexFunc(s, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z')
	}) < 0
}

// NoQueue stands in place of a queue id where there is none.
const NoQueue = "NOQUEUE"

// smtpd reads client=name[address], sasl_username=… and what a filter adds.
func (l *Line) smtpd(rest string) bool {
	if l.Queue == NoQueue {
		return strings.HasPrefix(rest, "reject: ")
	}
	client, ok := strings.CutPrefix(rest, "client=")
	if !ok {
		return false
	}
	client, more, _ := strings.Cut(client, ", ")
	l.Client, l.Address = readClient(client)
	for part := range strings.SplitSeq(more, ", ") {
		switch name, value, _ := strings.Cut(part, "="); name {
		case "sasl_username":
			l.User = clean(value)
		case "orig_queue_id":
			l.Again = true
		}
	}
	return true
}

// readClient reads name[address].
func readClient(s string) (name string, a netip.Addr) {
	at := strings.LastIndexByte(s, '[')
	if at < 0 || !strings.HasSuffix(s, "]") {
		return clean(s), a
	}
	a, _ = netip.ParseAddr(s[at+1 : len(s)-1])
	return clean(s[:at]), a.WithZone("").Unmap()
}

// qmgr reads from=<address>, … or removed.
func (l *Line) qmgr(rest string) bool {
	if rest == "removed" {
		l.Removed = true
		return true
	}
	from, ok := angle(rest, "from=<")
	if ok {
		l.From = &from
	}
	return ok
}

// delivery reads to=<address>, …, relay=…, …, status=sent (…).
func (l *Line) delivery(rest string) (ok bool) {
	if l.To, ok = angle(rest, "to=<"); !ok {
		return false
	}
	_, more, _ := strings.Cut(rest, ">, ")
	for part := range strings.SplitSeq(more, ", ") {
		switch name, value, _ := strings.Cut(part, "="); name {
		case "relay":
			l.Relay = clean(value)
		case "status":
			word, _, _ := strings.Cut(value, " ")
			l.Status = clean(word)
			return true // what follows is the next server's text
		}
	}
	return false
}

// angle gives what stands between name and the > that ends the value.
func angle(s, name string) (value string, ok bool) {
	s, ok = strings.CutPrefix(s, name)
	if !ok {
		return "", false
	}
	end := strings.Index(s, ">,")
	if end < 0 {
		return "", false
	}
	return clean(s[:end]), true
}

// clean cuts a value, and takes out what is not printable.
func clean(s string) string {
	if len(s) > maxValue {
		s = s[:maxValue]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}
