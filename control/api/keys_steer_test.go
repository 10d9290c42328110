package api

import (
	"bytes"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"anechoic/mail/dns"
	"anechoic/org"
	"anechoic/relay/signing"
	"anechoic/standard/dkim"
)

// keyRegistry has a key that takes no time to make.
const keyRegistry = `
[[organisation]]
id = "acme"
  [[organisation.domain]]
  name = "acme.test"
  dkim = [ { selector = "an1", algorithm = "ed25519" } ]
`

// withKeys gives a relay real keys, in a directory of their own, and DNS.
func (r *relay) withKeys(t testing.TB) (*dns.Zone, *bytes.Buffer) {
	t.Helper()
	lives, err := signing.OpenLives(t.Context(), r.engine)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := signing.OpenKeys(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	if err := keys.Follow(lives); err != nil {
		t.Fatal(err)
	}
	dir, _ := r.Directory()
	set, problems := keys.Prepare(t.Context(), dir, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	keys.Use(set)
	zone, log := new(dns.Zone), new(bytes.Buffer)
	for d := range dir.Domains() {
		for _, k := range d.Keys {
			ref := signing.KeyRef{Organisation: d.Organisation, Domain: d.Name, Selector: k.Selector, Algorithm: k.Algorithm}
			public, err := keys.Public(ref)
			if err != nil {
				t.Fatal(err)
			}
			zone.SetTXT(ref.RecordName(), dkim.RecordValue(public))
		}
	}
	signer := &signing.Signer{Keys: keys, Lives: lives, Resolver: zone}
	r.Keys, r.Locksmith, r.Log = signer, &signing.Locksmith{Keys: keys, Lives: lives, Signer: signer}, slog.New(slog.NewTextHandler(log, nil))
	return zone, log
}

func TestKeysAreRotatedAndRevokedOverTheSocket(t *testing.T) {
	r := newRelay(t, keyRegistry)
	zone, log := r.withKeys(t)
	var dry, rotated, revoked KeyChange
	if code := r.call(t, "POST", "/api/v1/keys/acme/acme.test/rotate", `{"dry_run":true}`, &dry); code != http.StatusOK {
		t.Fatalf("rotate answers %d", code)
	}
	if !dry.DryRun || dry.Made[0].RecordName != "an2._domainkey.acme.test" || dry.Made[0].ZoneLine != "" {
		t.Errorf("a dry run: %+v", dry)
	}
	r.call(t, "POST", "/api/v1/keys/acme/acme.test/rotate", `{"algorithm":"ed25519","retire_after_seconds":864000}`, &rotated)
	made := rotated.Made[0]
	if made.Selector != "an2" || made.Stage != signing.StageAdded || rotated.Replaced[0].Selector != "an1" || rotated.Replaced[0].Successor != "an2" {
		t.Errorf("rotated: %+v", rotated)
	}
	if want := `{ selector = "an2", algorithm = "ed25519" }`; !slices.Contains(rotated.RegistryLines, want) || !strings.HasPrefix(made.ZoneLine, `an2._domainkey.acme.test. IN TXT ( "v=DKIM1; k=ed25519; p=`) {
		t.Errorf("it says %q and %s", rotated.RegistryLines, made.ZoneLine)
	}
	if !strings.Contains(strings.Join(rotated.Notes, "\n"), "for 10 days") {
		t.Errorf("it says %q", rotated.Notes)
	}
	var shown KeyRecord
	if r.call(t, "GET", "/api/v1/keys/acme/acme.test/an2", "", &shown); shown.RecordValue != made.RecordValue || shown.ManagedBy != signing.ByCommand {
		t.Errorf("shown: %+v", shown)
	}
	r.call(t, "POST", "/api/v1/keys/acme/acme.test/revoke", `{"selector":"an1"}`, &revoked)
	if want := `an1._domainkey.acme.test. IN TXT ( "v=DKIM1; k=ed25519; p=" )`; revoked.Revoked[0].ZoneLine != want {
		t.Errorf("to be published: %s, want %s", revoked.Revoked[0].ZoneLine, want)
	}
	zone.SetTXT(revoked.Revoked[0].RecordName, revoked.Revoked[0].RecordValue)
	var list KeyList
	if r.call(t, "GET", "/api/v1/keys?org=acme", "", &list); len(list.Keys) != 2 || list.Keys[0].Stage != signing.StageRevoked || !strings.Contains(list.Keys[0].Detail, "DNS says so") {
		t.Errorf("the list is %+v", list.Keys)
	}
	var status Status
	if r.call(t, "GET", "/api/v1/status", "", &status); len(status.Organisations[0].Domains[0].Keys) != 1 || status.Organisations[0].Domains[0].Keys[0].Selector != "an2" {
		t.Errorf("status has the keys %+v", status.Organisations[0].Domains[0].Keys)
	}
	if got := log.String(); strings.Count(got, "key changed") != 2 || strings.Contains(got, "PRIVATE") || !strings.Contains(got, "verb=revoke org=acme record=an1._domainkey.acme.test") {
		t.Errorf("the log has:\n%s", got)
	}
}

func TestKeyIsAddedOverTheSocket(t *testing.T) {
	r := newRelay(t, keyRegistry)
	r.withKeys(t)
	var added KeyChange
	r.call(t, "POST", "/api/v1/keys/acme/acme.test/add", `{"selector":"x1","algorithm":"ed25519"}`, &added)
	if len(added.Made) != 1 || added.Made[0].Algorithm != string(org.Ed25519) || len(added.Replaced)+len(added.Revoked) != 0 || added.Replaced == nil {
		t.Errorf("added: %+v", added)
	}
}

func TestOrdersForKeysThatFailAreToldApart(t *testing.T) {
	r := newRelay(t, keyRegistry)
	r.withKeys(t)
	for _, c := range []struct {
		path, body string
		code       Code
	}{
		{"nobody/acme.test/add", `{}`, CodeNotFound},
		{"acme/other.test/add", `{}`, CodeNotFound},
		{"acme/a..b/add", `{}`, CodeBadRequest},
		{"acme/acme.test/burn", `{}`, CodeBadRequest},
		{"acme/acme.test/add", `{}`, CodeBadRequest},
		{"acme/acme.test/add", `{"algorithm":"ed25519","selector":"An"}`, CodeBadRequest},
		{"acme/acme.test/add", `{"algorithm":"ed25519","selector":"an1"}`, CodeConflict},
		{"acme/acme.test/add", `{"algorithm":"ed25519","private":"x"}`, CodeBadRequest},
		{"acme/acme.test/rotate", `{"retire_after_seconds":60}`, CodeBadRequest},
		{"acme/acme.test/rotate", `{"retire_after_seconds":-1}`, CodeBadRequest},
		{"acme/acme.test/rotate", `{"retire_after_seconds":9223372036854775807}`, CodeBadRequest},
		{"acme/acme.test/rotate", `{"algorithm":"rsa-2048"}`, CodeConflict},
		{"acme/acme.test/revoke", `{}`, CodeBadRequest},
		{"acme/acme.test/revoke", `{"selector":"gone"}`, CodeNotFound},
	} {
		if p := r.refused(t, "POST", "/api/v1/keys/"+c.path, c.body); p.Code != c.code {
			t.Errorf("%s %s is %s (%s), want %s", c.path, c.body, p.Code, p.Detail, c.code)
		}
	}
}
