package config

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/mail"
	"anechoic/org"
)

var update = flag.Bool("update", false, "write the golden files anew")

// comparable lets cmp compare values whose parts are private.
var comparable = cmp.Options{
	cmp.Comparer(func(a, b mail.Domain) bool { return a == b }),
	cmp.Comparer(func(a, b mail.Address) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// contract finds the configuration that every version must load as it stands.
func contract(t testing.TB) string {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		root = filepath.Dir(root)
	}
	path := filepath.Join(root, "..", "shared", "contract", "relay.toml")
	if _, err := os.Stat(path); err != nil {
		t.Skip("the contract's examples are not here: set them beside the project, in ../shared/contract")
	}
	return path
}

func TestTheContractLoadsAsItStands(t *testing.T) {
	c, dir, problems, findings := Validate(contract(t))
	for _, p := range problems {
		t.Error(p)
	}
	for _, f := range findings {
		t.Error(f)
	}
	if dir == nil || c.Hostname.String() != "relay.anechoic.test" || c.SMTP.MaxMessageBytes != 50<<20 || len(c.Delivery.RetryAfter) != 7 ||
		!dir.Providers().Microsoft365.Contains(netip.MustParseAddr("40.107.1.1")) || !dir.Providers().Microsoft365.Excludes(netip.MustParseAddr("40.95.1.1")) {
		t.Errorf("%+v", c)
	}
}

// The contract names every key: what it does not name is no key, and what it
// names has the default's value where it is one.
func TestTheDefaultsAreTheContracts(t *testing.T) {
	c, problems := Load(contract(t))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	d := Default()
	for _, part := range []struct {
		name             string
		contract, normal any
	}{
		{"dns", c.DNS, d.DNS},
		{"inbound", c.Inbound, d.Inbound},
		{"disowned", c.Disowned, d.Disowned},
		{"screening", c.Screening, d.Screening},
		{"console", c.Console, d.Console},
		{"operations", c.Operations, d.Operations},
		{"log", c.Log, d.Log},
		{"data_dir", filepath.Base(c.DataDir), d.DataDir},
	} {
		if diff := cmp.Diff(part.contract, part.normal, comparable); diff != "" {
			t.Errorf("%s (-contract +default):\n%s", part.name, diff)
		}
	}
	c.SMTP.ListenTLS, c.SMTP.ListenSubmission, c.SMTP.ListenProxy, c.SMTP.ProxyProtocolFrom = []string{}, []string{}, []string{}, nil
	if diff := cmp.Diff(c.SMTP, d.SMTP, comparable); diff != "" {
		t.Errorf("smtp (-contract +default):\n%s", diff)
	}
	c.Delivery.HELO = mail.Domain{}
	if diff := cmp.Diff(c.Delivery, d.Delivery, comparable); diff != "" {
		t.Errorf("delivery (-contract +default):\n%s", diff)
	}
}

// verdict tells everything about a configuration and its registry, a line each.
func verdict(path string) (told string, dir *org.Directory) {
	loaded, problems := Reload(path, feedOrFile, func(string) uint64 { return 3 }, time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC))
	var b strings.Builder
	for _, p := range problems {
		p.File = filepath.Base(p.File)
		fmt.Fprintln(&b, p)
	}
	for _, f := range loaded.Findings {
		fmt.Fprintf(&b, "finding: %s/%s: %s\n", f.Organisation, f.Source, f.Text)
	}
	return strings.ReplaceAll(b.String(), filepath.Dir(path)+"/", ""), loaded.Directory
}

func eachFile(t *testing.T, folder string, check func(t *testing.T, path, told string, dir *org.Directory)) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.toml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files in testdata/%s", folder)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".toml"), func(t *testing.T) {
			told, dir := verdict(path)
			check(t, path, told, dir)
			golden := strings.TrimSuffix(path, ".toml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(told), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), told); diff != "" {
				t.Errorf("%s tells something else (-want +got; -update writes it anew):\n%s", path, diff)
			}
		})
	}
}

func TestBadConfigurationsAreRefusedWithEveryProblemAndItsPlace(t *testing.T) {
	eachFile(t, "bad", func(t *testing.T, _, told string, dir *org.Directory) {
		if dir != nil || told == "" {
			t.Error("it loads")
		}
	})
}

func TestGoodConfigurationsLoadAndAreShownAsTheyCount(t *testing.T) {
	eachFile(t, "good", func(t *testing.T, path, _ string, dir *org.Directory) {
		if dir == nil || dir.Generation() != 3 {
			t.Error("it does not load")
		}
		c, _ := Load(path)
		c.DataDir, c.Registry, c.Delivery.Shaping = absolute(c.DataDir), absolute(c.Registry), absolute(c.Delivery.Shaping)
		c.Providers.Microsoft365.Feed, c.Providers.Google.Feed = absolute(c.Providers.Microsoft365.Feed), absolute(c.Providers.Google.Feed)
		for i := range c.Alerts.Webhooks {
			c.Alerts.Webhooks[i].SecretFiles[0] = absolute(c.Alerts.Webhooks[i].SecretFiles[0])
		}
		again, problems := Parse("/elsewhere/relay.toml", []byte(c.Show()))
		for _, p := range problems {
			t.Error(p)
		}
		if diff := cmp.Diff(c, again, comparable); diff != "" {
			t.Errorf("shown as something else (-is +shown):\n%s\n%s", diff, c.Show())
		}
	})
}

func TestPathsAreRelativeToTheFile(t *testing.T) {
	c, _ := Parse("/etc/anechoic/relay.toml", []byte("hostname = \"relay.test\"\nregistry = \"orgs/registry.toml\"\ndata_dir = \"/var/lib/anechoic\"\n[smtp]\ntls_cert = \"../cert.pem\"\n"))
	if c.Registry != "/etc/anechoic/orgs/registry.toml" || c.DataDir != "/var/lib/anechoic" || c.SMTP.TLSCert != "/etc/cert.pem" {
		t.Errorf("%+v", c)
	}
}

func TestAnEmptyListMeansNone(t *testing.T) {
	c, _ := Parse("relay.toml", []byte("[smtp]\nlisten = []\nlisten_tls = [\"127.0.0.1:2465\"]\n"))
	if len(c.SMTP.Listen) != 0 || len(Default().SMTP.Listen) != 1 {
		t.Errorf("%q", c.SMTP.Listen)
	}
}

func TestEgressIsAllTheRelaySendsFrom(t *testing.T) {
	c, _ := Parse("relay.toml", []byte("[delivery]\nbind = [\"192.0.2.1\"]\n[inbound]\nbind = [\"192.0.2.2\"]\n[disowned]\nbind = [\"::ffff:192.0.2.3\"]\n[[delivery.egress]]\nname = \"bulk\"\nsource = [ { address = \"2001:db8::4\" } ]\n"))
	if got := fmt.Sprint(c.Egress()); got != "[192.0.2.1 192.0.2.2 192.0.2.3 2001:db8::4]" {
		t.Error(got)
	}
}

func TestAFileThatIsNotThereIsAProblem(t *testing.T) {
	_, dir, problems, _ := Validate(filepath.Join(t.TempDir(), "relay.toml"))
	if dir != nil || len(problems) != 1 || problems[0].Hint == "" {
		t.Errorf("%v", problems)
	}
}

func TestSizesAndSpansAreReadAsTheyAreWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(0, maxMessage).Draw(t, "size")
		if got, err := parseSize(size(n)); err != nil || got != n {
			t.Fatalf("%d is written %s and read %d, %v", n, size(n), got, err)
		}
		d := time.Duration(rapid.Int64Range(1, int64(maxExpire/time.Second)).Draw(t, "seconds")) * time.Second
		if got, err := time.ParseDuration(span(d)); err != nil || got != d {
			t.Fatalf("%v is written %s and read %v, %v", d, span(d), got, err)
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	paths, _ := filepath.Glob(filepath.Join("testdata", "*", "*.toml"))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(Default().Show()))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, problems := Parse("relay.toml", text)
		lines := strings.Count(string(text), "\n") + 1
		for _, p := range problems {
			if p.Line < 0 || p.Line > lines || p.Message == "" {
				t.Errorf("outside the text: %+v", p)
			}
		}
		if len(problems) > 0 {
			return
		}
		c.DataDir, c.Registry = absolute(c.DataDir), absolute(c.Registry)
		c.Providers.Microsoft365.Feed, c.Providers.Google.Feed = absolute(c.Providers.Microsoft365.Feed), absolute(c.Providers.Google.Feed)
		c.SMTP.TLSCert, c.SMTP.TLSKey = absolute(c.SMTP.TLSCert), absolute(c.SMTP.TLSKey)
		again, problems := Parse("/relay.toml", []byte(c.Show()))
		if diff := cmp.Diff(c, again, comparable); diff != "" || len(problems) > 0 {
			t.Errorf("shown as something else (-is +shown):\n%s\n%v", diff, problems)
		}
	})
}
