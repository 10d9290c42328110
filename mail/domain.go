package mail

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

// MaxDomain is the longest domain name in octets (RFC 1035 section 2.3.4; 253
// is what 255 octets on the wire leave for text).
const MaxDomain = 253

// ErrDomainSyntax says that a text is no domain name for mail.
var ErrDomainSyntax = errors.New("not a domain name")

// Domain is a host or mail domain in the form that is compared: lower-case
// A-labels without a trailing dot (UTS 46, non-transitional; RFC 5890). Two
// Domains are the same name if and only if they are ==. The zero Domain is no
// name at all.
type Domain struct{ ascii string }

// uts46 maps and checks names as the look-up side of UTS 46 does, with STD3
// rules: letters, digits and hyphens only. Hyphens in the third and fourth place
// are allowed, as names without U-labels have them.
var uts46 = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(true), idna.CheckHyphens(false), idna.VerifyDNSLength(true))

// ParseDomain reads a domain as it stands in an address or in a configuration:
// U-labels or A-labels, any case. A trailing dot, an empty label, an address
// literal, digits alone as the last label (some program would take the name for
// an IPv4 address, RFC 3696 section 2) and anything outside letters, digits and
// hyphens are errors that wrap ErrDomainSyntax.
func ParseDomain(s string) (Domain, error) {
	if s == "" {
		return Domain{}, fmt.Errorf("%w: it is empty", ErrDomainSyntax)
	}
	if len(s) > 4*MaxDomain {
		return Domain{}, fmt.Errorf("%w: it has %d octets, the limit is %d", ErrDomainSyntax, len(s), MaxDomain)
	}
	if isASCII(s) {
		s = strings.ToLower(s)
	}
	if plainLDH(s) {
		return newDomain(s)
	}
	if strings.HasSuffix(s, ".") {
		return Domain{}, fmt.Errorf("%w: %q ends in a dot", ErrDomainSyntax, s)
	}
	if !utf8.ValidString(s) || strings.ContainsRune(s, utf8.RuneError) { // the library makes U+FFFD of what is no UTF-8, and a label of that
		return Domain{}, fmt.Errorf("%w: %q is not UTF-8", ErrDomainSyntax, s)
	}
	a, err := uts46.ToASCII(s)
	if err != nil {
		return Domain{}, fmt.Errorf("%w: %q: %v", ErrDomainSyntax, s, err)
	}
	if !ldh(a) {
		return Domain{}, fmt.Errorf("%w: %q", ErrDomainSyntax, s)
	}
	return newDomain(a)
}

// newDomain takes a name of proper labels and refuses one that ends in a number.
func newDomain(a string) (Domain, error) {
	if last := a[strings.LastIndexByte(a, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		return Domain{}, fmt.Errorf("%w: %q ends in a number", ErrDomainSyntax, a)
	}
	return Domain{ascii: a}, nil
}

// plainLDH says that s needs no mapping: lower-case letters, digits and hyphens
// in well-formed labels, and no A-label whose content would have to be checked.
func plainLDH(s string) bool { return ldh(s) && !strings.Contains(s, "xn--") }

// ldh checks lower-case letter-digit-hyphen labels (RFC 5321 section 4.1.2).
func ldh(s string) bool {
	if len(s) > MaxDomain {
		return false
	}
	label := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '.':
			if label == 0 || s[i-1] == '-' {
				return false
			}
			label = 0
			continue
		case c == '-':
			if label == 0 {
				return false
			}
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		default:
			return false
		}
		if label++; label > 63 {
			return false
		}
	}
	return label > 0 && s[len(s)-1] != '-'
}

// String is the compared form, for example "xn--bcher-kva.example".
func (d Domain) String() string { return d.ascii }

// IsZero says that d is no name.
func (d Domain) IsZero() bool { return d.ascii == "" }

// Within says that d is other or one of its sub-domains, label by label.
func (d Domain) Within(other Domain) bool {
	if other.ascii == "" {
		return false
	}
	n := len(d.ascii) - len(other.ascii)
	return n == 0 && d == other || n > 0 && d.ascii[n-1] == '.' && d.ascii[n:] == other.ascii
}

// Parent is the name without its first label; the zero Domain above the top.
func (d Domain) Parent() Domain {
	_, rest, _ := strings.Cut(d.ascii, ".")
	return Domain{ascii: rest}
}

// IsPublicSuffix says that names under d belong to different people (RFC 9989
// leaves this to DNS; for registration the list of publicsuffix.org decides).
func (d Domain) IsPublicSuffix() bool {
	suffix, _ := publicsuffix.PublicSuffix(d.ascii)
	return suffix == d.ascii
}

// MarshalText writes the compared form.
func (d Domain) MarshalText() ([]byte, error) { return []byte(d.ascii), nil }

// UnmarshalText reads what ParseDomain reads; empty text is the zero Domain.
func (d *Domain) UnmarshalText(b []byte) (err error) {
	*d = Domain{}
	if len(b) > 0 {
		*d, err = ParseDomain(string(b))
	}
	return err
}
