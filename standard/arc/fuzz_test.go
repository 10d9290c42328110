package arc

import (
	"testing"

	"anechoic/mail"
	"anechoic/standard/dkim"
)

// fuzzed is a message that two handlers sealed with the key that is the same in
// every process.
func fuzzed(f *testing.F) (message, dkim.Signer, zone) {
	s := dkim.Signer{Domain: domain(f, "second.example"), Selector: "b", Key: edKey}
	z := zone{dkim.KeyName(s.Selector, s.Domain): {dkim.RecordValue(s.Key.Public())}}
	return parse(f, text(plainMessage)).passOn(f, z, s).passOn(f, z, s), s, z
}

// FuzzSets holds headers against readSets: without an error, each of at most fifty
// sets has each field once and no field is left over.
func FuzzSets(f *testing.F) {
	m, _, _ := fuzzed(f)
	f.Add(m.header.Bytes())
	f.Add(text("ARC-Seal: i=2\nARC-Seal: i=02\nARC-Message-Signature: i=1; i=1\nARC-Authentication-Results: i=1; none\n"))
	f.Add(text("ARC-Authentication-Results: (a(b)\\)) i = 50 ; mx.example; none\nARC-Seal: i=50; cv=none\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		header, err := mail.ParseHeader(raw, mail.HeaderLimits{})
		if err != nil {
			return
		}
		s := readSets(header)
		if len(s.list) > MaxInstances {
			t.Fatalf("%d sets", len(s.list))
		}
		if s.err == nil && s.fields != 3*len(s.list) {
			t.Fatalf("%d fields in %d sets", s.fields, len(s.list))
		}
		for i := range s.list {
			if s.err == nil && !s.list[i].whole() {
				t.Fatalf("set %d is not whole", i+1)
			}
		}
		if (s.fields == 0) != (fingerprint(header) == [32]byte{}) {
			t.Fatal("the fingerprint is not that of these fields")
		}
	})
}

// FuzzValidate holds whole messages against Validate: it passes only what passes in
// every part.
func FuzzValidate(f *testing.F) {
	m, _, z := fuzzed(f)
	f.Add(m.bytes())
	f.Add(m.replace(f, "Dear", "Near").bytes())
	f.Add(m.replace(f, "cv=pass", "cv=fail").bytes())
	f.Add(m.replace(f, "i=2", "i=3").bytes())
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := split(raw)
		if err != nil {
			return
		}
		checkChain(t, m.validate(z))
	})
}

// checkChain holds a chain against itself.
func checkChain(t *testing.T, c Chain) {
	t.Helper()
	if (c.Err != nil) != (c.Status == Fail) || c.Temporary && c.Status != Fail || c.OldestPass > len(c.Instances) {
		t.Fatalf("%+v", c)
	}
	if c.Status == Pass && (c.SealStatus != Pass || len(c.Instances) == 0 || c.Instances[len(c.Instances)-1].Message.Status != dkim.Pass) {
		t.Fatalf("%+v", c)
	}
	for n, i := range c.Instances {
		if i.Number != n+1 || (i.Seal.Err == nil) != (i.Seal.Status == dkim.Pass) || (i.Message.Err == nil) != (i.Message.Status == dkim.Pass) {
			t.Fatalf("%+v", i)
		}
		right := i.Claimed == Pass && n > 0 || i.Claimed == None && n == 0
		if c.SealStatus == Pass && (i.Seal.Status != dkim.Pass || !right) {
			t.Fatalf("%+v", i)
		}
	}
}

// FuzzSeal seals whatever has one From field. What had a chain, or none, passes then;
// what had a broken one has a seal that verifies and says so.
func FuzzSeal(f *testing.F) {
	m, s, z := fuzzed(f)
	f.Add(text(plainMessage))
	f.Add(m.bytes())
	f.Add(m.replace(f, "Dear", "Near").bytes())
	f.Add(text("ARC-Seal: i=5; a=\n" + plainMessage))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := split(raw)
		if err != nil {
			return
		}
		before := m.validate(z)
		fields, err := Seal(m.header, m.hashes(), before, saw(before), s, noon)
		if err != nil {
			return
		}
		after := message{m.header.Prepend(fields...), m.body}.validate(z)
		checkChain(t, after)
		newest := after.Instances[len(after.Instances)-1]
		if newest.Seal.Status != dkim.Pass || newest.Message.Status != dkim.Pass || newest.ResultsErr != nil {
			t.Fatalf("%+v", newest)
		}
		if (after.Status == Pass) == (before.Status == Fail) {
			t.Fatalf("%s after %s", after.Status, before.Status)
		}
	})
}
