package sink

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options say what a Sink is.
type Options struct {
	Addr      string // where it listens: "127.70.0.1:0" or with a port
	Domain    string // whose mail it takes; other recipients are refused for good
	Behaviour Behaviour

	// Stamp reads from a header what names the message and when it was sent, which
	// may be the zero time. A message that it does not know has ok false: it is
	// taken and counts as one of its own. Nil: the Message-ID, without a time.
	Stamp func(header []byte) (name string, sent time.Time, ok bool)
}

// Sink is one provider at one address. Close ends it.
type Sink struct {
	options  Options
	listener net.Listener
	closing  chan struct{}
	sessions sync.WaitGroup

	mu    sync.Mutex // guards what follows, and the Behaviour
	tally Tally
	names map[string]bool
	conns map[net.Conn]struct{}
	ended bool
}

// Open begins to listen.
func Open(o Options) (*Sink, error) {
	if o.Behaviour == nil || o.Domain == "" {
		return nil, errors.New("sink: it needs a Behaviour and a Domain")
	}
	if o.Stamp == nil {
		o.Stamp = byMessageID
	}
	listener, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("sink: %s: %w", o.Domain, err)
	}
	s := &Sink{
		options: o, listener: listener, closing: make(chan struct{}),
		tally: Tally{Domain: o.Domain}, names: map[string]bool{}, conns: map[net.Conn]struct{}{},
	}
	s.sessions.Go(s.accept)
	return s, nil
}

// Addr is where it listens.
func (s *Sink) Addr() netip.AddrPort { return s.listener.Addr().(*net.TCPAddr).AddrPort() }

// Tally gives what was counted so far. It is the caller's.
func (s *Sink) Tally() Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tally
	t.Deliveries = slices.Clone(t.Deliveries)
	return t
}

// Close ends the listener and every session, and waits for them.
func (s *Sink) Close() error {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return nil
	}
	s.ended = true
	close(s.closing)
	err := s.listener.Close()
	for c := range s.conns {
		_ = c.Close() // it ends its session; there is nothing to lose
	}
	s.mu.Unlock()
	s.sessions.Wait()
	return err
}

func (s *Sink) accept() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[conn] = struct{}{}
		if s.ended {
			_ = conn.Close()
		}
		s.mu.Unlock()
		s.sessions.Go(func() {
			newSession(s, conn, conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()).run()
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
			_ = conn.Close()
		})
	}
}

// admit asks about a new connection. Whoever is admitted calls left later.
func (s *Sink) admit(peer netip.Addr) Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.options.Behaviour.Answer(Question{Stage: Greeting, Now: time.Now(), Peer: peer, Open: s.tally.Open + 1})
	if a.Reply != "" {
		s.tally.TurnedAway++
		return a
	}
	s.tally.Connections++
	s.tally.Open++
	s.tally.Peak = max(s.tally.Peak, s.tally.Open)
	return a
}

func (s *Sink) left() {
	s.mu.Lock()
	s.tally.Open--
	s.mu.Unlock()
}

// ask puts a question of a session and counts the answer.
func (s *Sink) ask(q Question) Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	q.Now, q.Open = time.Now(), s.tally.Open
	if q.Stage == Sender {
		s.tally.Attempts++
	}
	a := s.options.Behaviour.Answer(q)
	if q.Stage == Recipient && a.Reply == "" && !strings.EqualFold(domainOf(q.To), s.options.Domain) {
		a = Answer{Reply: "550 5.7.1 " + s.options.Domain + " does not take mail for this domain"}
	}
	if a.Reply != "" {
		s.tally.Refused++
	}
	return a
}

// take counts a message that gets its 250 now.
func (s *Sink) take(header []byte) {
	name, sent, known := s.options.Stamp(header)
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tally.Accepted++
	if known && s.names[name] {
		s.tally.Duplicates++
		return
	}
	if known {
		s.names[name] = true
	}
	d := Delivery{At: now}
	if !sent.IsZero() {
		d.Took = now.Sub(sent)
	}
	s.tally.Deliveries = append(s.tally.Deliveries, d)
}

// byMessageID names a message by its Message-ID.
func byMessageID(header []byte) (name string, sent time.Time, ok bool) {
	value, ok := Field(header, "Message-ID")
	return value, time.Time{}, ok && value != ""
}

// Field gives the first line of a header field's value, for Stamp.
func Field(header []byte, name string) (value string, ok bool) {
	for line := range strings.Lines(string(header)) {
		if field, rest, found := strings.Cut(line, ":"); found && strings.EqualFold(field, name) {
			return strings.TrimSpace(rest), true
		}
	}
	return "", false
}

func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }
