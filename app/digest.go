package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"time"

	"anechoic/control/api"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/quarantine"
)

// Digests leave in the morning hours of UTC, each organisation's at a time of its
// own: a million must not be composed at once.
const (
	digestFrom   = 5 * time.Hour // after midnight
	digestSpread = 3 * time.Hour
	digestPrefix = "digest/" // digest/<organisation>: how far it was told
)

// maxDigestRead is how many messages one digest looks at.
const maxDigestRead = custody.DetainedMessages

// digestMark is how far an organisation was told of what is held.
type digestMark struct {
	Last mail.ID   `json:"last"` // the newest message that was told of
	At   time.Time `json:"at"`
}

// digests sends what is due. Organisations without held mail, without a contact, or
// with quarantine_digest = "off" get none.
func (a *App) digests(ctx context.Context, now time.Time) {
	dir := a.directory.Load()
	asked := map[org.ID]bool{}
	for _, share := range a.queue.DetainedShares() {
		o, ok := dir.Organisation(share.Organisation)
		if !ok || asked[o.ID] || !o.Digest || o.SecurityContact.IsZero() || ctx.Err() != nil {
			continue
		}
		asked[o.ID] = true
		if err := a.digestOf(ctx, o, now); err != nil && ctx.Err() == nil {
			a.log.Error("a digest of held mail was not sent", "org", string(o.ID), "error", err)
		}
	}
}

// digestOf sends an organisation's digest, if its time of the day is over and none
// was sent since.
func (a *App) digestOf(ctx context.Context, o *org.Organisation, now time.Time) error {
	mark, err := a.digestMark(ctx, o.ID)
	if err != nil || !digestDue(o.ID, mark, now) {
		return err
	}
	_, err = a.composeDigest(ctx, o, mark, true, now)
	if errors.Is(err, quarantine.ErrNothingNew) {
		return nil
	}
	return err
}

// digestDue says that an organisation's latest time lies behind, and behind its last
// digest.
func digestDue(id org.ID, mark digestMark, now time.Time) bool {
	h := fnv.New32a()
	io.WriteString(h, string(id))
	slot := now.UTC().Truncate(24 * time.Hour).Add(digestFrom + time.Duration(h.Sum32())*time.Second%digestSpread)
	if now.Before(slot) {
		slot = slot.Add(-24 * time.Hour)
	}
	return mark.At.Before(slot)
}

func (a *App) digestMark(ctx context.Context, id org.ID) (mark digestMark, err error) {
	value, err := a.store.Get(ctx, digestPrefix+string(id))
	if errors.Is(err, custody.ErrNotFound) {
		return mark, nil
	}
	if err == nil {
		err = json.Unmarshal(value, &mark)
	}
	return mark, err
}

// sendDigest is api.Server's Digest: a person asks for it.
func (a *App) sendDigest(ctx context.Context, wish api.DigestWish) (sent api.DigestSent, err error) {
	o, ok := a.directory.Load().Organisation(org.ID(wish.Org))
	switch {
	case !ok:
		return sent, fmt.Errorf("organisation %q: %w", wish.Org, custody.ErrNotFound)
	case o.SecurityContact.IsZero():
		return sent, fmt.Errorf("%w: organisation %s has no security_contact in the registry", api.ErrConflict, o.ID)
	}
	mark, err := a.digestMark(ctx, o.ID)
	if err != nil {
		return sent, err
	}
	return a.composeDigest(ctx, o, mark, !wish.DryRun, time.Now().UTC())
}

// composeDigest writes the digest of what is new since mark, and hands it to the
// queue: from the null sender, so that nothing comes back. The mark is written
// afterwards: after a crash in between, the same digest is sent again.
func (a *App) composeDigest(ctx context.Context, o *org.Organisation, mark digestMark, send bool, now time.Time) (sent api.DigestSent, err error) {
	hostname := a.config.Hostname
	if _, taken := a.directory.Load().Owner(hostname); taken {
		return sent, fmt.Errorf("%w: the relay's host name %s is in a domain of an organisation, and what it writes itself must not be in that one's name", api.ErrConflict, hostname)
	}
	from, err := mail.ParseAddress("quarantine@" + hostname.String())
	if err != nil {
		return sent, err
	}
	d := quarantine.Digest{ID: mail.NewID(now), Hostname: hostname.String(), From: from, To: o.SecurityContact, Organisation: o.ID, Now: now}
	if d.Messages, err = a.heldSince(ctx, o.ID, mark.Last); err != nil {
		return sent, err
	}
	d.Held = a.queue.DetainedUse(o.ID).Messages
	header, body, err := quarantine.Compose(d)
	sent = api.DigestSent{Org: string(o.ID), DryRun: !send, To: o.SecurityContact.String(), Text: string(body)}
	if err != nil || !send {
		return sent, err
	}
	if a.config.TLSReports.From.Domain() == hostname || a.config.TLSReports.From.IsZero() {
		if header, err = a.security.signReport(header, body, hostname, now); err != nil {
			return sent, err
		}
	}
	notice, err := custody.NewNotice(d.ID, o.ID)
	if err != nil {
		return sent, err
	}
	_, err = a.queue.Keep(ctx, custody.Submission{
		ID: d.ID, Warrant: notice, Header: header, Body: mail.NewBody(body),
		Envelope: mail.Envelope{Recipients: []mail.Recipient{{Address: o.SecurityContact, Notify: mail.NotifyNever}}},
	}, now)
	if err != nil {
		return sent, err
	}
	sent.ID = d.ID
	value, err := json.Marshal(digestMark{Last: d.Messages[len(d.Messages)-1].ID, At: now.UTC()})
	if err != nil {
		return sent, err
	}
	return sent, a.store.Commit(ctx, &custody.Batch{Put: []custody.Record{{Key: digestPrefix + string(o.ID), Value: value}}})
}

// heldSince gives what of an organisation is held and was not told of.
func (a *App) heldSince(ctx context.Context, id org.ID, last mail.ID) (list []custody.Detained, err error) {
	for next := last; len(list) < maxDigestRead; {
		var page []custody.Detained
		if page, next, err = a.queue.ListDetained(ctx, custody.DetainedFilter{Org: id, After: next, Limit: custody.MaxList}); err != nil {
			return nil, err
		}
		if list = append(list, page...); next == "" {
			break
		}
	}
	return list, nil
}
