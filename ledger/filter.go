package ledger

import (
	"strings"
	"time"

	"anechoic/mail"
)

// Filter selects facts, for log search. Zero fields select all; the others must
// all agree.
type Filter struct {
	ID      mail.ID
	Org     string      // the proven organisation, or the one a refused message claimed
	Address string      // in MAIL FROM, From or a recipient, without regard to case
	Domain  mail.Domain // of one of those
	Event   Event
	Reason  mail.Reason
	Since   time.Time // not before
	Until   time.Time // before
}

// Match says that f is selected.
func (s Filter) Match(f Fact) bool {
	switch {
	case s.ID != "" && s.ID != f.ID,
		s.Org != "" && s.Org != f.Org && s.Org != f.ClaimedOrg,
		s.Event != "" && s.Event != f.Event,
		s.Reason != "" && s.Reason != f.Reason,
		!s.Since.IsZero() && f.Time.Before(s.Since),
		!s.Until.IsZero() && !f.Time.Before(s.Until):
		return false
	}
	return s.Address == "" && s.Domain.IsZero() || s.names(f)
}

// names says that one address of the fact fits both Address and Domain.
func (s Filter) names(f Fact) bool {
	if s.fits(f.MailFrom) || s.fits(f.From) {
		return true
	}
	for _, r := range f.Rcpt {
		if s.fits(r) {
			return true
		}
	}
	return false
}

func (s Filter) fits(address string) bool {
	if s.Address != "" && !strings.EqualFold(s.Address, address) {
		return false
	}
	if s.Domain.IsZero() {
		return address != ""
	}
	d, err := mail.ParseDomain(address[strings.LastIndexByte(address, '@')+1:])
	return err == nil && d == s.Domain
}
