package app

import (
	"context"

	"anechoic/mail"
	"anechoic/relay/delivery"
	"anechoic/relay/inbound"
	"anechoic/relay/inbound/echo"
)

// openInbound gives the intake what it needs to judge mail that comes in.
func (a *App) openInbound() error {
	a.intake.checker = &inbound.Checker{Resolver: a.resolver, Sealers: a.config.Inbound.TrustedSealers}
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
