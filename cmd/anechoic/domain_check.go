package main

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/control/probe"
	"anechoic/mail"
	"anechoic/mail/background"
	"anechoic/mail/dns"
	"anechoic/org"
	"anechoic/relay/signing"
	"anechoic/standard/dkim"
	"anechoic/watch/response"
)

// domainReport is what `domain check` found of one domain.
type domainReport struct {
	Domain       string        `json:"domain"`
	Organisation string        `json:"org"`
	State        probe.State   `json:"state"`
	Checks       []probe.Check `json:"checks"`
}

func (sh *shell) domainCheckCommand() *cobra.Command {
	var only string
	var egress []string
	var records bool
	c := &cobra.Command{
		Use:   "check [DOMAIN...]",
		Short: "Compare what DNS has for domains with what it should have",
		Long: `Compare what DNS has for the domains of the registry with what it should have: the
proof of the domain, SPF, each DKIM key, DMARC, MX where mail comes in here, and the
reverse names of the addresses that mail leaves from. Each record is asked for at the
relay's own resolver and, past every cache, at each name server of the zone; what
differs is shown. What is missing is printed as lines of a zone file. The keys of a
domain that is killed (anechoic response list) should not be in DNS.

It needs no running relay, but for keys that the relay made itself: only it has
them. Exits with 3 if something is missing or wrong.`,
		Example: `  anechoic domain check
  anechoic domain check acme.example
  anechoic domain check --org acme --egress 192.0.2.10
  anechoic domain check acme.example --records`,
		RunE: func(c *cobra.Command, args []string) error {
			return sh.domainCheck(c.Context(), args, only, egress, records)
		},
	}
	c.Flags().BoolVar(&records, "records", false, "print only the lines to publish")
	c.Flags().StringVar(&only, "org", "", "only domains of this organisation's `id`")
	c.Flags().StringArrayVar(&egress, "egress", nil, "an `address` that mail leaves from, instead of the configured ones (may be repeated)")
	return c
}

// outsideView is all that checks of DNS need: the configuration, what it names, and
// the relay's resolver.
type outsideView struct {
	file   string
	config config.Config
	dir    *org.Directory
	names  *probe.Names
	egress []netip.Addr      // that a person named
	keys   []signing.KeyInfo // of the running relay; nil: none runs
	kills  kills             // of domains, as the running relay knows them
	whyNot string            // why there are none
}

func (v *outsideView) close() { _ = v.names.Resolver.Close() }

// lookOutside reads the configuration and makes a resolver as the relay has one.
func (sh *shell) lookOutside(ctx context.Context, egress []string) (*outsideView, error) {
	file, err := sh.configFile()
	if err != nil {
		return nil, err
	}
	v := &outsideView{file: file}
	for _, text := range egress {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, usagef("--egress %q is no address", text)
		}
		v.egress = append(v.egress, a.Unmap())
	}
	var problems []org.Problem
	if v.config, v.dir, problems, _ = config.Validate(file); v.dir == nil {
		return nil, sh.invalid(file, problems)
	}
	if v.names, err = namesOf(v.config); err != nil {
		return nil, err
	}
	v.askKeys(ctx)
	return v, nil
}

func namesOf(c config.Config) (*probe.Names, error) {
	resolver, err := dns.New(dns.Options{Servers: c.DNS.Servers, Timeout: c.DNS.Timeout, TrustAD: c.DNS.DNSSEC == config.DNSSECTrust, TrustLoopback: c.DNS.DNSSEC == config.DNSSECAuto})
	if err != nil {
		return nil, err
	}
	return &probe.Names{Resolver: resolver, Port: probe.PortFor(c.DNS.Servers)}, nil
}

// askKeys asks the running relay for its keys: those that it made itself lie sealed.
func (v *outsideView) askKeys(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	client := api.NewClient(v.config.DataDir)
	keys, err := client.Keys(ctx, "", "")
	if err != nil {
		v.whyNot = err.Error()
		return
	}
	v.keys = keys
	known, err := client.Responses(ctx, "")
	for _, r := range known.Responses {
		if err == nil && r.DNS() == response.Withdraw {
			v.kills = append(v.kills, r)
		}
	}
}

// keysOf are the keys of a domain that DNS is to know.
func (v *outsideView) keysOf(d *org.Domain) (list []probe.Key) {
	if v.keys == nil {
		for _, k := range d.Keys {
			list = append(list, keyFromFile(k, v.whyNot))
		}
		return list
	}
	for _, k := range v.keys {
		if k.Domain == d.Name.String() && k.Stage != signing.StageRetired {
			list = append(list, probe.Key{Selector: k.Selector, Algorithm: k.Algorithm, Record: k.RecordValue, Why: k.Detail, Revoked: k.Stage == signing.StageRevoked, Killed: v.kills.of(k) == response.Withdraw})
		}
	}
	return list
}

// keyFromFile reads the public half of a key that the registry names by file.
func keyFromFile(k org.Key, whyNot string) probe.Key {
	told := probe.Key{Selector: k.Selector, Algorithm: string(k.Algorithm)}
	if k.File == "" {
		told.Why = cmp.Or(whyNot, "the relay made it and keeps it sealed")
		return told
	}
	content, err := os.ReadFile(k.File)
	if err == nil {
		var private crypto.Signer
		if private, err = org.ParsePrivateKey(content, k.Algorithm); err == nil {
			told.Record = dkim.RecordValue(private.Public())
			return told
		}
	}
	told.Why = err.Error()
	return told
}

// domainsAtOnce bounds how many domains are asked about at a time.
const domainsAtOnce = 8

func (sh *shell) domainCheck(ctx context.Context, args []string, only string, egress []string, records bool) error {
	v, err := sh.lookOutside(ctx, egress)
	if err != nil {
		return err
	}
	defer v.close()
	domains, err := v.chosen(args, org.ID(only))
	if err != nil {
		return err
	}
	if v.keys == nil {
		sh.notef("keys are read from files: %s\n", v.whyNot)
	}
	reports := v.report(ctx, domains)
	switch {
	case sh.asJSON:
		err = sh.printJSON(reports)
	case records:
		sh.printLines(toPublish(reports))
	default:
		sh.printDomainReports(reports)
	}
	if err == nil && slices.ContainsFunc(reports, func(r domainReport) bool { return r.State == probe.Problem }) {
		err = errFindings
	}
	return err
}

// chosen are the domains that are named, or all.
func (v *outsideView) chosen(args []string, only org.ID) (domains []*org.Domain, err error) {
	if _, ok := v.dir.Organisation(only); only != "" && !ok {
		return nil, &api.Problem{Code: api.CodeNotFound, Detail: fmt.Sprintf("there is no organisation %q", only), Fix: "anechoic status lists them"}
	}
	for _, text := range args {
		name, err := mail.ParseDomain(text)
		if err != nil {
			return nil, usagef("%v", err)
		}
		d, ok := v.dir.Owner(name)
		if !ok || d.Name != name || only != "" && d.Organisation != only {
			return nil, &api.Problem{Code: api.CodeNotFound, Detail: fmt.Sprintf("no organisation has the domain %s", name), Fix: "anechoic status names all domains of the registry"}
		}
		domains = append(domains, d)
	}
	if len(args) > 0 {
		return domains, nil
	}
	for d := range v.dir.Domains() {
		if only == "" || d.Organisation == only {
			domains = append(domains, d)
		}
	}
	if len(domains) == 0 {
		return nil, errors.New("the registry has no domain: add one with anechoic domain add")
	}
	return domains, nil
}

// report checks domains, several at a time, and then the addresses they send from.
func (v *outsideView) report(ctx context.Context, domains []*org.Domain) []domainReport {
	reports := make([]domainReport, len(domains))
	work := background.Limit(domainsAtOnce)
	for i, d := range domains {
		work.Go(func() { reports[i] = v.reportOne(ctx, d) })
	}
	work.Wait()
	return reports
}

func (v *outsideView) reportOne(ctx context.Context, d *org.Domain) domainReport {
	o, _ := v.dir.Organisation(d.Organisation)
	egress, note := probe.EgressOf(&v.config, o, v.egress)
	_, inbound := v.dir.InboundFor(d.Name)
	checks := probe.CheckDomain(ctx, v.names, &probe.Domain{
		Domain: d, Organisation: o, Relay: v.config.Hostname, Keys: v.keysOf(d), Egress: egress, EgressNote: note,
		Nobodys: slices.Concat(v.config.Inbound.Bind, v.config.Disowned.Bind), Inbound: inbound,
		Here: func(host string) bool { return strings.EqualFold(host, v.config.Hostname.String()) },
	})
	checks = append(checks, v.addressChecks(ctx, egress)...)
	return domainReport{Domain: d.Name.String(), Organisation: string(d.Organisation), State: probe.Worst(checks), Checks: checks}
}

// addressChecks are about the addresses and the names they greet with.
func (v *outsideView) addressChecks(ctx context.Context, egress []probe.Egress) []probe.Check {
	checks := make([]probe.Check, 2*len(egress))
	var work background.Group
	for i, e := range egress {
		work.Go(func() { checks[2*i] = probe.Confirmed(ctx, v.names.Resolver, e.Address, e.HELO) })
		work.Go(func() { checks[2*i+1] = probe.Greeting(ctx, v.names.Resolver, e.Address, e.HELO) })
	}
	work.Wait()
	return checks
}

// toPublish lists the lines that DNS lacks, each once.
func toPublish(reports []domainReport) (lines []string) {
	for _, r := range reports {
		for i := range r.Checks {
			for _, line := range r.Checks[i].Publish {
				if !slices.Contains(lines, line) {
					lines = append(lines, line)
				}
			}
		}
	}
	return lines
}

func (sh *shell) printDomainReports(reports []domainReport) {
	for _, r := range reports {
		sh.printf("%s of %s: %s\n", r.Domain, r.Organisation, r.State)
		for i := range r.Checks {
			sh.printCheck(&r.Checks[i])
		}
	}
	if lines := toPublish(reports); len(lines) > 0 {
		sh.printf("\nTo publish:\n\n")
		sh.printLines(lines)
	}
}

func (sh *shell) printLines(lines []string) {
	for _, line := range lines {
		sh.printf("%s\n", line)
	}
}

// printCheck writes one check for people: what is well in one line, the rest with
// what to do.
func (sh *shell) printCheck(c *probe.Check) {
	sh.printf("  %-8s %-9s %s: %s\n", c.State, c.Name, c.About, flat(c.Seen))
	if c.State == probe.OK {
		return
	}
	if c.Expected != "" {
		sh.printf("  %-18s expected: %s\n", "", flat(c.Expected))
	}
	if c.Fix != "" {
		sh.printf("  %-18s do: %s\n", "", flat(c.Fix))
	}
	for _, s := range c.Servers {
		text := strings.Join(s.Records, " | ")
		switch {
		case s.Alias != "":
			text = "an alias of " + s.Alias
		case text == "":
			text = cmp.Or(s.Problem, "nothing")
		}
		sh.printf("  %-18s %s: %s\n", "", s.Server, flat(text))
	}
}

func flat(s string) string { return strings.Join(strings.Fields(s), " ") }
