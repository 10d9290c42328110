package app

import (
	"time"

	"anechoic/control/metrics"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/limit"
)

// bill is what a permitted message paid: to the throttles that reach it, for its
// signature, and from the limits of who sends it.
//
// Only what is taken pays. Whoever puts a message off, or refuses it later, gives back
// what it paid until then: a message that a scanner refuses uses up no throttle, and one
// that its organisation's limit puts off uses up nothing of its source's.
type bill struct {
	throttles, copies []limit.Claim
	limits            spent
}

// charge takes all that a message costs, or nothing.
func (in *intake) charge(m *offered, signAs mail.Domain, fact *ledger.Fact, now time.Time) (paid bill, refusal *mail.Refusal) {
	if refusal = in.copies.refused(m, fact); refusal != nil {
		return paid, refusal
	}
	defer func() {
		if refusal != nil {
			in.giveBack(now, paid)
			paid = bill{}
		}
	}()
	if paid.throttles, refusal = in.responses.throttled(m, signAs, now); refusal != nil {
		in.metrics.Limited(metrics.LimitedThrottle, metrics.LimitPutOff)
		return paid, refusal
	}
	if paid.copies, refusal = in.copies.spend(m, fact, now); refusal != nil {
		in.metrics.Limited(metrics.LimitedSignature, metrics.LimitPutOff)
		return paid, refusal
	}
	if paid.limits, refusal = in.budgets.spend(m, now); refusal != nil {
		return paid, refusal
	}
	in.tellBill(paid, metrics.LimitTaken)
	return paid, nil
}

// giveBack returns what was paid for a message that is not kept.
func (in *intake) giveBack(now time.Time, paid bill) {
	in.responses.throttle.Return(now, paid.throttles...)
	in.copies.spent.Return(now, paid.copies...)
	in.budgets.principals.giveBack(now, paid.limits)
}

// notKept gives back what a message paid that was charged, and is not kept.
func (in *intake) notKept(now time.Time, paid bill) {
	in.giveBack(now, paid)
	in.tellBill(paid, metrics.LimitGivenBack)
}

// tellBill counts what was decided about a message that paid.
func (in *intake) tellBill(paid bill, o metrics.LimitOutcome) {
	for range paid.throttles {
		in.metrics.Limited(metrics.LimitedThrottle, o)
	}
	for range paid.copies {
		in.metrics.Limited(metrics.LimitedSignature, o)
	}
	for _, taken := range []limit.Taken{paid.limits.principals, paid.limits.sites} {
		for p := range taken.Bounded() {
			in.metrics.Limited(p.Scope().String(), o)
		}
	}
}
