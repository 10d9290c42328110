package dkim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"

	"anechoic/mail"
)

func sameDomain(a, b mail.Domain) bool { return a == b }

func TestWhatWePublishIsWhatWeRead(t *testing.T) {
	list, _ := signers(t)
	for _, s := range list {
		r, err := ParseRecord(RecordValue(s.Key.Public()))
		if err != nil {
			t.Fatal(err)
		}
		if r.KeyType != s.Algorithm.KeyType() || r.Revoked() || r.Testing || r.Strict || r.Hashes != nil || r.Services != nil {
			t.Errorf("%s: %+v", s.Algorithm, r)
		}
		if err := CheckPublished(RecordValue(s.Key.Public()), s.Key.Public()); err != nil {
			t.Errorf("%s: %v", s.Algorithm, err)
		}
	}
}

func TestRecordsAreReadWithAllTheirTags(t *testing.T) {
	p := strings.TrimPrefix(RecordValue(edKey.Public()), "v=DKIM1; k=ed25519; ")
	r, err := ParseRecord("v=DKIM1;h=sha1 : sha256;k=ed25519; s=email:*; t=y : s:future; n=notes here; g=*; " + p + ";")
	if err != nil {
		t.Fatal(err)
	}
	if !r.Testing || !r.Strict || len(r.Hashes) != 2 || len(r.Services) != 2 || r.Bits() != 256 {
		t.Errorf("%+v", r)
	}
}

func TestAnRSAKeyMayBeWrittenInBothWays(t *testing.T) {
	bare := "p=" + base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(&rsa1024().PublicKey))
	if err := CheckPublished(bare, &rsa1024().PublicKey); err != nil {
		t.Error(err)
	}
}

func TestBrokenRecordsSayWhatIsWrong(t *testing.T) {
	good := RecordValue(&rsa2048().PublicKey)
	p := good[strings.Index(good, "p="):]
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&other.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for record, problem := range map[string]string{
		"":                            "p= is missing",
		"v=spf1 -all":                 "v=DKIM1",
		"v=DKIM2; " + p:               "v=DKIM1",
		"v=dkim1; " + p:               "v=DKIM1",
		"k=rsa; v=DKIM1; " + p:        "v=DKIM1",
		"v=DKIM1; k=rsa":              "p= is missing",
		"v=DKIM1; k=dsa; " + p:        "not known",
		"v=DKIM1; k=rsa; p=%":         "base64",
		"v=DKIM1; k=rsa; p=AAAA":      "not an RSA",
		"v=DKIM1; k=ed25519; p=AAAA":  "no Ed25519",
		"v=DKIM1; k=rsa; k=rsa; " + p: "twice",
		"p=" + base64.StdEncoding.EncodeToString(der): "not RSA",
	} {
		if _, err := ParseRecord(record); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%.40q: got %v, want …%s…", record, err, problem)
		}
	}
}

func TestPublicationIsCheckedForWhatVerifiersWant(t *testing.T) {
	pub := &rsa2048().PublicKey
	good := RecordValue(pub)
	p := good[strings.Index(good, "p="):]
	for record, problem := range map[string]string{
		good:                              "",
		"  v=DKIM1 ; s=email ;" + p + ";": "",
		"v=DKIM1; t=y; " + p:              "",
		p:                                 "",
		"v=DKIM1; p=":                     "revoked",
		"v=DKIM1; h=sha1; " + p:           "sha256",
		"v=DKIM1; s=tlsrpt; " + p:         "email",
		RecordValue(edKey.Public()):       "type ed25519",
		RecordValue(&rsa1024().PublicKey): "another key",
		"v=DKIM1; k=rsa; p=!":             "not a usable",
		"hello":                           "not a usable",
	} {
		err := CheckPublished(record, pub)
		if problem == "" && err != nil || problem != "" && (err == nil || !strings.Contains(err.Error(), problem)) {
			t.Errorf("%.40q: got %v, want …%s…", record, err, problem)
		}
	}
	if CheckPublished(good, &newECDSA(t).PublicKey) == nil || RecordValue(&newECDSA(t).PublicKey) != "" {
		t.Error("a key that cannot sign was published")
	}
}

func newECDSA(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
