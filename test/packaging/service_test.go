package packaging

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"anechoic/lab"
)

// patience bounds every wait.
const patience = 2 * time.Minute

// root is the project's folder, seen from this one.
const root = "../.."

// program is the binary, built once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "anechoic-packaging-")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "anechoic"), "./cmd/anechoic")
	build.Dir = root
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, text)
	}
	return filepath.Join(dir, "anechoic"), nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if binary, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(binary)) // a temporary folder
	}
	os.Exit(code)
}

func anechoic(t *testing.T) string {
	t.Helper()
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// host is a supervisor: it holds the socket and hears what the service says.
type host struct {
	dir      string
	config   string
	socket   *net.TCPListener
	notify   string
	heard    chan string
	internet *lab.Internet
	receiver *lab.Receiver
	customer lab.Customer
}

// newHost writes a relay for one customer that listens on the host's socket alone.
func newHost(t *testing.T) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "anechoic") // short: the path of a socket has at most 107 octets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &host{dir: dir, notify: filepath.Join(dir, "notify"), heard: make(chan string, 1000)}
	if h.internet, err = lab.NewInternet(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.internet.Close() })
	if h.receiver, err = lab.NewReceiver("127.50.0.1:0", h.internet.Zone); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.receiver.Close() })
	h.internet.AddReceiver("mailbox.example", h.receiver.Addr().Addr())
	h.customer = lab.NewCustomer(h.internet, "acme", 1, true)
	if h.config, err = lab.WriteRelay(h.internet, dir, h.receiver.Addr().Port(), []lab.Customer{h.customer}); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	h.socket = listener.(*net.TCPListener)
	h.change(t, h.config, `listen = ["127.0.0.1:0"]`, fmt.Sprintf("listen = [%q]", h.address()))
	h.listen(t)
	return h
}

func (h *host) address() string { return h.socket.Addr().String() }

// change replaces a part of a file.
func (h *host) change(t *testing.T, name, old, with string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil || !bytes.Contains(text, []byte(old)) {
		t.Fatalf("%s has no %q: %v", name, old, err)
	}
	if err := os.WriteFile(name, bytes.Replace(text, []byte(old), []byte(with), 1), 0o600); err != nil {
		t.Fatal(err)
	}
}

// listen opens the notify socket.
func (h *host) listen(t *testing.T) {
	t.Helper()
	ear, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: h.notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ear.Close() })
	go func() {
		b := make([]byte, 8192)
		for {
			n, err := ear.Read(b)
			if err != nil {
				return
			}
			h.heard <- string(b[:n])
		}
	}()
}

// await waits for what the service says, and passes over signs of life.
func (h *host) await(t *testing.T, want string) string {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case said := <-h.heard:
			if strings.HasPrefix(said, want) {
				return said
			}
			if said != "WATCHDOG=1" {
				t.Fatalf("it says %q, want %q", said, want)
			}
		case <-late:
			t.Fatalf("nothing says %q", want)
		}
	}
}

// service is one process.
type service struct {
	cmd *exec.Cmd
	log *bytes.Buffer
}

// start runs the service as systemd does: socket on descriptor 3, its process id in
// LISTEN_PID, which a shell says that becomes the program.
func (h *host) start(t *testing.T, name string) *service {
	t.Helper()
	file, err := h.socket.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s := &service{log: new(bytes.Buffer)}
	s.cmd = exec.Command("/bin/sh", "-c", `LISTEN_PID=$$; export LISTEN_PID; exec "$0" "$@"`, anechoic(t), "serve", "--config", h.config)
	s.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+h.notify, "WATCHDOG_USEC=100000", "LISTEN_FDS=1", "LISTEN_FDNAMES="+name)
	s.cmd.ExtraFiles, s.cmd.Stderr = []*os.File{file}, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill() }) // does nothing to one that ended
	return s
}

func (s *service) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// end stops the service and wants exit code 0.
func (h *host) end(t *testing.T, s *service) {
	t.Helper()
	s.signal(t, syscall.SIGTERM)
	if said := h.await(t, "STOPPING=1\n"); !strings.Contains(said, "\nEXTEND_TIMEOUT_USEC=") {
		t.Errorf("it stops with %q", said)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v; log:\n%s", err, s.log)
	}
}

// send has the customer's application send a message over TLS.
func (h *host) send(subject string) error {
	client, err := smtp.Dial(h.address())
	if err != nil {
		return err
	}
	defer client.Close()
	name, _, _ := net.SplitHostPort(h.address())
	from := "billing@" + h.customer.Domain
	if err := errors.Join(
		client.StartTLS(&tls.Config{InsecureSkipVerify: true}), // the relay's own certificate
		client.Auth(smtp.PlainAuth("", h.customer.Username, h.customer.Password, name)),
		client.Mail(from), client.Rcpt("ann@mailbox.example")); err != nil {
		return err
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "From: %s\r\nTo: ann@mailbox.example\r\nMessage-ID: <%s@%s>\r\nDate: %s\r\nSubject: %s\r\n\r\nhello\r\n",
		from, subject, h.customer.Domain, time.Now().Format(time.RFC1123Z), subject)
	return errors.Join(err, w.Close(), client.Quit())
}

func TestTheServiceTellsItsSupervisorEachState(t *testing.T) {
	h := newHost(t)
	s := h.start(t, "smtp")
	if said, want := h.await(t, "READY=1\n"), "READY=1\nSTATUS=Accepts mail on "+h.address()+"."; said != want {
		t.Errorf("it says %q, want %q; log:\n%s", said, want, s.log)
	}
	if err := h.send("first"); err != nil { // READY comes after the ports are served
		t.Errorf("%v; log:\n%s", err, s.log)
	}
	if _, err := h.receiver.Await(t.Context(), "<first@"+h.customer.Domain+">"); err != nil {
		t.Errorf("what came by the supervisor's socket was not delivered: %v", err)
	}
	for range 3 {
		if said := <-h.heard; said != "WATCHDOG=1" {
			t.Errorf("between states it says %q", said)
		}
	}
	s.signal(t, syscall.SIGHUP)
	h.await(t, "RELOADING=1\nMONOTONIC_USEC=")
	if said := h.await(t, "READY=1\n"); !strings.HasPrefix(said, "READY=1\nSTATUS=Accepts mail on ") {
		t.Errorf("after a reload it says %q", said)
	}
	h.change(t, filepath.Join(h.dir, "registry.toml"), "[[organisation]]", "[[organisations]]")
	s.signal(t, syscall.SIGHUP)
	h.await(t, "RELOADING=1\n")
	if said := h.await(t, "READY=1\n"); !strings.HasPrefix(said, "READY=1\nSTATUS=The last reload was refused, see the log. Accepts mail on ") {
		t.Errorf("after a reload that was refused it says %q", said)
	}
	h.end(t, s)
}

// A restart, and the supervisor holds the socket: who connects in between waits.
func TestWhoConnectsDuringARestartIsServedByTheNextProcess(t *testing.T) {
	h := newHost(t)
	first := h.start(t, "smtp")
	h.await(t, "READY=1\n")
	h.end(t, first)

	conn, err := net.Dial("tcp", h.address())
	if err != nil {
		t.Fatalf("refused while no process runs: %v", err)
	}
	defer conn.Close()
	second := h.start(t, "smtp")
	h.await(t, "READY=1\n")
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, "220 ") {
		t.Errorf("who waited is told %q: %v", line, err)
	}
	h.end(t, second)
}

func TestRestartsUnderLoadRefuseNoConnection(t *testing.T) {
	h := newHost(t)
	s := h.start(t, "smtp")
	h.await(t, "READY=1\n")
	stop, ended := make(chan struct{}), make(chan struct{})
	var served atomic.Int64
	for range 4 {
		go func() {
			defer func() { ended <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := h.knock(); err != nil {
					t.Error(err)
					return
				}
				served.Add(1)
			}
		}()
	}
	for n := 0; n < 3 || served.Load() < 20 && !t.Failed(); n++ { // a slow machine needs more of them
		h.end(t, s)
		s = h.start(t, "smtp")
		h.await(t, "READY=1\n")
	}
	close(stop)
	for range 4 {
		<-ended
	}
	h.end(t, s)
}

// knock connects, hears a greeting, and leaves. A relay that stops may say 421.
func (h *host) knock() error {
	conn, err := net.Dial("tcp", h.address())
	if err != nil {
		return fmt.Errorf("a connection was refused: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if !strings.HasPrefix(line, "220 ") && !strings.HasPrefix(line, "421 ") {
		return fmt.Errorf("a connection was lost with %q: %w", line, err)
	}
	_, err = io.WriteString(conn, "QUIT\r\n")
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil // after a 421
	}
	return err
}

func TestASocketByAWrongNameIsNoStart(t *testing.T) {
	h := newHost(t)
	s := h.start(t, "submission")
	if err := s.cmd.Wait(); s.cmd.ProcessState.ExitCode() != 1 || !strings.Contains(s.log.String(), `by the name "submission", and smtp.listen_submission does not list that address`) {
		t.Errorf("%v; it says:\n%s", err, s.log)
	}
}

func TestReadyIsForScripts(t *testing.T) {
	h := newHost(t)
	if out, err := exec.Command(anechoic(t), "ready", "--config", h.config).CombinedOutput(); err == nil || !strings.Contains(string(out), "not ready: ") {
		t.Errorf("no relay runs: %v, %s", err, out)
	}
	s := h.start(t, "smtp")
	if out, err := exec.Command(anechoic(t), "ready", "--wait", "1m", "--config", h.config).CombinedOutput(); err != nil || string(out) != "ready\n" {
		t.Errorf("%v, %s; log:\n%s", err, out, s.log)
	}
	h.await(t, "READY=1\n")
	h.end(t, s)
	out, err := exec.Command(anechoic(t), "ready", "--json", "--config", h.config).CombinedOutput()
	var code *exec.ExitError
	if !errors.As(err, &code) || code.ExitCode() != 1 {
		t.Errorf("after its end: %v, %s", err, out)
	}
}
