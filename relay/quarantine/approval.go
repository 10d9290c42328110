package quarantine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"anechoic/mail"
)

// Bounds of proposals.
const (
	ApprovalFor  = 72 * time.Hour // how long a second person has
	MaxProposed  = 10_000         // messages of one proposal
	maxProposals = 100            // that wait at one time
	paceSpan     = time.Hour      // in which a person's releases are added up
)

// What is wrong with an approval.
var (
	ErrNoProposal   = errors.New("no such proposal waits")
	ErrSamePerson   = errors.New("who asked cannot approve")
	ErrNobody       = errors.New("it is not known who asks")
	ErrManyWaiting  = errors.New("too many proposals wait")
	ErrManyMessages = errors.New("too many messages for one proposal")
)

// Person is who asks. Name is what two people are told apart by; Told is what the
// ledger says of them.
type Person struct {
	Name string `json:"name"`
	Told string `json:"told"`
}

// Is says that both are one person, or may be: of nobody known it is not certain.
func (p Person) Is(other Person) bool {
	return p.Name == "" || other.Name == "" || strings.EqualFold(strings.TrimSpace(p.Name), strings.TrimSpace(other.Name))
}

// Proposal is a release of many messages that waits for a second person. It names
// the messages one by one: what is held later is no part of it.
type Proposal struct {
	ID       mail.ID   `json:"id"`
	By       Person    `json:"by"`
	Asked    time.Time `json:"asked"`
	Expires  time.Time `json:"expires"`
	What     string    `json:"what"` // in words
	Messages []mail.ID `json:"messages"`
}

// Propose makes a proposal.
func Propose(by Person, what string, messages []mail.ID, now time.Time) (Proposal, error) {
	switch {
	case by.Name == "":
		return Proposal{}, ErrNobody
	case len(messages) > MaxProposed:
		return Proposal{}, fmt.Errorf("%w: %d, at most %d", ErrManyMessages, len(messages), MaxProposed)
	}
	now = now.UTC()
	return Proposal{ID: mail.NewID(now), By: by, Asked: now, Expires: now.Add(ApprovalFor), What: what, Messages: slices.Clone(messages)}, nil
}

// MayApprove says whether a person may approve the proposal now; nil: yes.
func (p *Proposal) MayApprove(by Person, now time.Time) error {
	switch {
	case !now.Before(p.Expires):
		return fmt.Errorf("%w: it expired on %s", ErrNoProposal, p.Expires.Format(time.DateTime))
	case by.Name == "":
		return ErrNobody
	case p.By.Is(by):
		return fmt.Errorf("%w: %s asked for it", ErrSamePerson, p.By.Told)
	}
	return nil
}

// pace is what people released lately, so that many small releases are not one
// large one that nobody saw. The zero value is ready.
type pace struct{ done map[string][]released }

type released struct {
	at       time.Time
	messages int
}

// lately is how many messages a person released in the last span.
func (p *pace) lately(by Person, now time.Time) (n int) {
	for _, r := range p.done[strings.ToLower(by.Name)] {
		if now.Sub(r.at) < paceSpan {
			n += r.messages
		}
	}
	return n
}

// note adds what a person released, and forgets what is long ago.
func (p *pace) note(by Person, messages int, now time.Time) {
	if p.done == nil {
		p.done = map[string][]released{}
	}
	for name, list := range p.done {
		list = slices.DeleteFunc(list, func(r released) bool { return now.Sub(r.at) >= paceSpan })
		if p.done[name] = list; len(list) == 0 {
			delete(p.done, name)
		}
	}
	if messages > 0 {
		name := strings.ToLower(by.Name)
		p.done[name] = append(p.done[name], released{now, messages})
	}
}
