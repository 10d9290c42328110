package app

import (
	"context"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/policy"
)

// learns says that mail with this From may be held instead of refused, so that all
// its evidence is to be looked up: a release has nothing else to judge by.
func learns(dir *org.Directory, from mail.Domain) bool {
	d, owned := dir.Owner(from)
	if !owned {
		return false
	}
	o, known := dir.Organisation(d.Organisation)
	return known && o.Learning
}

// learn holds a refused message of an organisation that is still learning, and
// writes down what it would have been refused with. Of all others, and where there
// is no room, the refusal stands.
func (in *intake) learn(ctx context.Context, m *offered, refusal *mail.Refusal, fact *ledger.Fact, now time.Time) (receipt custody.Receipt, _ *mail.Refusal) {
	learned, ok := policy.Learns(m.dir, &m.evidence, m.originators, refusal, in.standing(ctx, now))
	if !ok {
		return receipt, refusal
	}
	d := in.detention(m, now)
	d.Organisation, d.Source, d.Claimed, d.Reason = learned.Organisation, learned.Source, learned.Source == "", refusal.Reason()
	would := *fact
	would.Event, would.Identity, would.Disposition = ledger.WouldRefuse, ledger.Unproven, ledger.DispositionHeld
	would.Reason, would.Detail, would.Reply = refusal.Reason(), printable(refusal.Detail()), refusal.Line(m.tx.ID)
	would.Org, would.ClaimedOrg = "", string(learned.Organisation)
	fact.Org, fact.ClaimedOrg = "", string(learned.Organisation)
	return in.detain(ctx, d, refusal, fact, now, would)
}
