package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
	"anechoic/relay/inbound"
	"anechoic/relay/policy"
	"anechoic/standard/dkim"
)

// detention is a message that an organisation's source handed over, with what was
// seen of it.
func (in *intake) detention(m *offered, now time.Time) custody.Detention {
	return custody.Detention{
		ID: m.tx.ID, Organisation: m.proof.Organisation(), Source: m.proof.Source(), Evidence: m.evidence, From: m.originators.From.Address,
		Envelope: m.tx.Envelope, Header: m.header.Prepend(received(in.hostname, m.tx, now)), Body: m.r.Body,
	}
}

// detain keeps a message for a person to judge, instead of refusing it. Where
// there is no room for it, the refusal stands. Facts before stand before its own.
func (in *intake) detain(ctx context.Context, d custody.Detention, refusal *mail.Refusal, fact *ledger.Fact, now time.Time, before ...ledger.Fact) (receipt custody.Receipt, _ *mail.Refusal) {
	held := *fact
	held.Event, held.Identity, held.Disposition = ledger.Held, ledger.Unproven, ledger.DispositionHeld
	held.Reason, held.Detail = refusal.Reason(), printable(refusal.Detail())
	d.Reason, d.Facts = cmp.Or(d.Reason, refusal.Reason()), append(before, held)
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

// detainInbound keeps a message for an organisation that is doubtful. Where there is
// no room for it, it is refused.
func (in *intake) detainInbound(ctx context.Context, m *arriving, v inbound.Verdict, fact *ledger.Fact, now time.Time) (custody.Receipt, *mail.Refusal) {
	return in.detain(ctx, custody.Detention{
		ID: m.id, Organisation: m.question.Route.Organisation, Reason: v.Why.Reason(), Verdicts: v.Verdicts(),
		From: m.from, Envelope: m.envelope, Header: m.header, Body: m.body,
	}, v.Why, fact, now)
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
	inward      custody.Inbound // instead of proof and warrant, for a message that came in
}

// Release judges a detained message again: attribution on the evidence of then,
// policy, both with the Directory of now. Only what they prove is signed and kept,
// in the batch that ends the detention. The refusal says why it stays; with
// dryRun nothing is changed. by says who asks, for the ledger.
func (a *App) Release(ctx context.Context, id mail.ID, by string, dryRun bool) (*mail.Refusal, error) {
	now := time.Now().UTC()
	t, refusal, err := a.try(ctx, id, now)
	if refusal != nil || err != nil || dryRun {
		return refusal, err
	}
	body, hashes, err := a.intake.spooled(t.header, t.content.Body())
	if err != nil {
		return nil, fmt.Errorf("release %s: %w", id, err)
	}
	defer body.Close()
	if refusal := a.intake.screenAgain(ctx, &t, body); refusal != nil {
		return refusal, nil
	}
	released := custody.Submission{ID: id, Warrant: t.inward, Envelope: t.detained.Envelope, Header: t.header, Body: body, Facts: []ledger.Fact{t.accepted(now)}}
	if !t.detained.Inbound() {
		signatures, refusal := a.intake.sign(ctx, t.warrant, t.dir, t.header, hashes, now)
		if refusal != nil {
			return refusal, nil
		}
		released.Warrant, released.Header = t.warrant, t.header.Prepend(signatures...)
		released.Put = a.intake.returns.remember(t.dir, t.proof.Organisation(), id, t.detained.Envelope)
	}
	_, err = a.queue.ReleaseDetained(ctx, released, by, now)
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
	if t.detained.Inbound() {
		t.inward, refusal = inbound.Reopen(t.dir, t.detained)
		return t, refusal, nil
	}
	if t.proof, refusal = attributeHeld(t.dir, &t.detained, now); refusal != nil {
		return t, refusal, nil
	}
	if t.proof.Organisation() != t.detained.Organisation {
		return t, mail.AttributionConflict.Because("it was detained for %s, and its evidence points to %s now", t.detained.Organisation, t.proof.Organisation()), nil
	}
	t.warrant, refusal = policy.Permit(t.dir, t.proof, messageOf(t.detained.Envelope.From, t.header, t.originators), a.intake.standing(ctx, now))
	if refusal == nil {
		refusal = a.responses.stops(spoken(string(t.proof.Organisation()), t.proof.Source(), t.detained.Envelope.From, t.originators, t.warrant.SignAs()))
	}
	return t, refusal, nil
}

// attributeHeld judges the evidence of then by the Directory of now. What has an
// end is asked about now; only the age of a Workspace's own signature, which guards
// against copies that are sent again, is that of the arrival.
func attributeHeld(dir *org.Directory, d *custody.Detained, now time.Time) (attribution.Proof, *mail.Refusal) {
	proof, refusal := attribution.Attribute(dir, &d.Evidence, now)
	if refusal == nil || refusal.Reason() != mail.ReasonSecondProofMissing {
		return proof, refusal
	}
	then, other := attribution.Attribute(dir, &d.Evidence, d.Kept)
	if s, ok := dir.Source(then.Organisation(), then.Source()); other == nil && ok && s.Kind == org.Google {
		return then, nil
	}
	return proof, refusal
}

// bodyInMemory is how much of a released body is held in memory; more goes
// through a file of the spool.
const bodyInMemory = 256 << 10

// spooled copies a body that is stored, and hashes it on the way.
func (in *intake) spooled(header mail.Header, stored io.Reader) (*mail.Body, dkim.BodyHashes, error) {
	w := &mail.BodyWriter{Threshold: bodyInMemory, Dir: in.spool}
	hasher := dkim.NewBodyHasher(header)
	if _, err := io.Copy(io.MultiWriter(w, hasher), stored); err != nil {
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
	if t.detained.Inbound() {
		fact.Direction, fact.Org, fact.Identity = "inbound", string(t.detained.Organisation), ledger.Unproven
		return fact
	}
	tellEvidence(&fact, &t.detained.Evidence)
	tellProof(&fact, t.proof)
	tellMessageID(&fact, t.header)
	return fact
}

// houseEvery is how often what is over is cleared away.
const houseEvery = time.Hour

// keepHouse drops what was detained for too long and what lists no longer need, at
// the start and then hourly; then it also sends the digests that are due.
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
		if err := a.approvals.Sweep(ctx, time.Now()); err != nil && ctx.Err() == nil {
			a.log.Error("proposals to release held mail could not be swept", "error", err)
		}
		a.intake.echoes.Sweep(time.Now())
		if err := a.returns.sweep(ctx, time.Now()); err != nil && ctx.Err() == nil {
			a.log.Error("suppression lists could not be swept", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.digests(ctx, time.Now().UTC())
		}
	}
}
