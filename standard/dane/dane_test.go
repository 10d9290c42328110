package dane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/mail"
)

var today = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// authority makes certificates; the zero issuer signs itself.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// make gives a certificate that issuer signed, valid for two days around today,
// or over since yesterday.
func (issuer authority) make(t testing.TB, name string, ca, expired bool) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: today.Add(-48 * time.Hour), NotAfter: today.Add(24 * time.Hour),
		IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ca {
		c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageCertSign, nil
	} else {
		c.DNSNames = []string{name}
	}
	if expired {
		c.NotAfter = today.Add(-24 * time.Hour)
	}
	parent, signer := c, key
	if issuer.cert != nil {
		parent, signer = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{made, key}
}

// record is a TLSA record that a certificate matches.
func record(usage, selector, matching uint8, c *x509.Certificate) mail.TLSA {
	data := c.Raw
	if selector == SelectorKey {
		data = c.RawSubjectPublicKeyInfo
	}
	switch matching {
	case MatchingSHA256:
		sum := sha256.Sum256(data)
		data = sum[:]
	case MatchingSHA512:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return mail.TLSA{Usage: usage, Selector: selector, Matching: matching, Data: data}
}

func TestVerify(t *testing.T) {
	root := authority{}.make(t, "root", true, false)
	between := root.make(t, "between", true, false)
	server := between.make(t, "mx.example", false, false)
	expired := between.make(t, "mx.example", false, true)
	alone := authority{}.make(t, "other.example", false, true)
	stranger := authority{}.make(t, "root", true, false)
	chain := []*x509.Certificate{server.cert, between.cert, root.cert}
	names := []string{"mx.example", "example"}
	for _, c := range []struct {
		about   string
		records []mail.TLSA
		shown   []*x509.Certificate
		names   []string
		good    bool
	}{
		{"DANE-EE, key by SHA-256", []mail.TLSA{record(3, 1, 1, server.cert)}, chain, names, true},
		{"DANE-EE, key by SHA-512", []mail.TLSA{record(3, 1, 2, server.cert)}, chain, names, true},
		{"DANE-EE, whole key", []mail.TLSA{record(3, 1, 0, server.cert)}, chain, names, true},
		{"DANE-EE, certificate by SHA-256", []mail.TLSA{record(3, 0, 1, server.cert)}, chain, names, true},
		{"DANE-EE, whole certificate", []mail.TLSA{record(3, 0, 0, server.cert)}, chain, names, true},
		{"DANE-EE: neither name, date nor issuer matter", []mail.TLSA{record(3, 1, 1, alone.cert)}, []*x509.Certificate{alone.cert}, names, true},
		{"DANE-EE of a certificate further up", []mail.TLSA{record(3, 1, 1, root.cert)}, chain, names, false},
		{"DANE-EE of another key", []mail.TLSA{record(3, 1, 1, stranger.cert)}, chain, names, false},
		{"one of several matches, as during a change of keys", []mail.TLSA{record(3, 1, 1, stranger.cert), record(3, 1, 1, server.cert)}, chain, names, true},
		{"DANE-TA, root shown", []mail.TLSA{record(2, 0, 1, root.cert)}, chain, names, true},
		{"DANE-TA, root by key", []mail.TLSA{record(2, 1, 1, root.cert)}, chain, names, true},
		{"DANE-TA, an intermediate is anchor enough", []mail.TLSA{record(2, 0, 1, between.cert)}, chain[:2], names, true},
		{"DANE-TA, whole certificate that was not shown", []mail.TLSA{record(2, 0, 0, root.cert)}, chain[:2], names, true},
		{"DANE-TA, digest of a root that was not shown", []mail.TLSA{record(2, 0, 1, root.cert)}, chain[:2], names, false},
		{"DANE-TA, name of the domain", []mail.TLSA{record(2, 0, 1, root.cert)}, chain, []string{"example", "mx.example"}, true},
		{"DANE-TA, another name", []mail.TLSA{record(2, 0, 1, root.cert)}, chain, []string{"mx.other.example"}, false},
		{"DANE-TA, no name", []mail.TLSA{record(2, 0, 1, root.cert)}, chain, nil, false},
		{"DANE-TA, expired", []mail.TLSA{record(2, 0, 1, root.cert)}, []*x509.Certificate{expired.cert, between.cert, root.cert}, names, false},
		{"DANE-TA shown, but signed by another of the same name", []mail.TLSA{record(2, 0, 1, stranger.cert)}, append(chain[:3:3], stranger.cert), names, false},
		{"DANE-TA of the server's own certificate", []mail.TLSA{record(2, 0, 1, server.cert)}, chain, names, false},
		{"nothing shown", []mail.TLSA{record(3, 1, 1, server.cert)}, nil, names, false},
		{"no record", nil, chain, names, false},
	} {
		t.Run(c.about, func(t *testing.T) {
			err := Verify(c.records, c.shown, c.names, today)
			if (err == nil) != c.good || err != nil && !errors.Is(err, ErrMismatch) {
				t.Errorf("Verify: %v", err)
			}
		})
	}
}

func TestNamesOfAMismatchUnderAnAnchorAreTold(t *testing.T) {
	root := authority{}.make(t, "root", true, false)
	server := root.make(t, "mx.example", false, false)
	err := Verify([]mail.TLSA{record(2, 0, 1, root.cert)}, []*x509.Certificate{server.cert, root.cert}, []string{"mx.other.example"}, today)
	var name x509.HostnameError
	if !errors.As(err, &name) || !strings.Contains(err.Error(), "mx.example") {
		t.Errorf("%v", err)
	}
}

func TestUsable(t *testing.T) {
	c := authority{}.make(t, "mx.example", false, false).cert
	usable := func(r ...mail.TLSA) (kept []string) {
		for _, u := range Usable(r) {
			kept = append(kept, Text(u)[:5])
		}
		return kept
	}
	short := mail.TLSA{Usage: 3, Selector: 1, Matching: 1, Data: []byte("short")}
	for _, test := range []struct {
		about string
		in    []mail.TLSA
		want  []string
	}{
		{"PKIX usages mean nothing for SMTP", []mail.TLSA{record(0, 0, 1, c), record(1, 1, 1, c)}, nil},
		{"unknown numbers mean nothing", []mail.TLSA{record(4, 1, 1, c), record(3, 2, 1, c), record(3, 1, 3, c)}, nil},
		{"a digest of the wrong length means nothing", []mail.TLSA{short}, nil},
		{"a full value that is no certificate means nothing", []mail.TLSA{{Usage: 3, Data: []byte{1}}, {Usage: 2, Selector: 1, Data: []byte{1}}}, nil},
		{"the stronger digest only, of each usage and selector", []mail.TLSA{record(3, 1, 1, c), record(3, 1, 2, c), record(3, 0, 1, c), record(2, 1, 1, c)}, []string{"3 1 2", "3 0 1", "2 1 1"}},
		{"full values besides", []mail.TLSA{record(3, 1, 0, c), record(3, 1, 1, c)}, []string{"3 1 0", "3 1 1"}},
		{"a broken strong digest does not shadow a good weak one", []mail.TLSA{{Usage: 3, Selector: 1, Matching: 2, Data: []byte("x")}, record(3, 1, 1, c)}, []string{"3 1 1"}},
	} {
		if diff := cmp.Diff(test.want, usable(test.in...)); diff != "" {
			t.Errorf("%s: %s", test.about, diff)
		}
	}
}

func TestNamesToAsk(t *testing.T) {
	for _, c := range []struct {
		host, canonical string
		want            []string
	}{
		{"mx.example", "", []string{"mx.example"}},
		{"mx.example", "mx.example", []string{"mx.example"}},
		{"mx.example", "real.example", []string{"real.example", "mx.example"}},
	} {
		if diff := cmp.Diff(c.want, Names(c.host, c.canonical)); diff != "" {
			t.Error(diff)
		}
	}
	if got := Owner("mx.example", 25); got != "_25._tcp.mx.example" {
		t.Error(got)
	}
}

// Whatever DNS says, a certificate is accepted only by a record made from it.
func TestNothingMatchesByAccident(t *testing.T) {
	c := authority{}.make(t, "mx.example", false, false).cert
	rapid.Check(t, func(t *rapid.T) {
		r := mail.TLSA{
			Usage: rapid.Uint8Range(0, 4).Draw(t, "usage"), Selector: rapid.Uint8Range(0, 2).Draw(t, "selector"),
			Matching: rapid.Uint8Range(0, 3).Draw(t, "matching"), Data: rapid.SliceOfN(rapid.Byte(), 0, 70).Draw(t, "data"),
		}
		if Verify(Usable([]mail.TLSA{r}), []*x509.Certificate{c}, []string{"mx.example"}, today) == nil {
			t.Fatalf("%s matches", Text(r))
		}
	})
}

func FuzzVerify(f *testing.F) {
	c := authority{}.make(f, "mx.example", false, false).cert
	f.Add(uint8(3), uint8(1), uint8(1), record(3, 1, 1, c).Data)
	f.Add(uint8(2), uint8(0), uint8(0), c.Raw)
	f.Add(uint8(2), uint8(1), uint8(0), c.RawSubjectPublicKeyInfo)
	f.Fuzz(func(t *testing.T, usage, selector, matching uint8, data []byte) {
		r := mail.TLSA{Usage: usage, Selector: selector, Matching: matching, Data: data}
		err := Verify(Usable([]mail.TLSA{r}), []*x509.Certificate{c}, []string{"mx.example"}, today)
		if err == nil && !(usage == UsageEE && matches(r, c)) {
			t.Errorf("%s was accepted", Text(r))
		}
	})
}
