package dkim

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"anechoic/mail"
)

func FuzzParseTags(f *testing.F) {
	for _, s := range []string{"", "v=1; a=b", "v=1;\r\n b = aG\r\n k= ; ", "a=;b=;", "a=1;;", "=", "a", ";", "é=é", "a=\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tags, err := ParseTags(b)
		if err != nil {
			return
		}
		for _, tag := range tags.list {
			raw := b[tag.start:tag.end]
			if got := strings.ReplaceAll(strings.Trim(string(raw), spaces), "\r\n", ""); got != tag.value {
				t.Fatalf("%s=%q stands where %q is", tag.name, tag.value, got)
			}
			if strings.ContainsAny(tag.value, ";\r\n") || !utf8.ValidString(tag.value) {
				t.Fatalf("%s=%q", tag.name, tag.value)
			}
		}
	})
}

func FuzzParseSignature(f *testing.F) {
	f.Add([]byte("v=1; a=rsa-sha256; c=relaxed/simple; d=t.example; s=r1; i=a=40b@sub.t.example; q=dns/txt; t=1; x=2; l=3; h=from : to; bh=" + bh32 + "; b=AA=="))
	f.Add([]byte("v=1; a=ed25519-sha256; d=bücher.example; s=é; h=from; bh=" + bh32 + "; b=AA=="))
	f.Add([]byte("v=1; a=rsa-sha1; d=t.example; s=a.b_c; h=from; bh=AA==; b=AA==; t=999999999999999999"))
	f.Fuzz(func(t *testing.T, value []byte) {
		s, err := ParseSignature(value)
		if err != nil {
			return
		}
		if s.Domain.IsZero() || s.Selector == "" || s.Algorithm == 0 || len(s.SignedFields) == 0 || len(s.Signature) == 0 {
			t.Fatalf("%+v was read without an error", s)
		}
		if !s.identityDomain.Within(s.Domain) || s.KeyName() == "" {
			t.Fatalf("i=%s, d=%s", s.identityDomain, s.Domain)
		}
		if s.Selector != strings.ToLower(s.Selector) {
			t.Fatalf("s=%s", s.Selector)
		}
	})
}

func FuzzParseRecord(f *testing.F) {
	f.Add(RecordValue(edKey.Public()))
	f.Add(RecordValue(&rsa1024().PublicKey))
	f.Add("v=DKIM1; h=sha1:sha256; s=email:*; t=y:s; n=x; p=")
	f.Add("k=rsa; p=MIGJAoGB")
	f.Fuzz(func(t *testing.T, txt string) {
		r, err := ParseRecord(txt)
		if err != nil {
			return
		}
		if r.Revoked() != (r.Bits() == 0) {
			t.Fatalf("%+v", r)
		}
		for _, a := range []Algorithm{RSASHA256, Ed25519SHA256} {
			if status, err := r.usable(a); (status == Pass) != (err == nil) {
				t.Fatalf("%s, %v", status, err)
			}
			if r.verifies(sha256.Sum256(nil), []byte("x")) {
				t.Fatal("a signature of one octet verifies")
			}
		}
		if !r.Revoked() {
			if again, err := ParseRecord(RecordValue(r.Key)); err != nil || again.KeyType != r.KeyType {
				t.Fatalf("%q is read as %+v (%v)", RecordValue(r.Key), again, err)
			}
		}
	})
}

// FuzzVerify holds whole messages against Verify: nothing may pass but what was
// signed.
func FuzzVerify(f *testing.F) {
	list, z := signers(f)
	for _, raw := range shapes {
		f.Add(signWith(f, text(raw), list[1:]).bytes()) // the key that is the same in every process
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := split(raw)
		if err != nil {
			return
		}
		results := m.verify(z, noon)
		if len(results) != m.header.Count(signatureField) {
			t.Fatalf("%d results", len(results))
		}
		for _, r := range results {
			if r.Status == None || (r.Err == nil) != (r.Status == Pass) {
				t.Fatalf("%s, %v", r.Status, r.Err)
			}
		}
	})
}

// FuzzBody holds the streaming hasher against the plain forms, cut at any place.
func FuzzBody(f *testing.F) {
	f.Add([]byte(" C \r\nD \t E\r\n\r\n\r\n"), 3)
	f.Add([]byte("a \r\r\n\r\n \t"), 2)
	f.Add(bytes.Repeat([]byte("0123456789 abc\r\n"), 200), 1500)
	f.Fuzz(func(t *testing.T, body []byte, cut int) {
		h := NewBodyHasher(wantsBoth)
		cut = min(max(cut, 0), len(body))
		h.Write(body[:cut])
		h.Write(body[cut:])
		got := h.Sum()
		if got.Relaxed != sha256.Sum256(plainRelaxed(body)) || got.Simple != sha256.Sum256(plainSimple(body)) {
			t.Fatalf("%q", body)
		}
	})
}

// FuzzSign signs whatever is a message with one From and verifies it.
func FuzzSign(f *testing.F) {
	list, z := signers(f)
	for _, raw := range shapes {
		f.Add(text(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := split(raw)
		if err != nil || m.header.Count("from") != 1 {
			return
		}
		fields, err := Sign(m.header, m.hashes(), list[1:], noon, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		m.header = mail.Header{Fields: append(fields, m.header.Fields...)}
		if r := m.verify(z, noon)[0]; r.Status != Pass {
			t.Fatalf("%s, %v", r.Status, r.Err)
		}
	})
}
