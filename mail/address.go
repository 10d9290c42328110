package mail

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of RFC 5321 section 4.5.3.1, in octets.
const (
	MaxLocalPart = 64
	MaxPath      = 256
)

// ErrAddressSyntax says that a text is no address; ErrNotASCII that it would be
// one only with SMTPUTF8 (RFC 6531).
var (
	ErrAddressSyntax = errors.New("not an address")
	ErrNotASCII      = errors.New("an address outside ASCII needs SMTPUTF8")
)

// Address is one mailbox: a local part and a domain. The zero Address is the
// null reverse-path, written <>. Addresses compare with ==: local parts as they
// are, octet by octet and without quoting; domains as A-labels.
type Address struct {
	local  string
	domain Domain
}

// ParseAddress reads local@domain as SMTP writes it (RFC 5321 section 4.1.2):
// a dot-string or a quoted-string, "@", a domain. No comment, no space, no
// source route, no address literal, no trailing dot. Errors wrap
// ErrAddressSyntax or ErrNotASCII.
func ParseAddress(s string) (Address, error) { return parseAddress(s, false) }

// ParseAddressUTF8 is ParseAddress for a transaction with SMTPUTF8: UTF-8 may
// stand in the local part and in the domain.
func ParseAddressUTF8(s string) (Address, error) { return parseAddress(s, true) }

func parseAddress(s string, utf8OK bool) (Address, error) {
	if len(s) > MaxPath-2 {
		return Address{}, fmt.Errorf("%w: it has %d octets, the limit is %d", ErrAddressSyntax, len(s), MaxPath-2)
	}
	local, rest, err := cutLocalPart(s, utf8OK)
	if err != nil {
		return Address{}, err
	}
	if len(local) > MaxLocalPart {
		return Address{}, fmt.Errorf("%w: its local part has %d octets, the limit is %d", ErrAddressSyntax, len(local), MaxLocalPart)
	}
	if rest == "" || rest[0] != '@' {
		return Address{}, fmt.Errorf("%w: %q has no @ after its local part", ErrAddressSyntax, s)
	}
	if !utf8OK && !isASCII(rest) {
		return Address{}, fmt.Errorf("%w: %q", ErrNotASCII, s)
	}
	domain, err := ParseDomain(rest[1:])
	if err != nil {
		return Address{}, fmt.Errorf("%w: %w", ErrAddressSyntax, err)
	}
	a := Address{local: local, domain: domain}
	if len(domain.ascii) >= len(rest) && len(a.String()) > MaxPath-2 { // A-labels are longer than U-labels
		return Address{}, fmt.Errorf("%w: with its domain in ASCII it has %d octets, the limit is %d", ErrAddressSyntax, len(a.String()), MaxPath-2)
	}
	return a, nil
}

// cutLocalPart takes a dot-string or a quoted-string from the front of s and
// gives its meaning, without quotes, and what follows.
func cutLocalPart(s string, utf8OK bool) (local, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		return cutQuoted(s, utf8OK)
	}
	n := 0
	for n < len(s) && (s[n] == '.' || isAtext(s[n]) || s[n] >= utf8.RuneSelf) {
		n++
	}
	local, rest = s[:n], s[n:]
	if local == "" || local[0] == '.' || local[n-1] == '.' || strings.Contains(local, "..") {
		return "", "", fmt.Errorf("%w: %q has no proper local part", ErrAddressSyntax, s)
	}
	if !isASCII(local) {
		if !utf8OK {
			return "", "", fmt.Errorf("%w: %q", ErrNotASCII, s)
		}
		if !isText(local) {
			return "", "", fmt.Errorf("%w: %q is not UTF-8 text", ErrAddressSyntax, s)
		}
	}
	return local, rest, nil
}

// cutQuoted is cutLocalPart for a quoted-string (RFC 5321 Quoted-string: space
// and printable characters, a backslash before any of them).
func cutQuoted(s string, utf8OK bool) (local, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '"':
			if b.Len() == 0 {
				return "", "", fmt.Errorf("%w: %q has an empty local part", ErrAddressSyntax, s)
			}
			if !isText(b.String()) {
				return "", "", fmt.Errorf("%w: %q is not UTF-8 text", ErrAddressSyntax, s)
			}
			return b.String(), s[i+1:], nil
		case c == '\\':
			i++
			if i == len(s) || s[i] < ' ' || s[i] > '~' {
				return "", "", fmt.Errorf("%w: %q escapes what may not be escaped", ErrAddressSyntax, s)
			}
			c = s[i]
		case c < ' ' || c == 0x7f:
			return "", "", fmt.Errorf("%w: %q has a control character", ErrAddressSyntax, s)
		case c >= utf8.RuneSelf && !utf8OK:
			return "", "", fmt.Errorf("%w: %q", ErrNotASCII, s)
		}
		b.WriteByte(c)
	}
	return "", "", fmt.Errorf("%w: %q has a quote that does not end", ErrAddressSyntax, s)
}

// isAtext is atext of RFC 5322 section 3.2.3.
func isAtext(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// isText says that s is UTF-8 without control characters beyond ASCII and
// without line and paragraph separators (RFC 5198 section 2).
func isText(s string) bool {
	for _, r := range s {
		if r >= utf8.RuneSelf && unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp) {
			return false
		}
	}
	return utf8.ValidString(s)
}

// Local is the local part without quoting; Domain what follows the @.
func (a Address) Local() string  { return a.local }
func (a Address) Domain() Domain { return a.domain }

// IsZero says that a is the null sender.
func (a Address) IsZero() bool { return a == Address{} }

// IsASCII says that a can be sent without SMTPUTF8.
func (a Address) IsASCII() bool { return isASCII(a.local) }

// String writes the address as SMTP does, quoted where it must be; the null
// sender is the empty string.
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	if local, rest, err := cutLocalPart(a.local, true); err == nil && rest == "" && local == a.local {
		return a.local + "@" + a.domain.ascii
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(a.local) + `"@` + a.domain.ascii
}

// MarshalText writes what String writes.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what String writes, SMTPUTF8 included.
func (a *Address) UnmarshalText(b []byte) (err error) {
	*a = Address{}
	if len(b) > 0 {
		*a, err = ParseAddressUTF8(string(b))
	}
	return err
}
