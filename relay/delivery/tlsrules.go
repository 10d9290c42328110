package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/standard/dane"
	"anechoic/standard/mtasts"
	"anechoic/standard/tlsrpt"
)

// TLSRules decides what hosts must show: the configuration says the least, DANE
// and MTA-STS of the recipient's domain and REQUIRETLS of the message raise it.
// Fields are set before first use. It is safe for concurrent use.
type TLSRules struct {
	Resolver  mail.Resolver
	Default   SecurityLevel
	Overrides []TLSOverride
	SmartHost bool // hosts are those of the configuration, not of DNS: no MTA-STS, and DANE asks about the host alone

	// DANE says whether answers can be authentic; nil: never.
	DANE func() bool
	// STS gives what is known of a domain's MTA-STS policy, and, where that could
	// not be fetched now, why; nil: nothing is known of any.
	STS func(ctx context.Context, domain mail.Domain) (mtasts.Entry, error)
	// Report is told of each session and of each policy that failed before one;
	// nil: nobody is.
	Report func(domain mail.Domain, p tlsrpt.Policy, f tlsrpt.Failure)
}

// TLSOverride is what the configuration says of one domain.
type TLSOverride struct {
	Domain     mail.Domain
	Subdomains bool // it covers them too
	Level      SecurityLevel
	Names      []string // a certificate is for one of them; empty: for the host
}

// TLSPlan is what is known of one attempt's domain. It is used by one goroutine.
type TLSPlan struct {
	rules    *TLSRules
	domain   mail.Domain // of the recipients
	floor    Security
	require  bool            // the message has REQUIRETLS
	returns  bool            // it has the null sender: it is a report
	optional bool            // it says TLS-Required: No, and has not
	chosen   bool            // we named the host ourselves: the domain's DNS does not
	owed     bool            // and the domain's own hosts would have to be verified
	owned    bool            // it is the organisation's own server: nobody else is asked
	mx       map[string]bool // the exchangers' names
	secure   bool            // and they are authentic
	sts      mtasts.Policy
	unsure   bool                // it could not be fetched, and there is no earlier one
	asked    map[string]hostRule // by name and port: a host may have several addresses
}

// hostRule is what was found for one host.
type hostRule struct {
	security Security
	err      error
}

// LevelOf reads the words of the configuration.
func LevelOf(word string) (l SecurityLevel, ok bool) {
	l, ok = map[string]SecurityLevel{
		"none": LevelNone, "opportunistic": LevelOpportunistic, "encrypted": LevelEncrypted, "required": LevelVerified,
	}[word]
	return l, ok
}

// Plan asks DNS and policy cache about the domain of an attempt's recipients. end
// is the result of all of them where that cannot be known now: no policy is ever
// passed by because it could not be asked for.
func (r *TLSRules) Plan(ctx context.Context, a *Attempt) (plan *TLSPlan, end *Result) {
	p := &TLSPlan{rules: r, require: a.RequireTLS || a.Envelope.RequireTLS, returns: a.Envelope.From.IsZero(), chosen: r.SmartHost || a.Route.Chosen}
	if len(a.Envelope.Recipients) > 0 {
		p.domain = a.Envelope.Recipients[0].Address.Domain()
	}
	if own := a.Route.Own; own != nil {
		p.domain, p.floor, p.chosen = mail.Domain{}, own.Security, true
		p.require = false // the organisation's own network is where the way ends (RFC 8689 section 2)
		p.owned = true
		return p, nil
	}
	p.floor = r.floor(p.domain)
	p.optional = !p.require && saysTLSIsOptional(a.Content.Header())
	if p.optional || r.SmartHost || p.domain.IsZero() {
		return p, nil
	}
	if r.hasDANE() {
		if end := p.findExchangers(ctx); end != nil {
			return nil, end
		}
	}
	p.findSTS(ctx)
	p.owed = p.chosen && (p.secure || p.sts.Mode == mtasts.ModeEnforce)
	return p, nil
}

// floor is what the configuration says of a domain: the override for exactly it,
// else the nearest above it that covers sub-domains.
func (r *TLSRules) floor(domain mail.Domain) Security {
	none := tlsrpt.Policy{Type: tlsrpt.PolicyNone, Domain: domain}
	var best *TLSOverride
	if !r.SmartHost {
		for i := range r.Overrides {
			o := &r.Overrides[i]
			covers := o.Domain == domain || o.Subdomains && domain.Within(o.Domain)
			if covers && (best == nil || o.Domain.Within(best.Domain)) {
				best = o
			}
		}
	}
	if best != nil {
		return Security{Level: best.Level, By: ByConfig, Names: best.Names, Policy: none}
	}
	s := Security{Level: r.Default, Policy: none}
	if s.Level != LevelOpportunistic {
		s.By = ByConfig
	}
	return s
}

func (r *TLSRules) hasDANE() bool { return r.DANE != nil && r.DANE() }

// findExchangers asks who takes mail for the domain, and whether that is
// authentic. The route was made from the same answer, or one as good.
func (p *TLSPlan) findExchangers(ctx context.Context) *Result {
	answer, err := p.rules.Resolver.MX(ctx, p.domain.String())
	if err != nil && !errors.Is(err, mail.ErrNoDomain) {
		p.report(Security{Policy: tlsrpt.Policy{Type: tlsrpt.PolicyDANE, Domain: p.domain}}, &policyFault{tlsrpt.DNSSECInvalid, err})
		end := deferred("4.7.0", "the mail exchangers of %s could not be looked up with DNSSEC", p.domain)
		return &end
	}
	p.secure, p.mx = answer.Authentic, make(map[string]bool, len(answer.Records))
	for _, mx := range answer.Records {
		p.mx[strings.ToLower(strings.TrimSuffix(mx.Host, "."))] = true
	}
	if len(p.mx) == 0 {
		p.mx[p.domain.String()] = true // RFC 5321 section 5.1
	}
	return nil
}

// findSTS asks for the domain's policy. One that cannot be fetched, and never
// could, is none (RFC 8461 section 5.1).
func (p *TLSPlan) findSTS(ctx context.Context) {
	if p.rules.STS == nil {
		return
	}
	entry, err := p.rules.STS(ctx, p.domain)
	if entry.InForce(time.Now()) {
		p.sts = entry.Policy
	} else {
		p.unsure = err != nil && stsResult(err) == tlsrpt.STSFetchError
	}
	if err != nil {
		p.report(Security{Policy: tlsrpt.Policy{Type: tlsrpt.PolicySTS, Domain: p.domain}}, &policyFault{stsResult(err), err})
	}
}

// stsResult is how a fetch that failed is reported (RFC 8460 section 4.3.2.2).
func stsResult(err error) tlsrpt.ResultType {
	switch {
	case errors.Is(err, mtasts.ErrCertificate):
		return tlsrpt.STSWebPKIInvalid
	case errors.Is(err, mtasts.ErrPolicy), errors.Is(err, mtasts.ErrTooLarge), errors.Is(err, mtasts.ErrMediaType):
		return tlsrpt.STSInvalid
	}
	return tlsrpt.STSFetchError
}

// Host says what one host must show. An error means that nothing may be sent to
// it; another host, or the same one later, may be better.
func (p *TLSPlan) Host(ctx context.Context, host Host) (Security, error) {
	name := dane.Owner(host.Name, host.Port)
	rule, ok := p.asked[name]
	if !ok {
		rule.security, rule.err = p.judge(ctx, host)
		if p.asked == nil {
			p.asked = make(map[string]hostRule, 1)
		}
		p.asked[name] = rule
	}
	return rule.security, rule.err
}

func (p *TLSPlan) judge(ctx context.Context, host Host) (Security, error) {
	s := p.floor
	if p.optional || p.owned {
		return s, nil
	}
	s.Require, s.Returns = p.require, p.require && p.returns
	named := p.chosen || len(s.Names) > 0 || p.secure && p.mx[host.Name] // nobody but the domain or we can have named the host
	found, err := p.dane(ctx, host, &s)
	if err != nil {
		p.report(s, err)
		return s, err // not known now: a message with REQUIRETLS waits as any other
	}
	switch {
	case p.owed && s.Level != LevelVerified: // a person's choice never lowers what the domain asks for
		s.Level, s.By = LevelVerified, ByConfig
	case !p.chosen && !found && p.sts.Asks():
		if err := p.strict(host, &s); err != nil {
			p.report(s, err)
			return s, s.blocked(err)
		}
		named = named || p.sts.Mode == mtasts.ModeEnforce
	}
	if !s.Require {
		return s, nil
	}
	if !named && p.unsure {
		return s, fmt.Errorf("whether %s vouches for the host is not known: its MTA-STS policy could not be fetched", p.domain)
	}
	if !named { // RFC 8689 section 4.2.1
		return s, s.blocked(errors.New("neither DNSSEC nor MTA-STS vouches for the host"))
	}
	if s.Level != LevelVerified {
		s.Level, s.By = LevelVerified, ByMessage
	}
	s.Testing = false
	return s, nil
}

// dane raises s by the TLSA records of a host (RFC 7672 section 2.2). found says
// that there are usable ones: they decide then, and MTA-STS is not asked (RFC
// 8461 section 2).
func (p *TLSPlan) dane(ctx context.Context, host Host, s *Security) (found bool, err error) {
	if !p.rules.hasDANE() || !p.chosen && !p.secure {
		return false, nil
	}
	if !p.chosen && !p.mx[host.Name] {
		return false, &policyFault{tlsrpt.ValidationFailure, errors.New("the exchangers changed between two look-ups")}
	}
	base, records, err := p.associations(ctx, host)
	if err != nil {
		s.Policy = tlsrpt.Policy{Type: tlsrpt.PolicyDANE, Domain: p.domain}
		return false, &policyFault{tlsrpt.DNSSECInvalid, fmt.Errorf("its TLSA records could not be looked up: %w", err)}
	}
	if len(records) == 0 {
		return false, nil
	}
	usable := dane.Usable(records)
	s.Policy, s.By, s.SNI = danePolicy(base, records), ByDANE, base
	if len(usable) == 0 { // RFC 7672 section 2.2: TLS is mandatory, its certificate does not matter
		if s.Level != LevelVerified {
			s.Level = s.Level.raised(LevelEncrypted)
		}
		return false, nil
	}
	s.Level, s.TLSA = LevelVerified, usable
	s.Names = []string{base, host.Name} // RFC 7672 section 3.2.2
	if !p.domain.IsZero() && !p.chosen {
		s.Names = append(s.Names, p.domain.String())
	}
	s.Names = slices.Compact(s.Names)
	return true, nil
}

func danePolicy(base string, records []mail.TLSA) tlsrpt.Policy {
	p := tlsrpt.Policy{Type: tlsrpt.PolicyDANE}
	p.Domain, _ = mail.ParseDomain(base) // zero for a name with underscores, which a report then leaves out
	for _, r := range records {
		p.Text = append(p.Text, dane.Text(r))
	}
	return p
}

// associations looks the authentic TLSA records of a host up (RFC 7672 sections
// 2.2.2 and 2.2.3), and says at which name they are. An error is a failure to
// look up, which may be an attack: it is never taken for their absence.
func (p *TLSPlan) associations(ctx context.Context, host Host) (base string, records []mail.TLSA, err error) {
	addresses, err := p.rules.Resolver.Addresses(ctx, host.Name)
	if err != nil {
		return "", nil, ignoreNoDomain(err)
	}
	canonical, alias, err := p.aliases(ctx, host.Name)
	if err != nil {
		return "", nil, err
	}
	names := dane.Names(host.Name, canonical)
	if !addresses.Authentic {
		if !alias { // an insecure host has no secure TLSA records, and asking its servers for them may fail (section 2.2.2)
			return "", nil, nil
		}
		names = names[len(names)-1:] // an authentic alias that leads into an insecure zone
	}
	for _, name := range names {
		answer, err := p.rules.Resolver.TLSA(ctx, dane.Owner(name, host.Port))
		if ignoreNoDomain(err) != nil {
			return "", nil, err
		}
		if answer.Authentic && len(answer.Records) > 0 {
			return name, answer.Records, nil
		}
	}
	return "", nil, nil
}

// maxAliases is how long a chain of aliases is followed.
const maxAliases = 8

// aliases finds what a name is an alias of, as far as that is authentic. alias
// says that the name itself is authentically one.
func (p *TLSPlan) aliases(ctx context.Context, name string) (canonical string, alias bool, err error) {
	canonical = name
	for range maxAliases {
		answer, err := p.rules.Resolver.CNAME(ctx, canonical)
		if ignoreNoDomain(err) != nil {
			return "", false, err
		}
		if len(answer.Records) == 0 || !answer.Authentic {
			break
		}
		canonical, alias = strings.ToLower(answer.Records[0]), true
	}
	return canonical, alias, nil
}

func ignoreNoDomain(err error) error {
	if errors.Is(err, mail.ErrNoDomain) {
		return nil
	}
	return err
}

// strict raises s by the MTA-STS policy of the domain (RFC 8461 section 4).
func (p *TLSPlan) strict(host Host, s *Security) error {
	s.Policy = tlsrpt.Policy{Type: tlsrpt.PolicySTS, Domain: p.domain, Text: p.sts.Lines(), MX: p.sts.MX}
	enforce := p.sts.Mode == mtasts.ModeEnforce
	if !p.sts.Allows(host.Name) {
		fault := &policyFault{tlsrpt.ValidationFailure, errors.New("the MTA-STS policy of the domain does not name the host")}
		if enforce {
			return fault
		}
		p.report(*s, fault)
		s.Policy = tlsrpt.Policy{Type: tlsrpt.PolicyNone, Domain: p.domain} // counted once
		return nil
	}
	switch {
	case enforce:
		s.By, s.SNI = BySTS, ""
		s.Level, s.Names = LevelVerified, p.bothNames(s, host)
	case s.Level == LevelOpportunistic:
		s.By, s.Testing = BySTS, true
	}
	return nil
}

// bothNames: names that the configuration asks for are asked for still.
func (p *TLSPlan) bothNames(s *Security, host Host) []string {
	if s.Level == LevelVerified {
		return s.Names
	}
	return nil
}

// report tells of what failed before a connection.
func (p *TLSPlan) report(s Security, err error) {
	if p.rules.Report != nil && !p.domain.IsZero() {
		p.rules.Report(p.domain, s.Policy, TLSSession{Security: s, Err: err}.Failure())
	}
}

// Session reports a connection that came to EHLO. What failed without any policy
// is no failure: nothing was promised.
func (p *TLSPlan) Session(t TLSSession) {
	if p.rules.Report == nil || p.domain.IsZero() || p.optional {
		return
	}
	if t.Security.Policy.Type == tlsrpt.PolicyNone && t.Err != nil && !errors.Is(t.Err, errNoSTARTTLS) {
		t.Err = nil
	}
	p.rules.Report(p.domain, t.Security.Policy, t.Failure())
}

// saysTLSIsOptional reads TLS-Required (RFC 8689 section 3): the sender would
// rather have the message arrive than arrive unseen.
func saysTLSIsOptional(header []byte) bool {
	const name = "TLS-Required:"
	for line := range bytes.SplitSeq(header, []byte("\r\n")) {
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return bytes.EqualFold(bytes.Trim(line[len(name):], " \t"), []byte("No"))
		}
	}
	return false
}
