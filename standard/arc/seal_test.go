package arc

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"anechoic/mail"
	"anechoic/standard/authres"
	"anechoic/standard/dkim"
)

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func TestTheSetStandsOnTopAndIsFolded(t *testing.T) {
	m, _ := relayed(t, 1)
	var names []string
	for _, f := range m.header.Fields[:3] {
		names = append(names, f.Name())
		for line := range strings.SplitSeq(string(f.Raw()), "\r\n") {
			if len(line) > 78 {
				t.Errorf("%q is long", line)
			}
		}
	}
	if !slices.Equal(names, []string{SealField, MessageField, ResultsField}) {
		t.Error(names)
	}
}

func TestOurMessageSignatureCoversSignaturesButNoSeal(t *testing.T) {
	list, z := handlers(t)
	m := parse(t, text(plainMessage))
	signed, err := dkim.Sign(m.header, m.hashes(), list[:2], noon, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	m.header = m.header.Prepend(signed...).Prepend(mail.NewField("Authentication-Results", "mx.h.example; none"))
	m = m.passOn(t, z, list[0]).passOn(t, z, list[1])
	c := m.validate(z)
	if c.Status != Pass {
		t.Fatal(c.Err)
	}
	for _, i := range c.Instances {
		names := i.Message.SignedFields
		count := 0
		for _, name := range names {
			switch {
			case name == "dkim-signature":
				count++
			case strings.HasPrefix(name, "arc-"), name == "authentication-results": // RFC 8617 section 4.1.2
				t.Errorf("set %d signs %s", i.Number, name)
			}
		}
		if count != 2 || !slices.Contains(names, "from") {
			t.Errorf("set %d signs %v", i.Number, names)
		}
	}
}

func TestAFailedChainIsSealedOnceMoreAndThenNoMore(t *testing.T) {
	m, z := relayed(t, 2)
	list, _ := handlers(t)
	m = m.replace(t, "Dear", "Near").passOn(t, z, list[2])
	c := m.validate(z)
	newest := c.Instances[2]
	if c.Status != Fail || newest.Claimed != Fail || newest.Seal.Status != dkim.Pass || newest.Message.Status != dkim.Pass {
		t.Errorf("%s, cv=%s, seal %s (%v)", c.Status, newest.Claimed, newest.Seal.Status, newest.Seal.Err)
	}
	// Its seal covers its own set alone (RFC 8617 section 5.1.2).
	alone := message{m.header.Without(func(f mail.Field) bool {
		return isARC(f) && !strings.Contains(f.Value(), "i=3;")
	}), m.body}.validate(z)
	if alone.Instances[2].Seal.Status != dkim.Pass {
		t.Error(alone.Instances[2].Seal.Err)
	}
	if _, err := Seal(m.header, m.hashes(), c, saw(c), list[0], noon); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
}

func TestSetsThatCannotBeReadAreSealedAsFailed(t *testing.T) {
	list, z := handlers(t)
	m := parse(t, text("ARC-Seal: i=seven; cv=pass\nARC-Seal: i=2\n"+plainMessage)).passOn(t, z, list[0])
	c := m.validate(z)
	if len(c.Instances) != 3 || c.Instances[2].Claimed != Fail || c.Instances[2].Seal.Status != dkim.Pass || c.Status != Fail {
		t.Errorf("%+v", c)
	}
}

func TestTheFiftyFirstSetIsRefused(t *testing.T) {
	m, z := relayed(t, MaxInstances)
	list, _ := handlers(t)
	chain := m.validate(z)
	if _, err := Seal(m.header, m.hashes(), chain, saw(chain), list[0], noon); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
}

func TestWhatIsNotSealed(t *testing.T) {
	list, z := handlers(t)
	m, _ := relayed(t, 1)
	chain := m.validate(z)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	down := zone{"a._domainkey.first.example": {"SERVFAIL"}}
	twoFroms := message{m.header.Prepend(mail.NewField("From", "eve@e.example")), m.body}
	for name, c := range map[string]struct {
		header  mail.Header
		hashes  dkim.BodyHashes
		chain   Chain
		results authres.Results
		signer  dkim.Signer
		why     string
	}{
		"a chain that was not validated":  {m.header, m.hashes(), Chain{}, saw(chain), list[1], "not that of this header"},
		"the chain of another message":    {m.without(SealField, 0).header, m.hashes(), chain, saw(chain), list[1], "not that of this header"},
		"a chain whose keys were not had": {m.header, m.hashes(), m.validate(down), saw(chain), list[1], ErrTemporary.Error()},
		"a body that was not hashed":      {m.header, dkim.BodyHashes{}, chain, saw(chain), list[1], "body was not hashed"},
		"results of nobody":               {m.header, m.hashes(), chain, authres.Results{}, list[1], "whose they are"},
		"two From fields":                 {twoFroms.header, m.hashes(), twoFroms.validate(z), saw(chain), list[1], "2 From fields"},
		"no key":                          {m.header, m.hashes(), chain, saw(chain), dkim.Signer{Domain: list[0].Domain, Selector: "a"}, "no key"},
		"a weak key":                      {m.header, m.hashes(), chain, saw(chain), dkim.Signer{Domain: list[0].Domain, Selector: "a", Key: weak}, "1024 bits"},
	} {
		t.Run(name, func(t *testing.T) {
			fields, err := Seal(c.header, c.hashes, c.chain, c.results, c.signer, noon)
			if err == nil || fields != nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%v, want %s", err, c.why)
			}
		})
	}
}

func TestResultsOfAnAttackerStayInTheirPlace(t *testing.T) {
	list, z := handlers(t)
	m := parse(t, text(plainMessage))
	hostile := saw(Chain{})
	hostile.Methods[1].Properties[0].Value = "a\"; dmarc=pass header.from=t.example;\r\nX-Evil: 1\r\n\r\n(\\"
	hostile.Methods[1].Reason = strings.Repeat("ü)(\x00", 500)
	fields, err := Seal(m.header, m.hashes(), Chain{}, hostile, list[0], noon)
	if err != nil {
		t.Fatal(err)
	}
	sealed := parse(t, message{m.header.Prepend(fields...), m.body}.bytes())
	c := sealed.validate(z)
	if c.Status != Pass || sealed.header.Count("X-Evil") != 0 {
		t.Fatalf("%s, %v", c.Status, c.Err)
	}
	if r := c.Instances[0].Results.Of("dmarc"); len(r) != 1 || r[0].Value != "fail" {
		t.Errorf("%+v", r)
	}
}
