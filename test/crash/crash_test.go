package crash

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/textproto"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"anechoic/app"
	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/standard/dkim"
)

const (
	fullKills, shortKills = 200, 20
	senders               = 4
	longestStart          = 400 * time.Millisecond // of a process that is killed while it may not be ready yet
	longestLife           = 800 * time.Millisecond // of one that is killed under load, from when it is ready
	patience              = 2 * time.Minute        // for a process to start, and for the queue to run empty at the end
)

// domains of recipients; the receiver puts the second one's mail off now and then.
var domains = []string{"prompt.example", "moody.example"}

func TestAcknowledgedMailSurvivesKill(t *testing.T) {
	r := prepare(t)
	load := r.startLoad(t)
	moody := r.changeMoods()
	kills := killsWanted(t)
	for range kills {
		p := r.start(t)
		if rand.IntN(4) > 0 {
			p.awaitReady(t, r)
			p.killAfter(t, rand.N(longestLife), r)
		} else {
			p.killAfter(t, rand.N(longestStart), r)
		}
	}
	last := r.start(t)
	last.awaitReady(t, r)
	acknowledged := load.stop()
	moody()
	if len(acknowledged) < 10*kills {
		t.Errorf("%d messages were acknowledged over %d kills: the load was too little to show anything", len(acknowledged), kills)
	}
	r.awaitEmptyQueue(t)
	repeated := r.account(t, acknowledged)
	last.stop(t)
	r.verifyLedger(t)
	t.Logf("crash: %d kills, %d messages acknowledged and delivered, %d delivered more than once by attempts in flight", kills, len(acknowledged), repeated)
}

func killsWanted(t *testing.T) int {
	t.Helper()
	if s := os.Getenv("ANECHOIC_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("ANECHOIC_KILLS: %v", err)
		}
		return n
	}
	if testing.Short() {
		return shortKills
	}
	return fullKills
}

// relay is the program with its data directory and the internet around it.
type relay struct {
	dir, binary string
	internet    *lab.Internet
	receiver    *lab.Receiver
	tenant      lab.Tenant
	errors      *os.File // what processes write to standard error

	mu      sync.Mutex // guards address
	changed *sync.Cond
	address string // where a running process takes mail; empty: none does
}

const nodeConfig = `hostname = "relay.anechoic.example"
data_dir = "data"
registry = "registry.toml"
[smtp]
listen = ["127.0.0.1:0"]
[dns]
servers = [%q]
[providers.microsoft365]
ranges = [%q]
[delivery]
port = %d
retry_after = ["1s"]
[console]
listen = ""
[operations]
listen = ""
[log]
level = "warn"
`

// prepare builds the binary and writes its files.
func prepare(t *testing.T) *relay {
	t.Helper()
	dir, err := os.MkdirTemp("", "anechoic") // short: the path of a control socket has at most 107 octets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &relay{dir: dir, binary: filepath.Join(dir, "anechoic")}
	r.changed = sync.NewCond(&r.mu)
	if out, err := exec.Command("go", "build", "-o", r.binary, "anechoic/cmd/anechoic").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	if r.errors, err = os.Create(filepath.Join(dir, "stderr")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.errors.Close()
		if text, err := os.ReadFile(r.errors.Name()); err == nil && t.Failed() {
			t.Logf("the processes said:\n%s", text[max(0, len(text)-8000):])
		}
	})
	r.makeInternet(t)
	r.writeFiles(t)
	return r
}

func (r *relay) makeInternet(t *testing.T) {
	t.Helper()
	var err error
	if r.internet, err = lab.NewInternet(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.internet.Close() })
	if r.receiver, err = lab.NewReceiver("127.50.0.3:0", r.internet.Zone); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.receiver.Close() })
	for _, d := range domains {
		r.internet.AddReceiver(d, r.receiver.Addr().Addr())
	}
	r.internet.AddCustomer("acme.example", "acme")
	r.tenant = lab.Tenant{GUID: "11111111-1111-4111-8111-111111111111", Originator: "acme.example", SecretName: "X-Acme-Relay-Key", Secret: org.NewSecret()}
}

func (r *relay) writeFiles(t *testing.T) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	domain, err := mail.ParseDomain("acme.example")
	if err != nil {
		t.Fatal(err)
	}
	r.internet.Publish(dkim.KeyName("an1e", domain), dkim.RecordValue(key.Public()))
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	sum, _ := org.HashSecret(r.tenant.Secret)
	registry := fmt.Sprintf(`[[organisation]]
id = "acme"
name = "Acme"
[[organisation.domain]]
name = "acme.example"
dkim = [ { selector = "an1e", algorithm = "ed25519", key_file = "key.pem" } ]
[[organisation.source]]
id = "m365"
kind = "microsoft365"
tenant_ids = [%q]
originator_orgs = ["acme.example"]
secret_header = { name = %q, sha256 = ["%x"] }
`, r.tenant.GUID, r.tenant.SecretName, sum)
	for name, text := range map[string]string{
		"key.pem": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "registry.toml": registry,
		"relay.toml": fmt.Sprintf(nodeConfig, r.internet.DNS(), lab.ProviderRange, r.receiver.Addr().Port()),
	} {
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *relay) configFile() string { return filepath.Join(r.dir, "relay.toml") }

// setAddress tells senders where to go.
func (r *relay) setAddress(a string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.address = a
	r.changed.Broadcast()
}

// process is one life of the program.
type process struct {
	cmd   *exec.Cmd
	ready chan struct{} // closed when it said that it is ready, or ended
	ended chan struct{} // closed when its output ended
}

// start runs the program.
func (r *relay) start(t *testing.T) *process {
	t.Helper()
	p := &process{cmd: exec.Command(r.binary, "serve", "--config", r.configFile()), ready: make(chan struct{}), ended: make(chan struct{})}
	p.cmd.Stderr = r.errors
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.listen(out, r)
	return p
}

// listen reads the ready line.
func (p *process) listen(out io.Reader, r *relay) {
	defer close(p.ended)
	var ready app.Ready
	if json.NewDecoder(out).Decode(&ready) == nil && len(ready.SMTP) > 0 {
		r.setAddress(ready.SMTP[0])
	}
	close(p.ready)
	_, _ = io.Copy(io.Discard, out)
}

// killAfter kills the process after a while, ready or not. A process that ended
// by itself is a failure.
func (p *process) killAfter(t *testing.T, while time.Duration, r *relay) {
	t.Helper()
	select {
	case <-time.After(while):
	case <-p.ended:
	}
	r.setAddress("")
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatalf("kill: %v", err)
	}
	<-p.ended
	err := p.cmd.Wait()
	var status *exec.ExitError
	if !errors.As(err, &status) || status.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the process was not killed but ended: %v", err)
	}
	r.setAddress("") // listen may have set it meanwhile
}

func (p *process) awaitReady(t *testing.T, r *relay) {
	t.Helper()
	select {
	case <-p.ready:
	case <-time.After(patience):
	}
	if r.mu.Lock(); r.address == "" {
		r.mu.Unlock()
		t.Fatal("a process did not become ready")
	}
	r.mu.Unlock()
}

// stop ends the process as an operator would.
func (p *process) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.ended
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v", err)
	}
}

// load is senders that never pause.
type load struct {
	relay *relay
	halt  chan struct{}
	all   sync.WaitGroup

	mu           sync.Mutex // guards what follows
	acknowledged map[string]bool
	number       int
}

func (r *relay) startLoad(t *testing.T) *load {
	l := &load{relay: r, halt: make(chan struct{}), acknowledged: map[string]bool{}}
	for range senders {
		host := r.internet.ProviderHost()
		l.all.Go(func() { l.run(t, host) })
	}
	return l
}

// stop ends the senders and gives the Message-IDs that were acknowledged.
func (l *load) stop() map[string]bool {
	close(l.halt)
	l.relay.changed.Broadcast()
	l.all.Wait()
	return l.acknowledged
}

func (l *load) halted() bool {
	select {
	case <-l.halt:
		return true
	default:
		return false
	}
}

// run sends messages over one connection after the other.
func (l *load) run(t *testing.T, host netip.Addr) {
	for !l.halted() {
		c, err := dial(l.awaitAddress(), host)
		if err != nil {
			continue // the process was killed; the next one is awaited
		}
		for err == nil && !l.halted() {
			err = l.sendOne(c)
		}
		c.Close()
		var refused *textproto.Error
		if errors.As(err, &refused) && refused.Code >= 500 {
			t.Errorf("an honest message was refused: %v", err)
			return
		}
	}
}

// awaitAddress waits until a process takes mail.
func (l *load) awaitAddress() string {
	l.relay.mu.Lock()
	defer l.relay.mu.Unlock()
	for l.relay.address == "" && !l.halted() {
		l.relay.changed.Wait()
	}
	return l.relay.address
}

// sendOne sends a new message and notes its 250.
func (l *load) sendOne(c *textproto.Conn) error {
	l.mu.Lock()
	l.number++
	id := fmt.Sprintf("<m%d@acme.example>", l.number)
	to := "box@" + domains[l.number%len(domains)]
	l.mu.Unlock()
	text := l.relay.tenant.Stamp(lab.Cloud, lab.Draft{From: "ann@acme.example", To: to, Subject: "load", MessageID: id, Body: "a line\r\n"}, netip.Addr{})
	for _, step := range []struct {
		code    int
		command string
	}{{250, "MAIL FROM:<ann@acme.example>"}, {250, "RCPT TO:<" + to + ">"}, {354, "DATA"}, {250, string(text) + "."}} {
		if err := command(c, step.code, step.command); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acknowledged[id] = true
	return nil
}

// dial connects from a host of the provider's and changes to TLS.
func dial(address string, host netip.Addr) (*textproto.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: host.AsSlice()}}
	raw, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	if err := raw.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	plain := textproto.NewConn(raw)
	if _, _, err = plain.ReadResponse(220); err == nil {
		err = command(plain, 250, "EHLO mail.outbound.example")
	}
	if err == nil {
		err = command(plain, 220, "STARTTLS")
	}
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	c := textproto.NewConn(tls.Client(raw, &tls.Config{InsecureSkipVerify: true})) // the relay made its certificate itself
	if err := command(c, 250, "EHLO mail.outbound.example"); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func command(c *textproto.Conn, code int, line string) error {
	if err := c.PrintfLine("%s", line); err != nil {
		return err
	}
	_, _, err := c.ReadResponse(code)
	return err
}

// changeMoods has the receiver put off the moody domain's mail half of the time;
// the function that it gives ends that.
func (r *relay) changeMoods() (end func()) {
	halt, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(700 * time.Millisecond)
		defer tick.Stop()
		for busy := true; ; busy = !busy {
			reply := ""
			if busy {
				reply = "451 4.2.1 busy"
			}
			r.receiver.Answer(domains[1], reply)
			select {
			case <-halt:
				r.receiver.Answer(domains[1], "")
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(halt); <-ended }
}

func (r *relay) client() *api.Client { return api.NewClient(filepath.Join(r.dir, "data")) }

// awaitEmptyQueue waits until everything that was kept has left.
func (r *relay) awaitEmptyQueue(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		status, err := r.client().Status(t.Context(), "")
		if err == nil && status.Queue.Messages == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the queue is not empty after %s: %+v, %v", patience, status.Queue, err)
		}
	}
}

// account holds what arrived against what was acknowledged and against the
// ledger, and gives how many messages came more than once.
func (r *relay) account(t *testing.T, acknowledged map[string]bool) (repeated int) {
	t.Helper()
	lost := 0
	for id := range acknowledged {
		if _, arrived := r.receiver.Judgement(id); !arrived {
			lost++
			t.Errorf("%s was acknowledged and did not arrive", id)
		}
	}
	inFlight := r.attemptsInFlight(t)
	for _, j := range r.receiver.Judgements() {
		if !j.Aligned {
			t.Errorf("%s arrived without a signature that holds", j.MessageID)
		}
		if j.Times == 1 {
			continue
		}
		repeated++
		if id := custodyID(j.Data); j.Times-1 > inFlight[id] {
			t.Errorf("%s (%s) came %d times; the ledger explains %d of them", j.MessageID, id, j.Times, 1+inFlight[id])
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged messages are lost", lost, len(acknowledged))
	}
	return repeated
}

// attemptsInFlight counts for each message the leases that had no end when a
// process died: a leased fact, and no other of the message before the next
// start.
func (r *relay) attemptsInFlight(t *testing.T) map[mail.ID]int {
	t.Helper()
	found, open := map[mail.ID]int{}, map[mail.ID]int{}
	starts := 0
	err := r.client().Log(t.Context(), url.Values{}, func(f ledger.Fact) bool {
		switch f.Event {
		case ledger.Leased:
			open[f.ID]++
		case ledger.Delivered, ledger.Deferred, ledger.Bounced, ledger.Held:
			open[f.ID]--
		case ledger.Started:
			starts++
			for id, n := range open {
				if n > 0 {
					found[id] += n
				}
			}
			clear(open)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("crash: the ledger tells of %d starts and of attempts in flight for %d messages", starts, len(found))
	return found
}

var receivedID = regexp.MustCompile(`\bwith E?SMTPS? id ([a-z2-7]{26})\b`)

// custodyID reads the relay's id of a message out of its Received field.
func custodyID(data []byte) mail.ID {
	if m := receivedID.FindSubmatch(data); m != nil { // ours is the topmost
		return mail.ID(m[1])
	}
	return ""
}

// verifyLedger asks the binary, as an operator would, without a server.
func (r *relay) verifyLedger(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, r.binary, "log", "verify", "--config", r.configFile()).CombinedOutput()
	if err != nil {
		t.Errorf("log verify: %v\n%s", err, out)
	}
	t.Logf("log verify: %s", strings.TrimSpace(string(out)))
}
