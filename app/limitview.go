package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"anechoic/control/api"
	"anechoic/ledger"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/limit"
)

// limitSteering is api.Limits.
type limitSteering struct{ app *App }

// Of implements api.Limits.
func (s limitSteering) Of(id org.ID, source string, now time.Time) (view api.SourceLimits, ok bool) {
	l, dir := s.app.limits, s.app.directory.Load()
	o, known := dir.Organisation(id)
	one, there := dir.Source(id, source)
	if !known || !there {
		return view, false
	}
	view = api.SourceLimits{Organisation: string(id), Source: source, Kind: string(one.Kind), By: api.ByLimits, Budgets: []api.BudgetLeft{}}
	if one.Limits == (org.Limits{}) {
		view.By = api.ByNothing
	}
	if l.tiered(one) {
		standing := l.stand(o, one, now)
		view.Tier, view.Why, view.Next, view.Missing, view.NotBefore = standing.Tier, standing.Why, standing.Next, standing.Missing, standing.NotYet
		if rule, _ := limit.RuleOf(standing.Tier); rule.Caps != (limit.Caps{}) {
			view.By = api.ByTier
		}
		if h, ok := l.trust.History(limit.Name{Organisation: string(id), Source: source}); ok {
			view.Grant = h.Grant
		}
	}
	own, shared := l.capsOf(dir, o, one, now)
	look := func(of string, p limit.Principal, caps limit.Caps) limit.Amount {
		budgets, spent := l.book.Look(now, p, caps)
		for _, b := range budgets {
			view.Budgets = append(view.Budgets, api.BudgetLeft{Of: of, Unit: string(b.Unit), Most: b.Most, Left: b.Left, Whole: b.Whole})
		}
		return spent
	}
	spent := look("source", limit.OfSource(string(id), source), l.ofAllTenants(one, own))
	view.Messages, view.Recipients, view.Bytes = spent.Messages, spent.Recipients, spent.Bytes
	look("sources on tiers", limit.OfShared(string(id)), shared)
	look("organisation", limit.OfOrganisation(string(id)), explicitCaps(o.Limits))
	if len(one.TenantIDs) > 1 {
		for _, tenant := range one.TenantIDs {
			look("tenant "+tenant, limit.OfTenant(string(id), tenant), own)
		}
	}
	for _, d := range o.Domains {
		look("domain "+d.Name.String(), limit.OfDomain(string(id), d.Name.String()), explicitCaps(d.Limits))
	}
	return view, true
}

// Grant implements api.Limits.
func (s limitSteering) Grant(ctx context.Context, id org.ID, source string, g *limit.Grant, by string) error {
	l := s.app.limits
	if !l.options.Tiers {
		return fmt.Errorf("%w: tiers are off: limits.tiers = false in relay.toml", api.ErrConflict)
	}
	if !l.trust.Grant(limit.Name{Organisation: string(id), Source: source}, g) {
		return errors.New("the source is not known yet: reload, and try again")
	}
	l.forgetStandings()
	detail := "the tier granted to it is taken back by " + by
	if g != nil {
		detail = fmt.Sprintf("tier %s until %s, granted by %s", g.Tier, g.Until.Format(time.RFC3339), by)
	}
	return s.told(ctx, id, source, detail)
}

// Reset implements api.Limits.
func (s limitSteering) Reset(ctx context.Context, id org.ID, source, by string) error {
	s.app.limits.book.Reset(limit.OfSource(string(id), source))
	s.app.limits.book.Reset(limit.OfReports(string(id), source))
	return s.told(ctx, id, source, "what it spent was forgotten by "+by)
}

// told stores a change at once, and tells the ledger.
func (s limitSteering) told(ctx context.Context, id org.ID, source, detail string) error {
	now := time.Now().UTC()
	if err := s.app.storeLimits(ctx, now); err != nil {
		return err
	}
	s.app.log.Info("limits changed", "org", string(id), "source", source, "detail", detail)
	return s.app.store.Commit(ctx, &custody.Batch{Facts: []ledger.Fact{{Time: now, Event: ledger.LimitChanged, Org: string(id), Source: source, Detail: printable(detail)}}})
}
