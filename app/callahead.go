package app

import (
	"context"
	"strings"
	"sync"
	"time"

	"anechoic/mail"
	"anechoic/relay/delivery"
)

// callAhead asks organisations' own servers whether there is a recipient, before a
// message is taken for it, and remembers what they said: strangers choose what is
// asked, so answers are kept and questions are bounded.
type callAhead struct {
	probe func(ctx context.Context, rcpt mail.Recipient) delivery.Result

	mu      sync.Mutex // guards what follows
	answers map[string]answer
	asking  map[string]*question
}

// answer is what a server said of an address.
type answer struct {
	known bool
	at    time.Time
}

// question is one that waits for its answer.
type question struct {
	done   chan struct{}
	result delivery.Result // read after done is closed
}

// How long answers count. A recipient that is known stays known while its server
// does not answer: mail is taken for a server that is away.
const (
	knownFor      = time.Hour
	knownWithout  = 7 * 24 * time.Hour
	unknownFor    = 10 * time.Minute
	maxAnswers    = 200_000
	maxQuestions  = 50 // at a time
	questionsWait = 20 * time.Second
)

func newCallAhead(probe func(ctx context.Context, rcpt mail.Recipient) delivery.Result) *callAhead {
	return &callAhead{probe: probe, answers: make(map[string]answer), asking: make(map[string]*question)}
}

// ask says whether there is a recipient; nil: there is.
func (c *callAhead) ask(ctx context.Context, rcpt mail.Recipient, now time.Time) *mail.Refusal {
	key := strings.ToLower(rcpt.Address.String())
	c.mu.Lock()
	before, ok := c.answers[key]
	c.mu.Unlock()
	age := now.Sub(before.at)
	switch {
	case ok && before.known && age < knownFor:
		return nil
	case ok && !before.known && age < unknownFor:
		return mail.RecipientNotFound.Because("the organisation's server does not know %s", rcpt.Address)
	}
	switch r := c.put(ctx, key, rcpt); {
	case r.Status == delivery.Delivered, !isAnswer(r) && before.known && age < knownWithout:
		return nil
	case isAnswer(r):
		return mail.RecipientNotFound.Because("the organisation's server: %s", printable(r.Reply))
	default:
		return mail.RecipientNotAsked.Because("the organisation's server: %s", printable(r.Reply))
	}
}

// isAnswer says that the server spoke of the recipient, and for good.
func isAnswer(r delivery.Result) bool {
	return r.Status == delivery.Delivered || r.Status == delivery.Failed && r.Said
}

// put asks the server, once for all who ask at the same time.
func (c *callAhead) put(ctx context.Context, key string, rcpt mail.Recipient) delivery.Result {
	c.mu.Lock()
	q, waits := c.asking[key]
	full := len(c.asking) >= maxQuestions
	if !waits && !full {
		q = &question{done: make(chan struct{})}
		c.asking[key] = q
	}
	c.mu.Unlock()
	switch {
	case waits:
		select {
		case <-q.done:
			return q.result
		case <-ctx.Done():
			return delivery.Result{Reply: "the client did not wait"}
		}
	case full:
		return delivery.Result{Reply: "too many recipients are being asked about"}
	}
	probing, cancel := context.WithTimeout(context.WithoutCancel(ctx), questionsWait)
	defer cancel()
	q.result = delivery.Result{Reply: "a fault in this server"}
	defer c.answered(key, q)
	q.result = c.probe(probing, rcpt)
	return q.result
}

// answered tells who waits, and keeps what the server said. Where there is no room,
// some answers are forgotten, whichever: those are asked for again.
func (c *callAhead) answered(key string, q *question) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.asking, key)
	close(q.done)
	if !isAnswer(q.result) {
		return
	}
	for k := range c.answers {
		if len(c.answers) < maxAnswers {
			break
		}
		delete(c.answers, k)
	}
	c.answers[key] = answer{known: q.result.Status == delivery.Delivered, at: time.Now()}
}
