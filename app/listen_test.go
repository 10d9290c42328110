package app

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"anechoic/control/supervise"
	"anechoic/ledger"
)

func TestWhichSocketAConfiguredAddressMeans(t *testing.T) {
	for _, c := range []struct {
		socket, configured string
		want               bool
	}{
		{"[::]:25", ":25", true},
		{"[::]:25", "0.0.0.0:25", true},
		{"0.0.0.0:25", "[::]:25", true},
		{"[::]:25", ":26", false},
		{"[::]:25", "192.0.2.1:25", false},
		{"192.0.2.1:25", "192.0.2.1:25", true},
		{"192.0.2.1:25", "[::ffff:192.0.2.1]:25", true},
		{"192.0.2.1:25", "192.0.2.2:25", false},
		{"192.0.2.1:25", ":25", false},
		{"127.0.0.1:25", "localhost:25", true},
		{"192.0.2.1:25", "localhost:25", false},
		{"192.0.2.1:25", "relay.example:25", false},
		{"192.0.2.1:25", "25", false},
	} {
		addr, err := net.ResolveTCPAddr("tcp", c.socket)
		if err != nil {
			t.Fatal(err)
		}
		if got := listensOn(addr, c.configured); got != c.want {
			t.Errorf("%s for %q: %v", c.socket, c.configured, got)
		}
	}
	if listensOn(&net.UnixAddr{Name: "/s", Net: "unix"}, ":25") {
		t.Error("a local socket is taken for a port")
	}
}

// started is a relay with the listen addresses and sockets of a test.
func started(t *testing.T, disk vfs.FS, listen string, sockets ...supervise.Socket) (*App, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "anechoic") // short: the path of a control socket has at most 107 octets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	text := "hostname = \"relay.anechoic.test\"\nregistry = \"registry.toml\"\n[smtp]\nlisten = [" + listen + "]\n[dns]\nservers = [\"127.0.0.1:9\"]\n[console]\nlisten = \"\"\n[operations]\nlisten = \"\"\n"
	for name, text := range map[string]string{"relay.toml": text, "registry.toml": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, err := New(Options{ConfigFile: filepath.Join(dir, "relay.toml"), Inherited: sockets, disk: disk})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = a.Stop(ctx) // the test looked at what matters
	})
	return a, a.Start()
}

// held is a socket that a supervisor holds.
func held(t *testing.T, name string) supervise.Socket {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return supervise.Socket{Name: name, Listener: l}
}

func TestConfiguredSocketsOfTheSupervisorAreServedAndOthersAreBound(t *testing.T) {
	socket := held(t, "smtp")
	a, err := started(t, vfs.NewMem(), `"`+socket.Listener.Addr().String()+`", "127.0.0.1:0"`, socket)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Ready().SMTP; len(got) != 2 || got[0] != socket.Listener.Addr().String() || got[1] == got[0] {
		t.Errorf("it listens on %v", got)
	}
	for _, address := range a.Ready().SMTP {
		if banner := greeting(t, address); !strings.HasPrefix(banner, "220 ") {
			t.Errorf("%s says %q", address, banner)
		}
	}
}

func greeting(t *testing.T, address string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	line := make([]byte, 512)
	n, err := conn.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	return string(line[:n])
}

func TestASocketThatNobodyConfiguredIsAnError(t *testing.T) {
	for name, want := range map[string]string{
		"smtp":            "smtp.listen does not list that address",
		"submission":      "smtp.listen_submission does not list that address",
		"anechoic.socket": "FileDescriptorName= of its socket unit must be",
	} {
		socket := held(t, name)
		if _, err := started(t, vfs.NewMem(), `"127.0.0.1:0"`, socket); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), socket.Listener.Addr().String()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	socket := held(t, "submission") // but the configuration takes the port for another use
	if _, err := started(t, vfs.NewMem(), `"`+socket.Listener.Addr().String()+`"`, socket); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), `by the name "submission"`) {
		t.Errorf("a port that the supervisor holds for something else: %v", err)
	}
}

func TestARelayWithoutAListenerIsNotAlive(t *testing.T) {
	socket := held(t, "smtp")
	a, err := started(t, vfs.NewMem(), `"`+socket.Listener.Addr().String()+`"`, socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Alive(t.Context()); err != nil {
		t.Fatal(err)
	}
	socket.Listener.Close()
	for a.failed.Load() == 0 {
		runtime.Gosched()
	}
	if err := a.Alive(t.Context()); err == nil {
		t.Error("it is said to be alive")
	}
}

func TestARelayWithABrokenStoreIsNotAlive(t *testing.T) {
	var fail atomic.Bool
	disk := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fail.Load() && op.Kind == errorfs.OpFileSyncData && strings.HasSuffix(op.Path, ".log") {
			return syscall.EIO
		}
		return nil
	}))
	a, err := started(t, disk, `"127.0.0.1:0"`)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Alive(t.Context()); err != nil {
		t.Errorf("before anything failed: %v", err)
	}
	fail.Store(true)
	if err := a.record(ledger.Fact{Event: ledger.Reloaded}); err == nil {
		t.Fatal("the fault did not show")
	}
	<-a.Broken()
	if err := a.Alive(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Errorf("broken: %v", err)
	}
}
