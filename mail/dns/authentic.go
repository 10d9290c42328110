package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	wire "github.com/miekg/dns"
)

// ErrNotAuthentic says that a name server's answers cannot be relied on as DNSSEC
// has it. The wrapping error says why.
var ErrNotAuthentic = errors.New("answers of DNS are not authentic")

// onLoopback says that every server is on this machine: nobody stands between.
func onLoopback(servers []string) bool {
	for _, s := range servers {
		host, _, err := net.SplitHostPort(s)
		if err != nil {
			return false
		}
		if addr, err := netip.ParseAddr(host); err != nil || !addr.IsLoopback() {
			return false
		}
	}
	return len(servers) > 0
}

// CheckAuthentic asks each server for the SOA record of a name that is signed, as
// "." is, past the cache, and wants AD in the answer. nil: the AD bit of answers
// can be believed (RFC 6840 section 5.8). An error that wraps ErrNotAuthentic
// means that it cannot; any other, that a server did not answer.
func (c *Client) CheckAuthentic(ctx context.Context, signed string) error {
	if !c.trustAD {
		return fmt.Errorf("%w: not every name server is on loopback (%v), and the configuration does not vouch for the way to them", ErrNotAuthentic, c.servers)
	}
	q := question{".", wire.TypeSOA}
	if signed != "." {
		name, err := canonical(signed)
		if err != nil {
			return fmt.Errorf("dns: %w", err)
		}
		q.name = name
	}
	for _, s := range c.servers {
		m, err := c.askServer(ctx, s, q, c.timeout)
		if err != nil {
			return fmt.Errorf("dns: %s: %s: %w", s, q, err)
		}
		if !m.AuthenticatedData {
			return fmt.Errorf("%w: the name server %s does not validate %s: use one that does, as unbound on this machine", ErrNotAuthentic, s, signed)
		}
	}
	return nil
}
