package dkim

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	peer "github.com/emersion/go-msgauth/dkim"
	"pgregory.net/rapid"
)

// peerVerify asks go-msgauth about a message with the keys of a zone.
func peerVerify(t interface{ Fatal(...any) }, m message, z zone) []*peer.Verification {
	results, err := peer.VerifyWithOptions(bytes.NewReader(m.bytes()), &peer.VerifyOptions{
		LookupTXT: func(name string) ([]string, error) {
			if records, ok := z[name]; ok {
				return records, nil
			}
			return nil, errors.New("no such name")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// peerReads says that go-msgauth can read the message at all: it ends lines at
// a bare LF too, and wants no bare CR.
func peerReads(m message) bool {
	bare := bytes.ReplaceAll(m.bytes(), crlf, nil)
	return !bytes.ContainsAny(bare, "\r\n")
}

func TestAPeerAcceptsWhatWeSign(t *testing.T) {
	list, z := signers(t)
	rapid.Check(t, func(rt *rapid.T) {
		m := messages().Filter(peerReads).Draw(rt, "message")
		fields, err := Sign(m.header, m.hashes(), list, time.Now(), sixDays) // its clock is today's
		if err != nil {
			rt.Fatal(err)
		}
		m.header = m.header.Prepend(fields...)
		results := peerVerify(rt, m, z)
		if len(results) != len(list) {
			rt.Fatalf("%d results", len(results))
		}
		for _, r := range results {
			if r.Err != nil {
				rt.Fatalf("%v", r.Err)
			}
		}
	})
}

func TestWeAcceptWhatAPeerSigns(t *testing.T) {
	list, z := signers(t)
	forms := []peer.Canonicalization{peer.CanonicalizationSimple, peer.CanonicalizationRelaxed}
	rapid.Check(t, func(rt *rapid.T) {
		m := messages().Filter(peerReads).Draw(rt, "message")
		s := rapid.SampledFrom(list).Draw(rt, "key")
		keys := []string{"From", "To", "Subject", "References", "Cc"}
		slices.Reverse(keys)
		var signed bytes.Buffer
		err := peer.Sign(&signed, bytes.NewReader(m.bytes()), &peer.SignOptions{
			Domain: "t.example", Selector: s.Selector, Signer: s.Key, HeaderKeys: keys,
			HeaderCanonicalization: rapid.SampledFrom(forms).Draw(rt, "header form"),
			BodyCanonicalization:   rapid.SampledFrom(forms).Draw(rt, "body form"),
		})
		if err != nil {
			rt.Fatal(err)
		}
		got, err := split(signed.Bytes())
		if err != nil {
			rt.Fatal(err)
		}
		for _, r := range got.verify(z, noon) {
			if r.Status != Pass {
				rt.Fatalf("%s: %s, %v\n%q", r.Algorithm, r.Status, r.Err, signed.Bytes())
			}
		}
	})
}
