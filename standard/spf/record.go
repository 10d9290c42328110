package spf

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// kind is a mechanism of RFC 7208 section 5.
type kind uint8

const (
	all kind = iota
	include
	address // "a"
	exchange
	pointer
	network // "ip4" and "ip6"
	exists
)

// record is an SPF record that was read without an error.
type record struct {
	mechanisms []mechanism
	redirect   string // domain-spec, empty if absent
	exp        string // domain-spec, empty if absent
}

// mechanism is one directive.
type mechanism struct {
	text       string // as it stands in the record
	status     Status // what a match means
	kind       kind
	domainSpec string       // with its macros; empty means the current domain
	prefix     netip.Prefix // of network
	bits4      int          // of address and exchange
	bits6      int
}

const version = "v=spf1"

// isRecord says that a TXT record is one for SPF (RFC 7208 section 4.5).
func isRecord(txt string) bool {
	return len(txt) >= len(version) && strings.EqualFold(txt[:len(version)], version) && (len(txt) == len(version) || txt[len(version)] == ' ')
}

// parseRecord reads what isRecord took (RFC 7208 section 12). All errors are
// permerrors.
func parseRecord(txt string) (record, error) {
	if len(txt) > MaxRecord {
		return record{}, fmt.Errorf("the record has %d octets, the limit is %d", len(txt), MaxRecord)
	}
	var r record
	seen := map[string]bool{}
	for term := range strings.SplitSeq(txt[len(version):], " ") {
		if term == "" {
			continue
		}
		for i := 0; i < len(term); i++ {
			if term[i] <= ' ' || term[i] > '~' {
				return record{}, fmt.Errorf("term %.60q has octet %#02x", term, term[i])
			}
		}
		var err error
		if m := modifier.FindStringSubmatch(term); m != nil {
			err = r.addModifier(strings.ToLower(m[1]), m[2], seen)
		} else {
			err = r.addMechanism(term)
		}
		if err != nil {
			return record{}, fmt.Errorf("term %.60q: %w", term, err)
		}
	}
	return r, nil
}

// modifier is a name and "=" before any colon or slash (RFC 7208 section 4.6.1).
var modifier = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9._-]*)=(.*)$`)

func (r *record) addModifier(name, value string, seen map[string]bool) error {
	switch name {
	case "redirect", "exp":
		if seen[name] { // RFC 7208 section 6
			return fmt.Errorf("%s= stands twice", name)
		}
		seen[name] = true
		if err := checkDomainSpec(value); err != nil {
			return err
		}
		if name == "exp" {
			r.exp = value
		} else {
			r.redirect = value
		}
		return nil
	}
	return checkMacros(value, anyMacros) // an unknown modifier is ignored, if its value is a macro-string
}

var qualifiers = map[byte]Status{'+': Pass, '-': Fail, '~': SoftFail, '?': Neutral}

func (r *record) addMechanism(term string) error {
	m := mechanism{text: term, status: Pass, bits4: 32, bits6: 128}
	if status, ok := qualifiers[term[0]]; ok {
		m.status, term = status, term[1:]
	}
	end := strings.IndexAny(term, ":/")
	if end < 0 {
		end = len(term)
	}
	name, rest := strings.ToLower(term[:end]), term[end:]
	if err := m.read(name, rest); err != nil {
		return err
	}
	r.mechanisms = append(r.mechanisms, m)
	return nil
}

// read takes what follows the name of a mechanism.
func (m *mechanism) read(name, rest string) (err error) {
	switch name {
	case "all":
		m.kind = all
		if rest != "" {
			return fmt.Errorf("%q follows all", rest)
		}
		return nil
	case "include", "exists":
		m.kind = include
		if name == "exists" {
			m.kind = exists
		}
		if rest == "" {
			return fmt.Errorf("%s has no domain", name)
		}
	case "a", "mx":
		m.kind = address
		if name == "mx" {
			m.kind = exchange
		}
		if rest, err = m.cutBits(rest); err != nil {
			return err
		}
	case "ptr":
		m.kind = pointer
	case "ip4", "ip6":
		m.kind = network
		m.prefix, err = parseNetwork(name, rest)
		return err
	default:
		return fmt.Errorf("there is no mechanism %.40q", name)
	}
	if rest == "" {
		return nil
	}
	if rest[0] != ':' {
		return fmt.Errorf("%q is no domain", rest)
	}
	m.domainSpec = rest[1:]
	return checkDomainSpec(m.domainSpec)
}

// dualCIDR is what may end a and mx: /24, //64 or /24//64. A slash may be part of
// the domain before it.
var dualCIDR = regexp.MustCompile(`^(.*?)(?:/([0-9]+))?(?://([0-9]+))?$`)

func (m *mechanism) cutBits(rest string) (string, error) {
	parts := dualCIDR.FindStringSubmatch(rest)
	for i, bits := range []*int{&m.bits4, &m.bits6} {
		if parts[2+i] == "" {
			continue
		}
		n, err := parseBits(parts[2+i], *bits)
		if err != nil {
			return "", err
		}
		*bits = n
	}
	return parts[1], nil
}

// parseBits reads the length of a prefix, without leading zeros.
func parseBits(s string, most int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n > most || s != strconv.Itoa(n) {
		return 0, fmt.Errorf("/%.10s is no length of a prefix, the longest is /%d", s, most)
	}
	return n, nil
}

// parseNetwork reads ":192.0.2.0/24" or ":2001:db8::/32".
func parseNetwork(name, rest string) (netip.Prefix, error) {
	text, bits, hasBits := strings.Cut(strings.TrimPrefix(rest, ":"), "/")
	ip, err := netip.ParseAddr(text)
	if err != nil || rest[0] != ':' || ip.Zone() != "" || ip.Is4() != (name == "ip4") {
		return netip.Prefix{}, fmt.Errorf("%.60q is no address of %s", rest, name)
	}
	n := ip.BitLen()
	if hasBits {
		if n, err = parseBits(bits, n); err != nil {
			return netip.Prefix{}, err
		}
	}
	return netip.PrefixFrom(ip, n).Masked(), nil
}

// topLabel is the last label of a domain-spec: letters, digits and inner hyphens,
// not digits alone (RFC 7208 section 7.1).
var topLabel = regexp.MustCompile(`\.(?:[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*|[A-Za-z0-9]+-[A-Za-z0-9-]*[A-Za-z0-9])\.?$`)

// checkDomainSpec checks domain-spec = macro-string domain-end.
func checkDomainSpec(s string) error {
	if s == "" {
		return fmt.Errorf("the domain is empty")
	}
	if err := checkMacros(s, nameMacros); err != nil {
		return err
	}
	if !endsInMacro(s) && !topLabel.MatchString(s) {
		return fmt.Errorf("%.60q ends in neither a macro nor a proper label", s)
	}
	return nil
}
