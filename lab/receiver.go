package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"

	"anechoic/mail"
	"anechoic/standard/dkim"
	"anechoic/standard/dmarc"
	"anechoic/standard/spf"
)

// Judgement is what a receiver made of a message.
type Judgement struct {
	MessageID string
	From      mail.Domain   // of the From field
	SignedBy  []mail.Domain // d= of signatures that verify
	Aligned   bool          // one of them is aligned with From (relaxed)
	Expires   time.Time     // x= of the first that verifies, zero if absent
	Leaked    []string      // names of header fields that should not have left a relay
	Data      []byte
	Times     int // how often it came

	MailFrom   string // of the envelope, as are Recipients
	Recipients []string

	// What a large provider makes of it; known where the message came to a
	// Receiver, which knows the connection.
	SPF   spf.Result
	DMARC dmarc.Result
	Place Place

	signatures []dkim.Result
}

// Receiver is a mailbox provider: it takes everything and judges it as large
// ones do, by SPF, DKIM and DMARC. What others would refuse it takes too, and
// notes that they would (Place).
type Receiver struct {
	// Key names a message, for all that asks for one by name; nil: its Message-ID.
	// It is set before the first message comes.
	Key func(Judgement) string

	resolver mail.Resolver
	door     *door

	mu         sync.Mutex // guards what follows
	judgements map[string]Judgement
	answers    map[string]string // replies to what is for a domain; see Answer
	repeated   int
	arrived    chan struct{} // closed and renewed at each arrival
}

// NewReceiver opens a receiver; addr is "127.50.0.1:0" or with a port.
func NewReceiver(addr string, resolver mail.Resolver) (*Receiver, error) {
	r := &Receiver{resolver: resolver, judgements: map[string]Judgement{}, arrived: make(chan struct{})}
	var err error
	if r.door, err = openDoor(addr, r.take); err != nil {
		return nil, fmt.Errorf("lab: receiver: %w", err)
	}
	return r, nil
}

// Addr is where the receiver listens.
func (r *Receiver) Addr() netip.AddrPort { return r.door.addr() }

// Close ends it.
func (r *Receiver) Close() error { return r.door.close() }

func (r *Receiver) take(e envelope) error {
	if err := r.answer(e.Recipients); err != nil {
		return err
	}
	j, err := Judge(context.Background(), r.resolver, e.Data)
	if err != nil {
		return fmt.Errorf("550 5.6.0 %s", strings.ReplaceAll(err.Error(), "\r\n", " "))
	}
	j.judgeConnection(context.Background(), r.resolver, e)
	r.mu.Lock()
	defer r.mu.Unlock()
	key := j.MessageID
	if r.Key != nil {
		key = r.Key(j)
	}
	j.Times = r.judgements[key].Times + 1
	if j.Times > 1 {
		r.repeated++
	}
	r.judgements[key] = j
	close(r.arrived)
	r.arrived = make(chan struct{})
	return nil
}

// Answer sets what is said to messages for a domain from now on, instead of
// taking them, for example "451 4.2.1 mailbox busy"; an empty reply takes them
// again.
func (r *Receiver) Answer(domain, reply string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answers == nil {
		r.answers = map[string]string{}
	}
	r.answers[domain] = reply
}

// answer is what is to be said to a message for these recipients; nil: it is
// taken.
func (r *Receiver) answer(recipients []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, to := range recipients {
		if reply := r.answers[to[strings.LastIndexByte(to, '@')+1:]]; reply != "" {
			return errors.New(reply)
		}
	}
	return nil
}

// Repeated counts messages that came more than once.
func (r *Receiver) Repeated() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.repeated
}

// Judgement gives what was made of a message, if it came.
func (r *Receiver) Judgement(messageID string) (Judgement, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	j, ok := r.judgements[messageID]
	return j, ok
}

// Judgements gives all of them, in no order.
func (r *Receiver) Judgements() []Judgement {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Judgement, 0, len(r.judgements))
	for _, j := range r.judgements {
		all = append(all, j)
	}
	return all
}

// Wait returns when n messages are there, or with ctx's error.
func (r *Receiver) Wait(ctx context.Context, n int) error {
	for {
		r.mu.Lock()
		have, arrived := len(r.judgements), r.arrived
		r.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return fmt.Errorf("lab: %d of %d messages arrived: %w", have, n, ctx.Err())
		}
	}
}

// Await gives what was made of a message once it is there, or ctx's error.
func (r *Receiver) Await(ctx context.Context, messageID string) (Judgement, error) {
	for {
		r.mu.Lock()
		j, ok := r.judgements[messageID]
		arrived := r.arrived
		r.mu.Unlock()
		if ok {
			return j, nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return Judgement{}, fmt.Errorf("lab: message %s did not arrive: %w", messageID, ctx.Err())
		}
	}
}

// WaitFor returns when all of these Message-IDs came, or says which did not.
func (r *Receiver) WaitFor(ctx context.Context, ids []string, atMost time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	for {
		r.mu.Lock()
		arrived := r.arrived
		var missing []string
		for _, id := range ids {
			if _, ok := r.judgements[id]; !ok {
				missing = append(missing, id)
			}
		}
		r.mu.Unlock()
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return fmt.Errorf("lab: %d of %d messages did not arrive, as %s: %w", len(missing), len(ids), missing[0], ctx.Err())
		}
	}
}

// Judge verifies one message.
func Judge(ctx context.Context, resolver mail.Resolver, data []byte) (Judgement, error) {
	head, body := split(data)
	header, err := mail.ParseHeader(head, mail.HeaderLimits{})
	if err != nil {
		return Judgement{}, err
	}
	o, refusal := mail.ReadOriginators(header)
	if refusal != nil {
		return Judgement{}, fmt.Errorf("%v", refusal)
	}
	hasher := dkim.NewBodyHasher(header)
	hasher.Write(body)
	j := Judgement{From: o.From.Address.Domain(), Data: data}
	if f, ok := header.First("Message-ID"); ok {
		j.MessageID = f.Value()
	}
	j.signatures = dkim.Verify(ctx, resolver, header, hasher.Sum(), time.Now())
	for _, result := range j.signatures {
		if result.Status == dkim.Pass {
			if len(j.SignedBy) == 0 {
				j.Expires = result.Expires
			}
			j.SignedBy = append(j.SignedBy, result.Domain)
			j.Aligned = j.Aligned || organisational(result.Domain) == organisational(j.From)
		}
	}
	for _, f := range header.Fields {
		if f.Is("X-OriginatorOrg") || f.HasPrefix("X-MS-Exchange-CrossTenant-") || strings.HasSuffix(strings.ToLower(f.Name()), "-relay-key") {
			j.Leaked = append(j.Leaked, f.Name())
		}
	}
	return j, nil
}

// split divides a message at its first empty line.
func split(data []byte) (head, body []byte) {
	if i := bytes.Index(data, []byte("\r\n\r\n")); i >= 0 {
		return data[:i+2], data[i+4:]
	}
	return data, nil
}

// organisational is the domain that relaxed alignment compares.
func organisational(d mail.Domain) string {
	if name, err := publicsuffix.EffectiveTLDPlusOne(d.String()); err == nil {
		return name
	}
	return d.String()
}
