package supervise

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// environment is one of a process.
type environment map[string]string

func (e environment) get(name string) string { return e[name] }

// notifySocket is a supervisor's ear.
func notifySocket(t *testing.T) (address string, heard func() string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify") // short: the path of a socket has at most 107 octets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	address = filepath.Join(dir, "s")
	ear, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ear.Close() })
	return address, func() string {
		t.Helper()
		if err := ear.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		n, err := ear.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func TestNobodySupervisesWithoutASocket(t *testing.T) {
	s, err := Connect(environment{}.get, 1)
	if s != nil || err != nil {
		t.Fatalf("%v, %v", s, err)
	}
	if err := errors.Join(s.Ready("x"), s.Reloading("x"), s.Stopping(time.Second, "x"), s.Status("x"), s.Alive(), s.Close()); err != nil || s.Watchdog() != 0 {
		t.Errorf("nobody was told something: %v, %v", err, s.Watchdog())
	}
}

func TestTheSupervisorHearsEachState(t *testing.T) {
	address, heard := notifySocket(t)
	s, err := Connect(environment{"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "3000000"}.get, 77)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		tell func() error
		want string
	}{
		{func() error { return s.Ready("Accepts mail.") }, "READY=1\nSTATUS=Accepts mail."},
		{func() error { return s.Stopping(45*time.Second, "Stops.") }, "STOPPING=1\nEXTEND_TIMEOUT_USEC=45000000\nSTATUS=Stops."},
		{func() error { return s.Status("a\nREADY=1\x00\x7fü") }, "STATUS=a READY=1  ü"},
		{s.Alive, "WATCHDOG=1"},
	} {
		if err := c.tell(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, heard()); diff != "" {
			t.Error(diff)
		}
	}
	if err := s.Reloading("Reads."); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(heard(), "\n")
	clock, ok := strings.CutPrefix(lines[1], "MONOTONIC_USEC=")
	if n, err := strconv.ParseInt(clock, 10, 64); lines[0] != "RELOADING=1" || !ok || err != nil || n <= 0 || lines[2] != "STATUS=Reads." {
		t.Errorf("a reload reads %q", lines)
	}
	if s.Watchdog() != 1500*time.Millisecond {
		t.Errorf("a watchdog of 3 s is told every %v", s.Watchdog())
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestAWatchdogOfAnotherProcessIsNotObeyed(t *testing.T) {
	for _, c := range []struct {
		env  environment
		want time.Duration
	}{
		{environment{"WATCHDOG_USEC": "1000000"}, time.Second},
		{environment{"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "77"}, time.Second},
		{environment{"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "78"}, 0},
		{environment{"WATCHDOG_USEC": "0"}, 0},
		{environment{"WATCHDOG_USEC": "-1"}, 0},
		{environment{"WATCHDOG_USEC": "99999999999999999"}, 0},
		{environment{"WATCHDOG_USEC": "soon"}, 0},
		{environment{}, 0},
	} {
		if got := watchdogOf(c.env.get, 77); got != c.want {
			t.Errorf("%v: %v, want %v", c.env, got, c.want)
		}
	}
}

func TestASupervisorThatIsNotThereIsAnError(t *testing.T) {
	for _, address := range []string{"relative", filepath.Join(t.TempDir(), "gone")} {
		if s, err := Connect(environment{"NOTIFY_SOCKET": address}.get, 1); err == nil || s != nil {
			t.Errorf("%s: %v, %v", address, s, err)
		}
	}
}

func TestNamesOfWhatIsHandedOver(t *testing.T) {
	for name, c := range map[string]struct {
		env  environment
		want []string
		bad  bool
	}{
		"nothing":                  {env: environment{}},
		"for another process":      {env: environment{"LISTEN_PID": "78", "LISTEN_FDS": "2"}},
		"without a process":        {env: environment{"LISTEN_FDS": "2"}},
		"two":                      {env: environment{"LISTEN_PID": "77", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "smtp:submission"}, want: []string{"smtp", "submission"}},
		"without names":            {env: environment{"LISTEN_PID": "77", "LISTEN_FDS": "2"}, want: []string{"unknown", "unknown"}},
		"fewer names than sockets": {env: environment{"LISTEN_PID": "77", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "smtp"}, bad: true},
		"no number":                {env: environment{"LISTEN_PID": "77", "LISTEN_FDS": "two"}, bad: true},
		"negative":                 {env: environment{"LISTEN_PID": "77", "LISTEN_FDS": "-1"}, bad: true},
		"too many":                 {env: environment{"LISTEN_PID": "77", "LISTEN_FDS": "1000000000"}, bad: true},
	} {
		got, err := handedOver(c.env.get, 77)
		if diff := cmp.Diff(c.want, got); diff != "" || (err != nil) != c.bad {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
}

func FuzzHandedOver(f *testing.F) {
	f.Add("2", "smtp:submission")
	f.Add("1", "")
	f.Add("-1", ":")
	f.Add("0", "::")
	f.Fuzz(func(t *testing.T, fds, list string) {
		names, err := handedOver(environment{"LISTEN_PID": "7", "LISTEN_FDS": fds, "LISTEN_FDNAMES": list}.get, 7)
		if n, bad := strconv.Atoi(fds); err == nil && bad == nil && len(names) != n || len(names) > mostSockets {
			t.Errorf("%d names for %q sockets: %v", len(names), fds, err)
		}
	})
}

// childEnv has this test's binary be the supervised process.
const childEnv = "ANECHOIC_SUPERVISED"

// TestSocketsComeFromTheParent starts this test's binary again with two sockets, as
// a supervisor does.
func TestSocketsComeFromTheParent(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		child(t)
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	plain, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for handed, want := range map[*os.File]string{file: "took over " + listener.Addr().String(), plain: "is no listening socket"} {
		c := exec.Command(os.Args[0], "-test.run=^TestSocketsComeFromTheParent$", "-test.v")
		c.Env, c.ExtraFiles = append(os.Environ(), childEnv+"=1"), []*os.File{handed}
		if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%v; want %q in:\n%s", err, want, out)
		}
	}
	if conn, err := net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Errorf("the child's end took the parent's socket with it: %v", err)
	} else {
		conn.Close()
	}
}

// child plays the process that is started. Its own number is not known to whoever
// starts it here, so it says LISTEN_PID itself.
func child(t *testing.T) {
	if sockets, err := Inherited(environment{"LISTEN_PID": "1", "LISTEN_FDS": "1"}.get, os.Getpid()); len(sockets) != 0 || err != nil {
		t.Errorf("another's sockets: %v, %v", sockets, err)
	}
	ours := environment{"LISTEN_PID": strconv.Itoa(os.Getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "smtp"}
	sockets, err := Inherited(ours.get, os.Getpid())
	if err != nil || len(sockets) != 1 || sockets[0].Name != "smtp" {
		t.Logf("took over %v: %v", sockets, err)
		return
	}
	t.Logf("took over %s", sockets[0].Listener.Addr())
}
