package dmarc

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"golang.org/x/net/publicsuffix"

	"anechoic/mail"
)

// Method is how organisational domains are found. The zero Method is TreeWalk.
type Method struct{ list suffixes }

// suffixes is a list of public suffixes. It gives one for every name.
type suffixes interface {
	PublicSuffix(domain string) string
}

// The methods. A SuffixList is the second one with a list of its own.
var (
	TreeWalk     = Method{}                  // RFC 9989 section 4.10
	PublicSuffix = Method{publicsuffix.List} // RFC 7489 section 3.2, with the list this program was built with
)

// String is the name of the method.
func (m Method) String() string {
	if m.list == nil {
		return "tree-walk"
	}
	return "public-suffix"
}

// registered is the organisational domain of RFC 7489 section 3.2: the public
// suffix and one label. A public suffix stands for itself.
func (m Method) registered(d mail.Domain) mail.Domain {
	suffix := m.list.PublicSuffix(d.String())
	return ancestor(d, labels(suffix)+1)
}

// SuffixList is a list of public suffixes in the form of publicsuffix.org. It
// is not changed once it is read.
type SuffixList struct {
	rules map[string]ruleKind // by name without "*." and "!"
}

// ruleKind is a set: one name may have several rules.
type ruleKind uint8

const (
	ruleName      ruleKind = 1 << iota // the name is a public suffix
	ruleBelow                          // so is every name one label below it
	ruleException                      // the name is none, in spite of such a rule
)

// Limits of a list. That of publicsuffix.org has 10,000 rules in 300 KiB.
const (
	maxSuffixRules = 200_000
	maxSuffixLine  = 4096
)

// ParseSuffixList reads a list: a rule each line, up to the first white space,
// and comments behind "//". A rule that is no domain name is an error that
// names the line.
func ParseSuffixList(r io.Reader) (*SuffixList, error) {
	l := &SuffixList{rules: make(map[string]ruleKind)}
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxSuffixLine)
	for line := 1; scanner.Scan(); line++ {
		fields := strings.Fields(scanner.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "//") {
			continue
		}
		if err := l.add(fields[0]); err != nil {
			return nil, fmt.Errorf("dmarc: list of public suffixes: line %d: %w", line, err)
		}
		if len(l.rules) > maxSuffixRules {
			return nil, fmt.Errorf("dmarc: list of public suffixes: it has more than %d rules", maxSuffixRules)
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("dmarc: list of public suffixes: %w", err)
	}
	return l, nil
}

func (l *SuffixList) add(rule string) error {
	kind := ruleName
	name := rule
	if rest, ok := strings.CutPrefix(rule, "*."); ok {
		kind, name = ruleBelow, rest
	} else if rest, ok := strings.CutPrefix(rule, "!"); ok {
		kind, name = ruleException, rest
	} else if rule == "*" {
		return nil // what holds without any rule
	}
	d, err := mail.ParseDomain(name)
	if err != nil {
		return err
	}
	l.rules[d.String()] |= kind
	return nil
}

// Method is RFC 7489's way with this list.
func (l *SuffixList) Method() Method { return Method{l} }

// PublicSuffix is the public suffix of a name in the form of mail.Domain: by the
// exception that matches, else by the longest rule, else the last label.
func (l *SuffixList) PublicSuffix(domain string) string {
	for name := domain; name != ""; name = parent(name) {
		if l.rules[name]&ruleException != 0 {
			return parent(name)
		}
	}
	for name := domain; ; name = parent(name) {
		above := parent(name)
		if above == "" || l.rules[name]&ruleName != 0 || l.rules[above]&ruleBelow != 0 {
			return name
		}
	}
}

// parent is a name without its first label, empty above the top.
func parent(name string) string {
	_, above, _ := strings.Cut(name, ".")
	return above
}

// labels counts the labels of a name.
func labels(name string) int {
	if name == "" {
		return 0
	}
	return strings.Count(name, ".") + 1
}

// ancestor is the name that the last n labels of d are; d itself if it has no
// more than n.
func ancestor(d mail.Domain, n int) mail.Domain {
	for have := labels(d.String()); have > n; have-- {
		d = d.Parent()
	}
	return d
}
