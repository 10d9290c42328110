package app

import (
	"context"
	"slices"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/delivery"
	"anechoic/relay/inbound"
	"anechoic/relay/inbound/echo"
	"anechoic/standard/dkim"
	"anechoic/standard/dmarc"
)

// openInbound gives the intake what it needs to judge mail that comes in.
func (a *App) openInbound() error {
	a.intake.checker = &inbound.Checker{Resolver: a.resolver, Hostname: a.config.Hostname.String(), Sealers: a.config.Inbound.TrustedSealers}
	a.intake.recipients = newCallAhead(func(ctx context.Context, rcpt mail.Recipient) delivery.Result { return a.probe(ctx, rcpt) })
	a.intake.echoes = new(echo.Table)
	if err := a.intake.echoes.Load(context.Background(), a.store); err != nil {
		a.log.Warn("what was learned of domains' tenants could not be read back whole", "error", err)
	}
	return nil
}

// flushEchoes keeps what was learned over a restart.
func (a *App) flushEchoes() {
	if err := a.intake.echoes.Flush(context.Background(), a.store); err != nil {
		a.log.Error("what was learned of domains' tenants could not be stored", "error", err)
	}
}

// forgetEcho drops what was learned of a domain, for somebody.
func (a *App) forgetEcho(_ context.Context, name mail.Domain, by string) (bool, error) {
	if !a.intake.echoes.Forget(name) {
		return false, nil
	}
	a.flushEchoes()
	return true, a.record(ledger.Fact{Event: ledger.EchoForgotten, Detail: "what was learned of " + name.String() + ", by " + by})
}

// observe asks the table of echoes, and teaches it. Mail that DMARC does not pass, or
// that no provider's hands were on, costs no look-up: there is no verdict on it.
func (in *intake) observe(ctx context.Context, m *arriving, r *inbound.Results, now time.Time) echo.Verdict {
	q, provider := &m.question, in.directory.Load().Providers().Microsoft365
	o := echo.Observation{
		Time: now, From: q.From, Organisational: r.DMARC.OrganisationalDomain, DMARC: r.DMARC.Status == dmarc.Pass, SPF: r.SPFAligned(),
		Stamps: echo.Read(m.evidence, m.header), Seals: attribution.SealsOf(r.ARC, provider.ARCDomains),
	}
	if q.Sender != "" || !o.DMARC || !o.Stamps.Any && len(o.Seals) == 0 {
		return echo.Verdict{Echo: echo.None}
	}
	o.PeerName, _ = mail.ParseDomain(q.Helo)
	if provider.Contains(q.Peer) && confirmPeer(ctx, in.resolver, q.Peer) == attribution.PeerNameConfirmed {
		o.Peer = echo.ProviderPeer
	}
	o.Signatures, o.Named = in.aliased(ctx, r.DKIM), in.namedTenants(ctx, q.From)
	return in.echoes.Observe(ruleOf(q.Route), o)
}

// ruleOf is what the organisation's administrators decided.
func ruleOf(route *org.Inbound) (rule echo.Rule) {
	for _, v := range route.Vouched {
		rule.Vouched = append(rule.Vouched, echo.Vouch{From: v.From, Tenant: v.Tenant})
	}
	return rule
}

// namedTenants are those that a domain's own DNS says hold its keys. What cannot be
// looked up names nobody: it takes a point in favour away, and adds none against.
func (in *intake) namedTenants(ctx context.Context, from mail.Domain) (names []mail.Domain) {
	for _, key := range echo.KeyNames(from) {
		alias, err := in.resolver.CNAME(ctx, key)
		if err != nil || len(alias.Records) != 1 {
			continue
		}
		if name, ok := echo.NameOf(alias.Records[0]); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// aliased gives the signatures that verified, with where their keys are kept.
func (in *intake) aliased(ctx context.Context, results []dkim.Result) (list []echo.Signature) {
	for i, r := range results {
		if r.Status != dkim.Pass || r.Testing {
			continue
		}
		s := echo.Signature{Domain: r.Domain, Selector: r.Selector, Field: i}
		if alias, err := in.resolver.CNAME(ctx, r.KeyName); err == nil && len(alias.Records) == 1 {
			s.Alias = alias.Records[0]
		}
		list = append(list, s)
	}
	return list
}
