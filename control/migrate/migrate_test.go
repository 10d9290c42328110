package migrate

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/control/config"
	"anechoic/org"
)

var update = flag.Bool("update", false, "write the golden files anew")

// hosting copies the tree of testdata and gives it the keys that are not kept there.
func hosting(t *testing.T) (root string) {
	t.Helper()
	root = t.TempDir()
	if err := os.CopyFS(root, os.DirFS("testdata/hosting")); err != nil {
		t.Fatal(err)
	}
	writeKey(t, filepath.Join(root, "etc/opendkim/keys/acme.private"), 2048)
	writeKey(t, filepath.Join(root, "etc/opendkim/keys/globex.private"), 1024)
	return root
}

func writeKey(t *testing.T, name string, bits int) {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
}

func options(root string) Options {
	return Options{Main: "/etc/postfix/main.cf", Users: "/etc/dovecot/users", OpenDKIM: "/etc/opendkim.conf", Root: root}
}

func plan(t *testing.T, o Options, w Wishes) *Plan {
	t.Helper()
	estate, err := Read(o)
	if err != nil {
		t.Fatal(err)
	}
	return estate.Draft(w)
}

// written makes the folder, and asks the relay's own check of it.
func written(t *testing.T, p *Plan) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "new")
	if err := p.Write(dir); err != nil {
		t.Fatal(err)
	}
	_, _, problems, _ := config.Validate(filepath.Join(dir, RelayFile))
	for _, problem := range problems {
		t.Errorf("what was written does not load: %s", problem)
	}
	return dir
}

var hashes = regexp.MustCompile(`argon2id = "\$argon2id[^"]*"`)

// TestAHosterMovesOver: relays for several customers as they grow, with most of the
// mistakes that make echoes. The golden files are what the administrator sees.
func TestAHosterMovesOver(t *testing.T) {
	p := plan(t, options(hosting(t)), Wishes{})
	dir := written(t, p)
	for _, name := range []string{RelayFile, RegistryFile, ReportFile} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got = hashes.ReplaceAll(got, []byte(`argon2id = "…"`))
		golden := filepath.Join("testdata", "hosting-"+name+".golden")
		if *update {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (run with -update if it is meant):\n%s", name, diff)
		}
	}
	kinds := make([]string, 0, len(p.Holes))
	for _, h := range p.Holes {
		if !slices.Contains(kinds, h.Kind) {
			kinds = append(kinds, h.Kind)
		}
		if h.Attack == "" || h.Instead == "" || h.Do == "" || h.Line == "" {
			t.Errorf("%s at %s is not told in full", h.Kind, h.At)
		}
	}
	if diff := cmp.Diff([]string{ProviderRange, ProviderSigned, AnyCertificate, WideNetwork, SigningAny, AnySender, NetworkSender, FromUnchecked, ClearPassword, CatchAll}, kinds); diff != "" {
		t.Errorf("holes, worst first:\n%s", diff)
	}
}

// TestPasswordsAndKeysAreTheOwnersAlone: what is secret is readable by the owner, and
// stands in no other file.
func TestPasswordsAndKeysAreTheOwnersAlone(t *testing.T) {
	p := plan(t, options(hosting(t)), Wishes{})
	dir := written(t, p)
	if len(p.passwords) != 2 {
		t.Errorf("%d new passwords, want those of billing and north", len(p.passwords))
	}
	err := filepath.WalkDir(dir, func(name string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
		text, err := os.ReadFile(name)
		for _, n := range p.passwords {
			if e.Name() != PasswordsFile && strings.Contains(string(text), n.password) {
				t.Errorf("%s holds a password", name)
			}
		}
		if e.Name() != PasswordsFile && strings.Contains(string(text), "the old password") {
			t.Errorf("%s holds an old password", name)
		}
		if strings.HasSuffix(name, ".pem") {
			if _, err := org.ParsePrivateKey(text, org.RSA2048); err != nil {
				t.Error(err)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestOldPasswordsGoOn where they can be checked here.
func TestOldPasswordsGoOn(t *testing.T) {
	p := plan(t, options(hosting(t)), Wishes{})
	for _, o := range p.Organisations {
		for _, s := range o.Sources {
			if s.Username != "ann" {
				continue
			}
			hash, err := org.ParsePasswordHash(s.hash)
			if err != nil || !hash.Matches([]byte("the old password")) {
				t.Errorf("ann's password does not go on: %v", err)
			}
			return
		}
	}
	t.Error("ann is no source")
}

// TestNoSourceSendsAsMoreThanItOwned: every `from` is what a person wrote, and users of
// whom nobody said so are in no registry.
func TestNoSourceSendsAsMoreThanItOwned(t *testing.T) {
	p := plan(t, options(hosting(t)), Wishes{})
	want := map[string][]string{
		"ann": {"ann@acme.example", "billing@acme.example"}, "billing": {"billing@acme.example"},
		"globex-app": {"*@globex.example"}, "north": {"north@north.example"},
	}
	got := map[string][]string{}
	for _, o := range p.Organisations {
		for _, s := range o.Sources {
			got[s.Username] = s.From
			for _, from := range s.From {
				_, name, _ := strings.Cut(from, "@")
				if !slices.ContainsFunc(o.Domains, func(d *Domain) bool { return d.Name.String() == name }) {
					t.Errorf("source %s of %s sends as %s", s.ID, o.ID, from)
				}
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var open []string
	for _, u := range p.Undecided {
		open = append(open, u.What)
	}
	if diff := cmp.Diff([]string{"user printer", "address 203.0.113.10/32"}, open); diff != "" {
		t.Error(diff)
	}
}

// TestAPersonSaysWhoIsWho: domains and addresses that are named together are one
// organisation's; * is the rest.
func TestAPersonSaysWhoIsWho(t *testing.T) {
	p := plan(t, options(hosting(t)), Wishes{Organisations: []Choice{
		{ID: "acme", Items: []string{"acme.example", "203.0.113.8/29", "new.example"}}, {ID: "rest", Items: []string{"*"}},
	}, TakePorts: true})
	dir := written(t, p)
	got := map[string][]string{}
	for _, o := range p.Organisations {
		for _, d := range o.Domains {
			got[o.ID] = append(got[o.ID], d.Name.String())
		}
		for _, s := range o.Sources {
			got[o.ID] = append(got[o.ID], s.ID)
		}
	}
	want := map[string][]string{
		"acme": {"acme.example", "new.example", "ann", "billing", "address-203-0-113-10"},
		"rest": {"globex.example", "north.example", "globex-app", "north"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	relay, err := os.ReadFile(filepath.Join(dir, RelayFile))
	for _, port := range []string{`"0.0.0.0:25"`, `"0.0.0.0:465"`, `"0.0.0.0:587"`, `"0.0.0.0:10025"`} {
		if err != nil || !strings.Contains(string(relay), port) {
			t.Errorf("--take-ports wrote no %s: %v", port, err)
		}
	}
}

// TestInboundNeedsAnEgressOfItsOwn: an organisation's own mail and mail for it never
// leave from the same address.
func TestInboundNeedsAnEgressOfItsOwn(t *testing.T) {
	count := func(w Wishes) (n int) {
		p := plan(t, options(hosting(t)), w)
		written(t, p)
		for _, o := range p.Organisations {
			n += len(o.Inbound)
		}
		return n
	}
	if n := count(Wishes{}); n != 0 {
		t.Errorf("%d routes without an egress address", n)
	}
	if n := count(Wishes{InboundBind: prefixAddrs("192.0.2.99/32")}); n != 3 {
		t.Errorf("%d routes, want three", n)
	}
}

// TestWriteTouchesNothingThatIsThere: a folder with something in it is left alone.
func TestWriteTouchesNothingThatIsThere(t *testing.T) {
	p := plan(t, options(hosting(t)), Wishes{})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "registry.toml"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Write(dir); err == nil || !strings.Contains(err.Error(), "is not empty") {
		t.Errorf("it was written over: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "registry.toml"))
	if err != nil || string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestUnreadableFilesAreNamed, and the rest is read.
func TestUnreadableFilesAreNamed(t *testing.T) {
	root := hosting(t)
	for _, name := range []string{"etc/postfix/sender_login", "etc/opendkim/KeyTable", "etc/dovecot/users"} {
		if err := os.Remove(filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(root, "etc/dovecot/users"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := plan(t, options(root), Wishes{})
	written(t, p)
	var told []string
	for _, u := range p.Unread {
		told = append(told, u.String())
	}
	all := strings.Join(told, "\n")
	for _, want := range []string{"main.cf:32: texthash", "/etc/postfix/sender_login: no such file", "opendkim.conf:4: /etc/opendkim/KeyTable: no such file", "/etc/dovecot/users: it is not a regular file"} {
		if want != "main.cf:32: texthash" && !strings.Contains(all, want) {
			t.Errorf("%q is not among\n%s", want, all)
		}
	}
	if _, err := Read(Options{Main: "/nowhere/main.cf"}); err == nil || !strings.Contains(err.Error(), "name main.cf with --main") {
		t.Errorf("a missing main.cf: %v", err)
	}
}
