package inbound

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"anechoic/mail"
	"anechoic/mail/background"
	"anechoic/org"
	"anechoic/standard/arc"
	"anechoic/standard/dkim"
	"anechoic/standard/dmarc"
	"anechoic/standard/spf"
)

// Question is a message for an organisation, as it arrived.
type Question struct {
	Route    *org.Inbound // whom it is for
	Peer     netip.Addr   // who connected; zero: nobody did, the message was sent from here
	Helo     string
	MailFrom mail.Address // zero: the null sender
	From     mail.Domain  // of the one From mailbox
	Header   mail.Header
	Hashes   dkim.BodyHashes
	Sender   org.ID // the organisation that this relay proved it to come from; empty: none
}

// request is what SPF is asked by receiver.
func (q *Question) request(receiver string, now time.Time) spf.Request {
	return spf.Request{IP: q.Peer, HELO: q.Helo, MailFrom: q.MailFrom.String(), Receiver: receiver, Now: now}
}

// Results is what the standards say of a message.
type Results struct {
	SPF   spf.Result
	DKIM  []dkim.Result
	ARC   arc.Chain
	DMARC dmarc.Result
}

// Checker verifies. Fields are set before first use. It is safe for concurrent
// use.
type Checker struct {
	Resolver mail.Resolver
	Hostname string        // of this relay, as explanations of SPF may name it
	Method   dmarc.Method  // how organisational domains are found; zero: RFC 9989's
	Sealers  []mail.Domain // whose ARC seals may speak for a message that fails DMARC
	Limit    time.Duration // for all look-ups of a message; zero: DefaultLimit
}

// DefaultLimit is how long look-ups may keep a client waiting: RFC 5321 section
// 4.5.3.2.6 gives the end of DATA ten minutes, and RFC 7208 section 4.6.4 SPF alone
// at least 20 seconds.
const DefaultLimit = 45 * time.Second

// Verify asks each standard once. SPF, DKIM and ARC do not wait for each other; DMARC
// has the last word. What takes too long is a temporary error.
func (c *Checker) Verify(ctx context.Context, q *Question, now time.Time) (r Results) {
	limit := c.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var both background.Group
	if q.Peer.IsValid() {
		both.Go(func() {
			r.SPF = spf.Check(ctx, c.Resolver, q.request(c.Hostname, now))
		})
	}
	both.Go(func() { r.DKIM = dkim.Verify(ctx, c.Resolver, q.Header, q.Hashes, now) })
	r.ARC = arc.Validate(ctx, c.Resolver, q.Header, q.Hashes, now)
	both.Wait()
	m := dmarc.Message{From: []mail.Domain{q.From}}
	m.SPF.Domain, _ = mail.ParseDomain(r.SPF.Domain) // what is no domain aligns with none
	m.SPF.Outcome = outcomeOfSPF(r.SPF.Status)
	for _, s := range r.DKIM {
		m.DKIM = append(m.DKIM, dmarc.Identifier{Domain: s.Domain, Outcome: outcomeOfDKIM(&s)})
	}
	r.DMARC = dmarc.Evaluate(ctx, c.Resolver, c.Method, m)
	return r
}

func outcomeOfSPF(s spf.Status) dmarc.Outcome {
	switch s {
	case spf.Pass:
		return dmarc.Authenticated
	case spf.TempError:
		return dmarc.Undetermined
	}
	return dmarc.Unauthenticated
}

// outcomeOfDKIM takes a signature whose key is for tests as none (RFC 6376 section
// 3.6.1).
func outcomeOfDKIM(r *dkim.Result) dmarc.Outcome {
	switch {
	case r.Status == dkim.Pass && !r.Testing:
		return dmarc.Authenticated
	case r.Status == dkim.TempError:
		return dmarc.Undetermined
	}
	return dmarc.Unauthenticated
}

// Vouched says that a chain of seals that validates, the newest by a trusted sealer,
// says that the message was DMARC-pass for this From when the first of its trusted
// sealers took it in (RFC 8617 section 7.2). by is who says so.
func (c *Checker) Vouched(r *Results, from mail.Domain) (by mail.Domain, ok bool) {
	if r.ARC.Status != arc.Pass || len(r.ARC.Instances) == 0 {
		return mail.Domain{}, false
	}
	for i := len(r.ARC.Instances) - 1; i >= 0; i-- { // the newest first, as far as they are trusted
		set := &r.ARC.Instances[i]
		by = set.Sealer()
		if by.IsZero() || !slices.Contains(c.Sealers, by) {
			return mail.Domain{}, false
		}
		for _, m := range set.Results.Of("dmarc") {
			name, _ := m.Get("header", "from")
			if d, err := mail.ParseDomain(name); m.Value == "pass" && err == nil && d == from {
				return by, true
			}
		}
	}
	return mail.Domain{}, false
}
