package screen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"sync"
	"time"

	"anechoic/mail"
	"anechoic/mail/background"
)

// Defaults and bounds of ours.
const (
	DefaultTimeout = 30 * time.Second // clamd takes seconds for a big archive; a client waits ten minutes (RFC 5321 section 4.5.3.2.6)
	DefaultLosses  = 5                // in a row, before a scanner is left alone
	DefaultRest    = 15 * time.Second // for which it is: short, because all mail is put off meanwhile
	DefaultPlaces  = 32               // questions to one scanner at a time; clamd queues 100 by default
)

// maxText bounds what one finding quotes of a scanner.
const maxText = 160

// errNotScanned is wrapped by a loss that says nothing about the scanner's health:
// it answered as its protocol has it that it cannot look at this message. A sender
// must not be able to have a scanner left alone by sending what is too big for it.
var errNotScanned = errors.New("it did not scan the message")

// Scanner is one of Rspamd, Clamd, Milter and Checks. Its Name is a label: it holds
// nothing that a message says.
type Scanner interface {
	Name() string
	// Ask gives an opinion, or an error: then the scanner is lost for this message.
	Ask(context.Context, *Question) (Opinion, error)
	// Ping finds out whether it is there, for `status`.
	Ping(context.Context) error
}

// Options is what New needs. What is zero is as in the constants above.
type Options struct {
	Scanners  []Scanner
	Timeout   time.Duration // for one scanner and one message, connecting included
	Losses    int
	Rest      time.Duration
	Places    int
	MarkField string // the name of the field that a marked message gets; empty: none
	Log       *slog.Logger
}

// Screen asks the configured scanners. It is safe for concurrent use.
type Screen struct {
	options Options
	seats   []*seat
}

// seat is a scanner with what is remembered of it.
type seat struct {
	scanner Scanner
	places  chan struct{}

	mu      sync.Mutex // guards what follows
	breaker breaker
	counts  [len(actionNames)]uint64
}

// New makes a Screen. Without scanners it passes everything.
func New(o Options) *Screen {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Losses <= 0 {
		o.Losses = DefaultLosses
	}
	if o.Rest <= 0 {
		o.Rest = DefaultRest
	}
	if o.Places <= 0 {
		o.Places = DefaultPlaces
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Screen{options: o}
	for _, scanner := range o.Scanners {
		s.seats = append(s.seats, seatOf(scanner, o))
	}
	return s
}

// seatOf is where a scanner sits. Our own checks have no connection to lose.
func seatOf(scanner Scanner, o Options) *seat {
	places, losses := o.Places, o.Losses
	if own, ok := scanner.(*Checks); ok {
		places, losses = own.places(), math.MaxInt
	}
	return &seat{scanner: scanner, places: make(chan struct{}, places), breaker: breaker{after: losses, rest: o.Rest}}
}

// spared says that nobody wants this scanner's opinion.
func (s *seat) spared(q *Question) bool {
	_, own := s.scanner.(*Checks)
	return own && q.Rules.Checks.Rules == nil
}

// Ask asks all scanners at once and returns when the last has ended, which is
// within the time-out, or soon after for our own checks: nothing reads the message
// after that.
func (s *Screen) Ask(ctx context.Context, q *Question) Verdict {
	v := sum(s.opinions(ctx, q))
	if q.Rules.HoldLoss {
		v = v.holdLoss()
	}
	if v.Action == Mark && s.options.MarkField != "" {
		v.Headers = append(v.Headers, markOf(s.options.MarkField, v.Findings))
	}
	return v
}

// opinions asks the scanners whose opinion is wanted, the last of them here and not in
// a goroutine of its own: often it is the only one.
func (s *Screen) opinions(ctx context.Context, q *Question) []Opinion {
	opinions := make([]Opinion, len(s.seats))
	asked := make([]int, 0, len(s.seats))
	for i, seat := range s.seats {
		if seat.spared(q) {
			opinions[i].Action = Pass
		} else {
			asked = append(asked, i)
		}
	}
	if len(asked) == 0 {
		return opinions
	}
	ask := func(i int) { opinions[i] = s.askOne(ctx, s.seats[i], q) }
	last := asked[len(asked)-1]
	var others background.Group
	for _, i := range asked[:len(asked)-1] {
		others.Go(func() { ask(i) })
	}
	ask(last)
	others.Wait()
	return opinions
}

// askOne asks one scanner, unless it rests. Every way but an answer is a loss.
func (s *Screen) askOne(ctx context.Context, seat *seat, q *Question) Opinion {
	t, ok := seat.admit(time.Now())
	if !ok {
		return seat.count(lossOf(seat.scanner, "it was lost several times in a row and is left alone for a while"))
	}
	within, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	select {
	case seat.places <- struct{}{}:
		defer func() { <-seat.places }()
	case <-within.Done():
		seat.abandon(t)
		return seat.count(lossOf(seat.scanner, "too many messages wait for it"))
	}
	o, err := askSafely(within, seat.scanner, q)
	switch {
	case ctx.Err() != nil && err != nil:
		seat.abandon(t) // the caller gave up
	default:
		seat.settle(t, err != nil && !errors.Is(err, errNotScanned), time.Now())
	}
	if err != nil {
		text := safe(err.Error(), maxText)
		s.options.Log.Warn("scanner lost", "scanner", seat.scanner.Name(), "id", string(q.ID), "error", text)
		o = lossOf(seat.scanner, text)
	}
	return seat.count(o)
}

// askSafely turns a panic over a scanner's answer into a loss: it must not end the
// program, and the log has it.
func askSafely(ctx context.Context, scanner Scanner, q *Question) (o Opinion, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a fault of this program: %s", mail.PanicText(p))
		}
	}()
	return scanner.Ask(ctx, q)
}

func lossOf(scanner Scanner, text string) Opinion {
	return Opinion{Findings: []Finding{{Scanner: scanner.Name(), Rule: Lost.String(), Text: text}}}
}

// markOf is the field of a marked message: the scanner's sum, no word of the message.
func markOf(name string, findings []Finding) mail.Field {
	value := "Yes"
	for _, f := range findings {
		if f.Rule != "" && f.Score != 0 {
			value += ", " + f.Scanner + "=" + strconv.FormatFloat(f.Score, 'f', 2, 64)
			break
		}
	}
	return mail.NewField(name, value)
}

func (s *seat) admit(now time.Time) (ticket, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.breaker.admit(now)
}

func (s *seat) settle(t ticket, lost bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.breaker.settle(t, lost, now)
}

func (s *seat) abandon(t ticket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.breaker.abandon(t)
}

func (s *seat) count(o Opinion) Opinion {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[o.Action]++
	return o
}

// State is what metrics and status tell of a scanner.
type State struct {
	Scanner string
	Circuit Circuit
	Counts  map[Action]uint64 // its opinions since the start
}

// Close gives up idle connections. Nothing is asked after that.
func (s *Screen) Close() {
	for _, seat := range s.seats {
		if c, ok := seat.scanner.(interface{ Close() }); ok {
			c.Close()
		}
	}
}

// States tells of every scanner, in the order of the configuration.
func (s *Screen) States(now time.Time) []State {
	states := make([]State, len(s.seats))
	for i, seat := range s.seats {
		seat.mu.Lock()
		states[i] = State{Scanner: seat.scanner.Name(), Circuit: seat.breaker.state(now), Counts: make(map[Action]uint64)}
		for a, n := range seat.counts {
			states[i].Counts[Action(a)] = n
		}
		seat.mu.Unlock()
	}
	return states
}

// Health is whether a scanner answered.
type Health struct {
	Scanner string
	Err     error // nil: it is there
}

// Ping asks every scanner whether it is there, at once, within the time-out.
func (s *Screen) Ping(ctx context.Context) []Health {
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	healths := make([]Health, len(s.seats))
	var wait background.Group
	for i, seat := range s.seats {
		wait.Go(func() { healths[i] = Health{seat.scanner.Name(), seat.scanner.Ping(ctx)} })
	}
	wait.Wait()
	return healths
}
