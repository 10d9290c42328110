package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"
	"pgregory.net/rapid"

	"anechoic/mail"
	"anechoic/mail/background"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// answered counts the queries that reach a zone while the clock moves.
func answered(t *testing.T, z *Zone) (*Client, *liar) {
	t.Helper()
	s := lie(t, func(q *wire.Msg, _ bool) [][]byte {
		m := new(wire.Msg)
		m.SetReply(q)
		if z.answer(m, question{q.Question[0].Name, q.Question[0].Qtype}) != nil {
			return nil
		}
		b, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		return [][]byte{b}
	})
	return client(t, Options{Servers: []string{s.addr}}), s
}

func TestAnswersAreKeptForTheirTime(t *testing.T) {
	for _, tt := range []struct {
		story string
		name  string
		ttl   time.Duration
		kept  time.Duration // the last moment at which the answer is still known
	}{
		{"records", "text.example.", 60 * time.Second, 60*time.Second - 1},
		{"records for a week", "text.example.", 7 * 24 * time.Hour, maxTTL - 1},
		{"no domain", "absent.example.", 60 * time.Second, 60*time.Second - 1},
		{"no domain for a day", "absent.example.", 24 * time.Hour, maxNegativeTTL - 1},
		{"no records for a day", "empty.example.", 24 * time.Hour, maxNegativeTTL - 1},
	} {
		t.Run(tt.story, func(t *testing.T) {
			z := zoneForTest(t)
			z.SetTTL(tt.ttl)
			c, s := answered(t, z)
			q := question{tt.name, wire.TypeTXT}
			first := c.findAt(ctxAll, q, noon)
			again := c.findAt(ctxAll, q, noon.Add(tt.kept))
			if s.queries.Load() != 1 || errors.Is(first.err, mail.ErrNoDomain) != errors.Is(again.err, mail.ErrNoDomain) || len(first.records) != len(again.records) {
				t.Errorf("%d queries; %v, %v", s.queries.Load(), first, again)
			}
			c.findAt(ctxAll, q, noon.Add(tt.kept+1))
			if s.queries.Load() != 2 {
				t.Errorf("%d queries after its time", s.queries.Load())
			}
			if got := c.Counters(); got != (Counters{Hits: 1, Misses: 2}) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestZeroTTLIsNotKept(t *testing.T) {
	z := zoneForTest(t)
	c, s := answered(t, z)
	for range 3 {
		c.findAt(ctxAll, question{"text.example.", wire.TypeTXT}, noon)
	}
	if s.queries.Load() != 3 {
		t.Errorf("%d queries", s.queries.Load())
	}
}

func TestAbsenceWithoutSOAIsNotKept(t *testing.T) {
	s := lie(t, func(q *wire.Msg, _ bool) [][]byte {
		return [][]byte{reply(t, q, func(m *wire.Msg) { m.Rcode = wire.RcodeNameError })}
	})
	c := client(t, Options{Servers: []string{s.addr}})
	for range 2 {
		if f := c.findAt(ctxAll, question{"a.example.", wire.TypeTXT}, noon); !errors.Is(f.err, mail.ErrNoDomain) {
			t.Error(f.err)
		}
	}
	if s.queries.Load() != 2 {
		t.Errorf("%d queries", s.queries.Load())
	}
}

func TestAFailureIsKeptForASecond(t *testing.T) {
	s := lie(t, func(q *wire.Msg, _ bool) [][]byte {
		return [][]byte{reply(t, q, func(m *wire.Msg) { m.Rcode = wire.RcodeServerFailure })}
	})
	c := client(t, Options{Servers: []string{s.addr}})
	q := question{"a.example.", wire.TypeTXT}
	before := time.Now()
	c.findAt(ctxAll, q, before)
	after := time.Now()
	asked := s.queries.Load()
	if f := c.findAt(ctxAll, q, before.Add(failureTTL-1)); f.err == nil || s.queries.Load() != asked {
		t.Errorf("%v; %d queries", f.err, s.queries.Load()-asked)
	}
	if c.findAt(ctxAll, q, after.Add(failureTTL)); s.queries.Load() == asked {
		t.Error("it was kept for longer")
	}
}

func TestTheShortestTimeOfAChainCounts(t *testing.T) {
	parse := func(rrs ...string) (list []wire.RR) {
		for _, s := range rrs {
			rr, err := wire.NewRR(s)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, rr)
		}
		return list
	}
	for _, tt := range []struct {
		story      string
		answer, ns []wire.RR
		rcode      int
		want       time.Duration
	}{
		{"alias shorter", parse("a.example. 5 CNAME b.example.", "b.example. 9 TXT x"), nil, 0, 5 * time.Second},
		{"record shorter", parse("a.example. 9 CNAME b.example.", "b.example. 5 TXT x", "b.example. 4 TXT y"), nil, 0, 4 * time.Second},
		{"the highest bit is zero", parse("a.example. 4294967295 TXT x"), nil, 0, 0},
		{"SOA minimum", nil, parse("example. 90 SOA ns. h. 1 2 3 4 7"), wire.RcodeNameError, 7 * time.Second},
		{"SOA itself", nil, parse("example. 6 SOA ns. h. 1 2 3 4 70"), 0, 6 * time.Second},
		{"SOA of elsewhere", nil, parse("other. 6 SOA ns. h. 1 2 3 4 70"), wire.RcodeNameError, 0},
	} {
		m := &wire.Msg{Answer: tt.answer, Ns: tt.ns}
		m.Rcode = tt.rcode
		if got := read(m, question{"a.example.", wire.TypeTXT}).ttl; got != tt.want {
			t.Errorf("%s: %s, want %s", tt.story, got, tt.want)
		}
	}
}

// TestTheCacheStaysWithinItsBounds compares it with a plain map.
func TestTheCacheStaysWithinItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newCache(rapid.IntRange(1, 8).Draw(t, "entries"))
		type truth struct {
			err     error
			expires time.Time
		}
		known := make(map[question]truth)
		now := noon
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			q := question{fmt.Sprint(rapid.IntRange(0, 12).Draw(t, "name")), wire.TypeA}
			now = now.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "passes")) * time.Second)
			if rapid.Bool().Draw(t, "put") {
				f := found{err: errors.New("mark"), ttl: time.Duration(rapid.IntRange(0, 9).Draw(t, "ttl")) * time.Second, size: rapid.SampledFrom([]int{0, 100, cacheBytes / 3, 2 * cacheBytes}).Draw(t, "size")}
				c.put(q, f, now)
				known[q] = truth{f.err, now.Add(f.ttl)}
			} else if f, ok := c.get(q, now); ok && (f.err != known[q].err || !now.Before(known[q].expires)) {
				t.Fatalf("%v is given, but was replaced or is over", q)
			}
			sum := 0
			for _, e := range c.entries {
				sum += e.Value.(*cached).found.size + entryBytes
			}
			if len(c.entries) > c.maxEntries || c.bytes > cacheBytes || sum != c.bytes || c.recent.Len() != len(c.entries) {
				t.Fatalf("%d entries, %d bytes counted, %d there, %d listed", len(c.entries), c.bytes, sum, c.recent.Len())
			}
		}
	})
}

func TestTheLeastRecentlyUsedGoesFirst(t *testing.T) {
	c := newCache(2)
	a, b, d := question{"a.", 1}, question{"b.", 1}, question{"d.", 1}
	f := found{ttl: time.Hour}
	c.put(a, f, noon)
	c.put(b, f, noon)
	c.get(a, noon)
	c.put(d, f, noon)
	if _, ok := c.get(b, noon); ok {
		t.Error("b is still there")
	}
	for _, q := range []question{a, d} {
		if _, ok := c.get(q, noon); !ok {
			t.Errorf("%v is gone", q)
		}
	}
}

// FuzzAnswer gives the reader whatever a server may send: it does not panic, and
// what comes out is well formed.
func FuzzAnswer(f *testing.F) {
	q := question{"a.example.", wire.TypeMX}
	for _, rr := range []string{"a.example. 60 IN MX 10 mx.example.", "a.example. 60 IN CNAME a.example.", `a.example. 60 IN TXT "\000\255"`, "a.example. 1 IN TLSA 3 1 1 00ff", "a.example. 1 IN PTR a\\.b.example."} {
		m := newQuery(q, true)
		m.Response = true
		r, err := wire.NewRR(rr)
		if err != nil {
			f.Fatal(err)
		}
		m.Answer = []wire.RR{r}
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(wire.Msg)
		if m.Unpack(b) != nil || len(m.Question) != 1 {
			return
		}
		s := read(m, question{strings.ToLower(m.Question[0].Name), m.Question[0].Qtype})
		if s.ttl < 0 || s.ttl > maxTTL || s.aliases > maxAliases+1 {
			t.Errorf("%+v", s)
		}
		for _, rr := range s.records {
			checkDecoded(t, rr)
		}
	})
}

func checkDecoded(t *testing.T, rr wire.RR) {
	host, err := "", error(nil)
	switch rr.(type) {
	case *wire.MX:
		var mx mail.MX
		mx, err = decodeMX(rr)
		host = mx.Host
	case *wire.PTR:
		host, err = decodePTR(rr)
	case *wire.CNAME:
		host, err = decodeCNAME(rr)
	case *wire.TXT:
		decodeTXT(rr)
	case *wire.TLSA:
		decodeTLSA(rr)
	case *wire.A, *wire.AAAA:
		decodeAddress(rr)
	}
	if err == nil && host != "" {
		if again, err := hostName(host); err != nil || again != host {
			t.Errorf("host %q: %v", host, err)
		}
	}
}

func TestALookUpThatPanicsKeepsNobodyWaiting(t *testing.T) {
	q := question{"a.example.", wire.TypeTXT}
	landed := &flight{cancel: func() {}, done: make(chan struct{})}
	c := &Client{flights: map[question]*flight{q: landed}} // without a cache: to put something there is a fault
	background.Go(nil, slog.New(slog.DiscardHandler), "a look-up", func() { c.fly(t.Context(), q, landed, noon) })
	<-landed.done
	c.mu.Lock()
	defer c.mu.Unlock()
	if landed.found.err == nil || len(c.flights) != 0 {
		t.Errorf("found %+v, %d flights", landed.found, len(c.flights))
	}
}
