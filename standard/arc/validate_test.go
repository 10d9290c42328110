package arc

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"anechoic/mail"
	"anechoic/standard/dkim"
)

func TestAMessageWithoutSetsHasNoChain(t *testing.T) {
	m := parse(t, text(plainMessage))
	if c := m.validate(nil); c.Status != None || c.Err != nil || len(c.Instances) != 0 || c.SealStatus != None {
		t.Errorf("%+v", c)
	}
}

func TestAChainOfThreeHandlersPasses(t *testing.T) {
	m, z := relayed(t, 3)
	c := m.validate(z)
	if c.Status != Pass || c.SealStatus != Pass || c.Err != nil || c.OldestPass != 0 || len(c.Instances) != 3 {
		t.Fatalf("%s, %v", c.Status, c.Err)
	}
	for n, want := range []struct {
		sealer, selector string
		claimed          Status
		arc              string
	}{{"first.example", "a", None, "none"}, {"second.example", "b", Pass, "pass"}, {"third.example", "c", Pass, "pass"}} {
		i := c.Instances[n]
		if i.Number != n+1 || i.Sealer().String() != want.sealer || i.Claimed != want.claimed {
			t.Errorf("set %d by %s with cv=%s", i.Number, i.Sealer(), i.Claimed)
		}
		if i.Message.Status != dkim.Pass || i.Message.Selector != want.selector || !i.Seal.Signed.Equal(noon) {
			t.Errorf("set %d: %s, s=%s, %s", i.Number, i.Message.Status, i.Message.Selector, i.Seal.Signed)
		}
		if i.ResultsErr != nil || i.Results.ID != "mx.h.example" || i.Results.Of("arc")[0].Value != want.arc {
			t.Errorf("set %d: %v, %+v", i.Number, i.ResultsErr, i.Results)
		}
		if !strings.HasPrefix(i.Text, "mx.h.example; arc="+want.arc+"; spf=pass") {
			t.Errorf("set %d: %q", i.Number, i.Text)
		}
	}
}

func TestABodyChangedAfterTheLastSealLeavesTheSealsIntact(t *testing.T) {
	m, z := relayed(t, 2)
	c := m.replace(t, "here they are", "here they were").validate(z)
	if c.Status != Fail || c.SealStatus != Pass || c.Temporary {
		t.Errorf("chain %s, seals %s", c.Status, c.SealStatus)
	}
	if c.Err == nil || !strings.Contains(c.Err.Error(), "set 2: ARC-Message-Signature: the body hash differs") {
		t.Error(c.Err)
	}
	for _, i := range c.Instances {
		if i.Seal.Status != dkim.Pass || i.Message.Status != dkim.Fail {
			t.Errorf("set %d: seal %s, message %s", i.Number, i.Seal.Status, i.Message.Status)
		}
	}
}

func TestAHandlerThatChangedTheBodyIsTheOldestPass(t *testing.T) {
	m, z := relayed(t, 1)
	list, _ := handlers(t)
	chain := m.validate(z)
	m = m.replace(t, "Ada\r\n", "Ada\r\n-- \r\nthe list\r\n")
	fields, err := Seal(m.header, m.hashes(), chain, saw(chain), list[1], noon)
	if err != nil {
		t.Fatal(err)
	}
	c := message{m.header.Prepend(fields...), m.body}.validate(z)
	if c.Status != Pass || c.OldestPass != 2 || c.Instances[0].Message.Status != dkim.Fail {
		t.Errorf("%s, oldest %d, first message %s (%v)", c.Status, c.OldestPass, c.Instances[0].Message.Status, c.Err)
	}
}

func TestResultsThatWereForgedBreakTheirSealAndAllNewerOnes(t *testing.T) {
	m, z := relayed(t, 3)
	second := m.header.All(ResultsField)[1]
	forged := strings.Replace(string(second.Raw()), "dmarc=fail", "dmarc=pass", 1)
	c := m.replace(t, string(second.Raw()), forged).validate(z)
	want := []dkim.Status{dkim.Pass, dkim.Fail, dkim.Fail}
	for n, i := range c.Instances {
		if i.Seal.Status != want[n] {
			t.Errorf("seal %d: %s, want %s", n+1, i.Seal.Status, want[n])
		}
	}
	if c.Status != Fail || c.SealStatus != Fail || !c.Instances[1].Sealer().IsZero() {
		t.Errorf("%s, seals %s", c.Status, c.SealStatus)
	}
}

func TestSetsCutFromAnotherMessageNeverPass(t *testing.T) {
	m, z := relayed(t, 2)
	other := parse(t, text("From: Eve <ada@t.example>\nSubject: pay\n\nnow\n"))
	var stolen []mail.Field
	for _, f := range m.header.Fields {
		if isARC(f) {
			stolen = append(stolen, f)
		}
	}
	c := message{other.header.Prepend(stolen...), other.body}.validate(z)
	if c.Status != Fail || c.SealStatus != Pass {
		t.Errorf("chain %s, seals %s: the seals are genuine, the message is not theirs", c.Status, c.SealStatus)
	}
}

func TestAChainThatLacksAFieldOrHasItTwiceFails(t *testing.T) {
	m, z := relayed(t, 3)
	for _, name := range []string{SealField, MessageField, ResultsField} {
		for n := range 3 {
			set := 3 - n // fields are put on top
			c := m.without(name, n).validate(z)
			if want := fmt.Sprintf("set %d has no %s", set, name); c.Status != Fail || c.Err.Error() != want {
				t.Errorf("%s: %v, want %s", c.Status, c.Err, want)
			}
			twice := message{m.header.Prepend(m.header.All(name)[n]), m.body}.validate(z)
			if want := fmt.Sprintf("set %d has %s twice", set, name); twice.Status != Fail || twice.Err.Error() != want {
				t.Errorf("%s: %v, want %s", twice.Status, twice.Err, want)
			}
		}
	}
}

func TestSealsOverASetThatIsNotWholeAreNotJudged(t *testing.T) {
	m, z := relayed(t, 3)
	c := m.without(ResultsField, 1).validate(z)
	want := []dkim.Status{dkim.Pass, dkim.PermError, dkim.PermError}
	for n, i := range c.Instances {
		if i.Seal.Status != want[n] {
			t.Errorf("seal %d: %s, %v", n+1, i.Seal.Status, i.Seal.Err)
		}
	}
	if c.SealStatus != Fail || c.Instances[1].ResultsErr == nil {
		t.Errorf("%+v", c)
	}
}

// handSet puts a set on top that Seal never would make: more are tags for the
// message signature and for the seal, names what the former signs.
func handSet(t *testing.T, m message, number int, claimed Status, names []string, more, sealMore [][2]string) message {
	t.Helper()
	list, _ := handlers(t)
	hashes := m.hashes()
	w := writing{signer: list[0], number: number, chain: claimed, now: noon}
	var own set
	own.results.field = w.results(saw(Chain{Status: claimed}))
	tags := dkim.NewTagWriter(MessageField)
	tags.Tag("i", fmt.Sprint(number))
	tags.Tag("a", "rsa-sha256")
	tags.Tag("d", list[0].Domain.String())
	tags.Tag("s", list[0].Selector)
	tags.Tag("bh", fmt.Sprint(base64Of(hashes.Relaxed[:])))
	tags.List("h", names)
	for _, tag := range more {
		tags.Tag(tag[0], tag[1])
	}
	canonical := dkim.NewIndex(m.header).AppendFields(nil, names, mail.Field{}, dkim.Relaxed)
	var err error
	if own.message.field, err = list[0].Complete(tags, canonical, dkim.Relaxed); err != nil {
		t.Fatal(err)
	}
	seal, err := w.tags(SealField)
	if err != nil {
		t.Fatal(err)
	}
	if claimed <= Fail {
		seal.Tag("cv", claimed.String())
	}
	for _, tag := range sealMore {
		seal.Tag(tag[0], tag[1])
	}
	if own.seal.field, err = list[0].Complete(seal, w.covered(readSets(m.header), &own), dkim.Relaxed); err != nil {
		t.Fatal(err)
	}
	return message{m.header.Prepend(own.seal.field, own.message.field, own.results.field), m.body}
}

func TestSignaturesThatSayWhatMayNotBeSaid(t *testing.T) {
	from := []string{"from", "subject"}
	const seconds = "1793534400" // noon
	for _, c := range []struct {
		name     string
		names    []string
		more     [][2]string
		sealMore [][2]string
		status   Status
		why      string
	}{
		{"nothing special", from, nil, nil, Pass, ""},
		{"unknown tags and a version", from, [][2]string{{"v", "7"}, {"zz", "1"}}, [][2]string{{"zz", "1"}}, Pass, ""},
		{"an empty name in h=", []string{"from", "", "subject"}, nil, nil, Pass, ""},
		{"seals are signed", []string{"from", "arc-seal"}, nil, nil, Fail, "it signs seals"},
		{"From is not signed", []string{"subject"}, nil, nil, Fail, "From field is not signed"},
		{"part of the body", from, [][2]string{{"l", "3"}}, nil, Fail, "part of the body"},
		{"expired", from, [][2]string{{"t", "1"}, {"x", "2"}}, nil, Fail, "expired"},
		{"expires before it was made", from, [][2]string{{"t", seconds}, {"x", "2"}}, nil, Fail, "not later than t="},
		{"a query that is not known", from, [][2]string{{"q", "http"}}, nil, Fail, "tag q="},
		{"a canonical form that is not known", from, [][2]string{{"c", "loose"}}, nil, Fail, "tag c="},
		{"fields in a seal", from, nil, [][2]string{{"h", "from"}}, Fail, "tag h= is not allowed"},
		{"a tag that stands twice", from, nil, [][2]string{{"t", "noon"}}, Fail, "stands twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, z := handlers(t)
			chain := handSet(t, parse(t, text(plainMessage)), 1, None, c.names, c.more, c.sealMore).validate(z)
			if chain.Status != c.status {
				t.Fatalf("%s, %v", chain.Status, chain.Err)
			}
			if c.why != "" && !strings.Contains(chain.Err.Error(), c.why) {
				t.Errorf("%v, want %s", chain.Err, c.why)
			}
		})
	}
}

func TestSealsThatClaimWhatCannotBe(t *testing.T) {
	from := []string{"from"}
	plain := parse(t, text(plainMessage))
	one := handSet(t, plain, 1, None, from, nil, nil)
	for name, c := range map[string]struct {
		m   message
		why string
	}{
		"the first found a chain":        {handSet(t, plain, 1, Pass, from, nil, nil), "set 1 says cv=pass, which cannot be"},
		"the second found none":          {handSet(t, one, 2, None, from, nil, nil), "set 2 says cv=none, which cannot be"},
		"the second found a broken one":  {handSet(t, one, 2, Fail, from, nil, nil), "set 2 says cv=fail"},
		"the chain begins with 2":        {handSet(t, plain, 2, Pass, from, nil, nil), "set 1 has no ARC-Seal"},
		"the second is missing":          {handSet(t, one, 3, Pass, from, nil, nil), "set 2 has no ARC-Seal"},
		"the seal says nothing of it":    {handSet(t, plain, 1, Fail+1, from, nil, nil), "tag cv= is missing"},
		"a word that is no status":       {handSet(t, plain, 1, Fail+1, from, nil, [][2]string{{"cv", "softfail"}}), "tag cv="},
		"an older one says it is broken": {handSet(t, handSet(t, plain, 1, Fail, from, nil, nil), 2, Pass, from, nil, nil), "set 1 says cv=fail, which cannot be"},
	} {
		t.Run(name, func(t *testing.T) {
			_, z := handlers(t)
			chain := c.m.validate(z)
			if chain.Status != Fail || chain.SealStatus != Fail || !strings.Contains(chain.Err.Error(), c.why) {
				t.Errorf("%s, %v, want %s", chain.Status, chain.Err, c.why)
			}
		})
	}
}

func TestAFromFieldAddedAfterSealingFails(t *testing.T) {
	m, z := relayed(t, 1)
	m.header = m.header.Prepend(mail.NewField("From", "Eve <eve@e.example>"))
	if c := m.validate(z); c.Status != Fail {
		t.Error(c.Status)
	}
}

func TestAKeyThatCannotBeHadNowMakesTheFailureTemporary(t *testing.T) {
	m, z := relayed(t, 2)
	z["a._domainkey.first.example"] = []string{"SERVFAIL"}
	c := m.validate(z)
	if c.Status != Fail || c.SealStatus != Fail || !c.Temporary || c.Instances[0].Seal.Status != dkim.TempError {
		t.Errorf("%s, temporary %t, %v", c.Status, c.Temporary, c.Err)
	}
	if c = m.replace(t, "Dear", "Near").validate(z); c.Temporary {
		t.Error("a changed body stays changed")
	}
	delete(z, "a._domainkey.first.example")
	if c = m.validate(z); c.Status != Fail || c.Temporary {
		t.Errorf("%s, temporary %t: a key that was taken back is gone", c.Status, c.Temporary)
	}
}

// counting counts what a zone is asked.
type counting struct {
	zone
	asked *atomic.Int32
}

func (c counting) TXT(ctx context.Context, name string) (mail.Answer[string], error) {
	c.asked.Add(1)
	return c.zone.TXT(ctx, name)
}

func TestEachKeyIsLookedUpOnce(t *testing.T) {
	m, z := relayed(t, 9)
	r := counting{z, new(atomic.Int32)}
	if c := m.validate(r); c.Status != Pass {
		t.Fatal(c.Err)
	}
	if n := r.asked.Load(); n != 3 {
		t.Errorf("%d look-ups for 3 keys", n)
	}
	r.asked.Store(0)
	broken := m.replace(t, "Dear", "Near")
	broken.header = broken.header.Without(func(f mail.Field) bool { return f.Is(ResultsField) })
	if broken.validate(r); r.asked.Load() != 0 {
		t.Errorf("%d look-ups where nothing could pass", r.asked.Load())
	}
}

// silent is a resolver that never answers.
type silent struct{ zone }

func (silent) TXT(ctx context.Context, _ string) (mail.Answer[string], error) {
	<-ctx.Done()
	return mail.Answer[string]{}, ctx.Err()
}

func TestADNSThatDoesNotAnswerEndsAtTheDeadline(t *testing.T) {
	m, _ := relayed(t, 30)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		c := Validate(ctx, silent{}, m.header, m.hashes(), noon)
		if c.Status != Fail || !c.Temporary || time.Since(start) != 10*time.Second {
			t.Errorf("%s, temporary %t, after %s (%v)", c.Status, c.Temporary, time.Since(start), c.Err)
		}
	})
}

func TestFiftySetsAreAChainAndFiftyOneAreNot(t *testing.T) {
	m, z := relayed(t, MaxInstances)
	chain := m.validate(z)
	if chain.Status != Pass || len(chain.Instances) != MaxInstances {
		t.Fatalf("%s of %d sets, %v", chain.Status, len(chain.Instances), chain.Err)
	}
	c := handSet(t, m, MaxInstances+1, Pass, []string{"from"}, nil, nil).validate(z)
	if c.Status != Fail || !strings.Contains(c.Err.Error(), "more than 150 ARC fields") && !strings.Contains(c.Err.Error(), "not within 1 to 50") {
		t.Errorf("%s, %v", c.Status, c.Err)
	}
}

func TestAFloodOfFieldsIsNotReadToItsEnd(t *testing.T) {
	m := parse(t, text(plainMessage))
	var flood []mail.Field
	for n := range 10_000 {
		flood = append(flood, mail.NewField(SealField, fmt.Sprintf("i=%d; a=rsa-sha256; cv=pass; d=e.example; s=s%d; b=AA==", 1+n%MaxInstances, n)))
	}
	r := counting{zone{}, new(atomic.Int32)}
	c := message{m.header.Prepend(flood...), m.body}.validate(r)
	if c.Status != Fail || len(c.Instances) > MaxInstances || r.asked.Load() != 0 {
		t.Errorf("%s, %d sets, %d look-ups", c.Status, len(c.Instances), r.asked.Load())
	}
}

// TestNoChangeOfAnOctetIsForgiven changes one octet of what is sealed or signed: but
// for white space and the case of field names, which the relaxed form forgives,
// nothing passes.
func TestNoChangeOfAnOctetIsForgiven(t *testing.T) {
	m, z := relayed(t, 2)
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, len(m.header.Fields)-1).Draw(rt, "field")
		f := m.header.Fields[n]
		if f.Is("Received") {
			return // is not signed
		}
		raw := append([]byte(nil), f.Raw()...)
		at := rapid.IntRange(len(f.Name())+1, len(raw)-3).Draw(rt, "octet")
		octet := byte(rapid.IntRange('!', '~').Draw(rt, "value"))
		if strings.IndexByte(" \t\r\n", raw[at]) >= 0 || raw[at] == octet {
			return
		}
		raw[at] = octet
		changed, err := mail.ParseHeader(raw, mail.HeaderLimits{})
		if err != nil {
			rt.Fatal(err)
		}
		fields := append([]mail.Field(nil), m.header.Fields...)
		fields[n] = changed.Fields[0]
		c := message{mail.Header{Fields: fields}, m.body}.validate(z)
		if c.Status != Fail || c.Err == nil {
			rt.Fatalf("%s with %q", c.Status, raw)
		}
	})
}
