package app

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"strings"
	"sync"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
	"anechoic/relay/smtpd"
)

// maxFactText bounds what a stranger's text takes in a fact.
const maxFactText = 256

// sessionFact begins a fact about a connection.
func sessionFact(s *smtpd.Session, now time.Time) ledger.Fact {
	return ledger.Fact{
		Time: now.UTC(), ID: s.ID, Peer: s.Peer.Addr(), Helo: printable(s.Helo), TLS: tlsText(s.TLS),
	}
}

// transactionFact begins a fact about a transaction.
func transactionFact(tx *smtpd.Transaction, now time.Time) ledger.Fact {
	fact := sessionFact(tx.Session, now)
	fact.ID = tx.ID
	fact.Direction = "outbound"
	fact.MailFrom = tx.Envelope.From.String()
	for _, r := range tx.Envelope.Recipients {
		fact.Rcpt = append(fact.Rcpt, r.Address.String())
	}
	return fact
}

// tellMessageID puts into the fact by what the message is found again.
func tellMessageID(fact *ledger.Fact, h mail.Header) {
	if id, ok := h.First("Message-ID"); ok {
		fact.MessageID = messageIDText(id.Value())
	}
}

// messageIDText is a Message-ID as facts have it.
func messageIDText(id string) string {
	text := printable(strings.TrimSpace(id))
	return text[:min(len(text), ledger.MaxMessageID)]
}

// tlsText names version and cipher suite; empty without TLS.
func tlsText(state *tls.ConnectionState) string {
	if state == nil {
		return ""
	}
	return tls.VersionName(state.Version) + " " + suiteName(state.CipherSuite)
}

// suiteName is tls.CipherSuiteName, which makes a list of all suites each time;
// here every message asks.
func suiteName(id uint16) string {
	if name, ok := suiteNames()[id]; ok {
		return name
	}
	return tls.CipherSuiteName(id)
}

var suiteNames = sync.OnceValue(func() map[uint16]string {
	names := map[uint16]string{}
	for _, s := range tls.CipherSuites() {
		names[s.ID] = s.Name
	}
	return names
})

// printable cuts a stranger's text to what a log line can bear.
func printable(s string) string {
	s = s[:min(len(s), maxFactText)]
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// recorder writes refusals into the ledger and counts them. A flood of refusals
// must not become a flood of writes: past a rate per peer and reason they are
// counted, and the count is written as one fact.
type recorder struct {
	engine custody.Engine
	log    *slog.Logger

	mu    sync.Mutex // guards what follows
	peers map[refusedPeer]*refusedCount
}

// refusedPeer is what refusals are aggregated by.
type refusedPeer struct {
	network string // IPv4 address or IPv6 /64
	reason  mail.Reason
	claimed string
}

type refusedCount struct {
	since   time.Time
	written int
	more    int
	last    ledger.Fact
}

// Refusals of one peer, reason and claimed organisation are written one by one up
// to a number in a span; the rest of the span becomes one fact.
const (
	refusalsWritten    = 100
	refusalSpan        = 10 * time.Second
	refusalPeersAtMost = 50_000
)

func newRecorder(engine custody.Engine, log *slog.Logger) *recorder {
	return &recorder{engine: engine, log: log, peers: map[refusedPeer]*refusedCount{}}
}

// refused records one refusal.
func (r *recorder) refused(fact ledger.Fact, refusal *mail.Refusal) {
	fact.Event, fact.Disposition = ledger.Refused, ledger.DispositionRefused
	if refusal.Temporary() {
		fact.Disposition = ledger.DispositionDeferred
	}
	if fact.Identity = ledger.Unproven; contradicts(refusal.Reason()) {
		fact.Identity = ledger.Contradicted
	}
	fact.Reason, fact.Detail = refusal.Reason(), printable(refusal.Detail())
	fact.Reply = refusal.Line(fact.ID)
	if facts := r.due(fact, fact.Time); len(facts) > 0 {
		r.write(facts)
	}
}

// alarmed records what is alarming about a proven message, as many as refusals.
func (r *recorder) alarmed(fact ledger.Fact) {
	if facts := r.due(fact, fact.Time); len(facts) > 0 {
		r.write(facts)
	}
}

func contradicts(reason mail.Reason) bool {
	return reason == mail.ReasonAttributionConflict || reason == mail.ReasonOriginContradicted
}

// due gives the facts to be written now: this one, or none, and what was only
// counted in a span that is over.
func (r *recorder) due(fact ledger.Fact, now time.Time) (facts []ledger.Fact) {
	key := refusedPeer{peerNetwork(fact), fact.Reason, cmp.Or(fact.ClaimedOrg, fact.Org)}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.peers[key]
	if c == nil || now.Sub(c.since) >= refusalSpan {
		if c != nil && c.more > 0 {
			facts = append(facts, c.summary())
		}
		if c == nil && len(r.peers) >= refusalPeersAtMost {
			facts = append(facts, r.drain(now)...)
		}
		c = &refusedCount{since: now}
		r.peers[key] = c
	}
	if c.written < refusalsWritten {
		c.written++
		return append(facts, fact)
	}
	c.more++
	c.last = fact
	return facts
}

// drain forgets every span that is over, or all if none is, and gives what was
// only counted.
func (r *recorder) drain(now time.Time) (facts []ledger.Fact) {
	for _, all := range []bool{false, true} {
		for key, c := range r.peers {
			if !all && now.Sub(c.since) < refusalSpan {
				continue
			}
			if c.more > 0 {
				facts = append(facts, c.summary())
			}
			delete(r.peers, key)
		}
		if len(r.peers) < refusalPeersAtMost {
			break
		}
	}
	return facts
}

// summary is the fact for refusals that were only counted: the last of them,
// with their number.
func (c *refusedCount) summary() ledger.Fact {
	fact := c.last
	fact.Count = c.more
	return fact
}

// flush writes what is counted and not yet written: in the background once a
// span, and when the relay stops.
func (r *recorder) flush(now time.Time, all bool) {
	r.mu.Lock()
	var facts []ledger.Fact
	for key, c := range r.peers {
		if !all && now.Sub(c.since) < refusalSpan {
			continue
		}
		if c.more > 0 {
			facts = append(facts, c.summary())
		}
		delete(r.peers, key)
	}
	r.mu.Unlock()
	if len(facts) > 0 {
		r.write(facts)
	}
}

// write stores facts without a sync of their own.
func (r *recorder) write(facts []ledger.Fact) {
	if err := r.engine.Commit(context.Background(), &custody.Batch{Facts: facts, Lazy: true}); err != nil {
		r.log.Error("ledger: refusals could not be written", "facts", len(facts), "error", err)
	}
}

// peerNetwork is the address a flood is counted by.
func peerNetwork(fact ledger.Fact) string {
	a := fact.Peer
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
