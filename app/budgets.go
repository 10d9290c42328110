package app

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"anechoic/control/config"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/limit"
)

// budgets is what the intake counts. Four kinds, apart from each other, so that
// none can push another out of memory:
//
//   - principals: what is proven to be sent by whom (see limits). Only proven mail has
//     such accounts, and only mail that is kept spends.
//   - floods: what is refused of who claims an organisation from a provider's
//     shared addresses. It bounds the look-ups, checks of signatures and facts
//     that a flood of spoofs costs. A message is asked about only if it is to be
//     refused in any case (see floodOf); so no flood can turn this budget against
//     the organisation it claims, another organisation or another tenant.
//   - complaints: what comes to an organisation's complaints address, from anybody.
//   - postmaster: what comes to the relay's own postmaster, from anybody.
type budgets struct {
	limits     config.Limits
	principals *limits
	floods     limit.Limiter
	complaints limit.Limiter
	postmaster limit.Limiter
}

// refusalsSpan is the span of limits.refused_per_claim.
const refusalsSpan = 10 * time.Minute

// How wide a network of a provider is counted as one: where no tenant is known.
const (
	providerBits4 = 24
	peerBits6     = 64 // what one customer of a network gets at least (RFC 6177 section 2)
)

func newBudgets(limits config.Limits) *budgets {
	return &budgets{limits: limits, principals: newLimits(limits)}
}

// floodOf names the budget of refused messages that a message belongs to; empty:
// none, because it may yet be proven.
//
// It belongs to one if its peer is in a provider's range and the organisation
// that it claims (the owner of its From domain, or nobody) can no longer prove
// it: see provable. The key is that organisation and the tenant as Microsoft
// stamped it; or, where no tenant is stamped by Microsoft, the peer's network.
// While the peer's name is not looked up the stamp is believed for this alone: a
// stranger who writes another's tenant id spends nothing (by then his name is
// known), and is answered like the tenant he says he is.
func floodOf(dir *org.Directory, ev *attribution.Evidence) string {
	providers := dir.Providers()
	microsoft := providers.Microsoft365.Contains(ev.Peer)
	if !microsoft && !providers.Google.Contains(ev.Peer) || provable(dir, ev) {
		return ""
	}
	claimed := "nobody"
	if owner, ok := dir.Owner(ev.From); ok {
		claimed = "organisation " + string(owner.Organisation)
	}
	stamp := ev.Header.TenantID
	switch {
	case microsoft && stamped(ev) && stamp.Count == 1 && len(stamp.Value) == guidLength:
		return fmt.Sprintf("tenant %s claiming %s", strings.ToLower(stamp.Value), claimed)
	case microsoft && ev.PeerName == attribution.PeerNameUnknown:
		return "" // asked again when its name is known
	case microsoft && ev.PeerName == attribution.PeerNameConfirmed:
		return fmt.Sprintf("unstamped mail of %s claiming %s", network(ev.Peer, providerBits4), claimed)
	}
	return fmt.Sprintf("%s claiming %s", network(ev.Peer, providerBits4), claimed)
}

// guidLength is the length of a GUID's text (RFC 9562 section 4); nothing else
// becomes part of a key.
const guidLength = 36

// stamped says that the stamps are Microsoft's, as far as is known by now.
func stamped(ev *attribution.Evidence) bool {
	return ev.PeerName == attribution.PeerNameConfirmed || ev.PeerName == attribution.PeerNameUnknown
}

// provable says that a message from a provider's peer may be proven and
// permitted yet, as far as what it brings goes: the session has a proof of its
// own, or a tenant or secret header names a source of the organisation that From
// claims, or that may send as it. It leans to yes: what it denies is certain to
// be refused, whatever a look-up says.
func provable(dir *org.Directory, ev *attribution.Evidence) bool {
	_, client := dir.ClientKey(ev.ClientKey.SPKI)
	_, server := dir.Address(ev.Peer)
	if ev.Username != "" || client && ev.ClientKey.Present || server {
		return true
	}
	if s, ok := dir.Tenant(strings.ToLower(ev.Header.TenantID.Value)); ok && stamped(ev) && mayClaim(dir, s, ev.From) {
		return true
	}
	return slices.ContainsFunc(ev.Header.Secrets, func(secret attribution.Secret) bool {
		s, ok := dir.Secret(secret.Name, secret.Digest)
		return ok && s.Kind == org.Google && mayClaim(dir, s, ev.From)
	})
}

// mayClaim says that mail of a source with this From may be more than a spoof:
// From is its organisation's, its provider domain's, or nobody's here (then it is
// forwarded mail, and the source's own affair).
func mayClaim(dir *org.Directory, s *org.Source, from mail.Domain) bool {
	owner, owned := dir.Owner(from)
	return !owned || owner.Organisation == s.Organisation || slices.Contains(s.ProviderDomains, from)
}

// flooded refuses a message whose like was refused too often lately. It is asked
// before each step that costs more than reading the header.
func (b *budgets) flooded(dir *org.Directory, ev *attribution.Evidence, now time.Time) *mail.Refusal {
	claim := b.refusal(floodOf(dir, ev))
	if retry := b.floods.Ask(now, claim); !retry.IsZero() {
		return mail.RateLimited.Because("too much was refused: %s has no budget before %s", claim.Key, retry.UTC().Format(time.RFC3339))
	}
	return nil
}

// refused spends from the budget of refused messages. What is uncertain, as a
// look-up that failed, spends nothing.
func (b *budgets) refused(dir *org.Directory, ev *attribution.Evidence, refusal *mail.Refusal, now time.Time) {
	if !refusal.Temporary() {
		b.floods.Take(now, b.refusal(floodOf(dir, ev)))
	}
}

func (b *budgets) refusal(flood string) limit.Claim {
	if flood == "" {
		return limit.Claim{}
	}
	return limit.Claim{Key: flood, Rate: limit.Rate{Units: b.limits.RefusedPerClaim, Span: refusalsSpan}, Amount: 1}
}

// spend takes a message from the accounts of who was proven to send it, and gives
// what it took: who does not keep the message returns it.
func (b *budgets) spend(m *offered, now time.Time) (spent, *mail.Refusal) {
	o, known := m.dir.Organisation(m.proof.Organisation())
	source, there := m.dir.Source(m.proof.Organisation(), m.proof.Source())
	if !known || !there {
		return spent{}, nil // policy has just found it in the same Directory
	}
	e := m.tx.Envelope
	p := paying{organisation: o, source: source, from: m.originators.From.Address.Domain(), bytes: m.r.Size, report: e.From.IsZero()}
	if source.Kind == org.Microsoft365 {
		p.tenant = strings.ToLower(m.evidence.Header.TenantID.Value)
	}
	p.recipients = make([]mail.Address, len(e.Recipients))
	for i := range e.Recipients {
		p.recipients[i] = e.Recipients[i].Address
	}
	return b.principals.spend(m.dir, &p, now)
}

// network is the network an address is counted with: bits of an IPv4 address, a
// /64 in IPv6.
func network(a netip.Addr, bits4 int) netip.Prefix {
	a = a.Unmap()
	bits := bits4
	if a.Is6() {
		bits = peerBits6
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // of no address
	}
	return p
}
