package signing

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
	"anechoic/standard/dkim"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// rsaKey is one RSA key for all tests: making one takes long.
var rsaKey = sync.OnceValue(func() crypto.Signer {
	private, err := makeKey(org.RSA2048)
	if err != nil {
		panic(err)
	}
	return private
})

// rsaKeyFile writes that key as a registry's key file.
func rsaKeyFile(t testing.TB) string {
	t.Helper()
	content, err := encodePrivate(rsaKey())
	if err != nil {
		t.Fatal(err)
	}
	return keyFile(t, string(content))
}

func keyFile(t testing.TB, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// acme has an RSA key in a file and an Ed25519 key that is made; globex one that
// is made; initech has a domain without a key.
func acme(file string) org.OrganisationEntry {
	return organisation("acme", "acme.test",
		org.KeyEntry{Selector: "an1", Algorithm: "rsa-2048", KeyFile: file},
		org.KeyEntry{Selector: "an1e", Algorithm: "ed25519"})
}

func globex() org.OrganisationEntry {
	return organisation("globex", "globex.test", org.KeyEntry{Selector: "g1", Algorithm: "ed25519"})
}

func initech() org.OrganisationEntry { return organisation("initech", "initech.test") }

func organisation(id, name string, keys ...org.KeyEntry) org.OrganisationEntry {
	return org.OrganisationEntry{
		ID: id, Name: id, SecurityContact: "security@" + name,
		Domains: []org.DomainEntry{{Name: name, DKIM: keys}},
	}
}

func directory(t testing.TB, organisations ...org.OrganisationEntry) *org.Directory {
	t.Helper()
	dir, problems, _ := org.Build(org.Registry{Organisations: organisations}, org.Providers{}, nil, 1, noon)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return dir
}

func openKeys(t testing.TB, dataDir string) *LocalKeys {
	t.Helper()
	keys, err := OpenKeys(dataDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := keys.Close(); err != nil {
			t.Error(err)
		}
	})
	return keys
}

func prepare(t testing.TB, keys *LocalKeys, dir *org.Directory) *KeySet {
	t.Helper()
	set, problems := keys.Prepare(context.Background(), dir, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return set
}

// bench is a signer for acme, globex and initech, with DNS of its own.
type bench struct {
	*Signer
	keys *LocalKeys
	zone *dns.Zone
	dir  *org.Directory
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{keys: openKeys(t, t.TempDir()), zone: new(dns.Zone), dir: directory(t, acme(rsaKeyFile(t)), globex(), initech())}
	b.keys.Use(prepare(t, b.keys, b.dir))
	b.Signer = &Signer{Keys: b.keys, Resolver: b.zone}
	return b
}

var (
	acmeRSA   = KeyRef{"acme", domain("acme.test"), "an1", org.RSA2048}
	acmeEd    = KeyRef{"acme", domain("acme.test"), "an1e", org.Ed25519}
	globexKey = KeyRef{"globex", domain("globex.test"), "g1", org.Ed25519}
)

func domain(name string) mail.Domain {
	d, err := mail.ParseDomain(name)
	if err != nil {
		panic(err)
	}
	return d
}

// publish puts the right record for each key into DNS.
func (b *bench) publish(t testing.TB, refs ...KeyRef) {
	t.Helper()
	for _, ref := range refs {
		b.zone.SetTXT(ref.RecordName(), dkim.RecordValue(public(t, b.keys, ref)))
	}
}

func public(t testing.TB, keys Keys, ref KeyRef) crypto.PublicKey {
	t.Helper()
	key, err := keys.Public(ref)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// proven makes a warrant. Only Attribute makes proofs, and Open re-makes what
// Seal wrote; so the test writes what Seal would have written, with a key of its
// own: an HMAC over the content's length, the content and the context.
func proven(t testing.TB, of org.ID, signAs string) custody.Proven {
	t.Helper()
	key, purpose := []byte("test"), []byte("test")
	content := []byte(`{"org":"` + string(of) + `","source":"test","origin":"hosted"}`)
	h := hmac.New(sha256.New, key)
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(content))))
	h.Write(content)
	h.Write(purpose)
	proof, err := attribution.Open(key, append(h.Sum(nil), content...), purpose)
	if err != nil {
		t.Fatal(err)
	}
	var as mail.Domain
	if signAs != "" {
		as = domain(signAs)
	}
	w, err := custody.NewProven(proof, as)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// message is a header with that From and the hashes of a body.
func message(t testing.TB, from, body string) (mail.Header, dkim.BodyHashes) {
	t.Helper()
	header, err := mail.ParseHeader([]byte("From: "+from+"\r\nTo: you@there.test\r\nSubject: Hello\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n"), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	return header, bodyHashes(t, header, body)
}

func bodyHashes(t testing.TB, header mail.Header, body string) dkim.BodyHashes {
	t.Helper()
	h := dkim.NewBodyHasher(header)
	if _, err := h.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	return h.Sum()
}
