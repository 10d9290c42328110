package custody_test

import (
	"context"
	"errors"
	"fmt"

	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
)

func TestKeepRefusesWhatHasNoWarrantOrNowhereToGo(t *testing.T) {
	for name, spoil := range map[string]func(*custody.Submission){
		"no warrant":                 func(s *custody.Submission) { s.Warrant = nil },
		"the zero Proven":            func(s *custody.Submission) { s.Warrant = custody.Proven{} },
		"the zero Notice":            func(s *custody.Submission) { s.Warrant = custody.Notice{} },
		"no recipient":               func(s *custody.Submission) { s.Envelope.Recipients = nil },
		"a recipient with no name":   func(s *custody.Submission) { s.Envelope.Recipients = append(s.Envelope.Recipients, mail.Recipient{}) },
		"no id":                      func(s *custody.Submission) { s.ID = "" },
		"an id that is a path":       func(s *custody.Submission) { s.ID = "../../x" },
		"no body":                    func(s *custody.Submission) { s.Body = nil },
		"a body that cannot be read": func(s *custody.Submission) { s.Body = closedBody(t) },
	} {
		t.Run(name, func(t *testing.T) {
			engine := memory.New()
			q := open(t, engine)
			s := submission("bob@else.test")
			spoil(&s)
			if r, err := q.Keep(ctx, s, noon); err == nil || !r.IsZero() {
				t.Errorf("kept: %v, %v", r, err)
			}
			if found := keys(t, engine); len(found) > 0 {
				t.Errorf("left %v", found)
			}
		})
	}
}

// closedBody is a body whose temporary file cannot be read.
func closedBody(t *testing.T) *mail.Body {
	t.Helper()
	w := mail.BodyWriter{Threshold: 1, Dir: t.TempDir()}
	if _, err := w.Write([]byte("long enough for a file")); err != nil {
		t.Fatal(err)
	}
	b := w.Body()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestZeroValuesMakeNoWarrant(t *testing.T) {
	if _, err := custody.NewProven(attribution.Proof{}, domain("acme.test")); !errors.Is(err, custody.ErrNoWarrant) {
		t.Errorf("a warrant of the zero proof: %v", err)
	}
	for _, c := range []struct {
		about mail.ID
		org   org.ID
	}{{"", "acme"}, {"about", ""}} {
		if _, err := custody.NewNotice(c.about, c.org); !errors.Is(err, custody.ErrNoWarrant) {
			t.Errorf("a notice about %q to %q: %v", c.about, c.org, err)
		}
	}
	if _, err := custody.NewInbound("", custody.Verdicts{SPF: "pass"}); !errors.Is(err, custody.ErrNoWarrant) {
		t.Errorf("inbound for nobody: %v", err)
	}
	if _, err := custody.NewInbound("acme", custody.Verdicts{}); !errors.Is(err, custody.ErrNoWarrant) {
		t.Errorf("inbound that nobody judged: %v", err)
	}
	for _, proof := range []attribution.Proof{{}, provenWarrant(t).Proof()} {
		if _, err := custody.NewDisowned(proof); !errors.Is(err, custody.ErrNoWarrant) {
			t.Errorf("what was not forwarded is disowned: %v", err)
		}
	}
	if !(custody.Inbound{}).IsZero() || !(custody.Disowned{}).IsZero() {
		t.Error("a zero value says that it is none")
	}
	if !(custody.Receipt{}).IsZero() || !(custody.Proven{}).IsZero() || !(custody.Notice{}).IsZero() {
		t.Error("a zero value says that it is none")
	}
}

func TestAMessageIsKeptOnce(t *testing.T) {
	q := open(t, memory.New())
	s := submission("bob@else.test")
	keep(t, q, s, noon)
	if _, err := q.Keep(ctx, s, noon); err == nil {
		t.Error("the same id was kept twice")
	}
}

func TestThereIsNoReceiptBeforeTheCommit(t *testing.T) {
	engine := &fragile{Engine: memory.New()}
	q := open(t, engine)
	engine.set(true, false)
	if r, err := q.Keep(ctx, submission("bob@else.test"), noon); !errors.Is(err, errLost) || !r.IsZero() {
		t.Errorf("receipt %v, %v", r, err)
	}
	if leases := leaseAll(t, q, noon); len(leases) > 0 {
		t.Error("what was not kept is leased")
	}
}

func TestTheEngineSaysWhyNothingIsKept(t *testing.T) {
	for _, want := range []error{custody.ErrFull, custody.ErrBroken} {
		engine := memory.New()
		open(t, engine)
		q := open(t, refusing{engine, want})
		if _, err := q.Keep(ctx, submission("bob@else.test"), noon); !errors.Is(err, want) {
			t.Errorf("%v: %v", want, err)
		}
	}
}

func TestMessageRecipientsAndFactsAreOneBatch(t *testing.T) {
	engine := &fragile{Engine: memory.New()}
	q := open(t, engine)
	s := submission("bob@else.test", "eve@other.test")
	s.Facts = []ledger.Fact{{Time: noon, ID: s.ID, Event: ledger.Accepted, Org: "acme"}}
	keep(t, q, s, noon)
	b := engine.last
	if len(b.Put) != 3 || len(b.PutBody) != 1 || len(b.Facts) != 1 || b.Lazy {
		t.Errorf("%d records, %d bodies, %d facts, lazy %t", len(b.Put), len(b.PutBody), len(b.Facts), b.Lazy)
	}
}

func TestASubmissionWithoutFactsIsAcceptedInTheLedger(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	id := keep(t, q, submission("bob@else.test"), noon)
	f := lastFact(t, engine)
	if f.Event != ledger.Accepted || f.ID != id || f.Org != "acme" || f.MailFrom != "ann@acme.test" || f.Rcpt[0] != "bob@else.test" || !f.Time.Equal(noon) {
		t.Errorf("%+v", f)
	}
}

func TestWhatIsLoadedIsWhatWasKept(t *testing.T) {
	large := strings.Repeat("0123456789abcdef\r\n", 1<<16)
	for name, body := range map[string]string{"small": text, "empty": "", "large": large} {
		for kind, warrant := range map[string]custody.Warrant{"notice": noticeWarrant(), "proven": provenWarrant(t), "inbound": inboundWarrant(), "disowned": disownedWarrant(t)} {
			t.Run(name+" "+kind, func(t *testing.T) {
				engine := memory.New()
				q := open(t, engine)
				s := submission("bob@else.test")
				s.Warrant, s.Body = warrant, mail.NewBody([]byte(body))
				keep(t, q, s, noon)
				q = open(t, engine.Reopen())
				l := leaseOne(t, q, noon)
				c, w, err := q.Load(ctx, l)
				if err != nil {
					t.Fatal(err)
				}
				for range 2 { // a second attempt at the next MX reads again
					if got := read(t, c); got != string(header.Bytes())+body || c.Size() != int64(len(got)) {
						t.Errorf("%d octets that are not those that were kept", len(got))
					}
				}
				if whole, ok := c.BodyInMemory(); ok != (name != "large") || ok && string(whole) != body {
					t.Errorf("BodyInMemory: %d octets, %t", len(whole), ok)
				}
				if w.Kind() != warrant.Kind() || w.IsZero() {
					t.Errorf("warrant %v", w)
				}
				checkMessage(t, l, s, c)
			})
		}
	}
}

func checkMessage(t *testing.T, l *custody.Lease, s custody.Submission, c custody.Content) {
	t.Helper()
	m := l.Message
	if m.ID != s.ID || m.Kind != s.Warrant.Kind() || m.Organisation != "acme" || !m.Kept.Equal(noon) || !m.Expires.Equal(noon.Add(24*time.Hour)) ||
		m.HeaderSize != int64(header.Size()) || m.Size != c.Size() {
		t.Errorf("%+v", m)
	}
	want := s.Envelope
	want.Recipients = nil
	if diff := cmp.Diff(want, m.Envelope, cmp.Comparer(func(a, b mail.Address) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if l.Recipients[0].Recipient != s.Envelope.Recipients[0] || l.Attempt != 1 || l.Domain != domain("else.test") {
		t.Errorf("%+v", l)
	}
}

func TestWarrantsThatAreNeverSignedComeBack(t *testing.T) {
	for _, want := range []custody.Warrant{inboundWarrant(), disownedWarrant(t)} {
		engine := memory.New()
		s := submission("bob@else.test")
		s.Warrant, s.Facts = want, nil
		keep(t, open(t, engine), s, noon)
		q := open(t, engine.Reopen())
		l := leaseOne(t, q, noon)
		_, got, err := q.Load(ctx, l)
		if err != nil || got != want {
			t.Errorf("%v, not %v: %v", got, want, err)
		}
		if _, signable := got.(custody.Proven); signable {
			t.Errorf("%s became proven", want.Kind())
		}
	}
}

func TestAProvenWarrantComesBackWithItsProof(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	s := submission("bob@else.test")
	warrant := provenWarrant(t)
	s.Warrant = warrant
	keep(t, q, s, noon)
	_, w, err := q.Load(ctx, leaseOne(t, q, noon))
	if err != nil {
		t.Fatal(err)
	}
	p, ok := w.(custody.Proven)
	if !ok || p.SignAs() != warrant.SignAs() || p.Organisation() != "acme" || p.Proof().Source() != warrant.Proof().Source() || p.Proof().Generation() != 7 {
		t.Errorf("%+v", w)
	}
}

func TestANoticeComesBackAsOne(t *testing.T) {
	q := open(t, memory.New())
	keep(t, q, submission("bob@else.test"), noon)
	_, w, err := q.Load(ctx, leaseOne(t, q, noon))
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := w.(custody.Notice); !ok || n.About() != "about" || n.Organisation() != "acme" {
		t.Errorf("%+v", w)
	}
}

func TestABodyInATemporaryFileIsKept(t *testing.T) {
	w := mail.BodyWriter{Threshold: 10, Dir: t.TempDir()}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	body := w.Body()
	q := open(t, memory.New())
	s := submission("bob@else.test")
	s.Body = body
	keep(t, q, s, noon)
	if err := body.Close(); err != nil {
		t.Fatal(err)
	}
	c, _, err := q.Load(ctx, leaseOne(t, q, noon))
	if err != nil || !strings.HasSuffix(read(t, c), text) {
		t.Errorf("%v", err)
	}
}

func TestOptionsThatCannotWorkAreRefused(t *testing.T) {
	for name, o := range map[string]custody.Options{
		"no seal key":        {},
		"a short seal key":   {SealKey: make([]byte, 31)},
		"a retry at no time": {SealKey: sealKey, RetryAfter: []time.Duration{time.Minute, 0}},
	} {
		if _, err := custody.OpenQueue(ctx, memory.New(), o); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}

// refusing is an engine that refuses every batch.
type refusing struct {
	*memory.Engine
	err error
}

func (r refusing) Commit(_ context.Context, _ *custody.Batch) error {
	return fmt.Errorf("commit: %w", r.err)
}

func TestRecordsOfTheKeeperAreWrittenWithTheMessageAndOutliveIt(t *testing.T) {
	engine := memory.New()
	q := open(t, engine)
	s := submission("a@else.test")
	s.Put = []custody.Record{{Key: "return/x/envelope", Value: []byte("kept")}}
	keep(t, q, s, noon)
	settle(t, q, leaseOne(t, q, noon), custody.Outcome{Result: custody.Delivered}, noon)
	if got := keys(t, engine); len(got) != 1 || got[0] != "return/x/envelope" {
		t.Errorf("left are %q", got)
	}
	for _, key := range []string{"message/x", "recipient/x/1", "aside/x", "suspension/x", "detained/x"} {
		s := submission("b@else.test")
		s.ID = mail.NewID(noon.Add(time.Second))
		s.Put = []custody.Record{{Key: key, Value: []byte("forged")}}
		if _, err := q.Keep(ctx, s, noon); err == nil {
			t.Errorf("a record %s was written beside the queue", key)
		}
	}
}
