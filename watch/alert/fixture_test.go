package alert

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"anechoic/engine/memory"
	"anechoic/mail"
)

// received is one request as a server saw it.
type received struct {
	id, at, signature string
	body              []byte
}

// receiver is a webhook's server that answers what it is told to, in order; then 204.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	got     []received
	answers []http.HandlerFunc
}

func newReceiver(t *testing.T, answers ...http.HandlerFunc) *receiver {
	r := &receiver{answers: answers}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(r.serve))
	r.Config.ErrorLog = log.New(io.Discard, "", 0)
	r.StartTLS()
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) serve(w http.ResponseWriter, q *http.Request) {
	body, _ := io.ReadAll(q.Body)
	r.mu.Lock()
	r.got = append(r.got, received{q.Header.Get("Webhook-Id"), q.Header.Get("Webhook-Timestamp"), q.Header.Get("Webhook-Signature"), body})
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if len(r.answers) > 0 {
		answer, r.answers = r.answers[0], r.answers[1:]
	}
	r.mu.Unlock()
	answer(w, q)
}

func (r *receiver) seen() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.got...)
}

func (r *receiver) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(r.Certificate())
	return pool
}

// answer is a status with a text.
func answer(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, text)
	}
}

// secretOf is a secret of 32 equal octets, as it is written down.
func secretOf(octet byte) string {
	return secretPrefix + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{octet}, 32))
}

// secretFiles writes secrets into files.
func secretFiles(t *testing.T, secrets ...string) (files []string) {
	t.Helper()
	folder := t.TempDir()
	for i, s := range secrets {
		file := filepath.Join(folder, string(rune('a'+i)))
		if err := os.WriteFile(file, []byte(s+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// mailbox takes mails.
type mailbox struct {
	mu   sync.Mutex
	got  []Mailing
	fail error
}

func (m *mailbox) take(_ context.Context, one Mailing) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.got = append(m.got, one)
	return nil
}

func (m *mailbox) of(org string) (list []Mailing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.got {
		if one.Org == org {
			list = append(list, one)
		}
	}
	return list
}

func address(t testing.TB, text string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(text)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// options are those of a relay with the organisations acme, which has a contact, and
// quiet, which has none.
func options(t *testing.T, engine *memory.Engine, box *mailbox, endpoints ...Endpoint) Options {
	contact, operator := address(t, "security@acme.test"), address(t, "operator@relay.test")
	return Options{
		Store: engine, Hostname: "relay.test", Version: "1", Operator: operator, Mail: box.take,
		Contact: func(org string) (mail.Address, bool) {
			switch org {
			case "acme":
				return contact, true
			case "quiet":
				return mail.Address{}, true
			}
			return mail.Address{}, false
		},
		Endpoints: func() []Endpoint { return endpoints },
		Guard:     &Guard{Loopback: true, Lookup: func(context.Context, string) ([]netip.Addr, error) { return nil, mail.ErrNoDomain }},
	}
}

func open(t *testing.T, o Options) *Dispatcher {
	t.Helper()
	d, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// run lets a dispatcher run until the returned function stops it.
func run(d *Dispatcher) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); d.Run(ctx) }()
	return func() { cancel(); <-done }
}

func tell(t *testing.T, d *Dispatcher, a Alert) {
	t.Helper()
	if err := d.Tell(context.Background(), a); err != nil {
		t.Fatal(err)
	}
}

// until waits for something that other goroutines do, in real time.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("not within 20 seconds: %s", what)
		case <-tick.C:
		}
	}
}

var campaign = Alert{
	Key: "campaign/c1", Org: "acme", Kind: "campaign", Severity: Warning, Title: "Somebody sends in the name of acme.test",
	Text: "40 messages of tenant 9f3c were refused.", Campaign: "c1", Count: 40, Fields: [][2]string{{"tenant", "9f3c"}},
}
