package delivery

import (
	"context"
	"time"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// conclude turns results into outcomes, and into what the sender is told.
func (d *Dispatcher) conclude(ctx context.Context, b Bounce, site string, results []Result) ending {
	b.Now = time.Now()
	end := ending{now: b.Now, outcomes: outcomes(site, results)}
	if d.Notice == nil || b.Lease.Message.Envelope.From.IsZero() { // mail from the null sender is never answered: RFC 5321 section 6.1
		return end
	}
	d.tellFailed(ctx, b, results, &end)
	d.tellDelayed(ctx, b, results, &end)
	d.tellRelayed(ctx, b, results, &end)
	return end
}

// tellFailed adds the bounce. Without it a failure is not final.
func (d *Dispatcher) tellFailed(ctx context.Context, b Bounce, results []Result, end *ending) {
	b.Kind, b.Failures = NoticeFailed, failures(b.Lease, results, b.Now)
	if len(b.Failures) == 0 {
		return
	}
	notices, err := d.Notice(ctx, b)
	if err != nil {
		d.logError(ctx, "bounce could not be composed, recipients are tried again while they have time", b.Lease.ID, err)
		end.postpone()
		return
	}
	end.notices = append(end.notices, notices...)
}

// tellDelayed adds the notice of a delay, and notes in the outcomes that it was
// given: it is given once.
func (d *Dispatcher) tellDelayed(ctx context.Context, b Bounce, results []Result, end *ending) {
	indices := d.delayed(b.Lease, results, b.Now)
	if len(indices) == 0 {
		return
	}
	b.Kind, b.Failures = NoticeDelayed, nil
	for _, i := range indices {
		b.Failures = append(b.Failures, Failure{Recipient: b.Lease.Recipients[i], Result: results[i]})
	}
	notices, err := d.Notice(ctx, b)
	if err != nil {
		d.logError(ctx, "notice of a delay could not be composed: the next attempt composes it again", b.Lease.ID, err)
		return
	}
	end.notices = append(end.notices, notices...)
	for _, i := range indices {
		end.outcomes[i].Told = true
	}
}

// tellRelayed adds the notice that a next hop without DSN took the message, where
// the sender asked to be told of success (RFC 3461 section 5.2.2).
func (d *Dispatcher) tellRelayed(ctx context.Context, b Bounce, results []Result, end *ending) {
	b.Kind, b.Failures = NoticeRelayed, nil
	for i, r := range results {
		if r.Status == Delivered && r.Relayed && b.Lease.Recipients[i].Notify&mail.NotifySuccess != 0 {
			b.Failures = append(b.Failures, Failure{Recipient: b.Lease.Recipients[i], Result: r})
		}
	}
	if len(b.Failures) == 0 {
		return
	}
	notices, err := d.Notice(ctx, b)
	if err != nil {
		d.logError(ctx, "notice that a message was relayed could not be composed: its sender is not told", b.Lease.ID, err)
		return
	}
	end.notices = append(end.notices, notices...)
}

// failures lists the recipients whose failure the sender wants to hear of.
func failures(lease *custody.Lease, results []Result, now time.Time) (list []Failure) {
	for i, r := range results {
		expired := r.Status == Deferred && lease.Final(now)
		if (r.Status == Failed || expired) && lease.Recipients[i].Notify.OnFailure() {
			list = append(list, Failure{Recipient: lease.Recipients[i], Result: r, Expired: expired})
		}
	}
	return list
}

// delayed lists the recipients of whose delay the sender is to be told now.
func (d *Dispatcher) delayed(lease *custody.Lease, results []Result, now time.Time) (indices []int) {
	if !d.isLate(lease, now) || lease.Final(now) {
		return nil
	}
	for i, r := range results {
		if r.Status == Deferred && wantsDelay(lease.Recipients[i]) {
			indices = append(indices, i)
		}
	}
	return indices
}

// isLate says that a message is here for so long that its sender is told.
func (d *Dispatcher) isLate(lease *custody.Lease, now time.Time) bool {
	after := d.DelayAfter
	if after == 0 {
		after = DefaultDelayAfter
	}
	return after > 0 && now.Sub(lease.Message.Kept) >= after
}

// wantsDelay: where the sender said nothing, the relay decides (RFC 3461 section
// 4.1).
func wantsDelay(r custody.Recipient) bool {
	return !r.Told && (r.Notify == 0 || r.Notify&mail.NotifyDelay != 0)
}

// silent says that deferring a lease tells its sender nothing, so that nothing is
// to be composed.
func (d *Dispatcher) silent(lease *custody.Lease, now time.Time) bool {
	if lease.Final(now) {
		return false
	}
	if d.Notice == nil || !d.isLate(lease, now) {
		return true
	}
	for _, r := range lease.Recipients {
		if wantsDelay(r) {
			return false
		}
	}
	return true
}
