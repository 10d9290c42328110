package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
	"anechoic/relay/policy"
	"anechoic/standard/dkim"
)

// detain keeps a message for a person to judge, instead of refusing it. Where
// there is no room for it, the refusal stands.
func (in *intake) detain(ctx context.Context, d custody.Detention, refusal *mail.Refusal, fact *ledger.Fact, now time.Time) (receipt custody.Receipt, _ *mail.Refusal) {
	held := *fact
	held.Event, held.Identity, held.Disposition = ledger.Held, ledger.Unproven, ledger.DispositionHeld
	held.Reason, held.Detail = refusal.Reason(), printable(refusal.Detail())
	d.Facts = []ledger.Fact{held}
	receipt, err := in.queue.Detain(ctx, d, now)
	switch {
	case errors.Is(err, custody.ErrDetentionFull):
		return receipt, refusal.Because("%s; %v", refusal.Detail(), err)
	case errors.Is(err, custody.ErrFull):
		return receipt, mail.DiskFull.Because("%v", err)
	case err != nil:
		return receipt, mail.CustodyFailed.Because("%v", err)
	}
	return receipt, nil
}

// trial is a detained message as it is judged again.
type trial struct {
	detained    custody.Detained
	content     custody.Content
	dir         *org.Directory
	header      mail.Header // without evidence, also of names that are new since
	originators mail.Originators
	proof       attribution.Proof
	warrant     custody.Proven
}

// Release judges a detained message again: attribution on the evidence of then,
// policy, both with the Directory of now. Only what they prove is signed and kept,
// in the batch that ends the detention. The refusal says why it stays; with
// dryRun nothing is changed.
func (a *App) Release(ctx context.Context, id mail.ID, dryRun bool) (*mail.Refusal, error) {
	now := time.Now().UTC()
	t, refusal, err := a.try(ctx, id, now)
	if refusal != nil || err != nil || dryRun {
		return refusal, err
	}
	body, hashes, err := a.copyBody(t)
	if err != nil {
		return nil, fmt.Errorf("release %s: %w", id, err)
	}
	defer body.Close()
	signatures, refusal := a.intake.sign(ctx, t.warrant, t.dir, t.header, hashes, now)
	if refusal != nil {
		return refusal, nil
	}
	_, err = a.queue.ReleaseDetained(ctx, custody.Submission{
		ID: id, Warrant: t.warrant, Envelope: t.detained.Envelope, Header: t.header.Prepend(signatures...), Body: body,
		Facts: []ledger.Fact{t.accepted(now)},
	}, now)
	return nil, err
}

// try runs attribution and policy again.
func (a *App) try(ctx context.Context, id mail.ID, now time.Time) (t trial, refusal *mail.Refusal, err error) {
	t.dir = a.directory.Load()
	if t.detained, t.content, err = a.queue.LoadDetained(ctx, id); err != nil {
		return t, nil, err
	}
	header, err := mail.ParseHeader(t.content.Header(), mail.HeaderLimits{})
	if err != nil {
		return t, nil, fmt.Errorf("detained %s: its header: %w", id, err)
	}
	if t.originators, refusal = t.detained.Envelope.ReadOriginators(header); refusal != nil {
		return t, refusal, nil
	}
	t.header = attribution.Strip(t.dir, header)
	if t.proof, refusal = attribution.Attribute(t.dir, &t.detained.Evidence, now); refusal != nil {
		return t, refusal, nil
	}
	if t.proof.Organisation() != t.detained.Organisation {
		return t, mail.AttributionConflict.Because("it was detained for %s, and its evidence points to %s now", t.detained.Organisation, t.proof.Organisation()), nil
	}
	t.warrant, refusal = policy.Permit(t.dir, t.proof, messageOf(t.detained.Envelope.From, t.header, t.originators), a.intake.standing(ctx, now))
	return t, refusal, nil
}

// bodyInMemory is how much of a released body is held in memory; more goes
// through a file of the spool.
const bodyInMemory = 256 << 10

// copyBody reads the body out of detention, and hashes it on the way.
func (a *App) copyBody(t trial) (*mail.Body, dkim.BodyHashes, error) {
	w := &mail.BodyWriter{Threshold: bodyInMemory, Dir: filepath.Join(a.config.DataDir, "spool")}
	hasher := dkim.NewBodyHasher(t.header)
	if _, err := io.Copy(io.MultiWriter(w, hasher), t.content.Body()); err != nil {
		return nil, dkim.BodyHashes{}, errors.Join(err, w.Abort())
	}
	return w.Body(), hasher.Sum(), nil
}

// accepted is the fact of a release.
func (t *trial) accepted(now time.Time) ledger.Fact {
	fact := ledger.Fact{
		Time: now, ID: t.detained.ID, Event: ledger.Accepted, Disposition: ledger.DispositionRelayed, Identity: ledger.Proven, Direction: "outbound",
		MailFrom: t.detained.Envelope.From.String(), Size: t.detained.Size, Generation: t.dir.Generation(), Detail: "released from detention",
		Peer: t.detained.Evidence.Peer,
	}
	for _, r := range t.detained.Envelope.Recipients {
		fact.Rcpt = append(fact.Rcpt, r.Address.String())
	}
	tellOriginators(&fact, t.dir, t.originators)
	tellEvidence(&fact, &t.detained.Evidence)
	tellProof(&fact, t.proof)
	return fact
}

// houseEvery is how often what is over is cleared away.
const houseEvery = time.Hour

// keepHouse drops what was detained for too long and what lists no longer need, at the start and then hourly.
func (a *App) keepHouse(ctx context.Context) {
	tick := time.NewTicker(houseEvery)
	defer tick.Stop()
	for {
		expired, err := a.queue.ExpireDetained(ctx, time.Now())
		if expired > 0 {
			a.log.Info("detained messages expired", "count", expired)
		}
		if err != nil && ctx.Err() == nil {
			a.log.Error("detained messages could not be dropped", "error", err)
		}
		if err := a.returns.sweep(ctx, time.Now()); err != nil && ctx.Err() == nil {
			a.log.Error("suppression lists could not be swept", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
