package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"anechoic/control/config"
	"anechoic/engine/local"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
	"anechoic/relay/policy"
)

// serveFill is `bench fill CONFIG MESSAGES PORT`, which the bench runs as a process of
// its own: it fills the queue of a relay that does not run, and suspends the smart
// host at that port.
func serveFill(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("fill: got %d arguments, wants CONFIG MESSAGES PORT", len(args))
	}
	messages, err := strconv.Atoi(args[1])
	port, err2 := strconv.Atoi(args[2])
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	return fillQueue(context.Background(), args[0], messages, port)
}

// lazyEngine is an engine that makes nothing durable before it is told to: a
// crash while a queue is filled only means to fill another one.
type lazyEngine struct {
	*local.Engine
	durable atomic.Bool
}

// Commit implements custody.Engine.
func (e *lazyEngine) Commit(ctx context.Context, b *custody.Batch) error {
	lazy := *b
	lazy.Lazy = b.Lazy || !e.durable.Load()
	return e.Engine.Commit(ctx, &lazy)
}

// fillQueue queues small messages for a relay that does not run, and suspends its
// smart host. The messages are proven as their organisations' own.
func fillQueue(ctx context.Context, file string, messages, sinkPort int) (err error) {
	c, dir, problems, _ := config.Validate(file)
	if len(problems) > 0 {
		return fmt.Errorf("%s: %v", file, problems)
	}
	var store lazyEngine
	q, engine, err := openQueue(ctx, c.DataDir, func(e *local.Engine) custody.Engine {
		store.Engine = e
		return &store
	})
	if err != nil {
		return err
	}
	defer func() { q.Close(); err = errors.Join(err, engine.Close()) }()
	writers, err := warrants(dir)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	if err := inParallel(messages, func(i int) error {
		s, err := small(writers[i/7%len(writers)], i, now)
		if err == nil {
			_, err = q.Keep(ctx, s, now)
		}
		return err
	}); err != nil {
		return err
	}
	store.durable.Store(true) // this last batch makes all before it durable
	return suspend(ctx, q, sinkPort)
}

// writer is an organisation that may send.
type writer struct {
	from    mail.Address
	warrant custody.Proven
}

// warrants proves and permits one sender of each organisation, as the relay does
// for a session with the organisation's credential.
func warrants(dir *org.Directory) (all []writer, err error) {
	var n node // for the names alone
	for i := range len(slices.Collect(dir.Organisations())) {
		from, err := mail.ParseAddress("sender@" + n.domain(i, 0))
		if err != nil {
			return nil, err
		}
		evidence := attribution.Evidence{Peer: netip.MustParseAddr("192.0.2.1"), TLS: true, Username: n.username(i), From: from.Domain()}
		proof, refusal := attribution.Attribute(dir, &evidence, time.Now())
		if refusal != nil {
			return nil, fmt.Errorf("organisation %d is not proven: %v", i, refusal)
		}
		originators := mail.Originators{From: mail.Mailbox{Address: from}}
		verified := func(*org.Domain, mail.Domain) org.Standing { return org.Verified }
		warrant, refusal := policy.Permit(dir, proof, &policy.Message{MailFrom: from, Originators: originators}, verified)
		if refusal != nil {
			return nil, fmt.Errorf("organisation %d may not send: %v", i, refusal)
		}
		all = append(all, writer{from, warrant})
	}
	return all, nil
}

// small is the i-th message, of about 1 KiB with a header as a signed one has.
func small(w writer, i int, now time.Time) (s custody.Submission, err error) {
	to, err := mail.ParseAddress(fmt.Sprintf("r%d@d%d.example", i, i%queuedRecipients))
	if err != nil {
		return s, err
	}
	text := fmt.Sprintf("Received: by relay.example.org id %d\r\nDKIM-Signature: %s\r\nFrom: %s\r\nTo: %s\r\nSubject: message %[1]d\r\nMessage-ID: <%[1]d@bench>\r\n",
		i, strings.Repeat("x", 400), w.from, to)
	header, err := mail.ParseHeader([]byte(text), mail.HeaderLimits{})
	if err != nil {
		return s, err
	}
	return custody.Submission{
		ID: mail.NewID(now), Warrant: w.warrant, Header: header, Body: mail.NewBody([]byte(strings.Repeat("Hello.\r\n", 64))),
		Envelope: mail.Envelope{From: w.from, Recipients: []mail.Recipient{{Address: to}}},
	}, nil
}

// inParallel does something count times, on every processor, until it fails.
func inParallel(count int, do func(i int) error) error {
	var next atomic.Int64
	failures := make([]error, 8*runtime.NumCPU()) // commits are made in groups: more wait than run
	var all sync.WaitGroup
	for w := range failures {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < count && failures[w] == nil; i = int(next.Add(1)) - 1 {
				failures[w] = do(i)
			}
		})
	}
	all.Wait()
	return errors.Join(failures...)
}
