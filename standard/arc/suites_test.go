package arc

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"anechoic/mail"
	"anechoic/standard/dkim"
)

// scenario is one document of the ValiMail suite.
type scenario struct {
	Description string
	Tests       map[string]struct {
		Message    string
		CV         string
		T          any
		SigHeaders string `json:"sig-headers"`
		SrvID      string `json:"srv-id"`
		AS         string
		AMS        string
		AAR        string
	}
	Records  map[string]string `json:"txt-records"`
	Domain   string
	Selector string `json:"sel"`
	Key      string `json:"privatekey"`
}

func (s scenario) zone() zone {
	z := zone{}
	for name, record := range s.Records {
		z[strings.ToLower(name)] = []string{strings.Join(strings.Fields(record), " ")}
	}
	return z
}

// scenarios reads the cases of one kind: the whole suite where it is there,
// otherwise its first part.
func scenarios(t *testing.T, kind string) []scenario {
	t.Helper()
	dir := filepath.Join(shared(t, "ANECHOIC_SUITES", "suites"), "arc")
	file := filepath.Join(dir, "valimail", "tests", "arc-draft-"+kind+"-tests.json")
	if _, err := os.Stat(file); err != nil {
		file = filepath.Join(dir, "split", "arc-draft-"+kind+"-tests.dev.json")
	}
	var list []scenario
	if err := json.Unmarshal(read(t, file), &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// noExpectation is the case for which the suite names no result: its first set says
// cv=fail, so RFC 8617 section 5.2 step 3C makes it a fail.
const noExpectation = "cv_fail_i2_as1_fail"

func TestValiMailValidation(t *testing.T) {
	cases := 0
	for _, s := range scenarios(t, "validation") {
		z := s.zone()
		for name, c := range s.Tests {
			cases++
			t.Run(name, func(t *testing.T) {
				want := strings.ToLower(c.CV)
				if want == "" && name == noExpectation {
					want = "fail"
				}
				chain := parse(t, text(c.Message)).validate(z)
				t.Log(chain.Err)
				if got := chain.Status.String(); got != want {
					t.Errorf("%s, want %s (%v)", got, want, chain.Err)
				}
				if (chain.Err != nil) != (chain.Status == Fail) {
					t.Errorf("%s: %v", chain.Status, chain.Err)
				}
			})
		}
	}
	if cases < 90 {
		t.Errorf("only %d cases", cases)
	}
}

// TestValiMailSigning makes the set that each case asks for, in the layout of the
// suite, and compares every octet of the signatures: RSA signatures are always
// the same over the same octets.
func TestValiMailSigning(t *testing.T) {
	for _, s := range scenarios(t, "sign") {
		key := suiteKey(t, s.Key)
		for name, c := range s.Tests {
			t.Run(name, func(t *testing.T) {
				m := parse(t, text(c.Message))
				chain := m.validate(s.zone())
				results := resultsOf(t, m.header, c.SrvID)
				if c.AS == "" {
					_, err := Seal(m.header, m.hashes(), chain, saw(chain), dkim.Signer{}, noon)
					if err == nil || !strings.Contains(err.Error(), ErrEnded.Error()) {
						t.Errorf("%v, want the end of the chain", err)
					}
					return
				}
				tags := suiteTags(t, c.AS)
				w := writing{number: len(chain.Instances) + 1, chain: chain.Status}
				if tags["i"] != strconv.Itoa(w.number) || tags["cv"] != chain.Status.String() {
					t.Fatalf("set %d with cv=%s, want i=%s; cv=%s", w.number, chain.Status, tags["i"], tags["cv"])
				}
				var own set
				own.results.field = mail.NewField(ResultsField, "i="+tags["i"]+"; "+results)
				if got, want := squeeze(own.results.field.Value()), squeeze(c.AAR); got != want {
					t.Fatalf("results %q, want %q", got, want)
				}
				ams := suiteTags(t, c.AMS)
				hash := m.hashes().Relaxed
				ams["bh"], ams["b"], ams["h"] = base64.StdEncoding.EncodeToString(hash[:]), "", c.SigHeaders
				index := dkim.NewIndex(m.header)
				data := index.AppendFields(nil, strings.Split(c.SigHeaders, ":"), mail.Field{}, dkim.Relaxed)
				own.message.field = signAsSuite(t, key, MessageField, ams, data, c.AMS)

				tags["b"] = ""
				signAsSuite(t, key, SealField, tags, w.covered(readSets(m.header), &own), c.AS)
			})
		}
	}
}

// signAsSuite makes a field as the suite lays it out, compares it with the one
// wanted, and gives it.
func signAsSuite(t *testing.T, key *rsa.PrivateKey, name string, tags map[string]string, data []byte, want string) mail.Field {
	t.Helper()
	unsigned := mail.NewField(name, layOut(tags))
	digest := sha256.Sum256(dkim.AppendUnsigned(data, unsigned, dkim.Relaxed))
	b, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	tags["b"] = base64.StdEncoding.EncodeToString(b)
	if got, want := tags["b"], suiteTags(t, want)["b"]; got != want {
		t.Errorf("%s has b=%s, want %s\nover %q", name, got, want, data)
	}
	return mail.NewField(name, layOut(tags))
}

// layOut writes tags as the suite does: in the order of their names.
func layOut(tags map[string]string) string {
	var list []string
	for _, name := range []string{"a", "b", "bh", "c", "cv", "d", "h", "i", "s", "t"} {
		if v, ok := tags[name]; ok {
			list = append(list, name+"="+v)
		}
	}
	return strings.Join(list, "; ")
}

// suiteTags reads what the suite expects, without white space in values.
func suiteTags(t *testing.T, list string) map[string]string {
	t.Helper()
	tags := map[string]string{}
	for tag := range strings.SplitSeq(strings.TrimSpace(list), ";") {
		name, value, ok := strings.Cut(tag, "=")
		if !ok {
			continue
		}
		tags[strings.TrimSpace(name)] = squeeze(value)
	}
	return tags
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), "") }

// resultsOf puts the Authentication-Results of one server together as the suite's
// README says: whole results in their order, one a line.
func resultsOf(t *testing.T, header mail.Header, id string) string {
	list := []string{id}
	for _, f := range header.All("Authentication-Results") {
		parts := strings.Split(f.Value(), ";")
		if strings.TrimSpace(parts[0]) != id {
			continue
		}
		for _, p := range parts[1:] {
			if p = strings.TrimSpace(p); p != "" {
				list = append(list, p)
			}
		}
	}
	return strings.Join(list, ";\r\n  ")
}

func suiteKey(t *testing.T, text string) *rsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatal("the suite's key is no PEM")
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
