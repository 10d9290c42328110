package edit

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/org"
)

// registry is written as people write: columns, comments beside and between,
// options kept for later.
const registry = `# Who may send.

[[organisation]]
id   = "acme"   # since 2019
name = "Acme"

  # the main domain
  [[organisation.domain]]
  name = "acme.test"                     # proven
  dkim = [ { selector = "an1", algorithm = "rsa-2048" } ]

  [[organisation.source]]
  id            = "office"
  kind          = "microsoft365"
  tenant_ids    = ["11111111-1111-4111-8111-111111111111"]
  secret_header = { name = "X-Acme-Relay-Key", sha256 = ["aa"] } # of the rule
  # require_dkim = true

  # the invoices
  [[organisation.source]]
  id       = "billing"
  kind     = "credential"
  username = "billing@acme"
  from     = [
    "billing@acme.test", # the department
    "noreply@acme.test"  # the program
  ]
  limits   = { messages_per_hour = 20 }

# --- customers abroad ---

# Globex pays late.
[[organisation]]
id = "globex"
`

func TestWhatIsAddedStandsWhereAPersonWouldWriteIt(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func([]byte) ([]byte, error)
		diff   string
	}{
		{"a domain behind the others", func(text []byte) ([]byte, error) {
			return AddDomain(text, "acme", org.DomainEntry{Name: "acme.example", DKIM: []org.KeyEntry{{Selector: "an1", Algorithm: "ed25519"}}})
		}, `
   dkim = [ { selector = "an1", algorithm = "rsa-2048" } ]
 
+  [[organisation.domain]]
+  name = "acme.example"
+  dkim = [ { selector = "an1", algorithm = "ed25519" } ]
+
   [[organisation.source]]
`},
		{"a source in columns, where the others have them", func(text []byte) ([]byte, error) {
			return AddSource(text, "acme", org.SourceEntry{ID: "scanner", Kind: "address", Addresses: []string{"192.0.2.1/32"}}, "")
		}, `
   limits   = { messages_per_hour = 20 }
 
+  [[organisation.source]]
+  id        = "scanner"
+  kind      = "address"
+  addresses = ["192.0.2.1/32"]
+
 # --- customers abroad ---
`},
		{"the first source of an organisation, below its own keys", func(text []byte) ([]byte, error) {
			return AddSource(text, "globex", org.SourceEntry{ID: "s", Kind: "address"}, "")
		}, `
 id = "globex"
+
+  [[organisation.source]]
+  id = "s"
+  kind = "address"
`},
		{"an organisation behind all others", func(text []byte) ([]byte, error) {
			return AddOrganisation(text, org.OrganisationEntry{ID: "initech", Name: `The "I"`, SecurityContact: "s@initech.test"})
		}, `
 id = "globex"
+
+[[organisation]]
+id = "initech"
+name = "The \"I\""
+security_contact = "s@initech.test"
`},
		{"a hash beside the first", func(text []byte) ([]byte, error) {
			return Append(text, "acme", "office", "secret_header.sha256", Text("bb"))
		}, `
-  secret_header = { name = "X-Acme-Relay-Key", sha256 = ["aa"] } # of the rule
+  secret_header = { name = "X-Acme-Relay-Key", sha256 = ["aa", "bb"] } # of the rule
`},
		{"a value on a line of its own, and every remark stays", func(text []byte) ([]byte, error) {
			return Append(text, "acme", "billing", "from", Text("x@acme.test"))
		}, `
-    "noreply@acme.test"  # the program
+    "noreply@acme.test",  # the program
+    "x@acme.test"
`},
		{"a value in an inline table", func(text []byte) ([]byte, error) {
			return Set(text, "acme", "billing", "limits.recipients_per_day", Number(5), "")
		}, `
-  limits   = { messages_per_hour = 20 }
+  limits   = { messages_per_hour = 20, recipients_per_day = 5 }
`},
		{"a key in the column, with why", func(text []byte) ([]byte, error) {
			return Set(text, "acme", "office", "single_proof_until", "2027-01-01", "the rule comes in January")
		}, `
   secret_header = { name = "X-Acme-Relay-Key", sha256 = ["aa"] } # of the rule
+  single_proof_until = 2027-01-01 # the rule comes in January
   # require_dkim = true
`},
		{"a table that is not there yet", func(text []byte) ([]byte, error) {
			return Set(text, "acme", "office", "limits.messages_per_hour", Number(5), "")
		}, `
+  limits        = { messages_per_hour = 5 }
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			changed, err := c.change([]byte(registry))
			if err != nil {
				t.Fatal(err)
			}
			diff := Diff("registry.toml", []byte(registry), changed)
			for _, line := range strings.Split(strings.Trim(c.diff, "\n"), "\n") {
				if !strings.Contains(diff, "\n"+line+"\n") {
					t.Fatalf("the diff has no line %q:\n%s", line, diff)
				}
			}
			if !strings.Contains(diff, strings.TrimPrefix(c.diff, "\n")) {
				t.Errorf("the lines stand elsewhere:\n%s", diff)
			}
		})
	}
}

func TestWhatIsTakenOutTakesItsOwnCommentsOnly(t *testing.T) {
	without, err := RemoveSource([]byte(registry), "acme", "office")
	if err != nil {
		t.Fatal(err)
	}
	if without, err = RemoveOrganisation(without, "globex"); err != nil {
		t.Fatal(err)
	}
	want := registry
	for _, passage := range []string{
		`  [[organisation.source]]
  id            = "office"
  kind          = "microsoft365"
  tenant_ids    = ["11111111-1111-4111-8111-111111111111"]
  secret_header = { name = "X-Acme-Relay-Key", sha256 = ["aa"] } # of the rule
  # require_dkim = true

`, `
# Globex pays late.
[[organisation]]
id = "globex"
`,
	} {
		if !strings.Contains(want, passage) {
			t.Fatalf("the test's passage is not in the registry: %s", passage)
		}
		want = strings.Replace(want, passage, "", 1)
	}
	if diff := cmp.Diff(want, string(without)); diff != "" {
		t.Error(diff)
	}
}

func TestValuesAreTakenOutOfEveryFormOfList(t *testing.T) {
	for _, c := range []struct{ before, gone, after string }{
		{`["a", "b", "c"]`, "a", `["b", "c"]`},
		{`["a", "b", "c"]`, "b", `["a", "c"]`},
		{`["a", "b", "c"]`, "c", `["a", "b"]`},
		{`[ "a", "b" , ]`, "b", `[ "a", ]`},
		{`[ "a" ]`, "a", `[ ]`},
		{"[\n  \"a\", # first\n  \"b\",\n]", "a", "[\n  \"b\",\n]"},
		{"[\n  \"a\", # first\n  \"b\"\n]", "b", "[\n  \"a\" # first\n]"},
		{"[ \"a\", # first\n  \"b\"]", "b", "[ \"a\" # first\n]"},
		{"['a', # [ \"b\", ]\n 'b']", "a", "[# [ \"b\", ]\n 'b']"},
	} {
		text := "[[organisation]]\nid = \"o\"\n[[organisation.source]]\nid = 's'\nfrom = "
		got, err := Take([]byte(text+c.before+" # end\n"), "o", "s", "from", func(s string) bool { return s == c.gone })
		if err != nil || string(got) != text+c.after+" # end\n" {
			t.Errorf("%s without %s: %s, %v", c.before, c.gone, got, err)
		}
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	text := []byte(registry)
	for name, err := range map[string]error{
		"organisation": second(RemoveOrganisation(text, "none")),
		"domain":       second(RemoveDomain(text, "acme", "none.test")),
		"source":       second(RemoveSource(text, "acme", "none")),
		"key":          second(Unset(text, "acme", "billing", "forwarded")),
		"owner":        second(AddDomain(text, "none", org.DomainEntry{Name: "a.test"})),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"organisation": second(AddOrganisation(text, org.OrganisationEntry{ID: "acme"})),
		"domain":       second(AddDomain(text, "acme", org.DomainEntry{Name: "ACME.test"})),
		"source":       second(AddSource(text, "acme", org.SourceEntry{ID: "office"}, "")),
	} {
		if !errors.Is(err, ErrThere) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second(_ []byte, err error) error { return err }

func TestALongTextThatLooksLikeACommentIsNone(t *testing.T) {
	text := "[[organisation]]\nid = \"o\"\nname = \"\"\"\n# Not a comment\"\"\"\n[[organisation.domain]]\nname = \"o.test\"\n"
	got, err := RemoveDomain([]byte(text), "o", "o.test")
	if want := "[[organisation]]\nid = \"o\"\nname = \"\"\"\n# Not a comment\"\"\"\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
}
