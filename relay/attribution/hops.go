package attribution

import (
	"net/netip"
	"slices"
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

// readHop reads an unfolded Received value. The address is what the writer saw,
// never what the client said of itself: it stands in parentheses after the name
// that the client gave. Only Exim writes it in the name's place where it has no
// name, and the client's behind "helo="; and "with local" where there was no
// client. If several addresses are left, which one was seen cannot be told: then
// none is stated.
func readHop(v string) Hop {
	if len(v) > maxHopValue {
		v = v[:maxHopValue]
	}
	words := hopWords(v)
	if len(words) == 0 || words[0].comment || !strings.EqualFold(words[0].text, "from") {
		return Hop{By: byClause(words)}
	}
	h := Hop{By: byClause(words), Over: true}
	from, exim := words[1:], false // the clause, and who wrote it
	for i, w := range words {
		if !w.comment && strings.EqualFold(w.text, "by") {
			from = words[1:max(i, 1)]
			exim = byExim(words[i:])
			break
		}
	}
	if exim && isLocal(words) {
		return Hop{By: h.By}
	}
	var seen []netip.Addr
	for _, w := range from {
		if w.comment {
			seen = append(seen, addressesIn(w.text)...)
		}
	}
	if len(seen) == 0 && exim && len(from) > 0 && strings.HasPrefix(from[0].text, "[") {
		seen = addressesIn(from[0].text)
	}
	if len(seen) > 0 && !slices.ContainsFunc(seen, func(a netip.Addr) bool { return a != seen[0] }) {
		h.From = seen[0]
	}
	return h
}

// byClause is the host after "by", lower case.
func byClause(words []word) string {
	for i, w := range words {
		if !w.comment && strings.EqualFold(w.text, "by") && i+1 < len(words) && !words[i+1].comment {
			return strings.ToLower(words[i+1].text)
		}
	}
	return ""
}

// byExim says that the writer calls itself Exim, in words that no client gives.
func byExim(words []word) bool {
	return slices.ContainsFunc(words, func(w word) bool { return w.comment && strings.HasPrefix(w.text, "Exim ") })
}

// isLocal says "from USER by HOST with local": nobody came over a network.
func isLocal(words []word) bool {
	for i, w := range words {
		if !w.comment && strings.EqualFold(w.text, "with") {
			return i+1 < len(words) && words[i+1].text == "local" && !words[i+1].comment
		}
	}
	return false
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

// addressesIn gives the IP addresses in a comment such as "mail.example
// [192.0.2.1]", "[IPv6:2001:db8::1]", "10.1.2.3" or "[192.0.2.1]:2525 helo=x", but
// for what the client said of itself.
func addressesIn(comment string) (found []netip.Addr) {
	words := strings.FieldsFunc(comment, func(r rune) bool { return strings.ContainsRune(" \t(),;", r) })
	for i := 0; i < len(words); i++ {
		w := words[i]
		if strings.EqualFold(w, "HELO") || strings.EqualFold(w, "EHLO") {
			i++ // its word is the client's
			continue
		}
		if strings.Contains(w, "=") {
			continue // helo=, ident=, port=
		}
		if strings.HasPrefix(w, "[") {
			w, _, _ = strings.Cut(w[1:], "]")
		}
		if len(w) > 5 && strings.EqualFold(w[:5], "IPv6:") {
			w = w[5:]
		}
		if a, err := netip.ParseAddr(w); err == nil {
			found = append(found, a.WithZone("").Unmap())
		}
	}
	return found
}
