package org

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"anechoic/mail"
)

// ProofPrefix goes before a domain to name its record: _anechoic.acme.example.
const ProofPrefix = "_anechoic."

// proofVersion is the first tag of every record.
const proofVersion = "anechoic1"

// ErrNotProof says that a TXT record is about something else.
var ErrNotProof = errors.New("not an anechoic record")

// ProofRecord is what a domain's owner says in DNS: this organisation may send
// for me, through this relay (zero: any), sub-domains too or not.
type ProofRecord struct {
	Organisation ID
	Relay        mail.Domain
	Sub          bool
}

// ParseProof reads v=anechoic1; org=<id>; relay=<hostname>; sub=yes. The version
// stands first, the others in any order; unknown tags are ignored, but a tag
// given twice makes the record invalid, unknown ones too. Errors wrap ErrNotProof
// where the version is another.
func ParseProof(txt string) (ProofRecord, error) {
	var r ProofRecord
	tags := strings.Split(txt, ";")
	name, value, _ := cutTag(tags[0])
	if name != "v" || value != proofVersion {
		return r, ErrNotProof
	}
	if strings.Trim(tags[len(tags)-1], " \t") == "" {
		tags = tags[:len(tags)-1] // one semicolon may stand at the end
	}
	var seen []string
	for _, tag := range tags {
		name, value, ok := cutTag(tag)
		if !ok {
			return ProofRecord{}, fmt.Errorf("%q is not name=value", tag)
		}
		if slices.Contains(seen, name) {
			return ProofRecord{}, fmt.Errorf("tag %s is given twice", name)
		}
		if seen = append(seen, name); len(seen) > maxTags {
			return ProofRecord{}, fmt.Errorf("more than %d tags", maxTags)
		}
		if err := r.set(name, value); err != nil {
			return ProofRecord{}, err
		}
	}
	if r.Organisation == "" {
		return ProofRecord{}, errors.New("it names no organisation: org=<id> is missing")
	}
	return r, nil
}

// maxTags bounds the work of looking for repeated ones.
const maxTags = 32

func cutTag(s string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(s, "=")
	name, value = strings.Trim(name, " \t"), strings.Trim(value, " \t")
	return name, value, ok && name != ""
}

func (r *ProofRecord) set(name, value string) (err error) {
	switch name {
	case "org":
		if value == "" {
			return errors.New("org= is empty")
		}
		r.Organisation = ID(value)
	case "relay":
		if r.Relay, err = mail.ParseDomain(value); err != nil {
			return fmt.Errorf("relay=%s: %w", value, err)
		}
	case "sub":
		r.Sub = value == "yes"
	}
	return nil
}

// Verdict is what one look-up of a domain's record says about an organisation.
type Verdict uint8

// The verdicts.
const (
	NotAsked   Verdict = iota
	NoRecord           // no valid record for this relay
	Contrary           // records for this relay, all naming other organisations
	Agrees             // a record names the organisation
	AgreesSub          // and covers sub-domains
	NoAnswer           // DNS did not answer: nothing is known
	verdictEnd         // counts them
)

var verdictNames = [verdictEnd]string{"not asked", "no record", "contrary", "agrees", "agrees with sub-domains", "no answer"}

func (v Verdict) String() string { return verdictNames[min(v, verdictEnd-1)] }

// Judge reads the TXT records of a domain's name below ProofPrefix. A record for
// another relay is as if it were not there, and so is an invalid one.
func Judge(records []string, org ID, relay mail.Domain) Verdict {
	verdict := NoRecord
	for _, txt := range records {
		r, err := ParseProof(txt)
		if err != nil || !r.Relay.IsZero() && r.Relay != relay {
			continue
		}
		switch {
		case r.Organisation != org:
			verdict = max(verdict, Contrary)
		case r.Sub:
			verdict = max(verdict, AgreesSub)
		default:
			verdict = max(verdict, Agrees)
		}
	}
	return verdict
}
