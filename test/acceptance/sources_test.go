package acceptance

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"strings"
	"sync"
	"time"

	"anechoic/lab"
	"anechoic/mail"
	"anechoic/standard/dkim"
)

// Addresses of sources that are no Microsoft 365 tenant's.
const (
	onprem      = "203.0.113.10"         // acme's mail server
	printer     = "203.0.113.11"         // acme's application
	printerIPv6 = "2001:db8:ac::42"      // the same, in its /64
	holder      = "203.0.113.30"         // hooli's mail server, whose forwarded mail is held
	roaming     = "198.51.100.201"       // where a client with a certificate is
	gmail       = "209.85.128.10"        // Google's, shared by all its customers
	gmailIPv6   = "2a00:1450:4864::20:1" // another
)

// mailFromAddress is a message of a server that its address names.
func mailFromAddress(peer, from string, extra ...string) letter {
	return mailFromNobody(peer, from, extra...)
}

// mailWithCertificate is a message of a client that shows a certificate.
func mailWithCertificate(name, from string, extra ...string) letter {
	return mailFromNobody(roaming, from, extra...).showing(certificateOf(name, time.Hour))
}

// clientKeys are the keys of TLS clients: the first three are sources.
var clientKeys = sync.OnceValue(func() map[string]*ecdsa.PrivateKey {
	made := map[string]*ecdsa.PrivateKey{}
	for _, name := range []string{"gateway", "scanner", "device", "stranger"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		made[name] = key
	}
	return made
})

// certificateOf makes a certificate for a client's key, as anybody can make one:
// in it stands what he likes. It ends after a while, or ended before.
func certificateOf(name string, ends time.Duration) *tls.Certificate {
	key := clientKeys()[name]
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "gateway.acme.test"}, DNSNames: []string{"gateway.acme.test"},
		NotBefore: now.Add(min(ends, 0) - time.Hour), NotAfter: now.Add(ends), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// spki is what the registry has of a client's key.
func spki(name string) string { return fmt.Sprintf("%x", spkiSum(name)) }

func spkiSum(name string) [32]byte {
	der, err := x509.MarshalPKIXPublicKey(clientKeys()[name].Public())
	if err != nil {
		panic(err)
	}
	return sha256.Sum256(der)
}

// workspace is a customer of Google's.
type workspace struct {
	domain, secretName, secret string
}

// Workspaces. The names that Google makes of a-b.test and a.b.test are the same.
var (
	wonka = workspace{"wonka.test", "X-Wonka-Relay-Key", wonkaSecret}
	oompa = workspace{"oompa.test", "X-Oompa-Relay-Key", oompaSecret}
)

// collision is what Google signs mail of a-b.test as, and of a.b.test too, while
// they have no key of their own.
const collision = "a-b-test.20230601.gappssmtp.com"

// providerKeys are the keys with which others sign, by selector and domain.
var providerKeys = sync.OnceValue(func() map[string]crypto.Signer {
	made := map[string]crypto.Signer{"weak._domainkey.wonka.test": newWeakKey(), "weak._domainkey.globex.test": newWeakKey()}
	for _, name := range []string{
		"google._domainkey.wonka.test", "google._domainkey.a-b.test", "google._domainkey.oompa.test", "google._domainkey.a.b.test",
		"20230601._domainkey." + collision, "testing._domainkey.wonka.test", "unlisted._domainkey.wonka.test", "revoked._domainkey.wonka.test",
		"reports._domainkey.wonka.test", "google._domainkey.globex.test", "testing._domainkey.globex.test", "own._domainkey.globex.test",
		"google._domainkey.evil123.onmicrosoft.com",
	} {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			panic(err)
		}
		made[name] = key
	}
	return made
})

// providerRecords is what DNS says of them.
func providerRecords() map[string]string {
	records := map[string]string{}
	for name, key := range providerKeys() {
		value := dkim.RecordValue(key.Public())
		switch {
		case strings.HasPrefix(name, "testing."):
			value = strings.Replace(value, "p=", "t=y; p=", 1)
		case strings.HasPrefix(name, "reports."):
			value = strings.Replace(value, "p=", "s=tlsrpt; p=", 1)
		case strings.HasPrefix(name, "revoked."):
			value = value[:strings.Index(value, "p=")+2]
		}
		records[name] = value
	}
	return records
}

// publishProviderKeys puts them up. Those of globex are Microsoft's: their names
// point to where the provider keeps the records, but for one.
func publishProviderKeys(n *lab.Internet) {
	for name, value := range providerRecords() {
		selector, domain, _ := strings.Cut(name, "._domainkey.")
		if domain == "globex.test" && selector != "own" {
			target := selector + "-globex-test._domainkey.globex.onmicrosoft.com"
			n.Zone.SetCNAME(name, target)
			name = target
		}
		n.Publish(name, value)
	}
}

// mailFromGoogle is a message as Google hands it over for a customer that has set
// up both proofs.
func mailFromGoogle(w workspace, from string, extra ...string) letter {
	return mailFromGoogleUnsigned(w, from, extra...).byGoogle(w.domain)
}

// mailFromGoogleUnsigned is the same without a signature.
func mailFromGoogleUnsigned(w workspace, from string, extra ...string) letter {
	return letter{peer: gmail, from: address(from), data: string(draft(from, extra...).Plain())}.topped(w.secretName + ": " + w.secret)
}

// byGoogle signs as Google does with a customer's key.
func (l letter) byGoogle(domain string) letter {
	return l.signed(domain, "google", providerKeys()["google._domainkey."+domain])
}

// forgery is a DKIM signature that is right in everything but what is said here.
type forgery struct {
	key    string   // its name; empty: Google's of wonka.test
	names  []string // signed fields; nil: From and others
	tags   string   // further ones, each with its semicolon
	signed time.Time
	silent bool // there is no t=
}

// forged adds such a signature.
func (l letter) forged(f forgery) letter {
	if f.key == "" {
		f.key = "google._domainkey.wonka.test"
	}
	if f.names == nil {
		f.names = []string{"from", "to", "subject", "date", "message-id"}
	}
	if f.signed.IsZero() {
		f.signed = time.Now()
	}
	if !f.silent {
		f.tags += fmt.Sprintf(" t=%d;", f.signed.Unix())
	}
	head, body, _ := strings.Cut(l.data, "\r\n\r\n")
	header, err := mail.ParseHeader([]byte(head+"\r\n"), mail.HeaderLimits{})
	if err != nil {
		panic(err)
	}
	hasher := dkim.NewBodyHasher(header)
	hasher.Write([]byte(body))
	hash := hasher.Sum().Relaxed
	key := providerKeys()[f.key]
	algorithm, opts := "ed25519-sha256", crypto.SignerOpts(crypto.Hash(0))
	if _, ok := key.Public().(*rsa.PublicKey); ok {
		algorithm, opts = "rsa-sha256", crypto.SHA256
	}
	selector, domain, _ := strings.Cut(f.key, "._domainkey.")
	value := fmt.Sprintf("v=1; a=%s; c=relaxed/relaxed; d=%s; s=%s;%s h=%s; bh=%s; b=", algorithm, domain, selector, f.tags,
		strings.Join(f.names, ":"), base64.StdEncoding.EncodeToString(hash[:]))
	index := dkim.NewIndex(header)
	signed := dkim.AppendField(index.AppendFields(nil, f.names, mail.Field{}, dkim.Relaxed), mail.NewField("DKIM-Signature", value), dkim.Relaxed)
	digest := sha256.Sum256(signed[:len(signed)-len("\r\n")])
	signature, err := key.Sign(rand.Reader, digest[:], opts)
	if err != nil {
		panic(err)
	}
	l.data = string(mail.NewField("DKIM-Signature", value+base64.StdEncoding.EncodeToString(signature)).Raw()) + l.data
	return l
}

// weakKey is an RSA key of 512 bits, which the standard library does not make any
// more.
type weakKey struct {
	public  rsa.PublicKey
	private *big.Int
}

const weakBits = 512

func newWeakKey() weakKey {
	one, e := big.NewInt(1), big.NewInt(65537)
	for {
		p, err := rand.Prime(rand.Reader, weakBits/2)
		if err != nil {
			panic(err)
		}
		q, err := rand.Prime(rand.Reader, weakBits/2)
		if err != nil {
			panic(err)
		}
		n := new(big.Int).Mul(p, q)
		d := new(big.Int).ModInverse(e, new(big.Int).Mul(p.Sub(p, one), q.Sub(q, one)))
		if d != nil && n.BitLen() == weakBits {
			return weakKey{rsa.PublicKey{N: n, E: int(e.Int64())}, d}
		}
	}
}

func (k weakKey) Public() crypto.PublicKey { return &k.public }

// Sign is RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2.1).
func (k weakKey) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	info := append([]byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}, digest...)
	block := append([]byte{0, 1}, strings.Repeat("\xff", weakBits/8-len(info)-3)...)
	m := new(big.Int).SetBytes(append(append(block, 0), info...))
	return new(big.Int).Exp(m, k.private, k.public.N).FillBytes(make([]byte, weakBits/8)), nil
}
