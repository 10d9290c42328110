package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/control/probe"
	"anechoic/mail"
	"anechoic/mail/background"
	"anechoic/org"
)

// diagnosis is what doctor found.
type diagnosis struct {
	Version string        `json:"version"`
	File    string        `json:"file"`
	Running bool          `json:"running"`
	State   probe.State   `json:"state"`
	Next    string        `json:"next"` // the next step of somebody who sets the relay up
	Checks  []probe.Check `json:"checks"`
}

// doctorWish is what its flags say.
type doctorWish struct {
	org, outbound, bundle string
	egress                []string
}

// Bounds of doctor, ours: a person waits for it.
const (
	doctorTime    = 90 * time.Second
	doctorDomains = 100 // looked at without --org
	doctorShown   = 20  // problems of files, and findings
)

func (sh *shell) doctorCommand() *cobra.Command {
	var wish doctorWish
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Look at the machine, the files, DNS and the relay, and say what to mend",
		Long: `Look at all that the relay needs: name servers, ports, the TLS certificate, the
clock, the disk, files and who may read them, descriptors, the reverse names of the
addresses that mail leaves from, the way out through port 25, the domains in DNS, the
sources, and what the running relay says of itself. Each check says what was expected,
what was seen, and how to mend it. The next step of a set-up that is not finished
comes first.

It works without a running relay: what needs one says so. Nothing is changed, and
nothing is sent but questions. Every check is over after seconds.

--bundle writes a file for whoever helps you. It holds no secret, no hash, no key and
no address of mail.

Exits with 3 if there is a problem.`,
		Example: `  anechoic doctor --org acme
  anechoic doctor --outbound gmail-smtp-in.l.google.com
  anechoic doctor --bundle support.tar.gz
  anechoic doctor --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.doctor(c.Context(), wish) },
	}
	c.Flags().StringVar(&wish.org, "org", "", "only domains and sources of this organisation's `id`")
	c.Flags().StringVar(&wish.outbound, "outbound", "", "try port 25 of this mail `server` instead of the exchangers of the relay's own domain")
	c.Flags().StringArrayVar(&wish.egress, "egress", nil, "an `address` that mail leaves from, instead of the configured ones (may be repeated)")
	c.Flags().StringVar(&wish.bundle, "bundle", "", "write a support bundle to this `file`, which must not exist")
	return c
}

func (sh *shell) doctor(ctx context.Context, wish doctorWish) error {
	for _, text := range wish.egress {
		if _, err := netip.ParseAddr(text); err != nil {
			return usagef("--egress %q is no address", text)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, doctorTime)
	defer cancel()
	e := sh.examination(ctx, wish)
	defer e.close()
	if e.dir != nil && wish.org != "" {
		if _, ok := e.dir.Organisation(org.ID(wish.org)); !ok {
			return &api.Problem{Code: api.CodeNotFound, Detail: fmt.Sprintf("there is no organisation %q", wish.org), Fix: "anechoic status lists them"}
		}
	}
	found := e.diagnose(ctx)
	if wish.bundle != "" {
		if err := e.writeBundle(ctx, wish.bundle, found); err != nil {
			return err
		}
		sh.notef("%s is written: look at it before you hand it on\n", wish.bundle)
	}
	err := sh.tellDiagnosis(found)
	if err == nil && found.State == probe.Problem {
		err = errFindings
	}
	return err
}

func (sh *shell) tellDiagnosis(found *diagnosis) error {
	if sh.asJSON {
		return sh.printJSON(found)
	}
	if found.Next != "" {
		sh.printf("Next: %s\n\n", found.Next)
	}
	count := map[probe.State]int{}
	for i := range found.Checks {
		count[found.Checks[i].State]++
		sh.printCheck(&found.Checks[i])
		for _, line := range found.Checks[i].Publish {
			sh.printf("  %-18s publish: %s\n", "", line)
		}
	}
	sh.printf("\n%d ok, %d warnings, %d problems, %d not looked at\n", count[probe.OK], count[probe.Warning], count[probe.Problem], count[probe.Skipped])
	return nil
}

// examination is what doctor looks at: what of it there is.
type examination struct {
	*outsideView // config, dir and names may be missing: see below
	wish         doctorWish
	fileErr      error // there is no configuration
	problems     []org.Problem
	findings     []org.Finding
	client       *api.Client
	status       *api.Status // nil: no relay runs, or it does not answer
	statusErr    error
}

func (e *examination) close() {
	if e.names != nil {
		e.outsideView.close()
	}
}

// usable says that the configuration was read well enough to look at what it names.
func (e *examination) usable() bool { return e.fileErr == nil && e.config.DataDir != "" }

func (sh *shell) examination(ctx context.Context, wish doctorWish) *examination {
	e := &examination{outsideView: &outsideView{}, wish: wish}
	if e.file, e.fileErr = sh.configFile(); e.fileErr != nil {
		return e
	}
	e.config, e.dir, e.problems, e.findings = config.Validate(e.file)
	if e.usable() {
		e.client = api.NewClient(e.config.DataDir)
		asking, cancel := context.WithTimeout(ctx, askTimeout/2)
		defer cancel()
		status, err := e.client.Status(asking, wish.org)
		if e.statusErr = err; err == nil {
			e.status = &status
			e.askKeys(asking)
		} else {
			e.whyNot = err.Error()
		}
		if names, err := namesOf(e.config); err == nil {
			e.names = names
		}
	}
	for _, text := range wish.egress {
		if a, err := netip.ParseAddr(text); err == nil {
			e.egress = append(e.egress, a.Unmap())
		}
	}
	return e
}

// diagnose runs every check, side by side.
func (e *examination) diagnose(ctx context.Context) *diagnosis {
	found := &diagnosis{Version: thisBuild().Version, File: e.file, Running: e.status != nil}
	parts := []func(context.Context) []probe.Check{e.files}
	if e.usable() {
		parts = append(parts, e.relay, e.machine, e.ports, e.certificates)
		if e.names != nil {
			parts = append(parts, e.nameServers, e.addresses, e.outbound)
		}
	}
	if e.dir != nil && e.names != nil {
		parts = append(parts, e.domains, e.sources)
	}
	lists := make([][]probe.Check, len(parts))
	var work background.Group
	for i, part := range parts {
		work.Go(func() { lists[i] = part(ctx) })
	}
	work.Wait()
	found.Checks = slices.Concat(lists...)
	slices.SortStableFunc(found.Checks, func(a, b probe.Check) int { return cmp.Compare(rankOf(a.State), rankOf(b.State)) })
	found.State = probe.Worst(found.Checks)
	found.Next = e.next(found.Checks)
	return found
}

// rankOf is the order in which checks are shown.
func rankOf(s probe.State) int {
	return slices.Index([]probe.State{probe.Problem, probe.Warning, probe.Skipped, probe.OK}, s)
}

// files looks at the configuration and at every file it names.
func (e *examination) files(context.Context) (checks []probe.Check) {
	c := probe.Check{Name: "config", About: e.file, State: probe.OK, Expected: "files that load", Seen: "it loads"}
	switch {
	case e.fileErr != nil:
		c.About, c.State, c.Seen, c.Fix = "relay.toml", probe.Problem, e.fileErr.Error(), "write one: the README begins with the shortest; then name it with --config"
		return []probe.Check{c}
	case len(e.problems) > 0:
		c.State, c.Seen, c.Fix = probe.Problem, count(len(e.problems), "problem", "problems")+", the first: "+e.problems[0].String(), "anechoic config validate lists all, with place and hint"
	}
	checks = append(checks, c)
	if !e.usable() {
		return checks
	}
	owner := probe.Owner(e.config.DataDir)
	for _, f := range e.named() {
		checks = append(checks, probe.CheckFile(f, owner))
	}
	return checks
}

// named are the files and folders that the relay lives by.
func (e *examination) named() []probe.File {
	dir := e.config.DataDir
	list := []probe.File{
		{Name: e.file, What: "the configuration", Secrecy: probe.Unwritten},
		{Name: dir, What: "the data directory", Secrecy: probe.Secret, Optional: true},
		{Name: filepath.Join(dir, "keys"), What: "the sealed keys", Secrecy: probe.Secret, Optional: true},
		{Name: filepath.Join(dir, "keys", "identity.txt"), What: "what opens them", Secrecy: probe.Secret, Optional: true},
		{Name: filepath.Join(dir, "seal.key"), What: "what stored warrants are bound with", Secrecy: probe.Secret, Optional: true},
	}
	if e.config.Registry != "" {
		list = append(list, probe.File{Name: e.config.Registry, What: "the registry, with hashes of passwords", Secrecy: probe.Hidden})
	}
	if e.config.SMTP.TLSKey != "" {
		list = append(list, probe.File{Name: e.config.SMTP.TLSKey, What: "the key of the TLS certificate", Secrecy: probe.Hidden})
	}
	if e.dir == nil {
		return list
	}
	for d := range e.dir.Domains() {
		for _, k := range d.Keys {
			if k.File != "" && (e.wish.org == "" || string(d.Organisation) == e.wish.org) && len(list) < doctorDomains {
				list = append(list, probe.File{Name: k.File, What: "the signing key " + k.Selector + " of " + d.Name.String(), Secrecy: probe.Hidden})
			}
		}
	}
	return list
}

// relay asks the running one about itself.
func (e *examination) relay(ctx context.Context) []probe.Check {
	c := probe.Check{Name: "relay", About: e.config.DataDir, State: probe.OK, Expected: "a running relay"}
	if e.status == nil {
		c.State, c.Seen, c.Fix = probe.Problem, e.statusErr.Error(), "anechoic serve --config "+e.file
		if !errors.Is(e.statusErr, api.ErrNotRunning) {
			c.Fix = "run doctor as the relay's user or root; if it does not answer them either, see its log"
		}
		return append([]probe.Check{c, {Name: "in force", About: e.file, State: probe.Skipped, Seen: "needs a running relay"}}, findingChecks(api.Findings(e.findings))...)
	}
	c.Seen = fmt.Sprintf("%s, version %s, up %s", e.status.Hostname, e.status.Version, span(time.Duration(e.status.UptimeSeconds)*time.Second))
	checks := []probe.Check{c, versionCheck(e.status.Version, thisBuild().Version)}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	said, err := e.client.Checks(ctx)
	if err != nil {
		said = []probe.Check{{Name: "relay", About: "what it says of itself", State: probe.Warning, Seen: err.Error(), Fix: "see its log"}}
	}
	return append(append(checks, said...), findingChecks(e.status.Findings)...)
}

func versionCheck(running, here string) probe.Check {
	c := probe.Check{Name: "version", About: "the relay", State: probe.OK, Expected: here + ", as this program", Seen: running}
	if running != here {
		c.State, c.Fix = probe.Warning, "restart the relay to run the installed version"
	}
	return c
}

func findingChecks(findings []api.Finding) (checks []probe.Check) {
	for i, f := range findings {
		if i == doctorShown {
			checks = append(checks, probe.Check{Name: "finding", About: "the relay", State: probe.Warning, Seen: count(len(findings)-i, "more finding", "more findings"), Fix: "anechoic status lists all"})
			break
		}
		c := probe.Check{Name: "finding", About: cmp.Or(strings.Trim(f.Organisation+"/"+f.Source, "/"), "the relay"), State: probe.Warning, Seen: f.Text}
		if strings.HasPrefix(f.Text, "RISK") {
			c.State = probe.Problem
		}
		checks = append(checks, c)
	}
	return checks
}

// machine looks at clock, disk and descriptors.
func (e *examination) machine(context.Context) []probe.Check {
	pid, whose := 0, "this shell; the service has its own"
	if e.status != nil {
		pid, whose = e.status.PID, fmt.Sprintf("the relay, process %d", e.status.PID)
	}
	return []probe.Check{
		probe.CheckClock(probe.ClockNow()),
		probe.CheckDisk(e.config.DataDir, uint64(e.config.Storage.Reserve)),
		probe.CheckDescriptors(probe.DescriptorLimit(pid), whose, e.config.SMTP.MaxConnections),
	}
}

// ports asks those of the running relay, or whether those of the configuration are
// free.
func (e *examination) ports(ctx context.Context) (checks []probe.Check) {
	if e.status != nil {
		for _, l := range e.status.Listeners {
			checks = append(checks, probe.CheckPort(ctx, l.Name, l.Address))
		}
		return checks
	}
	c := e.config.SMTP
	for _, p := range []struct {
		name  string
		addrs []string
	}{{"smtp", c.Listen}, {"smtp_tls", c.ListenTLS}, {"submission", c.ListenSubmission}, {"proxy", c.ListenProxy}, {"operations", listOne(e.config.Operations)}} {
		for _, address := range p.addrs {
			checks = append(checks, probe.CheckFreePort(p.name, address))
		}
	}
	return checks
}

func listOne(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func (e *examination) certificates(context.Context) []probe.Check {
	file, made := e.config.SMTP.TLSCert, e.config.SMTP.TLSCert == ""
	if made {
		file = filepath.Join(e.config.DataDir, "self-signed.crt")
	}
	return []probe.Check{probe.CheckCertificate(file, e.config.Hostname, made, time.Now())}
}

func (e *examination) nameServers(ctx context.Context) []probe.Check {
	servers := e.names.Resolver.Servers()
	checks := make([]probe.Check, len(servers))
	var work background.Group
	for i, s := range servers {
		work.Go(func() { checks[i] = probe.CheckNameServer(ctx, e.names, s, e.config.Hostname) })
	}
	work.Wait()
	if e.status == nil {
		checks = append(checks, e.dnssec(ctx))
	}
	return checks
}

// dnssec is asked here where no relay runs that would tell.
func (e *examination) dnssec(ctx context.Context) probe.Check {
	c := probe.Check{Name: "dnssec", About: "the name servers", State: probe.OK, Expected: "they validate, and nobody stands between", Seen: "they do"}
	if e.config.DNS.DNSSEC == config.DNSSECOff {
		c.Seen = "dns.dnssec is off"
		return c
	}
	ctx, cancel := context.WithTimeout(ctx, probe.CheckTime)
	defer cancel()
	if err := e.names.Resolver.CheckAuthentic(ctx, e.config.DNS.DNSSECProbe); err != nil {
		c.State, c.Seen, c.Fix = probe.Warning, err.Error(), `DANE is off: run a validating resolver on this machine, as unbound, or say dns.dnssec = "off"`
	}
	return c
}

// addresses looks at those that ordinary mail leaves from.
func (e *examination) addresses(ctx context.Context) []probe.Check {
	var organisations []*org.Organisation
	if e.dir != nil {
		for o := range e.dir.Organisations() {
			if e.wish.org == "" || string(o.ID) == e.wish.org {
				organisations = append(organisations, o)
			}
		}
	}
	egress, note := probe.AllEgress(&e.config, organisations, e.egress)
	ctx, cancel := context.WithTimeout(ctx, 2*probe.CheckTime)
	defer cancel()
	checks := e.addressChecks(ctx, egress)
	if note != "" {
		checks = append(checks, probe.Check{Name: "egress", About: "the addresses that mail leaves from", State: probe.Warning, Seen: note, Fix: "without them nobody can say whether SPF and reverse names are right"})
	}
	return checks
}

// outbound tries the way out: to the host a person names, to the smart host, or to an
// exchanger of the relay's own domain.
func (e *examination) outbound(ctx context.Context) []probe.Check {
	c := e.config.Delivery
	port := uint16(c.Port)
	switch {
	case e.wish.outbound != "":
		return []probe.Check{probe.CheckOutbound(ctx, e.wish.outbound, port)}
	case c.SmartHost != "":
		return []probe.Check{probe.CheckOutbound(ctx, c.SmartHost, port)}
	}
	for at := e.config.Hostname; !at.IsZero(); at = at.Parent() {
		mx, err := e.names.Resolver.MX(ctx, at.String())
		if err == nil && len(mx.Records) > 0 && mx.Records[0].Host != "" {
			best := slices.MinFunc(mx.Records, func(x, y mail.MX) int { return cmp.Compare(x.Preference, y.Preference) })
			return []probe.Check{probe.CheckOutbound(ctx, net.JoinHostPort(best.Host, fmt.Sprint(port)), port)}
		}
	}
	return []probe.Check{{
		Name: "outbound", About: "port " + fmt.Sprint(port), State: probe.Skipped, Expected: "another mail server greets",
		Seen: "no domain of " + e.config.Hostname.String() + " has a mail exchanger to try", Fix: "name a mail server with --outbound HOST",
	}}
}

// domains has one line for each that is well, and every check of the others that is
// not.
func (e *examination) domains(ctx context.Context) (checks []probe.Check) {
	domains, err := e.chosen(nil, org.ID(e.wish.org))
	if err != nil {
		return []probe.Check{{Name: "domain", About: e.config.Registry, State: probe.Problem, Expected: "at least one domain", Seen: "none", Fix: "anechoic domain add ORG DOMAIN"}}
	}
	more := len(domains) - doctorDomains
	reports := e.report(ctx, domains[:min(len(domains), doctorDomains)])
	for _, r := range reports {
		wrong := slices.DeleteFunc(slices.Clone(r.Checks), func(c probe.Check) bool {
			return c.State == probe.OK || c.Name == "reverse" || c.Name == "helo" // these are told once
		})
		if len(wrong) == 0 {
			checks = append(checks, probe.Check{Name: "domain", About: r.Domain, State: probe.OK, Expected: "proof, SPF, keys and DMARC", Seen: "all there"})
		}
		checks = append(checks, wrong...)
	}
	if more > 0 {
		checks = append(checks, probe.Check{Name: "domain", About: e.config.Registry, State: probe.Skipped, Seen: count(more, "more domain was", "more domains were") + " not looked at", Fix: "--org ORG looks at all of one organisation"})
	}
	return checks
}

// sources names those that rest on one thing alone.
func (e *examination) sources(context.Context) (checks []probe.Check) {
	all := 0
	for o := range e.dir.Organisations() {
		if e.wish.org != "" && string(o.ID) != e.wish.org {
			continue
		}
		for _, s := range o.Sources {
			all++
			if why := api.Resting(s, time.Now()); why != "" && len(checks) < doctorShown {
				checks = append(checks, probe.Check{
					Name: "source", About: string(o.ID) + "/" + s.ID, State: probe.Warning, Expected: "two proofs that do not depend on each other", Seen: why,
					Fix: "give it a secret header (anechoic source secret new), or another kind of source",
				})
			}
		}
	}
	if all == 0 {
		return []probe.Check{{Name: "source", About: e.config.Registry, State: probe.Problem, Expected: "at least one source", Seen: "none: nobody can send", Fix: "anechoic source add ORG SOURCE --kind …"}}
	}
	if len(checks) == 0 {
		checks = append(checks, probe.Check{Name: "source", About: e.config.Registry, State: probe.OK, Expected: "two proofs, or one that cannot be copied", Seen: count(all, "source", "sources")})
	}
	return checks
}

// steps are the checks in the order in which a set-up is done.
var steps = []string{"config", "file", "disk", "source", "domain", "relay", "ready", "in force", "port", "dns", "proof", "dkim", "spf", "outbound", "helo", "reverse", "dmarc", "mx"}

// next is what somebody does first: of the problems, the one that others wait for.
func (e *examination) next(checks []probe.Check) string {
	if e.fileErr == nil && e.dir != nil && !hasOrganisation(e.dir) {
		return "name the first organisation: anechoic org add ID --name NAME --security-contact ADDRESS"
	}
	for _, step := range steps {
		for _, c := range checks {
			if c.Name != step || c.State != probe.Problem {
				continue
			}
			if len(c.Publish) > 0 {
				return "publish in DNS: " + c.Publish[0]
			}
			return c.About + ": " + c.Seen + ": " + c.Fix
		}
	}
	if e.dir == nil || e.status == nil {
		return ""
	}
	for o := range e.dir.Organisations() {
		if (e.wish.org == "" || string(o.ID) == e.wish.org) && len(o.Sources) > 0 {
			return "try a source from end to end: anechoic source test " + string(o.ID) + "/" + o.Sources[0].ID
		}
	}
	return ""
}

func hasOrganisation(dir *org.Directory) bool {
	for range dir.Organisations() {
		return true
	}
	return false
}
