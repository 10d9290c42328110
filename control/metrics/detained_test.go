package metrics

import (
	"fmt"
	"testing"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
)

func TestHeldMailIsCountedForTheOrganisationsWithMost(t *testing.T) {
	var shares []custody.DetainedShare
	all := 0
	for i := range 3 * MaxRanked {
		for j, reason := range []mail.Reason{mail.ReasonForwardedMail, mail.ReasonTenantNotAuthorized, "MADE_UP"} {
			shares = append(shares, custody.DetainedShare{Organisation: org.ID(fmt.Sprint("org-", i)), Reason: reason, Messages: i + j})
			all += i + j
		}
	}
	shares = append(shares, custody.DetainedShare{Organisation: Other, Reason: mail.ReasonForwardedMail, Messages: 1 << 20})
	all += 1 << 20
	counted, names := 0, map[org.ID]bool{}
	for _, s := range largestShares(shares) {
		counted += s.Messages
		names[s.Organisation] = true
		if s.Reason != Other && s.Reason != mail.ReasonForwardedMail && s.Reason != mail.ReasonTenantNotAuthorized {
			t.Errorf("a series of reason %q", s.Reason)
		}
	}
	if counted != all || len(names) != MaxRanked {
		t.Errorf("%d messages of %d organisations, want %d of %d", counted, len(names), all, MaxRanked)
	}
	if !names[org.ID(fmt.Sprint("org-", 3*MaxRanked-1))] || names["org-0"] || !names[Other] {
		t.Errorf("the organisations are %v", names)
	}
}
