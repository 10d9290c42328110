package app

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"anechoic/control/api"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/delivery"
)

// checkTime bounds each question of a check.
const checkTime = 15 * time.Second

// checkInbound tries the ways that mail for a domain can take: the MX records, the
// organisation's server as inbound mail comes to it, and the same server as a stranger
// would come, around this relay. Nothing is sent.
func (a *App) checkInbound(ctx context.Context, name mail.Domain, route *org.Inbound) []api.InboundFinding {
	findings := a.checkExchangers(ctx, name)
	postmaster, err := mail.ParseAddress("postmaster@" + name.String())
	if err != nil {
		return findings
	}
	rcpt := mail.Recipient{Address: postmaster} // RFC 5321 section 4.5.1: there is one
	return append(findings, a.checkServer(ctx, rcpt), a.checkAround(ctx, rcpt))
}

// checkExchangers looks where DNS sends mail for the domain.
func (a *App) checkExchangers(ctx context.Context, name mail.Domain) []api.InboundFinding {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	answer, err := a.resolver.MX(ctx, name.String())
	if err != nil && !errors.Is(err, mail.ErrNoDomain) {
		return []api.InboundFinding{{Severity: api.Unclear, What: fmt.Sprintf("the MX records of %s could not be looked up: %v", name, err)}}
	}
	var here, elsewhere []string
	for _, mx := range answer.Records {
		if a.isUs(ctx, mx.Host) {
			here = append(here, mx.Host)
			continue
		}
		elsewhere = append(elsewhere, mx.Host)
	}
	var findings []api.InboundFinding
	switch {
	case len(here) == 0:
		findings = append(findings, api.InboundFinding{Severity: api.Wrong, What: fmt.Sprintf("no MX record of %s leads here", name), Fix: fmt.Sprintf("publish %s. MX 10 %s.", name, a.config.Hostname)})
	default:
		findings = append(findings, api.InboundFinding{Severity: api.Fine, What: "MX records lead here: " + strings.Join(here, ", ")})
	}
	if len(elsewhere) > 0 && len(here) > 0 {
		findings = append(findings, api.InboundFinding{
			Severity: api.Wrong, What: "MX records lead around this relay: " + strings.Join(elsewhere, ", "),
			Fix: "take them out, unless they are other addresses of this relay: senders may use any of them",
		})
	}
	return findings
}

// isUs says that a host is this relay: by its name, or by an address it listens on.
func (a *App) isUs(ctx context.Context, host string) bool {
	if strings.EqualFold(strings.TrimSuffix(host, "."), a.config.Hostname.String()) {
		return true
	}
	addresses, err := a.resolver.Addresses(ctx, host)
	return err == nil && slices.ContainsFunc(addresses.Records, func(at netip.Addr) bool {
		return slices.ContainsFunc(a.dispatcher.Router.Own, func(own netip.AddrPort) bool { return own.Addr() == at.Unmap() })
	})
}

// checkServer asks the organisation's server as inbound mail does.
func (a *App) checkServer(ctx context.Context, rcpt mail.Recipient) api.InboundFinding {
	r := a.probeFrom(ctx, inboundPool, mail.Address{}, rcpt)
	if r.Status == delivery.Delivered {
		secure := "in the clear"
		if r.TLS != "" {
			secure = "over " + r.TLS
		}
		return api.InboundFinding{Severity: api.Fine, What: fmt.Sprintf("the organisation's server takes mail for %s from here, %s", rcpt.Address, secure)}
	}
	return api.InboundFinding{
		Severity: api.Wrong, What: fmt.Sprintf("the organisation's server does not take mail for %s from here: %s", rcpt.Address, r.Reply),
		Fix: "see that deliver_to is right, that the server takes mail from the addresses of inbound.bind, and that tls asks for what it shows",
	}
}

// checkAround asks it as a stranger would: from an address that inbound mail does not
// leave from, with a sender it does not know.
func (a *App) checkAround(ctx context.Context, rcpt mail.Recipient) api.InboundFinding {
	if len(a.config.Inbound.Bind) == 0 {
		return api.InboundFinding{Severity: api.Unclear, What: "whether the server can be reached around this relay cannot be tried from here: inbound.bind is empty", Fix: "try it from a machine outside: the server must refuse mail that does not come from this relay"}
	}
	stranger, err := mail.ParseAddress("postmaster@" + a.config.Hostname.String())
	if err != nil {
		return api.InboundFinding{Severity: api.Unclear, What: err.Error()}
	}
	r := a.probeFrom(ctx, "", stranger, rcpt)
	if r.Status != delivery.Delivered {
		return api.InboundFinding{Severity: api.Fine, What: "the server takes no mail from another address of this machine: " + r.Reply}
	}
	return api.InboundFinding{
		Severity: api.Wrong, What: fmt.Sprintf("the server takes mail for %s from %s too, which is not an inbound address: anybody can deliver there, around this relay", rcpt.Address, r.Egress),
		Fix: "let it take mail from the addresses of inbound.bind only (docs/inbound.md says how, for Microsoft 365 too)",
	}
}

func (a *App) probeFrom(ctx context.Context, pool string, from mail.Address, rcpt mail.Recipient) delivery.Result {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	route, end := a.dispatcher.Router.Inward(ctx, rcpt.Address.Domain())
	if end != nil {
		return *end
	}
	return a.transport.Probe(ctx, route, pool, from, rcpt)[0]
}
