package dkim

import (
	"context"

	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"anechoic/mail"
)

func TestStatusesAreTheWordsOfRFC8601(t *testing.T) {
	for s, want := range map[Status]string{None: "none", Pass: "pass", Fail: "fail", Policy: "policy", Neutral: "neutral", TempError: "temperror", PermError: "permerror", 99: "permerror"} {
		if s.String() != want {
			t.Errorf("%d is %q, want %q", s, s, want)
		}
	}
}

// tags are those of a good signature by the Ed25519 key.
const goodTags = "v=1; a=ed25519-sha256; c=relaxed/relaxed; d=t.example; s=e1; h=from:to:subject:date; bh=;"

func TestEveryCanonicalizationVerifies(t *testing.T) {
	_, z := signers(t)
	for _, c := range []string{"simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed", "relaxed", "simple"} {
		tags := strings.Replace(goodTags, "relaxed/relaxed", c, 1)
		m := handSign(t, text(plainMessage), edKey, tags)
		if r := m.one(t, z, noon); r.Status != Pass {
			t.Errorf("%s: %s, %v", c, r.Status, r.Err)
		}
	}
}

func TestWhatTransitMayChangeDependsOnTheForm(t *testing.T) {
	_, z := signers(t)
	changes := map[string]func(message) message{
		"subject folded anew": func(m message) message {
			return parse(t, []byte(strings.Replace(string(m.bytes()), "minutes of\r\n the", "minutes\r\n \t of the", 1)))
		},
		"subject written larger": func(m message) message {
			return parse(t, []byte(strings.Replace(string(m.bytes()), "Subject:", "SUBJECT:", 1)))
		},
		"spaces at a line's end": func(m message) message {
			return message{m.header, []byte(strings.Replace(string(m.body), "Dear Bob,", "Dear Bob, ", 1))}
		},
		"empty lines at the end": func(m message) message { return message{m.header, append(m.body, "\r\n\r\n"...)} },
		"a field on top": func(m message) message {
			return message{m.header.Prepend(mail.NewField("Received", "by r.example")), m.body}
		},
	}
	for _, c := range []struct {
		change, form string
		want         Status
	}{
		{"subject folded anew", "relaxed/relaxed", Pass}, {"subject folded anew", "simple/relaxed", Fail},
		{"subject written larger", "relaxed/simple", Pass}, {"subject written larger", "simple/simple", Fail},
		{"spaces at a line's end", "simple/relaxed", Pass}, {"spaces at a line's end", "relaxed/simple", Fail},
		{"empty lines at the end", "simple/relaxed", Pass}, {"empty lines at the end", "simple/simple", Pass},
		{"a field on top", "simple/simple", Pass}, {"a field on top", "relaxed/relaxed", Pass},
	} {
		m := handSign(t, text(plainMessage), edKey, strings.Replace(goodTags, "relaxed/relaxed", c.form, 1))
		if r := changes[c.change](m).one(t, z, noon); r.Status != c.want {
			t.Errorf("%s with %s: %s, %v", c.change, c.form, r.Status, r.Err)
		}
	}
}

func TestPolicyOfTheVerifier(t *testing.T) {
	ed := RecordValue(edKey.Public())
	edP := ed[strings.Index(ed, "p="):]
	rsaRecord := RecordValue(&rsa2048().PublicKey)
	const name = "e1._domainkey.t.example"
	change := func(old, with string) string {
		if !strings.Contains(goodTags, old) {
			t.Fatalf("%q is not in the tags", old)
		}
		return strings.Replace(goodTags, old, with, 1)
	}
	for behaviour, c := range map[string]struct {
		tags    string
		records []string // at name; nil: NXDOMAIN
		want    Status
		problem string
	}{
		"a good signature passes":             {goodTags, []string{ed}, Pass, ""},
		"From must be signed":                 {change("from:", ""), []string{ed}, PermError, "From field is not signed"},
		"over-signing passes":                 {change("from:", "from:from:cc:"), []string{ed}, Pass, ""},
		"l= is not accepted":                  {goodTags + " l=5", []string{ed}, Policy, "l="},
		"l= of the whole body neither":        {goodTags + " l=99999", []string{ed}, Policy, "l="},
		"rsa-sha1 is historic":                {change("ed25519-sha256", "rsa-sha1"), []string{rsaRecord}, PermError, "historic"},
		"an expired signature":                {goodTags + fmt.Sprintf(" t=1; x=%d", noon.Unix()-1), []string{ed}, PermError, "expired"},
		"the last second counts":              {goodTags + fmt.Sprintf(" t=1; x=%d", noon.Unix()), []string{ed}, Pass, ""},
		"a future t= is taken as it is":       {goodTags + fmt.Sprintf(" t=%d", noon.Unix()+3600), []string{ed}, Pass, ""},
		"i= in a sub-domain":                  {goodTags + " i=x@sub.t.example", []string{ed}, Pass, ""},
		"i= elsewhere":                        {goodTags + " i=x@example", []string{ed}, PermError, "not within"},
		"a strict key and a sub-domain":       {goodTags + " i=x@sub.t.example", []string{"v=DKIM1; k=ed25519; t=s; " + edP}, PermError, "allows only"},
		"a strict key and the domain":         {goodTags + " i=x@T.example", []string{"v=DKIM1; k=ed25519; t=s; " + edP}, Pass, ""},
		"version 2":                           {change("v=1", "v=2"), []string{ed}, PermError, "version"},
		"a tag twice":                         {goodTags + " s=e1", []string{ed}, PermError, "twice"},
		"no such key":                         {goodTags, nil, PermError, "no key at"},
		"a name without TXT":                  {goodTags, []string{}, PermError, "no key at"},
		"DNS does not answer":                 {goodTags, []string{"SERVFAIL"}, TempError, "SERVFAIL"},
		"a revoked key":                       {goodTags, []string{"v=DKIM1; k=ed25519; p="}, PermError, "revoked"},
		"a key of another type":               {goodTags, []string{rsaRecord}, PermError, "of type rsa"},
		"a key of an unknown type":            {goodTags, []string{"v=DKIM1; k=x; " + edP}, PermError, "not known"},
		"a key without sha256":                {goodTags, []string{"v=DKIM1; h=sha1; k=ed25519; " + edP}, PermError, "sha256"},
		"a key for other services":            {goodTags, []string{"v=DKIM1; s=tlsrpt; k=ed25519; " + edP}, PermError, "email"},
		"a key for every service":             {goodTags, []string{"v=DKIM1; s=*; k=ed25519; " + edP}, Pass, ""},
		"a text that is no key":               {goodTags, []string{"v=spf1 -all"}, PermError, "v=DKIM1"},
		"the wrong key":                       {goodTags, []string{"k=ed25519; p=" + base64.StdEncoding.EncodeToString(make([]byte, 32))}, Fail, "does not verify"},
		"a good key behind strange texts":     {goodTags, []string{"hello", rsaRecord, "k=ed25519; p=", ed}, Pass, ""},
		"a good key behind too many texts":    {goodTags, []string{"a", "a", "a", "a", "a", ed}, PermError, "not a tag list"},
		"the wrong key among texts says most": {goodTags, []string{"hello", "k=ed25519; p=" + base64.StdEncoding.EncodeToString(make([]byte, 32)), rsaRecord}, Fail, "does not verify"},
		"a selector that makes the name long": {change("e1", strings.Repeat(strings.Repeat("a", 63)+".", 3)+strings.Repeat("a", 60)), nil, PermError, "octets"},
		"unknown tags":                        {goodTags + " zz=1; r=y", []string{ed}, Pass, ""},
		"h= names what is not there":          {change("from:", "from:x-absent:"), []string{ed}, Pass, ""},
	} {
		t.Run(behaviour, func(t *testing.T) {
			z := zone{}
			if c.records != nil {
				z[name] = c.records
			}
			r := handSign(t, text(plainMessage), edKey, c.tags).one(t, z, noon)
			if r.Status != c.want {
				t.Fatalf("%s (%v), want %s", r.Status, r.Err, c.want)
			}
			if (r.Err == nil) != (c.want == Pass) || r.Err != nil && !strings.Contains(r.Err.Error(), c.problem) {
				t.Fatalf("the reason is %v, want …%s…", r.Err, c.problem)
			}
			if c.want == Pass && (r.Domain.String() != "t.example" || r.Selector != "e1" || r.KeyName != name || r.KeyBits != 256) {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestWeakAndHugeKeysAreNotAccepted(t *testing.T) {
	// Made with openssl genrsa 512: this library makes no key of that length.
	const rsa512 = "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBALumPTEeFhGRuI8uTuBrX10hfrczKhTjipoEPhOqo91UYS+cJmUeZxQmcaPs+26ns/BZ1i6d0UyO5incULwUGbMCAwEAAQ=="
	tags := strings.Replace(goodTags, "ed25519", "rsa", 1)
	m := handSign(t, text(plainMessage), edKey, tags)
	r := m.one(t, zone{"e1._domainkey.t.example": {"v=DKIM1; p=" + rsa512}}, noon)
	if r.Status != Policy || r.KeyBits != 512 || !strings.Contains(r.Err.Error(), "too weak") {
		t.Errorf("512 bits: %s, %d bits, %v", r.Status, r.KeyBits, r.Err)
	}
	huge := rsa2048().PublicKey
	huge.N = new(big.Int).Lsh(huge.N, 7000)
	huge.N.SetBit(huge.N, 0, 1)
	r = m.one(t, zone{"e1._domainkey.t.example": {RecordValue(&huge)}}, noon)
	if r.Status != Policy || !strings.Contains(r.Err.Error(), "too long") {
		t.Errorf("9048 bits: %s, %v", r.Status, r.Err)
	}
}

func TestAThousandBitsAreEnoughToVerify(t *testing.T) {
	m := handSign(t, text(plainMessage), rsa1024(), strings.Replace(goodTags, "ed25519", "rsa", 1))
	der := base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(&rsa1024().PublicKey))
	if r := m.one(t, zone{"e1._domainkey.t.example": {"p=" + der}}, noon); r.Status != Pass || r.KeyBits != 1024 {
		t.Errorf("%s, %d bits, %v", r.Status, r.KeyBits, r.Err)
	}
}

func TestATestingKeyIsNamedAndChangesNothing(t *testing.T) {
	record := strings.Replace(RecordValue(edKey.Public()), "k=", "t=y; k=", 1)
	m := handSign(t, text(plainMessage), edKey, goodTags)
	r := m.one(t, zone{"e1._domainkey.t.example": {record}}, noon)
	if r.Status != Pass || !r.Testing {
		t.Errorf("%s, testing %v", r.Status, r.Testing)
	}
}

func TestAnUnsignedMessageHasNoResults(t *testing.T) {
	if r := parse(t, text(plainMessage)).verify(zone{}, noon); r != nil {
		t.Errorf("%+v", r)
	}
}

func TestABrokenSignatureStillSaysWhoseItClaimsToBe(t *testing.T) {
	m := handSign(t, text(plainMessage), edKey, strings.Replace(goodTags, "v=1", "v=9", 1))
	r := m.one(t, zone{}, noon)
	if r.Status != PermError || r.Domain.String() != "t.example" || r.KeyName != "e1._domainkey.t.example" {
		t.Errorf("%+v", r)
	}
}

func TestASecondFromBreaksEvenALooseSignature(t *testing.T) {
	_, z := signers(t)
	m := handSign(t, text(plainMessage), edKey, goodTags)
	m.header = m.header.Prepend(mail.NewField("From", "boss@t.example"))
	if r := m.one(t, z, noon); r.Status != Policy || !strings.Contains(r.Err.Error(), "more From fields") {
		t.Errorf("%s, %v", r.Status, r.Err)
	}
}

func TestABodyThatDiffersIsToldWithoutALookup(t *testing.T) {
	m := handSign(t, text(plainMessage), edKey, goodTags)
	m.body = append(m.body, "PS: pay here\r\n"...)
	r := Verify(context.Background(), panicking{}, m.header, m.hashes(), noon)[0]
	if r.Status != Fail || !strings.Contains(r.Err.Error(), "body hash differs") {
		t.Errorf("%s, %v", r.Status, r.Err)
	}
}

// panicking is a Resolver that nobody may ask.
type panicking struct{ mail.Resolver }

func TestHashesOfAnotherHasherAreNoVerdict(t *testing.T) {
	_, z := signers(t)
	m := handSign(t, text(plainMessage), edKey, strings.Replace(goodTags, "relaxed/relaxed", "simple/simple", 1))
	h := NewBodyHasher(mail.Header{}) // was not told of the signature
	h.Write(m.body)
	for _, hashes := range []BodyHashes{h.Sum(), {}} {
		r := Verify(context.Background(), z, m.header, hashes, noon)[0]
		if r.Status != TempError || !strings.Contains(r.Err.Error(), "not computed") {
			t.Errorf("%s, %v", r.Status, r.Err)
		}
	}
}

func TestSignaturesPastTheLimitAreNotVerified(t *testing.T) {
	_, z := signers(t)
	m := handSign(t, text(plainMessage), edKey, goodTags)
	for range MaxSignatures + 1 {
		m.header = m.header.Prepend(m.header.Fields[0])
	}
	results := m.verify(z, noon)
	if len(results) != MaxSignatures+2 {
		t.Fatalf("%d results", len(results))
	}
	for i, r := range results {
		want := Pass
		if i >= MaxSignatures {
			want = Policy
		}
		if r.Status != want || r.Domain.String() != "t.example" {
			t.Errorf("signature %d: %s, %v", i+1, r.Status, r.Err)
		}
	}
}

func TestResultsFollowTheHeader(t *testing.T) {
	list, z := signers(t)
	m := signWith(t, text(plainMessage), list)
	delete(z, "r1._domainkey.t.example")
	results := m.verify(z, noon)
	if len(results) != 2 || results[0].Selector != "r1" || results[0].Status != PermError || results[1].Selector != "e1" || results[1].Status != Pass {
		t.Errorf("%+v", results)
	}
}

func TestASignatureCountsForTheTimeItIsChecked(t *testing.T) {
	list, z := signers(t)
	m := signWith(t, text(plainMessage), list[1:])
	for after, want := range map[time.Duration]Status{0: Pass, sixDays: Pass, sixDays + time.Second: PermError} {
		if r := m.one(t, z, noon.Add(after)); r.Status != want {
			t.Errorf("after %s: %s, %v", after, r.Status, r.Err)
		}
	}
}

const sixDays = 6 * 24 * time.Hour

// signWith signs a message as the relay does.
func signWith(t testing.TB, raw []byte, list []Signer) message {
	t.Helper()
	return signAt(t, raw, list, noon)
}

func signAt(t testing.TB, raw []byte, list []Signer, now time.Time) message {
	t.Helper()
	m := parse(t, raw)
	fields, err := Sign(m.header, m.hashes(), list, now, sixDays)
	if err != nil {
		t.Fatal(err)
	}
	m.header = m.header.Prepend(fields...)
	return m
}
