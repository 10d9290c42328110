package mtasts

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"anechoic/mail"
)

// ErrPolicy says that a policy is not well formed.
var ErrPolicy = errors.New("MTA-STS policy is not well formed")

// Mode says what a policy wants of senders (RFC 8461 section 3.2).
type Mode string

// The modes.
const (
	ModeEnforce Mode = "enforce" // nothing is sent to a host that does not fit
	ModeTesting Mode = "testing" // it is sent, and reported
	ModeNone    Mode = "none"    // as if there were no policy
)

// Bounds of a policy.
const (
	MaxPolicy = 64 << 10                   // octets; section 3.3 suggests it
	MaxAge    = 31557600 * time.Second     // section 3.2: about a year
	maxMX     = 200                        // patterns; our own
	version   = "STSv1"                    // the only one
	wellKnown = "/.well-known/mta-sts.txt" // section 3.2
)

// Policy is one policy. The zero Policy asks nothing.
type Policy struct {
	Mode   Mode          `json:"mode"`
	MX     []string      `json:"mx,omitempty"` // names, or "*." and a name; lower-case A-labels
	MaxAge time.Duration `json:"max_age"`
}

// ParsePolicy reads a policy (section 3.2): lines of "key: value", ended by LF or
// CRLF. Of a key that stands twice the first counts, but for mx; keys that are
// not known are ignored.
func ParsePolicy(body []byte) (Policy, error) {
	if len(body) > MaxPolicy {
		return Policy{}, fmt.Errorf("%w: it is larger than %d octets", ErrPolicy, MaxPolicy)
	}
	if !utf8.Valid(body) {
		return Policy{}, fmt.Errorf("%w: it is not UTF-8", ErrPolicy)
	}
	var p Policy
	first := make(map[string]string)
	for line := range strings.SplitSeq(string(body), "\n") {
		line = strings.TrimRight(strings.TrimSuffix(line, "\r"), " \t")
		if line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		key, value = strings.Trim(key, " \t"), strings.Trim(value, " \t")
		if !ok || !isKey(key) {
			return Policy{}, fmt.Errorf("%w: %.60q is not key: value", ErrPolicy, line)
		}
		if key == "mx" {
			if err := p.addMX(value); err != nil {
				return Policy{}, err
			}
		} else if _, again := first[key]; !again {
			first[key] = value
		}
	}
	return p.complete(first)
}

// isKey is the sts-policy-ext-name of section 3.2.
func isKey(s string) bool {
	return s != "" && len(s) <= 32 && strings.IndexFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.')
	}) < 0
}

// addMX reads one pattern.
func (p *Policy) addMX(value string) error {
	if len(p.MX) == maxMX {
		return fmt.Errorf("%w: it has more than %d mx lines", ErrPolicy, maxMX)
	}
	name, wild := strings.CutPrefix(value, "*.")
	d, err := mail.ParseDomain(name)
	if err != nil {
		return fmt.Errorf("%w: mx %.60q is no host name and no wildcard of one", ErrPolicy, value)
	}
	pattern := d.String()
	if wild {
		pattern = "*." + pattern
	}
	p.MX = append(p.MX, pattern)
	return nil
}

// complete takes the keys that stand once.
func (p Policy) complete(keys map[string]string) (Policy, error) {
	if keys["version"] != version {
		return Policy{}, fmt.Errorf("%w: version is %.60q, not %s", ErrPolicy, keys["version"], version)
	}
	p.Mode = Mode(keys["mode"])
	switch p.Mode {
	case ModeEnforce, ModeTesting, ModeNone:
	default:
		return Policy{}, fmt.Errorf("%w: mode is %.60q, not enforce, testing or none", ErrPolicy, keys["mode"])
	}
	seconds, err := strconv.ParseUint(keys["max_age"], 10, 64)
	if err != nil || len(keys["max_age"]) > 10 {
		return Policy{}, fmt.Errorf("%w: max_age is %.60q, not a number of seconds", ErrPolicy, keys["max_age"])
	}
	p.MaxAge = time.Duration(min(seconds, uint64(MaxAge/time.Second))) * time.Second
	if len(p.MX) == 0 && p.Mode != ModeNone {
		return Policy{}, fmt.Errorf("%w: mode is %s and there is no mx", ErrPolicy, p.Mode)
	}
	return p, nil
}

// Asks says that the policy has anything to say about hosts.
func (p Policy) Asks() bool { return p.Mode == ModeEnforce || p.Mode == ModeTesting }

// Allows says that mail may go to a host (section 4.1): one of the patterns is
// its name, or a wildcard that stands for exactly its first label.
func (p Policy) Allows(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	_, parent, _ := strings.Cut(host, ".")
	for _, pattern := range p.MX {
		if name, wild := strings.CutPrefix(pattern, "*."); wild && name == parent || pattern == host {
			return true
		}
	}
	return false
}

// Lines is the policy as reports show it (RFC 8460 section 4.4).
func (p Policy) Lines() []string {
	lines := []string{"version: " + version, "mode: " + string(p.Mode)}
	for _, mx := range p.MX {
		lines = append(lines, "mx: "+mx)
	}
	return append(lines, "max_age: "+strconv.FormatInt(int64(p.MaxAge/time.Second), 10))
}
