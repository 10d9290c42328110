// Package orgtest writes registries of any number of organisations, for tests and
// benchmarks of what must stay fast when there are many.
//
// The same number always gives the same text. Every organisation has its domains
// with a key each, a credential, and one more source: a tenant, a Workspace, a
// client certificate, or a server's address, in turn. Nothing in it is anybody's:
// the names are below .test (RFC 6761), the addresses in 198.18.0.0/15 and above,
// outside of every provider's range.
package orgtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"

	"anechoic/org"
)

// DomainsEach is how many domains an organisation has.
const DomainsEach = 10

// password is an argon2id hash as the relay makes them, of no password anybody
// uses.
const password = "$argon2id$v=19$m=19456,t=2,p=1$YW5lY2hvaWMtZXhhbXBsZQ$1OJqZUIhW7UOgfaqZcoK7kiXoCQU+vMChLuX+iMBvtE"

// Registry is the text of a registry of n organisations, numbered from 0.
func Registry(n int) []byte {
	text := make([]byte, 0, n*2200)
	for i := range n {
		text = appendOrganisation(text, i)
	}
	return text
}

// Providers are the ranges a Directory of Registry's text is built with.
func Providers() org.Providers {
	return org.Providers{
		Microsoft365: org.Provider{Ranges: []netip.Prefix{netip.MustParsePrefix("40.92.0.0/15"), netip.MustParsePrefix("40.107.0.0/16")}},
		Google:       org.Provider{Ranges: []netip.Prefix{netip.MustParsePrefix("209.85.128.0/17")}},
	}
}

// The identifiers of organisation i; its domains count from 0.
func ID(i int) org.ID             { return org.ID(fmt.Sprintf("o%06d", i)) }
func Domain(i, domain int) string { return fmt.Sprintf("d%d.o%06d.test", domain, i) }
func Tenant(i int) string         { return fmt.Sprintf("11111111-1111-4111-8111-%012x", i) }
func Username(i int) string       { return fmt.Sprintf("app@o%06d", i) }
func SecretName(i int) string     { return fmt.Sprintf("X-O%06d-Relay-Key", i) }
func Address(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, byte(18 + i>>16), byte(i >> 8), byte(i)})
}
func SecretDigest(i int) [32]byte { return sha256.Sum256(fmt.Appendf(nil, "secret %d", i)) }
func clientKeyDigest(i int) string {
	d := sha256.Sum256(fmt.Appendf(nil, "key %d", i))
	return hex.EncodeToString(d[:])
}

// The kind of an organisation's second source, by its number modulo their count.
const (
	withTenant = iota
	withWorkspace
	withCertificate
	withAddress
	kinds
)

// HasTenant says that organisation i has a microsoft365 source.
func HasTenant(i int) bool { return i%kinds == withTenant }

func appendOrganisation(text []byte, i int) []byte {
	text = fmt.Appendf(text, "[[organisation]]\nid = %q\nname = \"Organisation %d\"\nsecurity_contact = \"security@%s\"\n\n", ID(i), i, Domain(i, 0))
	for d := range DomainsEach {
		text = fmt.Appendf(text, "  [[organisation.domain]]\n  name = %q\n  dkim = [ { selector = \"an1\", algorithm = \"ed25519\" } ]\n\n", Domain(i, d))
	}
	text = fmt.Appendf(text, "  [[organisation.source]]\n  id = \"app\"\n  kind = \"credential\"\n  username = %q\n  password = { argon2id = %q }\n  from = [\"*@%s\", \"billing@%s\"]\n  limits = { messages_per_hour = 2000, recipients_per_day = 10000 }\n\n",
		Username(i), password, Domain(i, 0), Domain(i, 1))
	secret := SecretDigest(i)
	header := fmt.Sprintf("secret_header = { name = %q, sha256 = [%q] }", SecretName(i), hex.EncodeToString(secret[:]))
	text = append(text, "  [[organisation.source]]\n  id = \"main\"\n"...)
	switch i % kinds {
	case withTenant:
		text = fmt.Appendf(text, "  kind = \"microsoft365\"\n  tenant_ids = [%q]\n  originator_orgs = [%q, \"o%06d.onmicrosoft.com\"]\n  provider_domains = [\"o%06d.onmicrosoft.com\"]\n  %s\n\n", Tenant(i), Domain(i, 0), i, i, header)
	case withWorkspace:
		text = fmt.Appendf(text, "  kind = \"google\"\n  dkim = [ { domain = %q, selectors = [\"google\"] } ]\n  %s\n\n", Domain(i, 0), header)
	case withCertificate:
		text = fmt.Appendf(text, "  kind = \"certificate\"\n  spki_sha256 = [%q]\n  from = [\"*@%s\"]\n\n", clientKeyDigest(i), Domain(i, 0))
	case withAddress:
		text = fmt.Appendf(text, "  kind = \"address\"\n  role = \"server\"\n  internal = [\"10.0.0.0/8\"]\n  addresses = [\"%s/32\"]\n  from = [\"*@%s\"]\n\n", Address(i), Domain(i, 0))
	}
	return text
}
