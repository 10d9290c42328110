package smtpd

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"anechoic/mail"
)

// Limits of DSN parameters in octets (RFC 3461 sections 4.2 and 4.4).
const (
	maxORcpt = 500
	maxEnvID = 100
)

// splitVerb takes the command word, in upper case, from a line. Space at the end
// of a line is nothing (RFC 5321 section 4.1.1).
func splitVerb(line string) (verb, args string) {
	verb, args, _ = strings.Cut(strings.TrimRight(line, " \t"), " ")
	return strings.ToUpper(verb), args
}

// hasControl says that a line holds a control character, which no command may.
func hasControl(line string) bool {
	for i := 0; i < len(line); i++ {
		if line[i] < ' ' || line[i] == 0x7f {
			return true
		}
	}
	return false
}

// validHelo says that a name may stand for a peer in Received: a domain or an
// address literal (RFC 5321 section 4.1.3), with the underscore that real hosts
// use. The name is not looked up.
func validHelo(name string) bool {
	if name == "" || len(name) > mail.MaxDomain+2 {
		return false
	}
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte(".-_:[]", c) >= 0:
		default:
			return false
		}
	}
	return true
}

// offers is what parameters depend on.
type offers struct {
	extended bool // EHLO: parameters may be used at all
	auth     bool // AUTH= may be used (RFC 4954 section 5)
	secure   bool // REQUIRETLS may be used: the session has TLS (RFC 8689 section 2)
	utf8     bool // the transaction has SMTPUTF8 (RFC 6531)
}

// parseMail reads what follows "MAIL " (RFC 5321 section 4.1.1.2).
func parseMail(args string, o offers) (e mail.Envelope, size int64, r *mail.Refusal) {
	path, params, r := cutPath(args, "FROM:", mail.SenderSyntax)
	if r != nil {
		return e, 0, r
	}
	bad := eachParameter(params, o, func(name, value string) *mail.Refusal {
		return mailParameter(&e, &size, o, name, value)
	})
	if path != "" { // what it may hold depends on SMTPUTF8 behind it
		if e.From, r = parseAddress(path, e.UTF8, mail.SenderSyntax, mail.SenderNeedsUTF8); r != nil {
			return e, 0, r
		}
	}
	return e, size, bad
}

// mailParameter reads one parameter of MAIL. Values that hold nothing for us are
// checked all the same.
func mailParameter(e *mail.Envelope, size *int64, o offers, name, value string) *mail.Refusal {
	good := true
	switch name {
	case "SIZE": // RFC 1870 section 6: up to 20 digits; what does not fit 63 bits is too big anyway
		good = len(value) <= 20 && isDigits(value)
		*size = 1<<63 - 1
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			*size = n
		}
	case "BODY": // RFC 6152; BINARYMIME (RFC 3030) is not offered
		v := strings.ToUpper(value)
		e.EightBit = v == "8BITMIME"
		if v == "BINARYMIME" {
			return mail.ParameterUnknown
		}
		good = e.EightBit || v == "7BIT"
	case "SMTPUTF8": // RFC 6531 section 3.1: without a value
		e.UTF8 = true
		good = value == ""
	case "REQUIRETLS": // RFC 8689 section 2: without a value
		if !o.secure {
			return mail.ParameterUnknown
		}
		e.RequireTLS = true
		good = value == ""
	case "RET":
		e.Ret = strings.ToUpper(value)
		good = e.Ret == "FULL" || e.Ret == "HDRS"
	case "ENVID":
		e.EnvID = value
		good = len(value) <= maxEnvID && isXtext(value)
	case "AUTH": // accepted and not believed: identity comes from the session alone
		if !o.auth {
			return mail.ParameterUnknown
		}
		good = value == "<>" || isXtext(value)
	default:
		return mail.ParameterUnknown
	}
	if !good {
		return mail.ArgumentSyntax.Because("the value of %s", name)
	}
	return nil
}

// parseRcpt reads what follows "RCPT " (RFC 5321 section 4.1.1.3). <Postmaster>
// is the postmaster of home.
func parseRcpt(args string, o offers, home string) (rcpt mail.Recipient, r *mail.Refusal) {
	path, params, r := cutPath(args, "TO:", mail.RecipientSyntax)
	if r != nil {
		return rcpt, r
	}
	if strings.EqualFold(path, "postmaster") { // section 4.5.1
		path += "@" + home
	}
	if rcpt.Address, r = parseAddress(path, o.utf8, mail.RecipientSyntax, mail.RecipientNeedsUTF8); r != nil {
		return rcpt, r
	}
	r = eachParameter(params, o, func(name, value string) *mail.Refusal {
		return rcptParameter(&rcpt, name, value)
	})
	return rcpt, r
}

func rcptParameter(rcpt *mail.Recipient, name, value string) *mail.Refusal {
	good := true
	switch name {
	case "NOTIFY":
		rcpt.Notify, good = parseNotify(value)
	case "ORCPT":
		rcpt.ORcpt, good = parseORcpt(value)
	default:
		return mail.ParameterUnknown
	}
	if !good {
		return mail.ArgumentSyntax.Because("the value of %s", name)
	}
	return nil
}

// parseORcpt reads an address type and an address in xtext (RFC 3461 section 4.2).
// One of the type utf-8 may be UTF-8 as it stands; it is written in ASCII again, so
// that every next hop may have it (RFC 6533 section 3).
func parseORcpt(value string) (orcpt string, ok bool) {
	kind, address, _ := strings.Cut(value, ";")
	if strings.EqualFold(kind, "utf-8") && utf8.ValidString(address) {
		var b strings.Builder
		for _, r := range address {
			if r < utf8.RuneSelf {
				b.WriteRune(r)
			} else {
				b.WriteString(mail.UTF8Xtext(string(r)))
			}
		}
		address = b.String()
	}
	orcpt = kind + ";" + address
	return orcpt, len(orcpt) <= maxORcpt && isKeyword(kind) && isXtext(address)
}

// parseNotify reads NOTIFY: NEVER alone, or others once each (RFC 3461 section 4.1).
func parseNotify(value string) (n mail.Notify, ok bool) {
	for word := range strings.SplitSeq(strings.ToUpper(value), ",") {
		bit := map[string]mail.Notify{
			"NEVER": mail.NotifyNever, "SUCCESS": mail.NotifySuccess, "FAILURE": mail.NotifyFailure, "DELAY": mail.NotifyDelay,
		}[word]
		if bit == 0 || n&bit != 0 {
			return 0, false
		}
		n |= bit
	}
	return n, n&mail.NotifyNever == 0 || n == mail.NotifyNever
}

// cutPath takes "<path>" after the word FROM: or TO:, without space between
// (section 3.3), and gives what stands between the brackets, and the parameters.
func cutPath(args, word string, malformed *mail.Refusal) (path, params string, r *mail.Refusal) {
	if len(args) < len(word) || !strings.EqualFold(args[:len(word)], word) {
		return "", "", mail.ArgumentSyntax.Because("%s is missing", word)
	}
	args = args[len(word):]
	if args == "" || args[0] != '<' {
		return "", "", malformed.Because("no < directly behind %s", word)
	}
	end := pathEnd(args)
	if end < 0 {
		return "", "", malformed.Because("no > ends the path")
	}
	path, params = args[1:end], args[end+1:]
	if len(path) > mail.MaxPath-2 {
		return "", "", malformed.Because("the path has %d octets, the limit is %d", end+1, mail.MaxPath)
	}
	if params != "" && params[0] != ' ' {
		return "", "", malformed.Because("text directly behind the path")
	}
	return path, strings.TrimPrefix(params, " "), nil
}

// pathEnd finds the > that ends a path; in a quoted local part it ends nothing.
func pathEnd(s string) int {
	quoted := false
	for i := 1; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '>' && !quoted:
			return i
		}
	}
	return -1
}

// parseAddress refuses source routes too: no mailbox begins with @ (they are
// obsolete, RFC 5321 appendix C, and a way past checks).
func parseAddress(path string, utf8OK bool, malformed, needsUTF8 *mail.Refusal) (mail.Address, *mail.Refusal) {
	parse := mail.ParseAddress
	if utf8OK {
		parse = mail.ParseAddressUTF8
	}
	a, err := parse(path)
	switch {
	case err == nil:
		return a, nil
	case errors.Is(err, mail.ErrNotASCII):
		return a, needsUTF8.Because("%v", err)
	}
	return a, malformed.Because("%v", err)
}

// eachParameter calls read for each parameter, once each, names in upper case.
func eachParameter(params string, o offers, read func(name, value string) *mail.Refusal) *mail.Refusal {
	if params == "" {
		return nil
	}
	if !o.extended {
		return mail.ParameterUnknown.Because("parameters need EHLO")
	}
	var seen [8]string // more than there are
	for n, p := 0, ""; params != ""; n++ {
		p, params, _ = strings.Cut(params, " ")
		name, value, valued := strings.Cut(p, "=")
		name = strings.ToUpper(name)
		if !isKeyword(name) || !isValue(value, o.utf8) || valued && value == "" {
			return mail.ArgumentSyntax.Because("parameter %d is not well formed", n+1)
		}
		for _, s := range seen {
			if s == name {
				return mail.ArgumentSyntax.Because("%s is there twice", name)
			}
		}
		seen[n%len(seen)] = name
		if r := read(name, value); r != nil {
			return r
		}
	}
	return nil
}

// isKeyword is esmtp-keyword of RFC 5321 section 4.1.2 (and atom of RFC 3461 as
// address types use it).
func isKeyword(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case c == '-' && i > 0:
		default:
			return false
		}
	}
	return s != ""
}

// isValue is esmtp-value, or nothing. With SMTPUTF8 it may be UTF-8 (RFC 6531
// section 3.3); which parameter takes that is its own matter.
func isValue(s string, utf8OK bool) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] == '=' || s[i] == 0x7f || s[i] >= utf8.RuneSelf && !utf8OK {
			return false
		}
	}
	return true
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// isXtext is xtext of RFC 3461 section 4, not empty: printable, "+" followed by
// two upper-case hexadecimal digits.
func isXtext(s string) bool {
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c <= ' ' || c > '~' || c == '=':
			return false
		case c == '+':
			if i+2 >= len(s) || strings.IndexByte(hex, s[i+1]) < 0 || strings.IndexByte(hex, s[i+2]) < 0 {
				return false
			}
			i += 2
		}
	}
	return s != ""
}
