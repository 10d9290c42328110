package probe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/mail/background"
	"anechoic/org"
	"anechoic/relay/signing"
	"anechoic/standard/dkim"
	"anechoic/standard/dmarc"
	"anechoic/standard/spf"
)

// Egress is one address that mail leaves from, with the name it greets with there.
type Egress struct {
	Address netip.Addr
	HELO    mail.Domain
}

// Key is a signing key as far as DNS is to know it.
type Key struct {
	Selector  string
	Algorithm string
	Record    string // what is to be published; empty: not known here
	Why       string // why it is not known
	Revoked   bool
	Killed    bool // the domain is: the record is to be withdrawn for the time being
}

// Domain is one registered domain with all that DNS should say about it.
type Domain struct {
	Domain       *org.Domain
	Organisation *org.Organisation
	Relay        mail.Domain
	Keys         []Key
	Egress       []Egress // ordinary mail leaves from there
	EgressNote   string   // why Egress is empty, or may not be all
	Nobodys      []netip.Addr
	Inbound      bool                   // the organisation takes mail of this domain here
	Here         func(host string) bool // whether an MX host is this relay
}

// domainTime bounds all that is asked about one domain.
const domainTime = 20 * time.Second

// CheckDomain compares what DNS has with what it should have.
func CheckDomain(ctx context.Context, n *Names, d *Domain) (checks []Check) {
	ctx, cancel := context.WithTimeout(ctx, domainTime)
	defer cancel()
	parts := []func() []Check{
		func() []Check { return []Check{d.zone(ctx, n)} },
		func() []Check { return []Check{d.proof(ctx, n)} },
		func() []Check { return d.spf(ctx, n) },
		func() []Check { return []Check{d.dmarc(ctx, n)} },
	}
	for _, k := range d.Keys {
		parts = append(parts, func() []Check { return []Check{d.key(ctx, n, k)} })
	}
	if d.Inbound {
		parts = append(parts, func() []Check { return []Check{d.mx(ctx, n)} })
	}
	return sideBySide(parts)
}

// sideBySide gives the checks of all parts, in their order.
func sideBySide(parts []func() []Check) (checks []Check) {
	found := make([][]Check, len(parts))
	var work background.Group
	for i, part := range parts {
		work.Go(func() { found[i] = part() })
	}
	work.Wait()
	return slices.Concat(found...)
}

// zone says who was asked beside the relay's own resolver.
func (d *Domain) zone(ctx context.Context, n *Names) Check {
	c := Check{Name: "zone", About: d.Domain.Name.String(), State: OK, Expected: "every name server of the zone is asked"}
	servers, zone, note := n.serversOf(ctx, d.Domain.Name.String())
	var names []string
	for _, s := range servers {
		names = append(names, s.name+" ["+s.address+"]")
	}
	c.Seen = zone + ", at " + strings.Join(names, ", ") + ", and " + resolverName
	if note != "" {
		c.State, c.Seen = Skipped, "only "+resolverName+" is asked; the zone's own servers were "+note
		c.Fix = "see that the zone's NS records can be looked up from here: receivers ask those servers, and what they have was not seen"
	}
	return c
}

func (d *Domain) proof(ctx context.Context, n *Names) Check {
	name := org.ProofPrefix + d.Domain.Name.String()
	wanted := ProofRecord(d.Domain)
	r := n.TXT(ctx, name)
	c := r.Over(Check{Name: "proof", About: name, Expected: wanted}, func(records []string) Verdict {
		return JudgeProof(records, d.Domain, d.Relay)
	})
	return publish(c, signing.ZoneLine(name, wanted))
}

// publish adds a line where something is wrong.
func publish(c Check, line string) Check {
	if c.State != OK && line != "" {
		c.Publish = append(c.Publish, line)
	}
	return c
}

func (d *Domain) key(ctx context.Context, n *Names, k Key) Check {
	name := dkim.KeyName(k.Selector, d.Domain.Name)
	c := Check{Name: "dkim", About: name, Expected: k.Record}
	if k.Record == "" {
		c.State, c.Seen, c.Fix = Skipped, "the key's record is not known here: "+k.Why, "start the relay: it has the keys that it made itself"
		return c
	}
	r := n.TXT(ctx, name)
	judge := func(records []string) Verdict { return JudgeKey(records, k.Record) }
	if k.Killed {
		c.Expected = "no key, while the domain is killed"
		return r.Over(c, JudgeWithdrawn)
	}
	if k.Revoked {
		judge = JudgeRevoked
	}
	return publish(r.Over(c, judge), signing.ZoneLine(name, k.Record))
}

func (d *Domain) dmarc(ctx context.Context, n *Names) Check {
	name := "_dmarc." + d.Domain.Name.String()
	wanted := DMARCRecord(d.Domain.Name, d.Organisation.SecurityContact)
	inherited := ""
	if found, err := dmarc.Discover(ctx, n.Resolver, dmarc.Method{}, d.Domain.Name); err == nil && !found.Domain.IsZero() && found.Domain != d.Domain.Name {
		inherited = found.Domain.String()
	}
	r := n.TXT(ctx, name)
	c := r.Over(Check{Name: "dmarc", About: name, Expected: "one record, in the end with p=reject"}, func(records []string) Verdict {
		return JudgeDMARC(records, inherited)
	})
	if c.State == Problem {
		c = publish(c, signing.ZoneLine(name, wanted))
	}
	return c
}

func (d *Domain) mx(ctx context.Context, n *Names) Check {
	name := d.Domain.Name.String()
	r := n.MX(ctx, name)
	c := r.Over(Check{Name: "mx", About: name, Expected: "this relay, " + d.Relay.String() + ", alone"}, func(records []string) Verdict {
		return JudgeMX(records, d.Here)
	})
	return publish(c, fmt.Sprintf("%s. IN MX 10 %s.", name, d.Relay))
}

// spf asks whether mail passes from each ordinary address, and from none that mail
// in nobody's name leaves from. Where the organisation has a return path, that is
// the name receivers ask about.
func (d *Domain) spf(ctx context.Context, n *Names) (checks []Check) {
	names := []mail.Domain{d.Domain.Name}
	if !d.Organisation.ReturnPath.IsZero() {
		names = append(names, d.Organisation.ReturnPath)
	}
	for _, name := range names {
		checks = append(checks, d.spfOf(ctx, n, name))
	}
	return checks
}

func (d *Domain) spfOf(ctx context.Context, n *Names, name mail.Domain) Check {
	r := n.TXT(ctx, name.String())
	c := r.Over(Check{Name: "spf", About: name.String(), Expected: "one record that passes for " + egressText(d.Egress, d.EgressNote)}, JudgeSPFText)
	listed := nobodys(ctx, n.Resolver, name, d.Nobodys)
	if len(d.Egress) == 0 {
		c.State = c.State.Worse(Warning)
		c.Fix = orElse(d.EgressNote, c.Fix)
		return withListed(c, listed)
	}
	var results []spf.Result
	for _, e := range d.Egress {
		results = append(results, spf.Check(ctx, n.Resolver, spf.Request{IP: e.Address, HELO: e.HELO.String(), MailFrom: "postmaster@" + name.String()}))
	}
	c = withSPF(c, name, d.Egress, results, r.Own.Records)
	return withListed(c, listed)
}

func nobodys(ctx context.Context, r mail.Resolver, name mail.Domain, addresses []netip.Addr) (listed []netip.Addr) {
	for _, l := range spf.Includes(ctx, r, name, addresses) {
		if l.Inclusion == spf.Included {
			listed = append(listed, l.Address)
		}
	}
	return listed
}

func egressText(egress []Egress, note string) string {
	var texts []string
	for _, e := range egress {
		texts = append(texts, e.Address.String())
	}
	return orElse(strings.Join(texts, ", "), "the addresses that mail leaves from: "+note)
}

// withSPF adds to a check what SPF says of each ordinary address. It is pure.
func withSPF(c Check, name mail.Domain, egress []Egress, results []spf.Result, records []string) Check {
	var missing []netip.Addr
	var texts []string
	for i, result := range results {
		text := egress[i].Address.String() + ": " + result.Status.String()
		switch {
		case result.Status == spf.Pass:
			c.State = c.State.Worse(OK)
		case result.Status == spf.TempError:
			c.State, text = c.State.Worse(Warning), text+": "+errorText(result.Err)
		case result.Status == spf.PermError:
			c.State, text = Problem, text+": "+errorText(result.Err)
			c.Fix = permErrorFix(&result)
		default:
			c.State = Problem
			missing = append(missing, egress[i].Address)
		}
		texts = append(texts, text)
	}
	c.Seen += "; " + strings.Join(texts, ", ")
	if len(missing) > 0 {
		found := spfRecords(records)
		if len(found) == 0 {
			found = []string{""}
		}
		c.Fix = "publish the line in the record's place: mail leaves from " + listOf(missing, "") + ", which SPF does not know"
		c.Publish = append(c.Publish, signing.ZoneLine(name.String(), SuggestSPF(found[0], missing)))
	}
	return c
}

func permErrorFix(r *spf.Result) string {
	if r.Lookups > spf.MaxLookups {
		return fmt.Sprintf("the record needs more than %d look-ups, and receivers stop there (RFC 7208 section 4.6.4): put addresses in the place of include, a and mx", spf.MaxLookups)
	}
	return "mend the record: receivers cannot read it"
}

func errorText(err error) string {
	if err == nil {
		return "unknown"
	}
	return err.Error()
}

// withListed adds addresses that must not be in the record.
func withListed(c Check, listed []netip.Addr) Check {
	if len(listed) == 0 {
		return c
	}
	c.State = Problem
	c.Seen += "; it passes for " + listOf(listed, "") + " too, from where mail leaves that is in nobody's name"
	c.Fix = "take " + listOf(listed, "") + " out of the record, or give inbound.bind and disowned.bind addresses of their own"
	return c
}
