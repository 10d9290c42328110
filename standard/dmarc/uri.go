package dmarc

import (
	"fmt"
	"strings"
)

// uris reads dmarc-urilist (RFC 9989 section 4.8). What is no URI is left out.
func (r *Record) uris(t tag) []string {
	if !t.present || t.conflict {
		return nil
	}
	var list []string
	for element := range strings.SplitSeq(t.value, ",") {
		uri, _, _ := strings.Cut(strings.Trim(element, wsp), "!") // the obsolete size: ignored
		switch {
		case len(list) == MaxURIs:
			r.problem(Problem{t.name, t.offset, fmt.Sprintf("it has more than %d addresses", MaxURIs)})
			return list
		case !isURI(uri):
			r.problem(Problem{t.name, t.offset, fmt.Sprintf("%.60q is no URI", uri)})
		default:
			list = append(list, uri)
		}
	}
	return list
}

// isURI checks for a scheme, something behind it, and characters that a URI may
// have (RFC 3986 sections 2 and 3.1). A mailto: URI needs an address (RFC 6068).
func isURI(s string) bool {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || rest == "" || !isScheme(scheme) || !hasURICharacters(rest) {
		return false
	}
	if strings.EqualFold(scheme, "mailto") {
		address, _, _ := strings.Cut(rest, "?")
		local, domain, ok := strings.Cut(address, "@")
		return ok && local != "" && domain != ""
	}
	return true
}

func isScheme(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i] | 0x20
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789+-.", rune(s[i]))) {
			return false
		}
	}
	return s != ""
}

func hasURICharacters(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0:
			return false
		case c == '%' && (i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2])):
			return false
		}
	}
	return true
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}
