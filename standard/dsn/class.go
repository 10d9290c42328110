package dsn

import "strings"

// Class is what stood in the way of a message, whoever said it and however. The
// set is closed; docs/bounces.md has a row for each.
type Class string

// The classes.
const (
	UserUnknown      Class = "user_unknown"      // there is no such mailbox
	UserDisabled     Class = "user_disabled"     // the mailbox is there and takes no mail: suspended, inactive
	Moved            Class = "moved"             // the mailbox is somewhere else now
	MailboxFull      Class = "mailbox_full"      // over quota
	DomainUnknown    Class = "domain_unknown"    // there is no such domain, or nothing that takes its mail
	NotAccepting     Class = "not_accepting"     // the host or domain says that it takes no mail (RFC 7504, RFC 7505)
	RecipientRefused Class = "recipient_refused" // the recipient, or a rule for this recipient, does not want it
	SenderRefused    Class = "sender_refused"    // the sender's address or domain is not liked
	Reputation       Class = "reputation"        // the sending address, its name, or what lists say of it
	AuthFailure      Class = "auth_failure"      // SPF, DKIM or DMARC
	Policy           Class = "policy"            // a rule of the receiver that none of the others names
	Spam             Class = "spam"              // what the message says
	Virus            Class = "virus"
	Content          Class = "content"    // the form of the message: MIME, encoding, attachments, header fields
	TooBig           Class = "too_big"    // the message, not the mailbox
	RateLimited      Class = "rate_limit" // too many, too fast
	Greylisted       Class = "greylisted" // come again later
	RelayRefused     Class = "relay_refused"
	TLS              Class = "tls" // TLS was needed, or failed
	Protocol         Class = "protocol"
	Loop             Class = "loop"
	Network          Class = "network" // no connection, DNS did not answer, the connection broke
	SystemError      Class = "system_error"
	Expired          Class = "expired" // no time left, and no other cause told
	Unclassified     Class = "unclassified"
)

// Classes lists the whole set, in the order above.
func Classes() []Class {
	return []Class{UserUnknown, UserDisabled, Moved, MailboxFull, DomainUnknown, NotAccepting, RecipientRefused, SenderRefused, Reputation, AuthFailure,
		Policy, Spam, Virus, Content, TooBig, RateLimited, Greylisted, RelayRefused, TLS, Protocol, Loop, Network, SystemError, Expired, Unclassified}
}

// AboutAddress says that a permanent failure of this class tells of the address,
// not of the message, the sender or the moment: more mail to it fails the same way.
func (c Class) AboutAddress() bool {
	switch c {
	case UserUnknown, UserDisabled, Moved, DomainUnknown, NotAccepting:
		return true
	}
	return false
}

// maxClassified bounds the octets of a text that are looked at.
const maxClassified = 2048

// Classify puts a failure into a class: by words that mean one thing wherever they
// stand, else by the enhanced status code (RFC 3463, RFC 5248), else by the reply
// code (RFC 5321). code may be 0, enhanced and text empty. It is a guess that the
// tables make the same way each time, and nothing is decided by it alone.
func Classify(code int, enhanced, text string) Class {
	words := normal(text)
	if code == 0 || enhanced == "" || strings.HasSuffix(enhanced, ".0.0") {
		c, e := Codes(text)
		if code == 0 {
			code = c
		}
		if e != "" {
			enhanced = e
		}
	}
	class, detail, _ := strings.Cut(enhanced, ".")
	if class == "4" && (detail == "2.1" || strings.HasPrefix(detail, "5.")) && detail != "5.3" {
		detail = "3.0" // "come again later", as many write it
	}
	if class, ok := byWords(telling, words); ok {
		return class
	}
	if class, ok := precise[detail]; ok {
		return class
	}
	if class, ok := byWords(vague, words); ok {
		return class
	}
	if class, ok := general[detail]; ok {
		return class
	}
	return byCode(code)
}

// normal is the text as the tables are written: lower case, white space one space,
// without addresses and links, whose parts only look like words.
func normal(text string) string {
	text = strings.ToLower(text[:min(len(text), maxClassified)])
	text = strings.NewReplacer("’", "'", "\"", " ", "_", " ", "5.1.0 - unknown address error", "").Replace(text)
	fields := strings.Fields(text)
	kept := fields[:0]
	for _, word := range fields {
		if !strings.Contains(word, "@") && !strings.Contains(word, "://") {
			kept = append(kept, word)
		}
	}
	return strings.Join(kept, " ")
}

// Codes finds the first reply code of the 4yz and 5yz classes that stands by
// itself, and the first enhanced code of the same classes.
func Codes(text string) (code int, enhanced string) {
	for word := range strings.FieldsFuncSeq(text[:min(len(text), maxClassified)], isBetweenCodes) {
		if code == 0 && isReplyCode(word) {
			code = int(word[0]-'0')*100 + int(word[1]-'0')*10 + int(word[2]-'0')
		}
		if word = strings.TrimRight(word, "."); enhanced == "" && strings.Count(word, ".") == 2 && word[0] != '2' && Status(word) == word {
			enhanced = word
		}
	}
	return code, enhanced
}

// isReplyCode takes 4yz and 5yz (RFC 5321 section 4.2.1).
func isReplyCode(word string) bool {
	return len(word) == 3 && (word[0] == '4' || word[0] == '5') && word[1] >= '0' && word[1] < '6' && word[2] >= '0' && word[2] <= '9'
}

func isBetweenCodes(r rune) bool { return strings.ContainsRune(" \t\r\n()[]<>#:;,'\"-=", r) }

// byWords goes through a table of words, in its order.
func byWords(table []row, text string) (Class, bool) {
	if text == "" {
		return "", false
	}
	for _, row := range table {
		for _, phrase := range row.any {
			if contains(text, phrase) {
				return row.class, true
			}
		}
	}
	return "", false
}

// contains finds a phrase; the pieces of one with " … " in it follow each other.
func contains(text, phrase string) bool {
	for piece := range strings.SplitSeq(phrase, " … ") {
		_, rest, ok := strings.Cut(text, piece)
		if !ok {
			return false
		}
		text = rest
	}
	return true
}

// byCode is the last resort (RFC 5321 section 4.2.3, RFC 7504).
func byCode(code int) Class {
	switch code {
	case 421, 450, 451, 452:
		return SystemError
	case 500, 501, 502, 503, 504, 555:
		return Protocol
	case 521, 556:
		return NotAccepting
	case 525:
		return UserDisabled
	case 530, 535, 538:
		return RelayRefused
	case 551:
		return Moved
	case 552:
		return MailboxFull
	case 523, 534:
		return TooBig
	case 553:
		return UserUnknown
	}
	return Unclassified
}
