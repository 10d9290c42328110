package dns

import (
	"fmt"
	"net/netip"
	"strings"

	wire "github.com/miekg/dns"

	"anechoic/mail"
)

// Limits of RFC 1035 section 2.3.4, in octets of text without the last dot.
const (
	maxName  = 253
	maxLabel = 63
)

// question is what is asked: a name as canonical writes it, and a record type.
type question struct {
	name  string
	qtype uint16
}

func (q question) String() string { return wire.TypeToString[q.qtype] + " " + q.name }

// canonical gives a name in the form that the wire library writes: lower case,
// specials behind a backslash, a dot at its end. What cannot be a name of text
// (an empty or long label, a space, a control character, 8 bits) does not exist.
func canonical(name string) (string, error) {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > maxName {
		return "", fmt.Errorf("%w: %.80q has %d octets, a name has 1 to %d", mail.ErrNoDomain, name, len(name), maxName)
	}
	out := make([]byte, 0, len(name)+8)
	label := 0
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c == '.':
			if label == 0 {
				return "", fmt.Errorf("%w: %q has an empty label", mail.ErrNoDomain, name)
			}
			label = -1
		case c <= ' ' || c > '~':
			return "", fmt.Errorf("%w: %q has octet %#02x", mail.ErrNoDomain, name, c)
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case strings.IndexByte(`'@;()"\`, c) >= 0:
			out = append(out, '\\')
		}
		if label++; label > maxLabel {
			return "", fmt.Errorf("%w: %q has a label of more than %d octets", mail.ErrNoDomain, name, maxLabel)
		}
		out = append(out, c)
	}
	if label == 0 {
		return "", fmt.Errorf("%w: %q has an empty label", mail.ErrNoDomain, name)
	}
	return string(append(out, '.')), nil
}

// hostName checks the target of an MX, PTR or CNAME record and gives it without
// its last dot. Underscores are no part of a host name, but of names that mail
// aliases (_domainkey), and of hosts that exist all the same. A name that ends in
// a number is refused: a program would take it for an IPv4 address.
func hostName(target string) (string, error) {
	host := strings.ToLower(strings.TrimSuffix(target, "."))
	if len(host) > maxName {
		return "", fmt.Errorf("%.80q is too long for a host name", target)
	}
	last := ""
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > maxLabel || !hostOctets(label) {
			return "", fmt.Errorf("%q is no host name", target)
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" {
		return "", fmt.Errorf("%q ends in a number and is no host name", target)
	}
	return host, nil
}

func hostOctets(label string) bool {
	for i := 0; i < len(label); i++ {
		switch c := label[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// ReverseName is the name under which the PTR records of an address stand
// (RFC 1035 section 3.5, RFC 3596 section 2.5), without a last dot.
func ReverseName(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	var b strings.Builder
	if addr.Is4() {
		a := addr.As4()
		fmt.Fprintf(&b, "%d.%d.%d.%d.in-addr.arpa", a[3], a[2], a[1], a[0])
		return b.String()
	}
	a := addr.As16()
	for i := 15; i >= 0; i-- {
		fmt.Fprintf(&b, "%x.%x.", a[i]&0xf, a[i]>>4)
	}
	return b.String() + "ip6.arpa"
}
