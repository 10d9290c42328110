package dkim

import (
	"context"
	"testing"
)

func TestKeysVerifyOnlyWhatNamesThem(t *testing.T) {
	list, z := signers(t)
	digest := sum("x")
	octets, err := list[0].SignDigest(digest)
	if err != nil {
		t.Fatal(err)
	}
	s := Signature{Domain: list[0].Domain, Selector: list[0].Selector, Algorithm: RSASHA256, Signature: octets}
	keys := LookUpKeys(context.Background(), z, s.KeyName())
	if k := keys.Check(s, digest); k.Status != Pass || k.Err != nil {
		t.Fatalf("%s, %v", k.Status, k.Err)
	}
	other := s
	other.Domain = domain(t, "other.example")
	for name, k := range map[string]KeyCheck{
		"a signature by another domain": keys.Check(other, digest),
		"no keys":                       Keys{}.Check(s, digest),
		"a signature of nobody":         Keys{}.Check(Signature{Algorithm: RSASHA256, Signature: octets}, digest),
		"another digest":                keys.Check(s, sum("y")),
	} {
		if k.Status == Pass || k.Err == nil {
			t.Errorf("%s: %s, %v", name, k.Status, k.Err)
		}
	}
}

func TestSignaturesOfARCAreReadWithoutVersion(t *testing.T) {
	tags, err := ParseTags([]byte("i=1; v=9; a=rsa-sha256; d=t.example; s=r1; h=from::To; bh=" + bh32 + "; b=AA=="))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseMessageSignature(tags)
	if err != nil || s.Header != Relaxed || s.Body != Relaxed || len(s.SignedFields) != 2 || s.SignedFields[1] != "to" {
		t.Errorf("%+v, %v", s, err)
	}
	if seal, err := ParseSeal(tags); err != nil || seal.Header != Relaxed || seal.SignedFields != nil || seal.BodyHash != nil {
		t.Errorf("%+v, %v", seal, err)
	}
	empty, _ := ParseTags([]byte("a=rsa-sha256; d=t.example; s=r1; h=:; bh=" + bh32 + "; b=AA=="))
	if _, err := ParseMessageSignature(empty); err == nil {
		t.Error("a signature over no field is read")
	}
}
