package attribution

import (
	"net/netip"
	"strings"
)

// Hop is one Received field (RFC 5321 section 4.4) as far as origin needs it:
// who wrote it, and where the message entered there.
type Hop struct {
	By   string     // host after "by", lower case; empty if there is none
	From netip.Addr // address the writer saw; zero: none is stated
	Over bool       // there is a "from" clause: the message came from another host
}

// maxHopValue bounds how much of a Received field is looked at; what lies past
// it cannot be a from or by clause that an honest server wrote.
const maxHopValue = 1024

// readHop reads an unfolded Received value. The address is taken from what the
// writer saw (the parentheses after the name), never from the name the client
// gave. Where several addresses stand in parentheses the last one before "by"
// counts: names come first, addresses after them.
func readHop(v string) Hop {
	if len(v) > maxHopValue {
		v = v[:maxHopValue]
	}
	words := hopWords(v)
	var h Hop
	for i, w := range words {
		switch {
		case w.comment:
			if h.Over && h.By == "" {
				if a, ok := addressIn(w.text); ok {
					h.From = a
				}
			}
		case i == 0 && strings.EqualFold(w.text, "from"):
			h.Over = true
		case strings.EqualFold(w.text, "by") && h.By == "" && i+1 < len(words) && !words[i+1].comment:
			h.By = strings.ToLower(words[i+1].text)
		}
	}
	return h
}

// word is a word of a Received field, or a whole comment without its outer
// parentheses.
type word struct {
	text    string
	comment bool
}

func hopWords(v string) []word {
	var words []word
	for i := 0; i < len(v); {
		switch c := v[i]; {
		case c == ' ' || c == '\t':
			i++
		case c == '(':
			end := commentEnd(v, i)
			words = append(words, word{v[i+1 : end], true})
			i = min(end+1, len(v))
		default:
			end := i
			for end < len(v) && v[end] != ' ' && v[end] != '\t' && v[end] != '(' {
				end++
			}
			words = append(words, word{v[i:end], false})
			i = end
		}
	}
	return words
}

// commentEnd is the index of the parenthesis that closes the one at start, or
// the end of v.
func commentEnd(v string, start int) int {
	depth := 0
	for i := start; i < len(v); i++ {
		switch v[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(v)
}

// addressIn finds the last IP address in a comment such as
// "mail.example [192.0.2.1]", "[IPv6:2001:db8::1]" or "10.1.2.3".
func addressIn(comment string) (netip.Addr, bool) {
	fields := strings.FieldsFunc(comment, func(r rune) bool { return strings.ContainsRune(" \t[](),;", r) })
	for i := len(fields) - 1; i >= 0; i-- {
		f := fields[i]
		if len(f) > 5 && strings.EqualFold(f[:5], "IPv6:") {
			f = f[5:]
		}
		if a, err := netip.ParseAddr(f); err == nil {
			return a.WithZone("").Unmap(), true
		}
	}
	return netip.Addr{}, false
}
