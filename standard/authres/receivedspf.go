package authres

import (
	"fmt"
	"slices"
	"strings"

	"anechoic/mail"
)

// ReceivedSPFName is the name of the older field for SPF alone.
const ReceivedSPFName = "Received-SPF"

// ReceivedSPF is the content of a Received-SPF field (RFC 7208 section 9.1).
// Empty parts are left out.
type ReceivedSPF struct {
	Result       string // "pass", "fail", "softfail", "neutral", "none", "temperror" or "permerror"
	Comment      string // for people
	Receiver     string // who checked
	ClientIP     string
	EnvelopeFrom string
	HELO         string
	Identity     string // "mailfrom" or "helo"
	Mechanism    string // what matched
	Problem      string // why there is an error
}

var spfResults = []string{"pass", "fail", "softfail", "neutral", "none", "temperror", "permerror"}

// pair is a key with the place of its value.
type pair struct {
	key   string
	value *string
}

// pairs are the keys of RFC 7208 section 9.1 in the order in which they are
// written.
func (f *ReceivedSPF) pairs() []pair {
	return []pair{
		{"receiver", &f.Receiver}, {"client-ip", &f.ClientIP}, {"envelope-from", &f.EnvelopeFrom}, {"helo", &f.HELO},
		{"identity", &f.Identity}, {"mechanism", &f.Mechanism}, {"problem", &f.Problem},
	}
}

// Field is the whole Received-SPF field.
func (f ReceivedSPF) Field() mail.Field { return mail.NewField(ReceivedSPFName, f.String()) }

// String is the value of a Received-SPF field, folded. Text of strangers is made
// harmless as in Results, and ASCII.
func (f ReceivedSPF) String() string {
	f = f.clean()
	w := &writer{column: len(ReceivedSPFName) + len(": ")}
	w.put("", f.Result)
	if f.Comment != "" {
		w.put(" ", comment(f.Comment))
	}
	separator := ""
	for _, p := range f.pairs() {
		if *p.value == "" {
			continue
		}
		w.put("", separator)
		w.put(" ", p.key+"="+dotAtom(*p.value))
		separator = ";"
	}
	return string(w.b)
}

// dotAtom writes a value without quotes if it is one (RFC 5322 section 3.2.3), and
// has no apostrophe.
func dotAtom(s string) string {
	if dotted(s) && only(s, "!#$%&*+-./=^_~") {
		return s
	}
	return quoted(s)
}

// clean gives a field of which every word can be written. It is idempotent.
func (f ReceivedSPF) clean() ReceivedSPF {
	if f.Result = strings.ToLower(f.Result); !slices.Contains(spfResults, f.Result) {
		f.Result = "permerror"
	}
	f.Comment = Results{}.text(f.Comment)
	for _, p := range f.pairs() {
		*p.value = Results{}.text(*p.value)
	}
	return f
}

// ParseReceivedSPF reads the value of a Received-SPF field, folded or not. Keys that
// RFC 7208 does not name are checked and dropped; one that stands twice is an
// error. Values may be any text without space, semicolon, quote and parenthesis,
// as most write them. Errors wrap ErrSyntax.
func ParseReceivedSPF(body []byte) (f ReceivedSPF, err error) {
	s, err := unfold(body)
	if err != nil {
		return ReceivedSPF{}, err
	}
	if f, err = (&parser{s: s}).receivedSPF(); err != nil {
		return ReceivedSPF{}, fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return f, nil
}

func (p *parser) receivedSPF() (f ReceivedSPF, err error) {
	if _, err = p.space(); err != nil {
		return f, err
	}
	if f.Result, err = p.keyword("the result"); err != nil {
		return f, err
	}
	if !slices.Contains(spfResults, f.Result) {
		return f, fmt.Errorf("%.40q is no result of SPF", f.Result)
	}
	if !p.done() && !strings.ContainsRune(" \t(", rune(p.peek())) {
		return f, fmt.Errorf("%.20q follows the result", p.s[p.pos:])
	}
	if f.Comment, err = p.space(); err != nil {
		return f, err
	}
	seen := map[string]bool{}
	for !p.done() {
		if err = p.pair(&f, seen); err != nil {
			return f, err
		}
		if _, err = p.space(); err != nil {
			return f, err
		}
		if p.done() {
			break
		}
		if p.peek() != ';' {
			return f, fmt.Errorf("a semicolon is missing at %.20q", p.s[p.pos:])
		}
		p.pos++
		if _, err = p.space(); err != nil {
			return f, err
		}
	}
	return f, nil
}

// pair reads key=value.
func (p *parser) pair(f *ReceivedSPF, seen map[string]bool) error {
	key, err := p.keyword("a key")
	if err != nil {
		return err
	}
	if seen[key] || len(seen) == MaxProperties {
		return fmt.Errorf("key %.40q stands twice, or there are more than %d", key, MaxProperties)
	}
	seen[key] = true
	if err := p.equals(key); err != nil {
		return err
	}
	value, err := p.value()
	if err != nil {
		return err
	}
	for _, known := range f.pairs() {
		if known.key == key {
			*known.value = value
		}
	}
	return nil
}
