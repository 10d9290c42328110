package dns

import (
	"context"
	"errors"
	"fmt"
	"time"

	wire "github.com/miekg/dns"

	"anechoic/mail"
)

// ErrNotAuthoritative says that a server answered, but does not have the zone.
var ErrNotAuthoritative = errors.New("the server does not have the zone")

// NS gives the names of the servers that have the zone of exactly this name; none:
// no zone begins here.
func (c *Client) NS(ctx context.Context, name string) (mail.Answer[string], error) {
	return lookup(ctx, c.find, name, wire.TypeNS, decodeNS)
}

// Servers are those that are asked, "address:port" each.
func (c *Client) Servers() []string { return append([]string(nil), c.servers...) }

// Ask puts one question past the cache to one of the servers and says nothing but
// whether it answered: for somebody who wants to know which of them is broken.
func (c *Client) Ask(ctx context.Context, server, name string) error {
	fqdn, err := canonical(name)
	if err != nil {
		return fmt.Errorf("dns: %w", err)
	}
	_, err = c.askServer(ctx, server, question{fqdn, wire.TypeA}, c.timeout)
	return err
}

// Held is what one server that has a zone says is at a name. Alias is where a CNAME
// record leads, if the server does not say what is there.
type Held struct {
	Records []string // TXT: the strings of each joined; MX: "10 mx.example"
	Alias   string
}

// HeldTXT asks one server for the TXT records of a name, without recursion and past
// every cache. An error that wraps mail.ErrNoDomain says that the name does not
// exist there, one that wraps ErrNotAuthoritative that the server does not know.
func HeldTXT(ctx context.Context, server, name string, timeout time.Duration) (Held, error) {
	return heldAt(ctx, server, name, wire.TypeTXT, timeout, decodeTXT)
}

// HeldMX is HeldTXT for MX records.
func HeldMX(ctx context.Context, server, name string, timeout time.Duration) (Held, error) {
	return heldAt(ctx, server, name, wire.TypeMX, timeout, func(rr wire.RR) (string, error) {
		mx, err := decodeMX(rr)
		return fmt.Sprintf("%d %s", mx.Preference, mx.Host), err
	})
}

func heldAt(ctx context.Context, server, name string, qtype uint16, timeout time.Duration, decode func(wire.RR) (string, error)) (Held, error) {
	fqdn, err := canonical(name)
	if err != nil {
		return Held{}, fmt.Errorf("dns: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	q := question{fqdn, qtype}
	m, err := askPlainly(ctx, server, q)
	if err != nil {
		return Held{}, fmt.Errorf("dns: %s: %s: %w", server, q, err)
	}
	s := read(m, q)
	switch {
	case m.Rcode != wire.RcodeSuccess && m.Rcode != wire.RcodeNameError:
		return Held{}, fmt.Errorf("dns: %s: %s: %w: %s", server, q, errServer, wire.RcodeToString[m.Rcode])
	case !m.Authoritative:
		return Held{}, fmt.Errorf("dns: %s: %s: %w", server, q, ErrNotAuthoritative)
	case s.aliases > 0 && len(s.records) == 0:
		return Held{Alias: aliasIn(m)}, nil
	case s.noDomain:
		return Held{}, fmt.Errorf("dns: %s: %s: %w", server, q, mail.ErrNoDomain)
	}
	var held Held
	for _, rr := range s.records {
		if text, err := decode(rr); err == nil {
			held.Records = append(held.Records, text)
		}
	}
	return held, nil
}

// askPlainly asks without recursion, over TCP if the answer does not fit.
func askPlainly(ctx context.Context, server string, q question) (*wire.Msg, error) {
	query := newQuery(q, true)
	query.RecursionDesired, query.AuthenticatedData = false, false
	m, err := exchange(ctx, "udp", server, query)
	if err == nil && m.Rcode == wire.RcodeFormatError {
		query = newQuery(q, false)
		query.RecursionDesired, query.AuthenticatedData = false, false
		m, err = exchange(ctx, "udp", server, query)
	}
	if err == nil && m.Truncated {
		m, err = exchange(ctx, "tcp", server, query)
	}
	return m, err
}

func aliasIn(m *wire.Msg) (target string) {
	for _, rr := range m.Answer {
		if c, ok := rr.(*wire.CNAME); ok {
			target, _ = hostName(c.Target)
		}
	}
	return target
}

func decodeNS(rr wire.RR) (string, error) { return hostName(rr.(*wire.NS).Ns) }
