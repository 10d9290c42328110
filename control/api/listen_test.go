package api

import (
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// serveOnSocket serves a relay as serve does, and gives a client. closed stops
// the server and waits for it.
func serveOnSocket(t *testing.T, r *relay) (client *Client, closed func()) {
	t.Helper()
	dir := t.TempDir()
	listener, err := Listen(dir, r.Log)
	if err != nil {
		t.Fatal(err)
	}
	server := NewHTTPServer(r.Handler(), r.Log)
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	closed = sync.OnceFunc(func() {
		_ = server.Close()
		running.Wait()
	})
	t.Cleanup(closed)
	return NewClient(dir), closed
}

func TestTheClientAsksEverything(t *testing.T) {
	r := newRelay(t, registry)
	id := r.keep(t, "acme", "a@one.test")
	c, _ := serveOnSocket(t, r)
	ctx := t.Context()
	if s, err := c.Status(ctx, ""); err != nil || s.Answer != "No" {
		t.Errorf("status: %+v, %v", s, err)
	}
	if keys, err := c.Keys(ctx, "acme", ""); err != nil || len(keys) != 2 {
		t.Errorf("keys: %+v, %v", keys, err)
	}
	if key, err := c.Key(ctx, "acme", "acme.test", "an1"); err != nil || key.ZoneLine == "" {
		t.Errorf("key: %+v, %v", key, err)
	}
	if page, err := c.Queue(ctx, nil); err != nil || len(page.Messages) != 1 {
		t.Errorf("queue: %+v, %v", page, err)
	}
	if m, err := c.Queued(ctx, id); err != nil || m.ID != id {
		t.Errorf("queued: %+v, %v", m, err)
	}
	if done, err := c.Steer(ctx, Hold, Selection{All: true}, nil); err != nil || done.Messages != 1 {
		t.Errorf("steer: %+v, %v", done, err)
	}
	if m, err := c.Message(ctx, id); err != nil || len(m.Facts) != 2 {
		t.Errorf("message: %+v, %v", m, err)
	}
	if v, err := c.Verify(ctx, func(uint64, uint64) {}); err != nil || !v.OK {
		t.Errorf("verify: %+v, %v", v, err)
	}
	if done, err := c.Reload(ctx); err != nil || done.Generation != 7 {
		t.Errorf("reload: %+v, %v", done, err)
	}
	r.reload = ErrConflict
	var p *Problem
	if _, err := c.Reload(ctx); !errors.As(err, &p) || p.Code != CodeConflict {
		t.Errorf("a reload that conflicts: %v", err)
	}
}

func TestAClientWithoutARelaySaysSo(t *testing.T) {
	if _, err := NewClient(t.TempDir()).Status(t.Context(), ""); !errors.Is(err, ErrNotRunning) {
		t.Errorf("the error is %v", err)
	}
}

func TestTheSocketIsForItsUserAlone(t *testing.T) {
	dir := t.TempDir()
	l, err := Listen(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, SocketName))
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket has mode %v, %v", info.Mode(), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, SocketName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close the socket is there: %v", err)
	}
}

func TestOnlyTheSameUserAndRootArePermitted(t *testing.T) {
	for _, c := range []struct {
		peer, self int
		want       bool
	}{{1000, 1000, true}, {0, 1000, true}, {1001, 1000, false}, {-1, 1000, false}, {1000, 0, false}, {-1, 0, false}} {
		if got := permitted(c.peer, c.self); got != c.want {
			t.Errorf("user %d at a relay of %d: %v, want %v", c.peer, c.self, got, c.want)
		}
	}
}

func TestTheKernelSaysWhoConnects(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if uid, err := peerUser(accepted); err != nil || uid != os.Geteuid() {
		t.Errorf("the peer is user %d, %v; want %d", uid, err, os.Geteuid())
	}
}

func TestConnectionsOfOtherUsersAreClosed(t *testing.T) {
	dir := t.TempDir()
	l, err := Listen(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l.(*guarded).permitted = func(int, int) bool { return false } // whoever runs the test is another user now
	accepting := make(chan error, 1)
	go func() { _, err := l.Accept(); accepting <- err }()
	c, err := net.Dial("unix", filepath.Join(dir, SocketName))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("another user reads %d octets", n)
	}
	if err := errors.Join(c.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	if err := <-accepting; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept gave the connection out: %v", err)
	}
}

func TestAStaleSocketIsReplacedAndALiveOneIsNot(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, SocketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false) // as a crash leaves it
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}
	live, err := Listen(dir, log)
	if err != nil {
		t.Fatalf("over a stale socket: %v", err)
	}
	defer live.Close()
	go func() { _, _ = live.Accept() }()
	if _, err := Listen(dir, log); !errors.Is(err, ErrRunning) {
		t.Errorf("over a live socket: %v", err)
	}
}

func TestWhatIsNoSocketIsNotTouched(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, SocketName)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(dir, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("the error is %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("the file is %q, %v", text, err)
	}
}

func TestAPathTooLongForASocketIsNamed(t *testing.T) {
	_, err := Listen(filepath.Join(t.TempDir(), strings.Repeat("d", 120)), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "choose a shorter data_dir") {
		t.Errorf("the error is %v", err)
	}
}
