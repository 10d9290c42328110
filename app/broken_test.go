package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"anechoic/ledger"
	"anechoic/relay/custody"
)

// A failed sync is final: the program is told to end, says why, and its end does
// not wait for a disk that does not answer.
func TestAFailedSyncEndsTheRelayAndSaysWhy(t *testing.T) {
	dir, err := os.MkdirTemp("", "anechoic") // short: the path of a control socket has at most 107 octets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for name, text := range map[string]string{
		"relay.toml": `hostname = "relay.anechoic.test"
registry = "registry.toml"
[smtp]
listen = ["127.0.0.1:0"]
[dns]
servers = ["127.0.0.1:9"]
[console]
listen = ""
[operations]
listen = ""
`, "registry.toml": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var fail atomic.Bool
	disk := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fail.Load() && op.Kind == errorfs.OpFileSyncData && strings.HasSuffix(op.Path, ".log") {
			return syscall.EIO
		}
		return nil
	}))
	a, err := New(Options{ConfigFile: filepath.Join(dir, "relay.toml"), Log: slog.New(slog.NewTextHandler(io.Discard, nil)), disk: disk})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-a.Broken():
		t.Fatal("broken before anything failed")
	default:
	}
	fail.Store(true)
	if err := a.record(ledger.Fact{Event: ledger.Reloaded}); !errors.Is(err, custody.ErrBroken) {
		t.Errorf("a fact that could not be synced: %v", err)
	}
	<-a.Broken()
	if err := a.Fault(); !errors.Is(err, custody.ErrBroken) || !errors.Is(err, syscall.EIO) {
		t.Errorf("the fault reads %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := a.Stop(ctx); !errors.Is(err, custody.ErrBroken) || ctx.Err() != nil {
		t.Errorf("stopped with %v", err)
	}
}
