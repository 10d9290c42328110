package migrate

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The files that Write makes, all readable by their owner alone.
const (
	RelayFile     = "relay.toml"
	RegistryFile  = "registry.toml"
	PasswordsFile = "passwords.txt"
	ReportFile    = "report.md"
)

// Write makes the folder with the new configuration. It writes over nothing: the folder
// must be new, or empty.
func (p *Plan) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder %s: %w", dir, reason(err))
	}
	there, err := os.ReadDir(dir)
	switch {
	case err != nil:
		return fmt.Errorf("read the folder %s: %w", dir, reason(err))
	case len(there) > 0:
		return fmt.Errorf("folder %s is not empty: name a new one with --out", dir)
	}
	if len(p.keyFiles) > 0 {
		if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
			return fmt.Errorf("make the folder for keys: %w", err)
		}
	}
	contents := map[string][]byte{RelayFile: []byte(p.RelayTOML()), RegistryFile: []byte(p.RegistryTOML()), ReportFile: []byte(p.Report())}
	for _, k := range p.keyFiles {
		contents[k.name] = k.pem
	}
	if len(p.passwords) > 0 {
		contents[PasswordsFile] = []byte(p.passwordList())
	}
	for name, data := range contents {
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), data, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, reason(err))
		}
	}
	return nil
}

func (p *Plan) passwordList() string {
	var b strings.Builder
	b.WriteString("# New passwords, one a line: user, password. Hand them out, then delete this file.\n")
	for _, n := range p.passwords {
		fmt.Fprintf(&b, "%s %s\n", n.username, n.password)
	}
	return b.String()
}

// toml writes lines with remarks behind them.
type toml struct{ strings.Builder }

func (t *toml) line(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }

// set writes key = value, with where it came from.
func (t *toml) set(key, value string, at Place, note string) {
	if note != "" {
		note = "; " + printable(note)
	}
	t.line("%-19s = %s  # %s%s", key, value, at, note)
}

func text(s string) string { return strconv.Quote(printable(s)) }

func texts[T any](list []T, form func(T) string) string {
	var parts []string
	for _, v := range list {
		parts = append(parts, text(form(v)))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func itself(s string) string { return s }

// RelayTOML is the node's configuration.
func (p *Plan) RelayTOML() string {
	r, t := &p.relay, &toml{}
	t.line("# Made by `anechoic import postfix`. Behind each value stands where it came from.")
	t.line("# What was not taken over is in report.md.\n")
	t.set("hostname", text(r.hostname.text), r.hostname.at, r.hostname.note)
	t.line("%-19s = %s", "data_dir", text("data"))
	t.line("%-19s = %s\n", "registry", text(RegistryFile))
	t.line("[smtp]")
	t.listeners("listen", r.listen)
	t.listeners("listen_tls", r.listenTLS)
	t.listeners("listen_submission", r.listenSubmission)
	if r.cert.text != "" {
		t.set("tls_cert", text(r.cert.text), r.cert.at, "")
		t.set("tls_key", text(r.key.text), r.key.at, "")
	}
	if r.size.text != "" {
		t.set("max_message_bytes", text(r.size.text), r.size.at, "message_size_limit")
	}
	t.line("")
	t.line("# Where shared providers' mail may come from: never a proof. Keep it current, by hand or with a feed.")
	t.line("[providers.microsoft365]")
	t.line("%-19s = %s", "ranges", texts(microsoftRanges, itself))
	t.line("%-19s = %s", "exclude", texts(microsoftExclude, itself))
	t.line("%-19s = %s", "arc_domains", texts([]string{"microsoft.com"}, itself))
	t.line("[providers.google]")
	t.line("%-19s = %s\n", "ranges", texts(googleRanges, itself))
	t.delivery(r)
	return t.String()
}

func (t *toml) listeners(key string, list []valued) {
	if len(list) == 0 {
		if key == "listen" {
			t.line("%-19s = []", key)
		}
		return
	}
	t.line("%-19s = [", key)
	for _, v := range list {
		t.line("  %s,  # %s: %s", text(v.text), v.at, printable(v.note))
	}
	t.line("]")
}

func (t *toml) delivery(r *relayDraft) {
	t.line("[delivery]")
	for _, set := range []struct {
		key, from string
		v         valued
	}{
		{"smart_host", "relayhost", r.smartHost}, {"helo", "smtp_helo_name", r.helo}, {"tls", "smtp_tls_security_level", r.level},
		{"ip", "inet_protocols", r.family}, {"expire_after", "maximal_queue_lifetime", r.expire},
	} {
		if set.v.text != "" {
			t.set(set.key, text(set.v.text), set.v.at, strings.TrimSuffix(set.from+"; "+set.v.note, "; "))
		}
	}
	if len(r.bind) > 0 {
		t.set("bind", texts(r.bind, netip.Addr.String), r.bindAt, "smtp_bind_address")
	}
	for _, p := range r.policies {
		t.line("\n[[delivery.domain]]  # %s: smtp_tls_policy_maps", p.at)
		t.line("name = %s", text(p.name.String()))
		if p.subdomains {
			t.line("subdomains = true")
		}
		t.line("tls = %s", text(p.level))
		if len(p.names) > 0 {
			t.line("certificate_names = %s", texts(p.names, itself))
		}
	}
	if len(r.inboundBind) > 0 {
		t.line("\n[inbound]\nbind = %s  # --inbound-bind", texts(r.inboundBind, netip.Addr.String))
	}
}

// RegistryTOML is who may send.
func (p *Plan) RegistryTOML() string {
	t := &toml{}
	t.line("# Made by `anechoic import postfix`. Behind each entry stands where it came from.")
	t.line("# learning = true holds mail in the organisation's name that no source here covers yet,")
	t.line("# where it would be refused (docs/migration.md). Take it out when nothing new comes.")
	for _, o := range p.Organisations {
		if len(o.Domains) > 0 {
			t.organisation(o)
		}
	}
	t.undecided(p.Undecided)
	return t.String()
}

func (t *toml) organisation(o *Organisation) {
	t.line("\n[[organisation]]  # %s", printable(o.Why))
	t.line("id       = %s", text(o.ID))
	t.line("name     = %s", text(o.Domains[0].Name.String()))
	t.line("learning = true")
	for _, d := range o.Domains {
		t.line("\n  [[organisation.domain]]  # %s", d.At)
		t.line("  name = %s  # publish  _anechoic.%s TXT \"v=anechoic1; org=%s\"", text(d.Name.String()), d.Name, o.ID)
		t.line("  dkim = [")
		for _, k := range d.Keys {
			file, from := "", "a new key: publish it before mail goes through it (anechoic key list)"
			if k.File != "" {
				file, from = ", key_file = "+text(k.File), k.At.String()
			}
			t.line("    { selector = %s, algorithm = %s%s },  # %s", text(k.Selector), text(k.Algorithm), file, from)
		}
		t.line("  ]")
	}
	for _, s := range o.Sources {
		t.source(s)
	}
	for _, in := range o.Inbound {
		t.line("\n  [[organisation.inbound]]  # %s", in.At)
		t.line("  domains    = [%s]", text(in.Domains[0].String()))
		t.line("  deliver_to = %s", text(in.DeliverTo))
	}
}

func (t *toml) source(s *Source) {
	t.line("\n  [[organisation.source]]  # %s", places(s.At))
	if s.note != "" {
		t.line("  # %s", printable(s.note))
	}
	t.line("  id       = %s", text(s.ID))
	t.line("  kind     = %s", text(s.Kind))
	t.line("  role     = \"application\"  # \"server\", with `internal`, if a mail server stands there")
	if s.Username != "" {
		t.line("  username = %s", text(s.Username))
		t.line("  password = { argon2id = %s }", text(s.hash))
	}
	if len(s.Addresses) > 0 {
		t.line("  addresses = %s", texts(s.Addresses, netip.Prefix.String))
	}
	t.line("  from     = %s", texts(s.From, itself))
}

// places lists where something came from, each place once.
func places(list []Place) string {
	var parts []string
	for _, at := range list {
		if s := at.String(); !slices.Contains(parts, s) && len(parts) < 5 {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ", ")
}

// undecided writes as remarks what a person has to decide on.
func (t *toml) undecided(list []Undecided) {
	if len(list) == 0 {
		return
	}
	t.line("\n# To be decided: these could send until now. Each is refused until somebody says as whom it")
	t.line("# may send. Put an entry under its organisation, without the #, and fill in `from`.")
	for _, u := range list {
		t.line("#\n# %s: %s: %s", u.At, printable(u.What), printable(u.Why))
		t.line("#   [[organisation.source]]")
		t.line("#   id = %s", text(idOf(strings.Join(strings.Fields(u.What), "-"))))
		t.line("#   kind = %s", text(u.kind))
		if u.username != "" {
			t.line("#   username = %s", text(u.username))
			t.line("#   password = { argon2id = \"…\" }  # anechoic source password new")
		}
		if u.address.IsValid() {
			t.line("#   addresses = [%s]", text(u.address.String()))
		}
		t.line("#   from = []")
	}
}
