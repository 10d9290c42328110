package app

import (
	"context"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver of the index

	"anechoic/watch/tracking"
)

// openTracking opens the index by which messages are found. It is a projection of the
// ledger: without it mail flows as before, and the ledger itself is searched.
func (a *App) openTracking() (err error) {
	if !a.config.Tracking.Enabled {
		return nil
	}
	a.tracking, err = tracking.Open(tracking.Options{
		Dir: filepath.Join(a.config.DataDir, "tracking"), Ledger: a.engine, Policy: func() tracking.Policy { return a.config.Tracking.Rules }, Log: a.log,
	})
	if err != nil {
		a.log.Error("messages are searched in the ledger itself, slowly: the index cannot be opened", "error", err)
		a.tracking = nil
		return nil
	}
	a.onStop("tracking", func(context.Context) error { return a.tracking.Close() })
	return nil
}

// track follows the ledger with the index.
func (a *App) track(ctx context.Context) {
	if a.tracking != nil {
		a.tracking.Run(ctx)
	}
}
