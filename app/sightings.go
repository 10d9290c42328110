package app

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/smtpd"
	"anechoic/watch/seen"
)

// see notes whose mail was refused at a confirmed provider's peer because its
// tenant is nobody's here, or contradicts another proof: a person may know it.
// It decides nothing.
func (in *intake) see(dir *org.Directory, ev *attribution.Evidence, tx *smtpd.Transaction, o mail.Originators, refusal *mail.Refusal, now time.Time) {
	reason := refusal.Reason()
	originator, err := mail.ParseDomain(ev.Header.Originator.Value)
	if ev.PeerName != attribution.PeerNameConfirmed || err != nil || reason != mail.ReasonTenantNotAuthorized && reason != mail.ReasonAttributionConflict {
		return
	}
	s := seen.Sighting{
		Time: now, Tenant: printable(ev.Header.TenantID.Value), Originator: originator, Reason: reason, From: o.From.Address.Domain(),
		MailFrom: tx.Envelope.From, Peer: ev.Peer,
	}
	if d, ok := dir.Owner(s.From); ok {
		s.Claimed = d.Organisation
	}
	if len(tx.Envelope.Recipients) > 0 {
		s.Rcpt = tx.Envelope.Recipients[0].Address.Domain()
	}
	if leak, ok := attribution.Leaked(dir, ev); ok {
		s.Leak = &seen.Leak{Organisation: leak.Organisation, Source: leak.Source, Header: leak.Header, Digest: hex.EncodeToString(leak.Digest[:]), Last: now}
	}
	isNew, leaks := in.seen.Note(s)
	if isNew {
		in.log.Info("a tenant that is no source here was seen", "tenant", s.Tenant, "originator", originator.String(), "claimed_org", string(s.Claimed), "id", tx.ID)
	}
	if leaks {
		in.log.Warn("a secret header has leaked: replace it", "org", string(s.Leak.Organisation), "source", s.Leak.Source, "header", s.Leak.Header, "used_by_tenant", s.Tenant, "id", tx.ID)
	}
}

// openSightings reads back what was seen before the restart.
func (a *App) openSightings() error {
	a.seen = new(seen.Table)
	if err := a.seen.Load(context.Background(), a.store); err != nil {
		a.log.Warn("what was seen of unknown tenants could not be read back whole", "error", err)
	}
	return nil
}

// flushSightings keeps what was seen over a restart.
func (a *App) flushSightings() {
	if err := a.seen.Flush(context.Background(), a.store); err != nil {
		a.log.Error("what was seen of unknown tenants could not be stored", "error", err)
	}
}

// leaks are findings about secrets that somebody else knows, until they are
// replaced.
func (a *App) leaks(dir *org.Directory) (findings []org.Finding) {
	for _, l := range a.seen.Leaks(dir) {
		findings = append(findings, org.Finding{
			Organisation: l.Organisation, Source: l.Source, Opens: true,
			Text: fmt.Sprintf("the secret header %s has leaked: mail of another tenant bore it on %s; replace the secret (anechoic source secret new)", l.Header, l.Last.Format(time.DateOnly)),
		})
	}
	return findings
}
