package acceptance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anechoic/app"
	"anechoic/control/config"
	"anechoic/org"
)

// configurationRows: what cannot be configured.
func configurationRows() []row {
	more := func(text string) func(string) string { return func(r string) string { return r + "\n" + text } }
	source := func(text string) func(string) string { return more("[[organisation.source]]\nid = \"more\"\n" + text) }
	rogue := func(text string) func(string) string {
		return more("[[organisation]]\nid = \"rogue\"\nname = \"Rogue\"\n[[organisation.domain]]\nname = \"rogue.test\"\n[[organisation.source]]\nid = \"s\"\n" + text)
	}
	address := func(prefix string) string {
		return fmt.Sprintf("kind = \"address\"\naddresses = [%q]\nfrom = [\"*@attack.com\"]\n", prefix)
	}
	tenant := func(guid, originator string) string {
		return fmt.Sprintf("kind = \"microsoft365\"\ntenant_ids = [%q]\noriginator_orgs = [%q]\nsingle_proof_until = 2099-12-31\n", guid, originator)
	}
	credential := func(user string) string {
		return fmt.Sprintf("kind = \"credential\"\nusername = %q\npassword = { argon2id = %q }\nfrom = [\"*@rogue.test\"]\n", user, hashes()["app@globex"])
	}
	const spki = "4f5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796"
	certificate := fmt.Sprintf("kind = \"certificate\"\nspki_sha256 = [%q]\nfrom = [\"*@attack.com\"]\n", spki)
	const free = "77777777-7777-4777-8777-777777777777"
	return []row{
		{id: "A40", scenario: "open wildcard configuration", variants: []variant{
			refusesRegistry("every IPv4 address", source(address("0.0.0.0/0")), "too wide"),
			refusesRegistry("every IPv6 address", source(address("::/0")), "too wide"),
			refusesRegistry("half of all, to say it by halves", source(address("0.0.0.0/1")), "too wide"),
			refusesRegistry("more than a /28", source(address("198.18.7.0/27")), "too wide"),
			refusesRegistry("more than a /64", source(address("2001:db8:7::/63")), "too wide"),
			refusesRegistry("all of IPv4 as mapped addresses", source(address("::ffff:0.0.0.0/96")), "IPv4 address in IPv6 form"),
			refusesRegistry("a provider's address", source(address("40.107.1.10/32")), "a provider's customers share"),
			refusesRegistry("an address of the provider's pool", source(address("40.95.1.2/32")), "a provider's customers share"),
			refusesRegistry("a provider's IPv6 network", source(address("2a01:111:f400:1::/64")), "a provider's customers share"),
			refusesRegistry("a credential locked to everything", edit("192.0.2.0/24", "0.0.0.0/0"), "too wide"),
			refusesRegistry("a server whose inside is everything", edit(`from = ["*@acme.test"]`, "from = [\"*@acme.test\"]\nforwarded = \"reject\""+"\n[[organisation.source]]\nid = \"w\"\nkind = \"address\"\nrole = \"server\"\naddresses = [\"198.18.9.1/32\"]\ninternal = [\"0.0.0.0/0\"]\nfrom = [\"*@acme.test\"]"), "too wide"),
			refusesRegistry("hybrid servers everywhere", edit("198.51.100.7/32", "0.0.0.0/0"), "too wide"),
			refusesRegistry("any tenant", edit(`"`+acme.GUID+`"`, `"*"`), "no tenant id"),
			refusesRegistry("no tenant", edit(`["`+acme.GUID+`"]`, "[]"), "no tenant ids"),
			refusesRegistry("an any-tenant switch", source(tenant(free, "attack.com")+"any_tenant = true\n"), "any_tenant"),
			refusesRegistry("any originator", edit(`originator_orgs = ["globex.test"]`, `originator_orgs = ["*"]`), "wildcard"),
			refusesRegistry("a public suffix as originator", edit(`originator_orgs = ["globex.test"]`, `originator_orgs = ["co.uk"]`), "public suffix"),
			refusesRegistry("everybody's provider domain", edit(`["globex.onmicrosoft.com"]`, `["onmicrosoft.com"]`), "public suffix"),
			refusesRegistry("any domain", edit(`name = "globex.test"`, `name = "*"`), "wildcard"),
			refusesRegistry("any sub-domain by a pattern", edit(`name = "globex.test"`, `name = "*.globex.test"`), "wildcard"),
			refusesRegistry("a public suffix", edit(`name = "globex.test"`, `name = "com"`), "public suffix"),
			refusesRegistry("a private public suffix", edit(`name = "globex.test"`, `name = "github.io"`), "public suffix"),
			refusesRegistry("a tenant's provider name as a domain", edit(`name = "globex.test"`, `name = "globex.onmicrosoft.com"`), "provider"),
			refusesRegistry("send as anybody", edit(`from = ["*@globex.test"]`, `from = ["*@*"]`), "*@*"),
			refusesRegistry("send as any sub-domain", edit(`from = ["*@globex.test"]`, `from = ["*@*.globex.test"]`), "*@*.globex.test"),
			refusesRegistry("send as a star", edit(`from = ["*@globex.test"]`, `from = ["*"]`), `"*"`),
			refusesRegistry("send as another organisation", edit(`from = ["*@globex.test"]`, `from = ["*@acme.test"]`), "acme"),
			refusesRegistry("send as nobody in particular", edit(`from = ["*@globex.test"]`, ``), "from"),
			refusesRegistry("no second proof", edit("require_dkim = true", ""), "no second proof"),
			refusesRegistry("a name that mail systems use for the secret", edit(acme.SecretName, "Subject"), "mail systems use"),
			refusesRegistry("a secret written instead of its hash", edit(digest(initechSecret), initechSecret), "no SHA-256"),
			refusesRegistry("a key that is not understood", edit(`role = "application"`, `role = "application"`+"\ntrust = \"all\""), "trust"),
			refusesNode("a provider that is everywhere", `"40.92.0.0/15"`, `"0.0.0.0/0"`, "too wide"),
			refusesNode("a provider that is half of IPv6", `"2a01:111:f400::/48"`, `"8000::/1"`, "too wide"),
			refusesNode("balancers everywhere", `proxy_protocol_from = ["127.0.0.1/32"]`, `proxy_protocol_from = ["0.0.0.0/0"]`, "too wide"),
			refusesNode("no balancer for the proxy port", `proxy_protocol_from = ["127.0.0.1/32"]`, ``, "nobody may connect"),
			refusesNode("a key that is not understood", `max_message_bytes`, `relay_everything = true`+"\nmax_message_bytes", "relay_everything"),
			does("what loads with a single proof is shown as a finding", findingOfSingleProof),
		}},
		{id: "A64", scenario: "one identifier, two organisations", variants: []variant{
			refusesRegistry("a tenant", rogue(tenant(acme.GUID, "rogue.test")), "acme"),
			refusesRegistry("a tenant in capitals", rogue(tenant(strings.ToUpper(acme.GUID), "rogue.test")), "acme"),
			refusesRegistry("a tenant twice in one organisation", source(tenant(umbrella.GUID, "attack.com")), "already"),
			refusesRegistry("an originator", rogue(tenant(free, "acme.onmicrosoft.com")), "acme"),
			refusesRegistry("an originator that is a domain of another", rogue(tenant(free, "globex.test")), "globex"),
			refusesRegistry("an originator below another's domain with sub-domains", rogue(tenant(free, "x.acme-sub.test")), "acme"),
			refusesRegistry("a user name", rogue(credential("app@acme")), "already"),
			refusesRegistry("a user name in other case", rogue(credential("APP@acme")), "already"),
			refusesRegistry("a domain", edit(`name = "globex.test"`, `name = "acme.test"`), "already"),
			refusesRegistry("a domain in other case", edit(`name = "globex.test"`, `name = "ACME.test"`), "already"),
			refusesRegistry("a domain as its U-label", edit(`name = "globex.test"`, `name = "bücher.test"`), "already"),
			refusesRegistry("an address", rogue(strings.ReplaceAll(address("203.0.113.10/32"), "attack.com", "rogue.test")), "203.0.113.10"),
			refusesRegistry("a network around another's address", rogue(strings.ReplaceAll(address("203.0.113.0/28"), "attack.com", "rogue.test")), "203.0.113"),
			refusesRegistry("another's hybrid server", rogue(strings.ReplaceAll(address("198.51.100.7/32"), "attack.com", "rogue.test")), "198.51.100.7"),
			refusesRegistry("a client certificate's key", func(r string) string {
				return rogue(strings.ReplaceAll(certificate, "attack.com", "rogue.test"))(source(certificate)(r))
			}, "already"),
			refusesRegistry("a secret", edit(digest(initechSecret), digest(acmeSecret)), "already"),
			refusesRegistry("a provider domain", edit(`["globex.onmicrosoft.com"]`, `["acme.onmicrosoft.com"]`), "acme"),
			refusesRegistry("an organisation's id", edit(`id = "globex"`, `id = "acme"`), "already"),
			refusesRegistry("a selector twice in a domain", edit(`selector = "an1",`, `selector = "an1e",`), "twice"),
		}},
	}
}

// edit replaces the first place of a text that must be there.
func edit(old, new string) func(string) string {
	return func(text string) string {
		if !strings.Contains(text, old) {
			panic(fmt.Sprintf("the configuration has no %q", old))
		}
		return strings.Replace(text, old, new, 1)
	}
}

// refusesRegistry: the changed registry does not validate, says why, does not
// start, and does not take the place of one that is in force.
func refusesRegistry(name string, change func(string) string, why string) variant {
	return does(name, func(t *testing.T, r *relay) {
		changed := change(registry())
		refusesFiles(t, r, nodeFor(r), changed, why)
		r.writeRegistry(t, changed)
		defer r.writeRegistry(t, registry())
		keepsWhatItHas(t, r)
	})
}

// refusesNode is refusesRegistry for relay.toml.
func refusesNode(name, old, new, why string) variant {
	return does(name, func(t *testing.T, r *relay) {
		node := nodeFor(r)
		changed := edit(old, new)(node)
		refusesFiles(t, r, changed, registry(), why)
		r.write(t, "relay.toml", changed)
		defer r.write(t, "relay.toml", node)
		keepsWhatItHas(t, r)
	})
}

func nodeFor(r *relay) string {
	return fmt.Sprintf(nodeConfig, r.internet.DNS(), r.receiver.Addr().Port())
}

// refusesFiles asks the validator, and then the program itself.
func refusesFiles(t *testing.T, r *relay, node, registry, why string) {
	t.Helper()
	dir := t.TempDir()
	writeKeys(t, dir)
	file := filepath.Join(dir, "relay.toml")
	err := errors.Join(os.WriteFile(file, []byte(node), 0o600), os.WriteFile(filepath.Join(dir, "registry.toml"), []byte(registry), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	_, directory, problems, _ := config.Validate(file)
	if directory != nil || !anyContains(problems, why) {
		t.Errorf("the validator gives a Directory: %v, and says %v; want something about %q", directory != nil, problems, why)
	}
	for _, p := range problems {
		if p.Line == 0 || p.Hint == "" {
			t.Errorf("a problem without line or hint: %+v", p)
		}
	}
	a, err := app.New(app.Options{ConfigFile: file})
	if err == nil {
		t.Error("the program starts with it")
		if err := a.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	} else if !strings.Contains(err.Error(), why) {
		t.Errorf("the program says %v; want something about %q", err, why)
	}
}

func anyContains(problems []org.Problem, text string) bool {
	for _, p := range problems {
		if strings.Contains(p.String(), text) {
			return true
		}
	}
	return false
}

// keepsWhatItHas: a reload of bad files is refused, and mail flows as before.
func keepsWhatItHas(t *testing.T, r *relay) {
	t.Helper()
	before, err := r.api.Status(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.api.Reload(t.Context()); err == nil {
		t.Error("the reload was not refused")
	}
	after, err := r.api.Status(t.Context(), "")
	if err != nil || after.Generation != before.Generation {
		t.Errorf("the generation went from %d to %d, %v", before.Generation, after.Generation, err)
	}
	r.acceptedAndDelivered(t, mailFromMicrosoft(acme, "ann@acme.test"))
}

// findingOfSingleProof: a risk that loads is said in the status.
func findingOfSingleProof(t *testing.T, r *relay) {
	status, err := r.api.Status(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range status.Findings {
		if f.Organisation == "umbrella" && strings.Contains(f.Text, "no second proof") {
			return
		}
	}
	t.Errorf("the findings are %v", status.Findings)
}
