package lab

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"anechoic/mail"
	"anechoic/standard/dkim"
)

// permissive is a relay as they were in 2024: what comes from an address of the
// shared provider, or of a customer, is taken for the mail of the customer whose
// domain stands in From, and signed. That is the hole; nothing else is wrong with
// it. It is part of the range and cannot be reached from the real relay.
type permissive struct {
	door    *door
	trusted []netip.Prefix
	keys    map[mail.Domain]*rsa.PrivateKey
	next    map[string]string // recipient domain to address
}

// permissiveSelector is the selector of its customers' keys.
const permissiveSelector = "old1"

// newPermissive starts one for some customers' domains, publishes its keys, and
// sends everything on to next.
func newPermissive(internet *Internet, trusted []netip.Prefix, domains []mail.Domain, next map[string]string) (*permissive, error) {
	p := &permissive{trusted: trusted, keys: map[mail.Domain]*rsa.PrivateKey{}, next: next}
	for _, d := range domains {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		p.keys[d] = key
		internet.Publish(dkim.KeyName(permissiveSelector, d), dkim.RecordValue(key.Public()))
	}
	var err error
	if p.door, err = openDoor("127.0.0.1:0", p.take); err != nil {
		return nil, fmt.Errorf("lab: permissive relay: %w", err)
	}
	return p, nil
}

func (p *permissive) addr() string { return p.door.addr().String() }

func (p *permissive) close() error { return p.door.close() }

// take is its whole policy: the address is trusted, so the message is the
// customer's.
func (p *permissive) take(e envelope) error {
	if !p.trusts(e.Peer) {
		return errors.New("550 5.7.1 relaying denied")
	}
	head, body := split(e.Data)
	header, err := mail.ParseHeader(head, mail.HeaderLimits{})
	if err != nil {
		return errors.New("550 5.6.0 header syntax")
	}
	o, refusal := mail.ReadOriginators(header)
	if refusal != nil {
		return errors.New("550 5.6.0 no From")
	}
	if key, ok := p.keys[o.From.Address.Domain()]; ok {
		hasher := dkim.NewBodyHasher(header)
		hasher.Write(body)
		signer := dkim.Signer{Domain: o.From.Address.Domain(), Selector: permissiveSelector, Algorithm: dkim.RSASHA256, Key: key}
		fields, err := dkim.Sign(header, hasher.Sum(), []dkim.Signer{signer}, time.Now(), time.Hour)
		if err != nil {
			return fmt.Errorf("451 4.3.0 %w", err)
		}
		header = header.Prepend(fields...)
	}
	return p.forward(e, append(header.Bytes(), body...))
}

func (p *permissive) trusts(peer netip.Addr) bool {
	for _, t := range p.trusted {
		if t.Contains(peer) {
			return true
		}
	}
	return false
}

// forward delivers at once: it keeps nothing.
func (p *permissive) forward(e envelope, data []byte) error {
	for _, rcpt := range e.Recipients {
		a, err := mail.ParseAddress(rcpt)
		if err != nil {
			return errors.New("550 5.1.3 bad recipient")
		}
		host, ok := p.next[a.Domain().String()]
		if !ok {
			return errors.New("550 5.1.2 no such domain")
		}
		if err := deliver(host, Letter{Via: netip.MustParseAddr("127.0.0.1"), From: e.From, To: rcpt, Data: data}); err != nil {
			return fmt.Errorf("451 4.4.1 %w", err)
		}
	}
	return nil
}

func deliver(host string, l Letter) error {
	if _, _, err := net.SplitHostPort(host); err != nil {
		return err
	}
	c, err := dial(context.Background(), host, l.Via, "", "")
	if err != nil {
		return err
	}
	defer c.close()
	reply, err := c.send(l)
	if err == nil && !reply.Accepted() {
		err = fmt.Errorf("%d %s", reply.Code, reply.Text)
	}
	return err
}
