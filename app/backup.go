package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"anechoic/control/api"
	"anechoic/control/backup"
	"anechoic/engine/local"
	"anechoic/mail"
)

// sweepCheckpoints removes what a process that was killed left of a checkpoint. The
// store's lock is held: nobody else makes one.
func (a *App) sweepCheckpoints() error {
	dir := filepath.Join(a.config.DataDir, backup.CheckpointFolder)
	if _, err := os.Lstat(dir); err != nil {
		return nil // there is none
	}
	a.log.Info("what is left of a checkpoint is removed", "dir", dir)
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("a checkpoint that is left cannot be removed: %w", err)
	}
	return nil
}

// checkpoint copies the store for somebody else to read, and gives what removes it.
func (a *App) checkpoint(ctx context.Context) (api.Checkpoint, func(), error) {
	if !a.copying.TryLock() {
		return api.Checkpoint{}, nil, api.ErrCheckpointBusy
	}
	root, err := filepath.Abs(filepath.Join(a.config.DataDir, backup.CheckpointFolder))
	if err != nil {
		a.copying.Unlock()
		return api.Checkpoint{}, nil, err
	}
	remove := func() {
		defer a.copying.Unlock()
		if err := os.RemoveAll(root); err != nil {
			a.log.Error("a checkpoint cannot be removed: it holds on to what is deleted until the next start", "dir", root, "error", err)
		}
	}
	store := filepath.Join(root, string(mail.NewID(time.Now())))
	err = os.Mkdir(root, 0o700)
	if err == nil {
		err = a.engine.Checkpoint(ctx, store)
	}
	if err != nil {
		remove()
		return api.Checkpoint{}, nil, err
	}
	return api.Checkpoint{Store: store, Version: a.options.Version, Started: a.started}, remove, nil
}

// noteStart writes down what was started, for the next version that will be.
func (a *App) noteStart() {
	start := backup.LastStart{Version: a.options.Version, Time: a.started, Store: local.CurrentFormat(), Config: a.config.Show()}
	if err := start.Write(a.config.DataDir); err != nil {
		a.log.Warn("an upgrade check will not know what was started", "error", err)
	}
}

// whole refuses a data directory that a restore has not finished.
func (a *App) whole() error {
	err := backup.Unfinished(a.config.DataDir)
	if errors.Is(err, os.ErrPermission) {
		return nil // the next step says so
	}
	return err
}
