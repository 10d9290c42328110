package spf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The letters of macros (RFC 7208 section 7.2). The last three are for the text of
// explanations only.
const (
	nameMacros = "slodiphv"
	anyMacros  = nameMacros + "crt"
)

// macro is one macro-expand: a letter with its transformers, or the literal text
// of %%, %_ and %-.
type macro struct {
	literal    string
	letter     byte // in lower case
	escape     bool // the letter was in upper case
	keep       int  // how many parts from the right; 0: all
	reverse    bool
	delimiters string
}

var errMacro = errors.New("not a macro")

// cutMacro reads the macro at the front of s, which begins with a percent sign.
func cutMacro(s, letters string) (m macro, rest string, err error) {
	if len(s) < 2 {
		return m, "", fmt.Errorf("%w: %q at the end", errMacro, s)
	}
	switch s[1] {
	case '%':
		return macro{literal: "%"}, s[2:], nil
	case '_':
		return macro{literal: " "}, s[2:], nil
	case '-':
		return macro{literal: "%20"}, s[2:], nil
	}
	end := strings.IndexByte(s, '}')
	if s[1] != '{' || end < 3 {
		return m, "", fmt.Errorf("%w: %.20q", errMacro, s)
	}
	m, err = parseMacro(s[2:end], letters)
	return m, s[end+1:], err
}

// parseMacro reads what stands in the braces.
func parseMacro(s, letters string) (macro, error) {
	m := macro{letter: s[0] | 0x20, escape: s[0] < 'a', delimiters: "."}
	if !strings.ContainsRune(letters, rune(m.letter)) || s[0] < 'A' {
		return m, fmt.Errorf("%w: letter %q in %%{%.20s}", errMacro, s[:1], s)
	}
	rest := strings.TrimLeft(s[1:], "0123456789")
	if digits := s[1 : len(s)-len(rest)]; digits != "" {
		n, err := strconv.Atoi(digits)
		if err != nil && !errors.Is(err, strconv.ErrRange) || n == 0 {
			return m, fmt.Errorf("%w: %%{%.20s} keeps no part", errMacro, s)
		}
		m.keep = n
	}
	if rest != "" && rest[0]|0x20 == 'r' {
		m.reverse, rest = true, rest[1:]
	}
	if strings.Trim(rest, ".-+,/_=") != "" {
		return m, fmt.Errorf("%w: %%{%.20s}", errMacro, s)
	}
	if rest != "" {
		m.delimiters = rest
	}
	return m, nil
}

// checkMacros says what is wrong with a macro-string.
func checkMacros(s, letters string) (err error) {
	for {
		_, s, _ = cutLiteral(s)
		if s == "" {
			return nil
		}
		if _, s, err = cutMacro(s, letters); err != nil {
			return err
		}
	}
}

// cutLiteral takes what stands before the first percent sign.
func cutLiteral(s string) (literal, rest string, found bool) {
	i := strings.IndexByte(s, '%')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i:], true
}

// endsInMacro says that nothing follows the last macro of a valid macro-string.
func endsInMacro(s string) bool {
	for strings.Contains(s, "%") {
		_, s, _ = cutLiteral(s)
		_, rest, err := cutMacro(s, anyMacros)
		if err != nil {
			return false
		}
		if rest == "" {
			return true
		}
		s = rest
	}
	return false
}

// expand gives the text of a valid macro-string. domain is whose record it stands
// in. What a stranger put into HELO or MAIL FROM is in it as it is.
func (e *evaluation) expand(ctx context.Context, s, domain, letters string) (string, error) {
	var b strings.Builder
	for {
		literal, rest, found := cutLiteral(s)
		b.WriteString(literal)
		if !found {
			return b.String(), nil
		}
		m, after, err := cutMacro(rest, letters)
		if err != nil {
			return "", err
		}
		if m.letter == 0 {
			b.WriteString(m.literal)
		} else {
			b.WriteString(m.transform(e.value(ctx, m.letter, domain)))
		}
		s = after
	}
}

// value is what a letter stands for.
func (e *evaluation) value(ctx context.Context, letter byte, domain string) string {
	at := strings.LastIndexByte(e.sender, '@')
	switch letter {
	case 's':
		e.dependent = true
		return e.sender
	case 'l':
		e.dependent = true
		return e.sender[:at]
	case 'h':
		e.dependent = true
		return e.helo
	case 'o':
		return e.sender[at+1:]
	case 'd':
		return domain
	case 'i':
		return dotted(e.ip)
	case 'p':
		return e.hostName(ctx, domain)
	case 'v':
		if e.ip.Is4() {
			return "in-addr"
		}
		return "ip6"
	case 'c':
		return e.ip.String()
	case 'r':
		if e.receiver == "" {
			return unknown
		}
		return e.receiver
	}
	return strconv.FormatInt(e.now.Unix(), 10) // t
}

// dotted is an address as macro i gives it: IPv6 in single digits.
func dotted(ip netip.Addr) string {
	if ip.Is4() {
		return ip.String()
	}
	var digits []string
	for _, octet := range ip.As16() {
		digits = append(digits, fmt.Sprintf("%X.%X", octet>>4, octet&0xf))
	}
	return strings.Join(digits, ".")
}

// transform splits, reverses, keeps, joins and escapes, in this order (RFC 7208
// section 7.3).
func (m macro) transform(s string) string {
	if m.reverse || m.keep > 0 || m.delimiters != "." {
		parts := split(s, m.delimiters)
		if m.reverse {
			slices.Reverse(parts)
		}
		if m.keep > 0 && m.keep < len(parts) {
			parts = parts[len(parts)-m.keep:]
		}
		s = strings.Join(parts, ".")
	}
	if m.escape {
		s = escape(s)
	}
	return s
}

// split cuts s at each delimiter. Parts may be empty: nothing is said about
// delimiters that follow each other, so nothing is done about them.
func split(s, delimiters string) (parts []string) {
	for {
		i := strings.IndexAny(s, delimiters)
		if i < 0 {
			return append(parts, s)
		}
		parts, s = append(parts, s[:i]), s[i+1:]
	}
}

// escape percent-encodes all but the unreserved characters (RFC 3986 section 2.3).
func escape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}
