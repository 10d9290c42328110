package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"anechoic/relay/limit"
)

// LimitOutcome is what was decided about a message and one of the budgets it needs.
type LimitOutcome int

// The outcomes.
const (
	LimitTaken     LimitOutcome = iota // there was budget
	LimitPutOff                        // there was none: 451
	LimitGivenBack                     // there was, but the message was not kept for another reason
	limitOutcomes
)

var limitOutcomeNames = [limitOutcomes]string{"taken", "put_off", "given_back"}

// Budgets that are no principal's.
const (
	LimitedThrottle  = "throttle"  // of a response
	LimitedSignature = "signature" // of a DKIM signature that comes again
)

// decisions counts what limits decide, by the kind of principal: each has its counters
// from the start, so that counting is one look into a map.
type decisions struct {
	counters map[string]*[limitOutcomes]prometheus.Counter
}

func (m *Metrics) newDecisions() {
	of := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "anechoic", Name: "limit_decisions_total",
		Help: "Decisions of limits, by the kind of principal whose budget it was and by outcome: taken, put_off, given_back. A message is counted once for each budget it needs that is bounded; of those that put it off, only the one that lasts longest is."}, []string{"principal", "outcome"})
	m.registry.MustRegister(of)
	m.decisions.counters = map[string]*[limitOutcomes]prometheus.Counter{}
	kinds := []string{LimitedThrottle, LimitedSignature}
	for _, s := range limit.Scopes() {
		kinds = append(kinds, s.String())
	}
	for _, kind := range kinds {
		c := new([limitOutcomes]prometheus.Counter)
		for o, name := range limitOutcomeNames {
			c[o] = of.WithLabelValues(kind, name)
		}
		m.decisions.counters[kind] = c
	}
}

// Limited counts a decision: of a scope of limit.Scopes, or of one of the budgets that
// are no principal's.
func (m *Metrics) Limited(principal string, o LimitOutcome) {
	if c := m.decisions.counters[principal]; c != nil && o >= 0 && o < limitOutcomes {
		c[o].Inc()
	}
}
