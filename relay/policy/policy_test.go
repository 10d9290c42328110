package policy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
)

const (
	tenant   = "11111111-1111-4111-8111-111111111111"
	argon2id = "$argon2id$v=19$m=19456,t=2,p=1$YW5lY2hvaWMtZXhhbXBsZQ$1OJqZUIhW7UOgfaqZcoK7kiXoCQU+vMChLuX+iMBvtE"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// registryOf is the registry of these tests.
func registryOf(t testing.TB, digest [32]byte) string {
	t.Helper()
	return fmt.Sprintf(`
[[organisation]]
id = "acme"
name = "Acme"
security_contact = "security@acme.test"
  [[organisation.domain]]
  name = "acme.test"
  dkim = [{ selector = "an1", algorithm = "ed25519" }]
  [[organisation.domain]]
  name = "wide.test"
  subdomains = true
  dkim = [{ selector = "an1", algorithm = "ed25519" }]
  [[organisation.source]]
  id = "m365"
  kind = "microsoft365"
  tenant_ids = ["%s", "22222222-2222-4222-8222-222222222222"]
  originator_orgs = ["acme.test"]
  provider_domains = ["acme.onmicrosoft.com"]
  secret_header = { name = "X-Acme-Relay-Key", sha256 = ["%x"] }
  [[organisation.source]]
  id = "app"
  kind = "credential"
  role = "application"
  username = "app@acme"
  password = { argon2id = "%s" }
  from = ["billing@acme.test", "*@wide.test"]
[[organisation]]
id = "globex"
name = "Globex"
security_contact = "security@globex.test"
  [[organisation.domain]]
  name = "globex.test"
  dkim = [{ selector = "an1", algorithm = "ed25519" }]
`, tenant, digest, argon2id)
}

// directory builds the registry, with some texts taken out of it.
func directory(t testing.TB, secret string, without ...string) *org.Directory {
	t.Helper()
	digest, ok := org.HashSecret(secret)
	if !ok {
		t.Fatal("no secret")
	}
	text := registryOf(t, digest)
	for _, gone := range without {
		if !strings.Contains(text, gone) {
			t.Fatalf("%q is not in the registry", gone)
		}
		text = strings.Replace(text, gone, "", 1)
	}
	return build(t, text)
}

func build(t testing.TB, text string) *org.Directory {
	t.Helper()
	registry, problems := org.ParseRegistry("registry.toml", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	providers := org.Providers{Microsoft365: org.Provider{Ranges: []netip.Prefix{netip.MustParsePrefix("40.107.0.0/16")}}}
	dir, problems, _ := org.Build(registry, providers, nil, 1, now)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return dir
}

// proofs makes the two proofs of acme as attribution does.
func proofs(t testing.TB, dir *org.Directory, secret string) (byTenant, byCredential attribution.Proof) {
	t.Helper()
	text := strings.Join([]string{
		"X-OriginatorOrg: acme.test", "X-MS-Exchange-CrossTenant-Id: " + tenant, "X-MS-Exchange-CrossTenant-AuthAs: Internal",
		"X-MS-Exchange-CrossTenant-FromEntityHeader: Hosted", "X-Acme-Relay-Key: " + secret, "",
	}, "\r\n")
	h, err := mail.ParseHeader([]byte(text), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	byTenant, refusal := attribution.Attribute(dir, &attribution.Evidence{
		Peer: netip.MustParseAddr("40.107.1.2"), TLS: true, PeerName: attribution.PeerNameConfirmed, Header: attribution.ReadHeader(dir, h),
	}, now)
	if refusal != nil {
		t.Fatal(refusal)
	}
	byCredential, refusal = attribution.Attribute(dir, &attribution.Evidence{Peer: netip.MustParseAddr("192.0.2.1"), TLS: true, Username: "app@acme"}, now)
	if refusal != nil {
		t.Fatal(refusal)
	}
	return byTenant, byCredential
}

func address(s string) mail.Address {
	if s == "" {
		return mail.Address{}
	}
	a, err := mail.ParseAddress(s)
	if err != nil {
		panic(err)
	}
	return a
}

func verified(*org.Domain, mail.Domain) org.Standing { return org.Verified }

func TestWhoMaySendAsWhom(t *testing.T) {
	secret := org.NewSecret()
	dir := directory(t, secret)
	byTenant, byCredential := proofs(t, dir, secret)
	for name, c := range map[string]struct {
		proof              attribution.Proof
		from, mailFrom     string
		sender, resentFrom string
		resentSender       string
		report             bool
		want               *mail.Refusal
		signAs             string
	}{
		"the organisation's domain":                 {proof: byTenant, from: "a@acme.test", mailFrom: "a@acme.test", signAs: "acme.test"},
		"another of its domains in MAIL FROM":       {proof: byTenant, from: "a@acme.test", mailFrom: "b@wide.test", signAs: "acme.test"},
		"the provider domain, unsigned":             {proof: byTenant, from: "a@acme.onmicrosoft.com", mailFrom: "a@acme.onmicrosoft.com"},
		"another customer's domain":                 {proof: byTenant, from: "a@globex.test", mailFrom: "a@acme.test", want: mail.FromNotOwned},
		"nobody's domain":                           {proof: byTenant, from: "a@example.com", mailFrom: "a@acme.test", want: mail.FromNotOwned},
		"a domain that ends alike":                  {proof: byTenant, from: "a@evilacme.test", mailFrom: "a@acme.test", want: mail.FromNotOwned},
		"a domain that begins alike":                {proof: byTenant, from: "a@acme.test.evil.com", mailFrom: "a@acme.test", want: mail.FromNotOwned},
		"a sub-domain that is not covered":          {proof: byTenant, from: "a@x.acme.test", mailFrom: "a@acme.test", want: mail.FromNotOwned},
		"a sub-domain that is covered":              {proof: byTenant, from: "a@x.wide.test", mailFrom: "a@acme.test", signAs: "wide.test"},
		"a look-alike in another script":            {proof: byTenant, from: "a@xn--cme-5cd.test", mailFrom: "a@acme.test", want: mail.FromNotOwned},
		"a provider domain of somebody else":        {proof: byTenant, from: "a@evil.onmicrosoft.com", mailFrom: "a@acme.test", want: mail.FromNotOwned},
		"a foreign MAIL FROM":                       {proof: byTenant, from: "a@acme.test", mailFrom: "b@other.example", want: mail.SenderNotOwned},
		"another customer's MAIL FROM":              {proof: byTenant, from: "a@acme.test", mailFrom: "b@globex.test", want: mail.SenderNotOwned},
		"a foreign Sender":                          {proof: byTenant, from: "a@acme.test", mailFrom: "a@acme.test", sender: "ceo@globex.test", want: mail.SenderNotOwned},
		"a foreign Resent-From":                     {proof: byTenant, from: "a@acme.test", mailFrom: "a@acme.test", resentFrom: "ceo@globex.test", want: mail.SenderNotOwned},
		"a foreign Resent-Sender":                   {proof: byTenant, from: "a@acme.test", mailFrom: "a@acme.test", resentSender: "ceo@globex.test", want: mail.SenderNotOwned},
		"an own Sender":                             {proof: byTenant, from: "a@acme.test", mailFrom: "a@acme.test", sender: "b@acme.test", signAs: "acme.test"},
		"the null sender with a report":             {proof: byTenant, from: "a@acme.test", report: true, signAs: "acme.test"},
		"the null sender without":                   {proof: byTenant, from: "a@acme.test", want: mail.NullSender},
		"no From":                                   {proof: byTenant, mailFrom: "a@acme.test", want: mail.FromNotSingle},
		"a credential's own address":                {proof: byCredential, from: "billing@acme.test", mailFrom: "billing@acme.test", signAs: "acme.test"},
		"a credential's whole domain":               {proof: byCredential, from: "x@wide.test", mailFrom: "billing@acme.test", signAs: "wide.test"},
		"another address of the same organisation":  {proof: byCredential, from: "ceo@acme.test", mailFrom: "billing@acme.test", want: mail.SourceNotAllowed},
		"another MAIL FROM of the same":             {proof: byCredential, from: "billing@acme.test", mailFrom: "ceo@acme.test", want: mail.SourceNotAllowed},
		"another Sender of the same":                {proof: byCredential, from: "billing@acme.test", mailFrom: "billing@acme.test", sender: "ceo@acme.test", want: mail.SourceNotAllowed},
		"a credential and another customer's From":  {proof: byCredential, from: "billing@globex.test", mailFrom: "billing@acme.test", want: mail.FromNotOwned},
		"no proof at all":                           {from: "a@acme.test", mailFrom: "a@acme.test", want: mail.RelayDenied},
		"a provider domain through a credential":    {proof: byCredential, from: "billing@acme.onmicrosoft.com", mailFrom: "billing@acme.test", want: mail.FromNotOwned},
		"another customer's domain in a quoted way": {proof: byTenant, from: `"a@acme.test"@globex.test`, mailFrom: "a@acme.test", want: mail.FromNotOwned},
	} {
		t.Run(name, func(t *testing.T) {
			m := &Message{MailFrom: address(c.mailFrom), Report: c.report}
			m.Originators.From.Address = address(c.from)
			for _, o := range []struct {
				text string
				list *[]mail.Address
			}{{c.sender, &m.Originators.Sender}, {c.resentFrom, &m.Originators.ResentFrom}, {c.resentSender, &m.Originators.ResentSender}} {
				if o.text != "" {
					*o.list = []mail.Address{address(o.text)}
				}
			}
			warrant, refusal := Permit(dir, c.proof, m, verified)
			if (refusal == nil) == warrant.IsZero() {
				t.Fatalf("warrant %v with refusal %v: exactly one must be there", warrant, refusal)
			}
			if c.want != nil && (refusal == nil || refusal.Reason() != c.want.Reason() || refusal.Code() != c.want.Code()) {
				t.Fatalf("got %v, want %v", refusal, c.want)
			}
			if c.want == nil && (refusal != nil || warrant.SignAs().String() != c.signAs) {
				t.Fatalf("signs as %q with %v, want %q", warrant.SignAs(), refusal, c.signAs)
			}
		})
	}
}

// forwardedProof is a proof of acme for a message its tenant only forwarded.
func forwardedProof(t *testing.T, dir *org.Directory, secret string) attribution.Proof {
	t.Helper()
	text := strings.Join([]string{
		"X-OriginatorOrg: acme.test", "X-MS-Exchange-CrossTenant-Id: " + tenant, "X-MS-Exchange-CrossTenant-AuthAs: Anonymous",
		"X-MS-Exchange-CrossTenant-FromEntityHeader: Internet", "X-Acme-Relay-Key: " + secret, "",
	}, "\r\n")
	h, err := mail.ParseHeader([]byte(text), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	proof, refusal := attribution.Attribute(dir, &attribution.Evidence{
		Peer: netip.MustParseAddr("40.107.1.2"), TLS: true, PeerName: attribution.PeerNameConfirmed, Header: attribution.ReadHeader(dir, h),
	}, now)
	if refusal != nil || proof.Origin() != attribution.Forwarded {
		t.Fatal(proof, refusal)
	}
	return proof
}

func TestForwardedMailIsNeverSentAndHeldOnlyIfForeign(t *testing.T) {
	secret := org.NewSecret()
	for _, c := range []struct {
		forwarded, from string
		detained        bool
	}{
		{"", "friend@gmail.example", false},
		{"reject", "friend@gmail.example", false},
		{"hold", "friend@gmail.example", true},
		{"seal", "friend@gmail.example", true},
		{"hold", "ceo@acme.test", false},
		{"hold", "ceo@globex.test", false},
		{"seal", "x@sub.wide.test", false},
		{"hold", "", false},
	} {
		pairs := []string{`kind = "microsoft365"`, `kind = "microsoft365"` + "\n  forwarded = \"" + c.forwarded + `"`}
		if c.forwarded == "" {
			pairs = []string{`name = "Acme"`, `name = "Acme Corporation"`}
		}
		dir := rename(t, secret, pairs...)
		proof := forwardedProof(t, dir, secret)
		m := &Message{MailFrom: address("bounce@acme.test")}
		m.Originators.From.Address = address(c.from)
		if warrant, refusal := Permit(dir, proof, m, verified); refusal == nil || refusal.Reason() != mail.ReasonForwardedMail || !warrant.IsZero() {
			t.Errorf("%+v: permitted, or refused with %v", c, refusal)
		}
		if got := Detains(dir, proof, m.Originators); got != c.detained {
			t.Errorf("%+v: detained: %t", c, got)
		}
	}
}

func TestEveryDomainMustStandInDNS(t *testing.T) {
	secret := org.NewSecret()
	dir := directory(t, secret)
	byTenant, _ := proofs(t, dir, secret)
	m := &Message{MailFrom: address("a@wide.test")}
	m.Originators.From.Address = address("a@acme.test")
	for name, c := range map[string]struct {
		acme, wide org.Standing
		want       *mail.Refusal
	}{
		"both stand":                {org.Verified, org.Verified, nil},
		"From does not":             {org.Unverified, org.Verified, mail.DomainUnverified},
		"MAIL FROM does not":        {org.Verified, org.Unverified, mail.DomainUnverified},
		"From is not known":         {org.LookupFailed, org.Verified, mail.LookupFailed},
		"From was never asked":      {org.Unknown, org.Verified, mail.LookupFailed},
		"MAIL FROM was never asked": {org.Verified, org.Unknown, mail.LookupFailed},
	} {
		t.Run(name, func(t *testing.T) {
			standing := func(d *org.Domain, _ mail.Domain) org.Standing {
				if d.Name.String() == "acme.test" {
					return c.acme
				}
				return c.wide
			}
			warrant, refusal := Permit(dir, byTenant, m, standing)
			if c.want == nil {
				if refusal != nil {
					t.Fatal(refusal)
				}
				return
			}
			if refusal == nil || refusal.Reason() != c.want.Reason() || refusal.Temporary() != c.want.Temporary() || !warrant.IsZero() {
				t.Fatalf("got %v, want %v", refusal, c.want)
			}
		})
	}
}

// TestRevocationIsNeverSurvived asks again with a Directory from which one thing
// is gone: a proof made before is worth nothing then.
func TestRevocationIsNeverSurvived(t *testing.T) {
	secret := org.NewSecret()
	before := directory(t, secret)
	byTenant, byCredential := proofs(t, before, secret)
	m := &Message{MailFrom: address("billing@acme.test")}
	m.Originators.From.Address = address("billing@acme.test")
	for name, c := range map[string]struct {
		proof attribution.Proof
		gone  string
	}{
		"the tenant":         {byTenant, `"` + tenant + `", `},
		"the tenant's name":  {byTenant, "m365"}, // the source has another id: it is another source
		"the user name":      {byCredential, "app@"},
		"what it may send":   {byCredential, `"billing@acme.test", `},
		"the organisation":   {byTenant, "acme"},
		"the domain, moved":  {byTenant, "  [[organisation.domain]]\n  name = \"acme.test\"\n  dkim = [{ selector = \"an1\", algorithm = \"ed25519\" }]\n"},
		"the same, for apps": {byCredential, "acme"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, refusal := Permit(before, c.proof, m, verified); refusal != nil {
				t.Fatalf("before: %v", refusal)
			}
			after := revoked(t, secret, c.gone)
			if warrant, refusal := Permit(after, c.proof, m, verified); refusal == nil || !warrant.IsZero() || refusal.Temporary() {
				t.Fatalf("after %q is gone: %v", c.gone, refusal)
			}
		})
	}
}

// What the second proof was must still be the source's; what was not it may go.
func TestASecondProofThatIsGoneIsNotSurvived(t *testing.T) {
	secret, next := org.NewSecret(), org.NewSecret()
	digest, _ := org.HashSecret(secret)
	another, _ := org.HashSecret(next)
	quoted := func(d [32]byte) string { return fmt.Sprintf(`"%x"`, d) }
	before := directory(t, secret)
	byTenant, byCredential := proofs(t, before, secret)
	for name, c := range map[string]struct {
		proof   attribution.Proof
		replace []string
		allowed bool
	}{
		"another secret":                              {byTenant, []string{quoted(digest), quoted(another)}, false},
		"the secret rotates":                          {byTenant, []string{quoted(digest), quoted(another) + ", " + quoted(digest)}, true},
		"a signature instead of the secret":           {byTenant, []string{`secret_header = { name = "X-Acme-Relay-Key", sha256 = [` + quoted(digest) + `] }`, "require_dkim = true"}, false},
		"the header has another name":                 {byTenant, []string{"X-Acme-Relay-Key", "X-Acme-Mail-Key"}, true},
		"a secret that was not asked for then":        {byCredential, []string{`from = ["billing@acme.test", "*@wide.test"]`, `from = ["billing@acme.test", "*@wide.test"]` + "\nsecret_header = { name = \"X-Acme-App-Key\", sha256 = [" + quoted(another) + "] }"}, true},
		"a proof of a version that did not say which": {withoutSecond(t, byTenant), []string{`name = "Acme"`, `name = "Acme Corporation"`}, false},
	} {
		m := &Message{MailFrom: address("billing@acme.test")}
		m.Originators.From.Address = address("billing@acme.test")
		_, refusal := Permit(rename(t, secret, c.replace...), c.proof, m, verified)
		if (refusal == nil) != c.allowed || refusal != nil && refusal.Reason() != mail.ReasonRelayDenied {
			t.Errorf("%s: %v", name, refusal)
		}
	}
}

// withoutSecond is a proof as versions wrote it that did not record the secret and
// the signature.
func withoutSecond(t *testing.T, p attribution.Proof) attribution.Proof {
	t.Helper()
	key := []byte("a key of this test")
	sealed, err := attribution.Seal(key, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`,"(secret|signer|selector)":"[^"]*"`).ReplaceAll(sealed[sha256.Size:], nil)
	h := hmac.New(sha256.New, key)
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(text))))
	h.Write(text)
	old, err := attribution.Open(key, append(h.Sum(nil), text...), nil)
	if err != nil || old.Methods() != p.Methods() || old.Secret() != (attribution.Digest{}) {
		t.Fatalf("%+v, %v", old, err)
	}
	return old
}

// revoked is the Directory after something is gone. What a text edit makes of the
// registry must load, or the test would prove nothing.
func revoked(t *testing.T, secret, gone string) *org.Directory {
	t.Helper()
	switch gone {
	case "m365":
		return rename(t, secret, `id = "m365"`, `id = "other"`)
	case "app@":
		return rename(t, secret, `"app@acme"`, `"other@acme"`)
	case "acme":
		return rename(t, secret, `id = "acme"`, `id = "acme-two"`)
	}
	if strings.Contains(gone, "organisation.domain") {
		return rename(t, secret, `name = "acme.test"`, `name = "acme-gone.test"`, `"billing@acme.test", `, ``, `["acme.test"]`, `["acme-gone.test"]`)
	}
	return directory(t, secret, gone)
}

func rename(t *testing.T, secret string, pairs ...string) *org.Directory {
	t.Helper()
	digest, _ := org.HashSecret(secret)
	text := registryOf(t, digest)
	changed := strings.NewReplacer(pairs...).Replace(text)
	if changed == text {
		t.Fatalf("%q is not in the registry", pairs)
	}
	return build(t, changed)
}

func BenchmarkPermit(b *testing.B) {
	secret := org.NewSecret()
	dir := directory(b, secret)
	byTenant, _ := proofs(b, dir, secret)
	m := &Message{MailFrom: address("a@acme.test")}
	m.Originators.From.Address = address("a@acme.test")
	b.ReportAllocs()
	for b.Loop() {
		if _, refusal := Permit(dir, byTenant, m, verified); refusal != nil {
			b.Fatal(refusal)
		}
	}
}
