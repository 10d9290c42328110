package custody_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
)

var (
	ctx     = context.Background()
	noon    = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	sealKey = bytes.Repeat([]byte{7}, 32)
)

// retries are far enough apart that a tenth more or less does not mix them.
var options = custody.Options{SealKey: sealKey, RetryAfter: []time.Duration{10 * time.Minute, time.Hour}, ExpireAfter: 24 * time.Hour}

func open(t testing.TB, engine custody.Engine) *custody.Queue {
	t.Helper()
	q, err := custody.OpenQueue(ctx, engine, options)
	if err == nil {
		err = q.Read(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func address(s string) mail.Address {
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func domain(s string) mail.Domain {
	d, err := mail.ParseDomain(s)
	if err != nil {
		panic(err)
	}
	return d
}

var header = func() mail.Header {
	h, err := mail.ParseHeader([]byte("Received: by relay.test\r\nFrom: ann@acme.test\r\nSubject: hello\r\n"), mail.HeaderLimits{})
	if err != nil {
		panic(err)
	}
	return h
}()

const text = "Hello.\r\n.\r\nStill here.\r\n"

func noticeWarrant() custody.Warrant {
	w, err := custody.NewNotice("about", "acme")
	if err != nil {
		panic(err)
	}
	return w
}

func inboundWarrant() custody.Warrant {
	w, err := custody.NewInbound("acme", custody.Verdicts{SPF: "pass", DMARC: "fail", Answerable: true})
	if err != nil {
		panic(err)
	}
	return w
}

// provenWarrant is made the way the relay makes one: by attribution of a
// credential.
func provenWarrant(t testing.TB) custody.Proven {
	t.Helper()
	w, err := custody.NewProven(proofOf(t, attribution.HeaderEvidence{}), domain("acme.test"))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// disownedWarrant is for what the same source forwarded.
func disownedWarrant(t testing.TB) custody.Warrant {
	t.Helper()
	w, err := custody.NewDisowned(proofOf(t, attribution.HeaderEvidence{Resent: true}))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// proofOf is attribution's word on a message of acme's application.
func proofOf(t testing.TB, h attribution.HeaderEvidence) attribution.Proof {
	t.Helper()
	registry, problems := org.ParseRegistry("registry.toml", []byte(`
[[organisation]]
id = "acme"
name = "Acme"
security_contact = "security@acme.test"
[[organisation.domain]]
name = "acme.test"
[[organisation.source]]
id = "app"
kind = "credential"
role = "application"
username = "app@acme"
password = { argon2id = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE" }
from = ["*@acme.test"]
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	dir, problems, _ := org.Build(registry, org.Providers{}, nil, 7, noon)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	proof, refusal := attribution.Attribute(dir, &attribution.Evidence{TLS: true, Username: "app@acme", From: domain("acme.test"), Header: h}, noon)
	if refusal != nil {
		t.Fatal(refusal)
	}
	return proof
}

// submission is a message to the given recipients.
func submission(to ...string) custody.Submission {
	s := custody.Submission{
		ID: mail.NewID(noon), Warrant: noticeWarrant(), Header: header, Body: mail.NewBody([]byte(text)),
		Envelope: mail.Envelope{From: address("ann@acme.test"), EightBit: true, Ret: "HDRS", EnvID: "e+2B1"},
	}
	for _, r := range to {
		s.Envelope.Recipients = append(s.Envelope.Recipients, mail.Recipient{Address: address(r), Notify: mail.NotifyFailure, ORcpt: "rfc822;" + r})
	}
	return s
}

func keep(t testing.TB, q *custody.Queue, s custody.Submission, now time.Time) mail.ID {
	t.Helper()
	r, err := q.Keep(ctx, s, now)
	if err != nil {
		t.Fatal(err)
	}
	if r.IsZero() || r.ID() != s.ID {
		t.Fatalf("receipt %v for %s", r, s.ID)
	}
	return s.ID
}

func leaseAll(t testing.TB, q *custody.Queue, now time.Time) []*custody.Lease {
	t.Helper()
	leases, err := q.Lease(ctx, now, 1000, nil)
	if err != nil {
		t.Fatal(err)
	}
	return leases
}

func leaseOne(t testing.TB, q *custody.Queue, now time.Time) *custody.Lease {
	t.Helper()
	leases := leaseAll(t, q, now)
	if len(leases) != 1 {
		t.Fatalf("%d leases, want 1", len(leases))
	}
	return leases[0]
}

// settle settles all recipients of a lease alike.
func settle(t testing.TB, q *custody.Queue, l *custody.Lease, o custody.Outcome, now time.Time) {
	t.Helper()
	if err := q.Settle(ctx, l, all(l, o), nil, now); err != nil {
		t.Fatal(err)
	}
}

func all(l *custody.Lease, o custody.Outcome) []custody.Outcome {
	outcomes := make([]custody.Outcome, len(l.Recipients))
	for i := range outcomes {
		outcomes[i] = o
		outcomes[i].Index = i
	}
	return outcomes
}

func show(t testing.TB, q *custody.Queue, id mail.ID) custody.Entry {
	t.Helper()
	e, err := q.Show(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func gone(t testing.TB, q *custody.Queue, id mail.ID) {
	t.Helper()
	if e, err := q.Show(ctx, id); !errors.Is(err, custody.ErrNotFound) {
		t.Errorf("message %s is still there: %+v, %v", id, e, err)
	}
}

// keys are the engine's records outside the ledger, but for the queue's own.
func keys(t testing.TB, e custody.Engine) []string {
	t.Helper()
	found := []string{}
	err := e.Scan(ctx, "", "", func(k string, _ []byte) bool {
		if !strings.HasPrefix(k, ledger.FactPrefix) && !strings.HasPrefix(k, ledger.SegmentPrefix) && !strings.HasPrefix(k, "queue/") {
			found = append(found, k)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// story is the events of a message, with its recipients.
func story(t testing.TB, e custody.Engine, id mail.ID) []string {
	t.Helper()
	var events []string
	for _, f := range facts(t, e) {
		if f.ID == id {
			events = append(events, strings.TrimSpace(fmt.Sprintf("%s %s", f.Event, strings.Join(f.Rcpt, " "))))
		}
	}
	return events
}

func facts(t testing.TB, e custody.Engine) []ledger.Fact {
	t.Helper()
	var found []ledger.Fact
	if err := ledger.Read(ctx, e, 0, func(f ledger.Fact) bool { found = append(found, f); return true }); err != nil {
		t.Fatal(err)
	}
	return found
}

func lastFact(t testing.TB, e custody.Engine) ledger.Fact {
	t.Helper()
	all := facts(t, e)
	return all[len(all)-1]
}

// read gives the whole content, header and body.
func read(t testing.TB, c custody.Content) string {
	t.Helper()
	b, err := io.ReadAll(c.Body())
	if err != nil {
		t.Fatal(err)
	}
	return string(c.Header()) + string(b)
}

// fragile is an engine that loses a commit when told to: before it happened, or
// after, as a crash at that point does.
type fragile struct {
	*memory.Engine
	mu     sync.Mutex
	before bool
	after  bool
	last   custody.Batch // of the last Commit
}

var errLost = errors.New("the engine did not answer")

func (f *fragile) Commit(ctx context.Context, b *custody.Batch) error {
	f.mu.Lock()
	before, after := f.before, f.after
	f.last = *b
	f.mu.Unlock()
	if before {
		return errLost
	}
	if err := f.Engine.Commit(ctx, b); err != nil {
		return err
	}
	if after {
		return errLost
	}
	return nil
}

func (f *fragile) set(before, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

func sorted(list []string) []string { slices.Sort(list); return list }
