package dmarc

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of a record. The standard sets none; real records have a few hundred
// octets and ten tags.
const (
	MaxRecord   = 16 << 10 // octets; a longer text is no record
	MaxURIs     = 32       // of rua= and of ruf=; those behind are left out
	maxTags     = 64       // elements that are looked at; those behind are ignored
	maxProblems = 16       // that are kept
)

// ErrNotRecord says that a text is no policy record of this version: it does not
// begin with v=DMARC1, or is too long.
var ErrNotRecord = errors.New("not a DMARC policy record")

var errNoVersion = fmt.Errorf("%w: it does not begin with v=DMARC1", ErrNotRecord)

// Record is a policy record (RFC 9989 section 4.7). What is absent, or has no
// valid value, is its default.
type Record struct {
	Text string // as published, its strings joined

	Policy            Policy // p=
	SubdomainPolicy   Policy // sp=
	NonexistentPolicy Policy // np=
	StrictDKIM        bool   // adkim=s
	StrictSPF         bool   // aspf=s
	Testing           bool   // t=y
	Suffix            Suffix // psd=

	AggregateURIs  []string       // rua=, without the obsolete size behind "!"
	FailureURIs    []string       // ruf=, likewise
	FailureOptions FailureOptions // fo=, FailureAll if there is no ruf=

	// Problems is what the record has that was ignored as a syntax error, with
	// its place. Tags that are not known are no problem.
	Problems []Problem

	malformed bool // p=, sp= or np= is there without a valid value
}

// Suffix says whether a domain is a public suffix: psd=.
type Suffix uint8

// The values of psd=.
const (
	SuffixUnknown Suffix = iota // u, the default
	SuffixYes                   // y: names below it belong to others
	SuffixNo                    // n: it is an organisational domain
)

// FailureOptions is a set: when a failure report is wanted (fo=).
type FailureOptions uint8

// The options.
const (
	FailureAll  FailureOptions = 1 << iota // 0: nothing gave an aligned pass
	FailureAny                             // 1: something gave no aligned pass
	FailureDKIM                            // d: a signature failed, aligned or not
	FailureSPF                             // s: SPF failed, aligned or not
)

// Problem is a syntax error in a record, which makes nothing else of it invalid
// (RFC 9989 section 4.8).
type Problem struct {
	Tag    string // in lower case; empty where there is none
	Offset int    // of the element in the text, in octets
	Reason string
}

// Error names the place and what is wrong there.
func (p Problem) Error() string {
	if p.Tag == "" {
		return fmt.Sprintf("at octet %d: %s", p.Offset, p.Reason)
	}
	return fmt.Sprintf("tag %s= at octet %d: %s", p.Tag, p.Offset, p.Reason)
}

// Parse reads one TXT record, its strings joined. The only errors, which wrap
// ErrNotRecord, are those that make it no policy record at all (RFC 9989 section
// 4.7, tag v). Everything else that is wrong is among Problems. Whether a record
// can be applied is told by Applies.
func Parse(txt string) (Record, error) {
	rest, err := afterVersion(txt)
	if err != nil {
		return Record{}, err
	}
	r := Record{Text: txt, FailureOptions: FailureAll}
	tags := r.collect(rest)
	r.Policy = r.policy(tags[tagP])
	r.SubdomainPolicy = r.policy(tags[tagSP])
	r.NonexistentPolicy = r.policy(tags[tagNP])
	r.StrictDKIM = r.choice(tags[tagADKIM], "r", "s") == 1
	r.StrictSPF = r.choice(tags[tagASPF], "r", "s") == 1
	r.Testing = r.choice(tags[tagT], "n", "y") == 1
	r.Suffix = Suffix(r.choice(tags[tagPSD], "u", "y", "n"))
	r.AggregateURIs = r.uris(tags[tagRUA])
	r.FailureURIs = r.uris(tags[tagRUF])
	if len(r.FailureURIs) > 0 { // RFC 9989 section 4.7: else fo= is ignored
		r.FailureOptions = r.failureOptions(tags[tagFO])
	}
	return r, nil
}

// Applies says that the record makes DMARC apply to mail of its domain: its
// policies are valid, or it asks for reports and counts as p=none (RFC 9989
// section 4.10.1).
func (r Record) Applies() bool {
	return r.Policy != NoPolicy && !r.malformed || len(r.AggregateURIs) > 0
}

// Relation is how a From domain stands to the domain whose record applies.
type Relation uint8

// The relations.
const (
	Same        Relation = iota // it is that domain
	Subdomain                   // below it, and the name exists
	Nonexistent                 // below it, and there is no such name
)

// PolicyFor is the policy for mail from a domain so related, before t= (RFC 9989
// sections 4.7 and 4.10.1). A record with a policy that is not valid is one with
// p=none and nothing else; one without p= keeps its other policies.
func (r Record) PolicyFor(relation Relation) Policy {
	switch {
	case r.malformed:
		return PolicyNone
	case relation == Nonexistent && r.NonexistentPolicy != NoPolicy:
		return r.NonexistentPolicy
	case relation != Same && r.SubdomainPolicy != NoPolicy:
		return r.SubdomainPolicy
	case r.Policy == NoPolicy:
		return PolicyNone
	}
	return r.Policy
}

// wsp is the white space of the record's grammar (RFC 5234 appendix B.1).
const wsp = " \t"

// afterVersion is where the tags behind v=DMARC1 begin, as an offset. The name
// is compared without case, the value with it; nothing may stand before (RFC
// 9989 section 4.8, dmarc-version).
func afterVersion(txt string) (int, error) {
	const version = "DMARC1"
	if len(txt) > MaxRecord {
		return 0, fmt.Errorf("%w: it has %d octets, the limit is %d", ErrNotRecord, len(txt), MaxRecord)
	}
	if txt == "" || txt[0]|0x20 != 'v' {
		return 0, errNoVersion
	}
	rest := strings.TrimLeft(txt[1:], wsp)
	if !strings.HasPrefix(rest, "=") {
		return 0, errNoVersion
	}
	rest, ok := strings.CutPrefix(strings.TrimLeft(rest[1:], wsp), version)
	if !ok {
		return 0, errNoVersion
	}
	rest = strings.TrimLeft(rest, wsp)
	if rest != "" && rest[0] != ';' {
		return 0, errNoVersion
	}
	return len(txt) - len(rest), nil
}

// The tags that mean something (RFC 9989 table 2). v= was read before.
const (
	tagP = iota
	tagSP
	tagNP
	tagADKIM
	tagASPF
	tagT
	tagPSD
	tagRUA
	tagRUF
	tagFO
	knownTags
)

var tagNames = [knownTags]string{"p", "sp", "np", "adkim", "aspf", "t", "psd", "rua", "ruf", "fo"}

// tag is one element of a known name.
type tag struct {
	name     string
	value    string // without white space around it
	offset   int
	present  bool
	conflict bool // it stands again, with another value
}

// collect takes the known tags out of the text behind v=. Names are compared
// without case.
func (r *Record) collect(from int) [knownTags]tag {
	var tags [knownTags]tag
	for n := 0; from < len(r.Text) && n < maxTags; n++ {
		start := from + 1 // behind the semicolon
		element, _, more := strings.Cut(r.Text[start:], ";")
		from = start + len(element)
		r.take(&tags, element, start)
		if !more {
			break
		}
	}
	return tags
}

// take puts one element where it belongs.
func (r *Record) take(tags *[knownTags]tag, element string, offset int) {
	trimmed := strings.Trim(element, wsp)
	if trimmed == "" {
		return
	}
	offset += strings.Index(element, trimmed)
	name, value, ok := strings.Cut(trimmed, "=")
	name = strings.ToLower(strings.TrimRight(name, wsp))
	if !ok || name == "" {
		r.problem(Problem{"", offset, fmt.Sprintf("%.40q is not name=value", trimmed)})
		return
	}
	for i, known := range tagNames {
		if known != name {
			continue
		}
		value = strings.TrimLeft(value, wsp)
		if t := &tags[i]; !t.present {
			*t = tag{name: known, value: value, offset: offset, present: true}
		} else if t.value != value {
			t.conflict = true
			r.problem(Problem{known, offset, "it stands twice, with different values"})
		}
	}
}

func (r *Record) problem(p Problem) {
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, p)
	}
}

// invalid notes a value that is not one of its tag's.
func (r *Record) invalid(t tag, want string) {
	r.problem(Problem{t.name, t.offset, fmt.Sprintf("%.40q is not %s", t.value, want)})
}

// policy reads dmarc-request. What is not one makes the record malformed.
func (r *Record) policy(t tag) Policy {
	if !t.present {
		return NoPolicy
	}
	for p := PolicyNone; p <= PolicyReject && !t.conflict; p++ {
		if strings.EqualFold(t.value, p.String()) {
			return p
		}
	}
	r.malformed = true
	if !t.conflict {
		r.invalid(t, "none, quarantine or reject")
	}
	return NoPolicy
}

// choice gives the place of the value among words, of which the first is the
// default.
func (r *Record) choice(t tag, words ...string) int {
	if !t.present || t.conflict {
		return 0
	}
	for i, w := range words {
		if strings.EqualFold(t.value, w) {
			return i
		}
	}
	r.invalid(t, strings.Join(words, " or "))
	return 0
}

// failureOptions reads dmarc-fo: each option once, 0 and 1 not together.
func (r *Record) failureOptions(t tag) FailureOptions {
	if !t.present || t.conflict {
		return FailureAll
	}
	var options FailureOptions
	for word := range strings.SplitSeq(t.value, ":") {
		i := strings.Index("01ds", strings.ToLower(strings.Trim(word, wsp)))
		option := FailureOptions(1) << max(i, 0)
		if i < 0 || len(strings.Trim(word, wsp)) != 1 || options&option != 0 {
			r.invalid(t, "a list of 0, 1, d and s")
			return FailureAll
		}
		options |= option
	}
	if options&FailureAll != 0 && options&FailureAny != 0 {
		r.invalid(t, "a list with either 0 or 1")
		return FailureAll
	}
	return options
}
