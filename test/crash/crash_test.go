package crash

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"anechoic/app"
	"anechoic/engine/local"
	"anechoic/lab"
	"anechoic/ledger"
)

// How often the relay is killed, and how long it lives under load before.
const (
	kills      = 200
	killsShort = 20
	lifeAtMost = 400 * time.Millisecond
	senders    = 4
)

// TestEveryAcknowledgedMessageSurvivesKills is the promise of a relay: what was
// answered 250 arrives, whatever happens to the process. What arrives twice is
// explained by an attempt that was in flight at a kill.
func TestEveryAcknowledgedMessageSurvivesKills(t *testing.T) {
	rounds := kills
	if testing.Short() {
		rounds = killsShort
	}
	r := newRange(t)
	for i := range rounds {
		r.round(t, i)
	}
	p := r.start(t)
	if err := r.receiver.WaitFor(t.Context(), r.acknowledged(), 2*time.Minute); err != nil {
		t.Fatalf("acknowledged messages were lost: %v", err)
	}
	p.stop(t)
	explained := r.explainRepeated(t)
	t.Logf("%d kills, %d messages acknowledged, %d arrived more than once, each explained by an attempt in flight", rounds, len(r.acked), explained)
	if len(r.acked) < rounds {
		t.Errorf("only %d messages in %d rounds: the load is too small to prove anything", len(r.acked), rounds)
	}
	out, err := exec.Command(r.binary, "log", "verify", "--config", r.config).CombinedOutput()
	if err != nil {
		t.Errorf("log verify: %v\n%s", err, out)
	}
}

// crashRange is the range around the process: DNS, a receiver, configuration.
type crashRange struct {
	binary, config, dir string
	customer            lab.Customer
	receiver            *lab.Receiver
	random              *rand.Rand

	mu    sync.Mutex // guards acked and next
	acked []string   // Message-IDs
	next  int
}

func newRange(t *testing.T) *crashRange {
	t.Helper()
	r := &crashRange{dir: t.TempDir(), random: rand.New(rand.NewPCG(1, uint64(os.Getpid())))}
	r.binary = filepath.Join(r.dir, "anechoic")
	if out, err := exec.Command("go", "build", "-o", r.binary, "anechoic/cmd/anechoic").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	internet, err := lab.NewInternet()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { internet.Close() })
	if r.receiver, err = lab.NewReceiver("127.50.0.9:0", internet.Zone); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.receiver.Close() })
	internet.AddReceiver("freemail.example", r.receiver.Addr().Addr())
	r.customer = lab.NewCustomer(internet, "acme", 1, true)
	if r.config, err = lab.WriteRelay(internet, r.dir, r.receiver.Addr().Port(), []lab.Customer{r.customer}); err != nil {
		t.Fatal(err)
	}
	return r
}

// process is the relay running.
type process struct {
	cmd   *exec.Cmd
	ready app.Ready
	log   *bytes.Buffer
}

// start runs the relay until it says that it is ready.
func (r *crashRange) start(t *testing.T) *process {
	t.Helper()
	p := &process{cmd: exec.Command(r.binary, "serve", "--config", r.config), log: &bytes.Buffer{}}
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.ready)
	}
	if err != nil {
		p.cmd.Process.Kill()
		p.cmd.Wait()
		t.Fatalf("the relay did not come up: %v\n%s", err, p.log)
	}
	return p
}

// kill ends the process without warning; stop asks it to end.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

func (p *process) stop(t *testing.T) {
	t.Helper()
	p.cmd.Process.Signal(os.Interrupt)
	if err := p.cmd.Wait(); err != nil {
		t.Fatalf("the relay did not end cleanly: %v\n%s", err, p.log)
	}
}

// round starts the relay, loads it, and kills it at a random moment.
func (r *crashRange) round(t *testing.T, i int) {
	t.Helper()
	p := r.start(t)
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range senders {
		load.Go(func() { r.load(ctx, p.ready.SMTP[0]) })
	}
	time.Sleep(time.Duration(r.random.Int64N(int64(lifeAtMost)))) // the moment of the kill
	p.kill()
	cancel()
	load.Wait()
}

// load sends messages over connections of several letters until the relay dies.
func (r *crashRange) load(ctx context.Context, relay string) {
	for ctx.Err() == nil {
		err := lab.SendAll(relay, r.letters(20), func(l lab.Letter, reply lab.Reply) {
			if reply.Accepted() {
				r.mu.Lock()
				r.acked = append(r.acked, l.Subject)
				r.mu.Unlock()
			}
		})
		if err != nil {
			return
		}
	}
}

// letters makes letters with Message-IDs of their own, which Subject repeats.
func (r *crashRange) letters(n int) (letters []lab.Letter) {
	r.mu.Lock()
	first := r.next
	r.next += n
	r.mu.Unlock()
	from := "billing@" + r.customer.Domain
	for i := range n {
		id := fmt.Sprintf("<crash-%d@%s>", first+i, r.customer.Domain)
		draft := lab.Draft{From: from, To: "friend@freemail.example", Subject: "crash", MessageID: id, Body: "kept or not\r\n"}
		letters = append(letters, lab.Letter{
			Via: netip.MustParseAddr("127.60.0.1"), From: from, To: "friend@freemail.example", Data: draft.Plain(),
			User: r.customer.Username, Secret: r.customer.Password, Subject: id,
		})
	}
	return letters
}

func (r *crashRange) acknowledged() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.acked)
}

// receivedID finds the relay's id in the Received field of a delivered copy.
var receivedID = regexp.MustCompile(`by relay\.anechoic\.example with [A-Z]+ id ([a-z2-7]{26})`)

// explainRepeated checks that each message that came n times had n-1 attempts
// which began and have no end in the ledger, and gives the number of messages.
func (r *crashRange) explainRepeated(t *testing.T) (messages int) {
	t.Helper()
	inFlight := r.attemptsInFlight(t)
	for _, j := range r.receiver.Judgements() {
		if !j.Aligned {
			t.Errorf("%s arrived without a valid signature", j.MessageID)
		}
		if j.Times == 1 {
			continue
		}
		messages++
		found := receivedID.FindSubmatch(j.Data)
		if found == nil {
			t.Errorf("%s has no Received field of the relay", j.MessageID)
			continue
		}
		if got := inFlight[string(found[1])]; got < j.Times-1 {
			t.Errorf("%s (%s) arrived %d times, and %d attempts were in flight at a kill", j.MessageID, found[1], j.Times, got)
		}
	}
	return messages
}

// attemptsInFlight counts for each message the leases that never ended.
func (r *crashRange) attemptsInFlight(t *testing.T) map[string]int {
	t.Helper()
	engine, err := local.Open(local.Options{Dir: filepath.Join(r.dir, "data", "store")})
	if err != nil {
		t.Fatal(err)
	}
	defer engine.Close()
	open := map[string]int{}
	err = ledger.Read(t.Context(), engine, 0, func(f ledger.Fact) bool {
		switch f.Event {
		case ledger.Leased:
			open[string(f.ID)]++
		case ledger.Delivered, ledger.Deferred, ledger.Bounced, ledger.Held:
			open[string(f.ID)]--
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return open
}
