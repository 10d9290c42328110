package spf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"anechoic/mail"
)

// limits bound an evaluation.
type limits struct{ lookups, void int }

// evaluation is one check_host() with all that it includes (RFC 7208 section 4).
type evaluation struct {
	resolver mail.Resolver
	ip       netip.Addr // never an IPv4 address in IPv6
	sender   string     // local@domain
	helo     string
	receiver string
	now      time.Time
	most     limits

	lookups   int
	void      int
	names     []string // validated names of ip, once known
	known     bool
	nameless  bool // ip has no PTR record at all
	dependent bool // a macro was expanded whose value the sender chooses
}

// outcome is what one record gave.
type outcome struct {
	status    Status
	err       error
	mechanism string
	domain    string // whose record decided
	exp       string // its exp=
}

func permError(format string, args ...any) outcome {
	return outcome{status: PermError, err: fmt.Errorf(format, args...)}
}

// checkHost evaluates the record of a domain.
func (e *evaluation) checkHost(ctx context.Context, domain string) outcome {
	name, ok := queryName(domain)
	if !ok || !isFQDN(name) { // RFC 7208 section 4.3
		return outcome{status: None, err: fmt.Errorf("%.80q is no domain name", domain)}
	}
	txt, o := e.record(ctx, name)
	if txt == "" {
		return o
	}
	rec, err := parseRecord(txt)
	if err != nil {
		return permError("the record of %s: %w", name, err)
	}
	for _, m := range rec.mechanisms {
		matched, stop := e.matches(ctx, m, name)
		if stop != nil {
			return *stop
		}
		if matched {
			return outcome{status: m.status, mechanism: m.text, domain: name, exp: rec.exp}
		}
	}
	if rec.redirect != "" {
		return e.redirect(ctx, rec.redirect, name)
	}
	return outcome{status: Neutral, mechanism: "default", domain: name} // RFC 7208 section 4.7
}

// record looks the record of a name up; empty if the outcome is settled without.
func (e *evaluation) record(ctx context.Context, name string) (string, outcome) {
	answer, err := e.resolver.TXT(ctx, name)
	if err != nil && !errors.Is(err, mail.ErrNoDomain) {
		return "", tempError(name, err)
	}
	found := ""
	for _, txt := range answer.Records {
		if !isRecord(txt) {
			continue
		}
		if found != "" { // RFC 7208 section 4.5
			return "", permError("%s has more than one SPF record", name)
		}
		found = txt
	}
	if found == "" {
		return "", outcome{status: None, err: fmt.Errorf("%s has no SPF record", name)}
	}
	return found, outcome{}
}

func tempError(name string, err error) outcome {
	return outcome{status: TempError, err: fmt.Errorf("look-up of %s: %w", name, err)}
}

// redirect goes on with another record (RFC 7208 section 6.1).
func (e *evaluation) redirect(ctx context.Context, domainSpec, domain string) outcome {
	if stop := e.count(); stop != nil {
		return *stop
	}
	target, err := e.expand(ctx, domainSpec, domain, nameMacros)
	if err != nil {
		return permError("redirect=%s: %w", domainSpec, err)
	}
	o := e.checkHost(ctx, target)
	if o.status == None {
		return permError("redirect=%s: %w", domainSpec, o.err)
	}
	return o
}

// count notes a term that looks something up.
func (e *evaluation) count() *outcome {
	if e.lookups++; e.lookups > e.most.lookups {
		o := permError("more than %d terms look something up", e.most.lookups)
		return &o
	}
	return nil
}

// nothing notes a term that found nothing (RFC 7208 section 4.6.4, void lookups).
func (e *evaluation) nothing() *outcome {
	if e.void++; e.void > e.most.void {
		o := permError("more than %d terms find nothing", e.most.void)
		return &o
	}
	return nil
}

// matches tries one mechanism. stop ends the evaluation.
func (e *evaluation) matches(ctx context.Context, m mechanism, domain string) (matched bool, stop *outcome) {
	switch m.kind {
	case all:
		return true, nil
	case network:
		return m.prefix.Contains(e.ip), nil
	}
	if stop := e.count(); stop != nil {
		return false, stop
	}
	target := domain
	if m.domainSpec != "" {
		expanded, err := e.expand(ctx, m.domainSpec, domain, nameMacros)
		if err != nil {
			o := permError("%s: %w", m.text, err)
			return false, &o
		}
		if !isASCII(expanded) { // RFC 8616 section 4: a local part outside ASCII matches nothing
			return false, nil
		}
		target = expanded
	}
	switch m.kind {
	case include:
		return e.include(ctx, m, target)
	case pointer:
		return e.pointer(ctx, target)
	}
	name, ok := queryName(target)
	if !ok {
		return false, nil // no such name can exist (RFC 7208 section 4.8)
	}
	switch m.kind {
	case exchange:
		return e.exchangers(ctx, m, name)
	case exists: // IPv4 even for an IPv6 host (RFC 7208 section 5.7)
		found, stop := e.addresses(ctx, name, netip.Addr.Is4, true)
		return len(found) > 0, stop
	}
	found, stop := e.addresses(ctx, name, e.sameFamily, true)
	return e.among(found, m), stop
}

// include is a match if the other record passes (RFC 7208 section 5.2).
func (e *evaluation) include(ctx context.Context, m mechanism, target string) (bool, *outcome) {
	o := e.checkHost(ctx, target)
	switch o.status {
	case Pass:
		return true, nil
	case TempError:
		return false, &o
	case PermError, None:
		o := permError("%s: %w", m.text, o.err)
		return false, &o
	}
	return false, nil
}

// exchangers matches the addresses of the MX hosts in order of preference, as far as
// needed (RFC 7208 section 5.4). A domain without MX records has none.
func (e *evaluation) exchangers(ctx context.Context, m mechanism, name string) (bool, *outcome) {
	answer, err := e.resolver.MX(ctx, name)
	if err != nil && !errors.Is(err, mail.ErrNoDomain) {
		o := tempError(name, err)
		return false, &o
	}
	if len(answer.Records) == 0 {
		return false, e.nothing()
	}
	if len(answer.Records) > MaxNames {
		o := permError("%s has more than %d exchangers", name, MaxNames)
		return false, &o
	}
	hosts := slices.Clone(answer.Records)
	slices.SortFunc(hosts, func(a, b mail.MX) int {
		return cmp.Or(cmp.Compare(a.Preference, b.Preference), cmp.Compare(a.Host, b.Host))
	})
	for _, mx := range hosts {
		host, ok := queryName(mx.Host)
		if !ok { // a null MX among them
			continue
		}
		found, stop := e.addresses(ctx, host, e.sameFamily, false)
		if stop != nil || e.among(found, m) {
			return stop == nil, stop
		}
	}
	return false, nil
}

// pointer matches if a validated name of the host lies in target (RFC 7208 section
// 5.5).
func (e *evaluation) pointer(ctx context.Context, target string) (bool, *outcome) {
	names := e.validated(ctx)
	if e.nameless {
		return false, e.nothing()
	}
	target = strings.ToLower(strings.TrimSuffix(target, "."))
	for _, name := range names {
		if within(name, target) {
			return true, nil
		}
	}
	return false, nil
}

// validated gives the names of the host that lead back to it, looked up once. An
// error in DNS makes a name not validated.
func (e *evaluation) validated(ctx context.Context) []string {
	if e.known {
		return e.names
	}
	e.known = true
	answer, err := e.resolver.PTR(ctx, e.ip)
	e.nameless = len(answer.Records) == 0 && (err == nil || errors.Is(err, mail.ErrNoDomain))
	if err != nil {
		return nil
	}
	for _, name := range answer.Records[:min(len(answer.Records), MaxNames)] {
		name, ok := queryName(strings.ToLower(name))
		if !ok {
			continue
		}
		back, err := e.resolver.Addresses(ctx, name)
		for _, ip := range back.Records {
			if err == nil && ip.Unmap() == e.ip {
				e.names = append(e.names, name)
				break
			}
		}
	}
	return e.names
}

// unknown is what macros give that have no value (RFC 7208 section 7.3).
const unknown = "unknown"

// hostName is macro p: the validated name that is the domain itself, or in it, or
// any.
func (e *evaluation) hostName(ctx context.Context, domain string) string {
	names := e.validated(ctx)
	best := unknown
	for i, name := range names {
		switch {
		case name == domain:
			return name
		case i == 0, within(name, domain) && !within(best, domain):
			best = name
		}
	}
	return best
}

// within says that name is domain or below it; both in lower case.
func within(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// addresses looks the addresses of a family up. counted says that finding none
// counts against the limit: that is so for terms, not for the hosts of an MX.
func (e *evaluation) addresses(ctx context.Context, name string, family func(netip.Addr) bool, counted bool) (found []netip.Addr, stop *outcome) {
	answer, err := e.resolver.Addresses(ctx, name)
	if err != nil && !errors.Is(err, mail.ErrNoDomain) {
		o := tempError(name, err)
		return nil, &o
	}
	for _, ip := range answer.Records {
		if family(ip) {
			found = append(found, ip)
		}
	}
	if len(found) == 0 && counted {
		return nil, e.nothing()
	}
	return found, nil
}

func (e *evaluation) sameFamily(ip netip.Addr) bool { return ip.Is4() == e.ip.Is4() }

// among says that the host is in one of the networks that m makes of addresses.
func (e *evaluation) among(addresses []netip.Addr, m mechanism) bool {
	bits := m.bits6
	if e.ip.Is4() {
		bits = m.bits4
	}
	for _, ip := range addresses {
		if p, err := ip.Prefix(bits); err == nil && p.Contains(e.ip) {
			return true
		}
	}
	return false
}

// Bounds of names in DNS (RFC 1035 section 2.3.4).
const (
	maxName  = 253
	maxLabel = 63
)

// queryName gives a name as it is looked up: in lower case, without the last dot,
// cut from the left if it is too long (RFC 7208 section 7.3). ok is false for what
// no name in DNS can be.
func queryName(s string) (name string, ok bool) {
	if !isASCII(s) { // before the case is mapped: there are letters whose small form is ASCII
		return "", false
	}
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	for len(s) > maxName {
		_, rest, found := strings.Cut(s, ".")
		if !found {
			return "", false
		}
		s = rest
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxLabel {
			return "", false
		}
	}
	return s, true
}

// isFQDN says that a name has several labels and ends in a proper one, as the
// domain of a check must: not an address, not a literal.
func isFQDN(name string) bool { return topLabel.MatchString(name) && !strings.HasPrefix(name, ".") }
