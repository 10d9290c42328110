package interop

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"encoding/hex"
	"net"
	"net/netip"
	"net/smtp"
	"regexp"
	"strings"
	"testing"
	"time"

	"anechoic/lab"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/standard/dkim"
)

var secretHash = regexp.MustCompile(`sha256( *)= \["[0-9a-f]{64}"\]`)

// withSecrets puts hashes of known secrets in the place of a registry's, in order.
func withSecrets(t *testing.T, registry string, secrets ...string) string {
	t.Helper()
	return secretHash.ReplaceAllStringFunc(registry, func(line string) string {
		hash, ok := org.HashSecret(secrets[0])
		if !ok {
			t.Fatalf("%s is no secret", secrets[0])
		}
		if len(secrets) > 1 {
			secrets = secrets[1:]
		}
		name, _, _ := strings.Cut(line, "=")
		return name + `= ["` + hex.EncodeToString(hash[:]) + `"]`
	})
}

// hand gives the relay a message as a server at an address does, and returns its
// first refusal.
func (g *ground) hand(t *testing.T, from netip.Addr, secure bool, sender string, data []byte) error {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
	conn, err := dialer.Dial("tcp", g.app.Ready().SMTP[0])
	if err != nil {
		t.Fatal(err)
	}
	c, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if secure {
		if err := c.StartTLS(&tls.Config{ServerName: "localhost", RootCAs: g.roots(t)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Mail(sender); err != nil {
		return err
	}
	if err := c.Rcpt("bob@mailbox.example"); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	return w.Close()
}

func refusedWith(err error, reason string) bool {
	return err != nil && strings.Contains(err.Error(), "["+reason+" id=")
}

// office is the tenant of the guide.
func office(host netip.Addr, secret string) lab.Tenant {
	return lab.Tenant{GUID: "11111111-1111-4111-8111-111111111111", Originator: "acme.example", Host: host, SecretName: "X-Acme-Relay-Key", Secret: secret}
}

const microsoftConfig = "[providers.microsoft365]\nranges = [\"127.40.0.0/16\"]\n"

// TestTheMicrosoft365Page: with the page's registry the mail of the guide's tenant
// is signed, and each mistake the page tells of has the reason it names.
func TestTheMicrosoft365Page(t *testing.T) {
	page := readGuide(t, "microsoft365.md")
	secret := org.NewSecret()
	g := layGround(t, withSecrets(t, page.block(t, "toml registry", 0), secret), "", microsoftConfig)
	host, elsewhere := g.internet.ProviderHost(), netip.MustParseAddr("127.0.0.9")
	right := office(host, secret)
	draft := func(extra ...string) lab.Draft {
		return lab.Draft{From: sender, To: "bob@mailbox.example", Subject: "as the guide says", MessageID: "<office@acme.example>", Extra: extra, Body: "Hello\r\n"}
	}
	if err := g.hand(t, host, true, sender, right.Stamp(lab.Cloud, draft(), elsewhere)); err != nil {
		t.Fatalf("the tenant's own mail is refused: %v", err)
	}
	if j := g.await(t, "<office@acme.example>"); len(j.Leaked) > 0 || strings.Contains(string(j.Data), secret) {
		t.Errorf("it leaves with %v:\n%s", j.Leaked, j.Data)
	}

	stranger, renamed, ruleless := right, right, right
	stranger.GUID, stranger.Originator = "99999999-9999-4999-8999-999999999999", "evil.onmicrosoft.com"
	renamed.Originator = "acme-sales.example"
	ruleless.SecretName = ""
	keyLine := "X-Acme-Relay-Key: " + secret
	for _, c := range []struct {
		reason string
		from   netip.Addr
		secure bool
		data   []byte
	}{
		{"TLS_REQUIRED", host, false, right.Stamp(lab.Cloud, draft(), elsewhere)},
		{"RELAY_DENIED", elsewhere, true, right.Stamp(lab.Cloud, draft(), elsewhere)},
		{"PEER_NOT_EOP", netip.MustParseAddr("127.40.9.9"), true, right.Stamp(lab.Cloud, draft(), elsewhere)},
		{"ATTRIBUTION_MISSING", host, true, draft(keyLine).Plain()},
		{"ATTRIBUTION_AMBIGUOUS", host, true, right.Stamp(lab.Cloud, draft("X-OriginatorOrg: acme.example"), elsewhere)},
		{"TENANT_NOT_AUTHORIZED", host, true, stranger.Stamp(lab.Cloud, draft(), elsewhere)},
		{"ATTRIBUTION_CONFLICT", host, true, renamed.Stamp(lab.Cloud, draft(), elsewhere)},
		{"SECOND_PROOF_MISSING", host, true, ruleless.Stamp(lab.Cloud, draft(), elsewhere)},
		{"FORWARDED_MAIL", host, true, ruleless.Stamp(lab.Forward, draft(keyLine), elsewhere)},
		{"HYBRID_SOURCE_UNKNOWN", host, true, right.Stamp(lab.Hybrid, draft(), elsewhere)},
	} {
		t.Run(c.reason, func(t *testing.T) {
			err := g.hand(t, c.from, c.secure, sender, c.data)
			if !refusedWith(err, c.reason) {
				t.Errorf("it is told: %v", err)
			}
			page.tells(t, "["+c.reason+"]")
		})
	}
}

// TestSeveralTenantsOfTheMicrosoft365Page: each tenant's secret opens its own door
// only.
func TestSeveralTenantsOfTheMicrosoft365Page(t *testing.T) {
	page := readGuide(t, "microsoft365.md")
	first, second := org.NewSecret(), org.NewSecret()
	g := layGround(t, withSecrets(t, page.block(t, "toml registry", 1), first, second), "", microsoftConfig)
	host, elsewhere := g.internet.ProviderHost(), netip.MustParseAddr("127.0.0.9")
	bought := lab.Tenant{GUID: "22222222-2222-4222-8222-222222222222", Originator: "bought.onmicrosoft.com", Host: host, SecretName: "X-Bought-Relay-Key", Secret: second}
	for id, tenant := range map[string]lab.Tenant{"<first@acme.example>": office(host, first), "<second@acme.example>": bought} {
		draft := lab.Draft{From: sender, To: "bob@mailbox.example", Subject: "x", MessageID: id, Body: "Hello\r\n"}
		if err := g.hand(t, host, true, sender, tenant.Stamp(lab.Cloud, draft, elsewhere)); err != nil {
			t.Errorf("%s is refused: %v", id, err)
			continue
		}
		g.await(t, id)
	}
	bought.SecretName, bought.Secret = "X-Acme-Relay-Key", first
	draft := lab.Draft{From: sender, To: "bob@mailbox.example", Subject: "x", MessageID: "<leaked@acme.example>", Body: "Hello\r\n"}
	if err := g.hand(t, host, true, sender, bought.Stamp(lab.Cloud, draft, elsewhere)); err == nil {
		t.Error("the first tenant's secret opens the second's door")
	}
}

// TestTheGooglePage: the same for a workspace, whose second proof is its own
// signature.
func TestTheGooglePage(t *testing.T) {
	page := readGuide(t, "google.md")
	secret := org.NewSecret()
	g := layGround(t, withSecrets(t, page.block(t, "toml registry", 0), secret), "", "[providers.google]\nranges = [\"127.42.0.0/16\"]\n")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	domain, err := mail.ParseDomain(domainName)
	if err != nil {
		t.Fatal(err)
	}
	g.internet.Publish(dkim.KeyName("google", domain), dkim.RecordValue(key.Public()))
	host := netip.MustParseAddr("127.42.0.1")
	letter := func(signed bool, extra ...string) []byte {
		data := lab.Draft{From: sender, To: "bob@mailbox.example", Subject: "as the guide says", MessageID: "<workspace@acme.example>", Extra: extra, Body: "Hello\r\n"}.Plain()
		if signed {
			data = append(signature(t, data, dkim.Signer{Domain: domain, Selector: "google", Key: key}), data...)
		}
		return data
	}
	keyLine := "X-Acme-Relay-Key: " + secret
	if err := g.hand(t, host, true, sender, letter(true, keyLine)); err != nil {
		t.Fatalf("the workspace's own mail is refused: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if j, err := g.receiver.Await(ctx, "<workspace@acme.example>"); err != nil || !j.Aligned || len(j.SignedBy) != 3 || strings.Contains(string(j.Data), secret) {
		t.Errorf("%v; signed by %v, DMARC passes: %v\n%s", err, j.SignedBy, j.Aligned, j.Data)
	}
	for _, c := range []struct {
		reason string
		from   netip.Addr
		secure bool
		data   []byte
	}{
		{"TLS_REQUIRED", host, false, letter(true, keyLine)},
		{"RELAY_DENIED", netip.MustParseAddr("127.0.0.9"), true, letter(true, keyLine)},
		{"SECOND_PROOF_MISSING", host, true, letter(true)},
		{"SECOND_PROOF_MISSING", host, true, letter(false, keyLine)},
		{"FORWARDED_MAIL", host, true, letter(true, keyLine, "X-Forwarded-To: bob@mailbox.example")},
	} {
		t.Run(c.reason, func(t *testing.T) {
			if err := g.hand(t, c.from, c.secure, sender, c.data); !refusedWith(err, c.reason) {
				t.Errorf("it is told: %v", err)
			}
			page.tells(t, "["+c.reason+"]")
		})
	}
}

// signature is a DKIM field for a message.
func signature(t *testing.T, data []byte, by dkim.Signer) []byte {
	t.Helper()
	head, body, _ := strings.Cut(string(data), "\r\n\r\n")
	header, err := mail.ParseHeader([]byte(head+"\r\n"), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	hasher := dkim.NewBodyHasher(header)
	if _, err := hasher.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	fields, err := dkim.Sign(header, hasher.Sum(), []dkim.Signer{by}, time.Now(), 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return fields[0].Raw()
}
