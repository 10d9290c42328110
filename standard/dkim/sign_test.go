package dkim

import (
	"bytes"
	"crypto"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/mail"
)

// shapes are messages whose form has broken signers before.
var shapes = map[string]string{
	"plain":                     plainMessage,
	"empty body":                "From: a@t.example\n\n",
	"only empty lines":          "From: a@t.example\n\n\n\n\n",
	"only white space":          "From: a@t.example\n\n  \n\t\n",
	"trailing empty lines":      "From: a@t.example\nTo: b@r.example\n\ntext\n\n\n\n",
	"trailing white space":      "From: a@t.example\n\ntext \t\nmore\t \n \n",
	"leading empty lines":       "From: a@t.example\n\n\n\ntext\n",
	"indented text":             "From: a@t.example\n\n    if x  {\n\t\treturn\n\t}\n",
	"dots":                      "From: a@t.example\n\n.\n..\n.text\n",
	"folded fields":             "From: Ada\n <a@t.example>\nSubject: one\n two\n\tthree\n   four  \nReferences: <1@t.example>\n\t<2@t.example>\n\ntext\n",
	"fields without value":      "From: a@t.example\nSubject:\nTo: \nCc:\t\n\ntext\n",
	"names in every case":       "FROM: a@t.example\nsubject: x\nmEsSaGe-Id: <1@t.example>\n\ntext\n",
	"resent":                    "Resent-From: c@t.example\nResent-To: d@r.example\nResent-Date: Sun, 1 Nov 2026 12:00:00 +0000\nFrom: a@t.example\nTo: b@r.example\n\ntext\n",
	"a mailing list":            "List-Id: <l.t.example>\nList-Unsubscribe: <https://t.example/u>\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\nFrom: a@t.example\nIn-Reply-To: <0@t.example>\nAuto-Submitted: no\n\ntext\n",
	"MIME":                      "From: a@t.example\nMIME-Version: 1.0\nContent-Type: multipart/mixed;\n boundary=\"b;c\"\nContent-Transfer-Encoding: 8bit\n\n--b;c\n\ngrüße \xff\n--b;c--\n",
	"fields that come twice":    "Received: by a\nReceived: by b\nFrom: a@t.example\nReferences: <1@t.example>\nReferences: <2@t.example>\nComments: x\n\ntext\n",
	"an older signature":        "DKIM-Signature: v=1; a=rsa-sha256; d=old.example; s=x; h=from; bh=; b=xx\nFrom: a@t.example\n\ntext\n",
	"a long address list":       "From: a@t.example\nTo: " + strings.Repeat("someone@r.example,\n ", 80) + "last@r.example\n\ntext\n",
	"a field of UTF-8":          "From: a@t.example\nSubject: grüße  aus  Köln\n\ntext\n",
	"a body without a line end": "From: a@t.example\n\ntext",
}

func TestWhatWeSignVerifies(t *testing.T) {
	list, z := signers(t)
	for name, raw := range shapes {
		t.Run(name, func(t *testing.T) {
			m := signWith(t, text(raw), list)
			for i, r := range m.verify(z, noon)[:len(list)] {
				if r.Status != Pass || r.Algorithm != list[i].Algorithm || r.Identity != "@t.example" {
					t.Errorf("%s: %s, %v", r.Algorithm, r.Status, r.Err)
				}
				if !r.Signed.Equal(noon) || !r.Expires.Equal(noon.Add(sixDays)) {
					t.Errorf("signed %s, expires %s", r.Signed, r.Expires)
				}
			}
		})
	}
}

func TestOurFieldsAreFoldedAndBare(t *testing.T) {
	list, _ := signers(t)
	list[0].Selector = strings.Repeat("long-selector.", 3) + "x"
	for name, raw := range shapes {
		for _, f := range signWith(t, text(raw), list).header.Fields[:len(list)] {
			for line := range bytes.SplitSeq(bytes.TrimSuffix(f.Raw(), crlf), crlf) {
				if len(line) > maxColumn {
					t.Errorf("%s: a line of %d columns: %s", name, len(line), line)
				}
				if line[len(line)-1] == ' ' {
					t.Errorf("%s: a line that ends in a space: %q", name, line)
				}
			}
			tags, err := ParseTags(f.RawValue())
			if err != nil {
				t.Fatal(err)
			}
			for _, never := range []string{"l", "i", "q", "z"} {
				if v, ok := tags.Get(never); ok {
					t.Errorf("%s: %s=%s", name, never, v)
				}
			}
		}
	}
}

func TestFieldsAreOverSigned(t *testing.T) {
	list, _ := signers(t)
	m := signWith(t, text("Received: by x\nResent-To: d@r.example\nFrom: a@t.example\nTo: b@r.example\nReferences: <1@t.example>\nX-Other: x\nList-Id: l\nBcc: z@r.example\n\ntext\n"), list[:1])
	s, err := ParseSignature(m.header.Fields[0].RawValue())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"from", "from", "sender", "reply-to", "to", "to", "cc", "subject", "date", "message-id",
		"mime-version", "content-type", "content-transfer-encoding", "resent-to", "resent-to", "references", "list-id",
	}
	if diff := cmp.Diff(want, s.SignedFields); diff != "" {
		t.Error(diff)
	}
}

func TestNothingSignedCanBeAddedOrChanged(t *testing.T) {
	list, z := signers(t)
	signed := signWith(t, text(shapes["resent"]), list)
	for _, name := range []string{"From", "Sender", "Reply-To", "To", "Cc", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Resent-From", "Resent-To", "Resent-Date"} {
		extra := mail.NewField(name, "x@evil.example")
		for where, header := range map[string]mail.Header{
			"on top":        signed.header.Prepend(extra),
			"at the bottom": {Fields: append(signed.header.Prepend().Fields, extra)},
		} {
			for _, r := range (message{header, signed.body}).verify(z, noon) {
				if r.Status == Pass {
					t.Errorf("%s added %s: the %s signature still passes", name, where, r.Algorithm)
				}
			}
		}
	}
}

// brokenKey is a key that cannot be reached.
type brokenKey struct{ crypto.Signer }

func (brokenKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the key process is gone")
}

func TestSignRefuses(t *testing.T) {
	d := domain(t, "t.example")
	good := Signer{Domain: d, Selector: "e1", Key: edKey}
	hashes := parse(t, text(plainMessage)).hashes()
	for name, c := range map[string]struct {
		raw     string
		hashes  BodyHashes
		signers []Signer
		expire  time.Duration
		problem string
	}{
		"no From":                 {"To: b@r.example\n\n", hashes, []Signer{good}, sixDays, "0 From fields"},
		"two From fields":         {"From: a@t.example\nfrom: b@t.example\n\n", hashes, []Signer{good}, sixDays, "2 From fields"},
		"no key":                  {plainMessage, hashes, nil, sixDays, "no key"},
		"no body":                 {plainMessage, BodyHashes{}, []Signer{good}, sixDays, "not hashed"},
		"no lifetime":             {plainMessage, hashes, []Signer{good}, 0, "expires"},
		"no domain":               {plainMessage, hashes, []Signer{{Selector: "e1", Key: edKey}}, sixDays, "no domain"},
		"no selector":             {plainMessage, hashes, []Signer{{Domain: d, Key: edKey}}, sixDays, "selector"},
		"a selector with tags":    {plainMessage, hashes, []Signer{{Domain: d, Selector: "e1; l=0", Key: edKey}}, sixDays, "selector"},
		"a selector in capitals":  {plainMessage, hashes, []Signer{{Domain: d, Selector: "E1", Key: edKey}}, sixDays, "selector"},
		"a nil key":               {plainMessage, hashes, []Signer{{Domain: d, Selector: "e1"}}, sixDays, "no key"},
		"RSA of 1024 bits":        {plainMessage, hashes, []Signer{{Domain: d, Selector: "r1", Key: rsa1024()}}, sixDays, "1024 bits"},
		"the wrong algorithm":     {plainMessage, hashes, []Signer{{Domain: d, Selector: "r1", Key: rsa2048(), Algorithm: Ed25519SHA256}}, sixDays, "not for ed25519-sha256"},
		"rsa-sha1":                {plainMessage, hashes, []Signer{{Domain: d, Selector: "r1", Key: rsa2048(), Algorithm: RSASHA1}}, sixDays, "not for rsa-sha1"},
		"an elliptic curve":       {plainMessage, hashes, []Signer{{Domain: d, Selector: "x", Key: newECDSA(t)}}, sixDays, "cannot sign"},
		"a key that is gone":      {plainMessage, hashes, []Signer{good, {Domain: d, Selector: "e2", Key: brokenKey{edKey}}}, sixDays, "the key process is gone"},
		"one bad key of two keys": {plainMessage, hashes, []Signer{good, {Domain: d, Selector: "r1", Key: rsa1024()}}, sixDays, "1024 bits"},
	} {
		t.Run(name, func(t *testing.T) {
			fields, err := Sign(parse(t, text(c.raw)).header, c.hashes, c.signers, noon, c.expire)
			if err == nil || !strings.Contains(err.Error(), c.problem) || !strings.HasPrefix(err.Error(), "dkim: sign") {
				t.Errorf("got %v, want …%s…", err, c.problem)
			}
			if fields != nil {
				t.Error("there are fields beside the error")
			}
		})
	}
}

// messages draws a header with one From and signed fields, and a body.
func messages() *rapid.Generator[message] {
	word := rapid.SampledFrom([]string{"a", "Grüße", "x  y", "<1@t.example>", ";=:", "\t", " ", "\r\n z", "\r\n\t \tw  "})
	name := rapid.SampledFrom([]string{"To", "cc", "SUBJECT", "Date", "References", "Received", "X-Other", "Resent-To", "List-Id", "Reply-To"})
	return rapid.Custom(func(t *rapid.T) message {
		fields := []mail.Field{mail.NewField("From", "a@t.example")}
		for range rapid.IntRange(0, 8).Draw(t, "fields") {
			value := strings.Join(rapid.SliceOfN(word, 0, 5).Draw(t, "words"), "")
			fields = append(fields, mail.NewField(name.Draw(t, "name"), value+"."))
		}
		at := rapid.IntRange(0, len(fields)-1).Draw(t, "from at")
		fields[0], fields[at] = fields[at], fields[0]
		return message{mail.Header{Fields: fields}, bodies().Draw(t, "body")}
	})
}

func TestAnyMessageVerifiesAfterSigning(t *testing.T) {
	list, z := signers(t)
	rapid.Check(t, func(rt *rapid.T) {
		m := messages().Draw(rt, "message")
		hasher := NewBodyHasher(m.header)
		for rest := m.body; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(rt, "chunk")
			hasher.Write(rest[:n])
			rest = rest[n:]
		}
		fields, err := Sign(m.header, hasher.Sum(), list, noon, sixDays)
		if err != nil {
			rt.Fatal(err)
		}
		m.header = m.header.Prepend(fields...)
		for _, r := range m.verify(z, noon) {
			if r.Status != Pass {
				rt.Fatalf("%s: %s, %v", r.Algorithm, r.Status, r.Err)
			}
		}
	})
}

// canonicalText is all that a relaxed signature of Sign covers: the signed
// fields, the signature field without b=, and the body.
func canonicalText(m message, names []string) string {
	own := m.header.Fields[0]
	b := NewIndex(m.header).AppendFields(nil, names, own, Relaxed)
	return string(AppendUnsigned(b, own, Relaxed)) + "\r\n\r\n" + string(plainRelaxed(m.body))
}

// TestAnyChangeBreaksTheSignature flips one octet of a signed message anywhere
// but in b=. If what is left is a message at all and its canonical form is
// another, the signature must not pass; if the canonical form is the same, it
// must.
func TestAnyChangeBreaksTheSignature(t *testing.T) {
	list, z := signers(t)
	rapid.Check(t, func(rt *rapid.T) {
		m := messages().Draw(rt, "message")
		fields, err := Sign(m.header, m.hashes(), list[1:], noon, sixDays)
		if err != nil {
			rt.Fatal(err)
		}
		m.header = m.header.Prepend(fields...)
		raw := m.bytes()
		at := rapid.IntRange(0, len(raw)-1).Draw(rt, "at")
		raw[at] ^= byte(rapid.IntRange(1, 255).Draw(rt, "flip"))
		changed, err := split(raw)
		if err != nil || len(changed.header.Fields) == 0 || !changed.header.Fields[0].Is(signatureField) {
			return // no message any more, or no signature
		}
		before, _ := ParseSignature(m.header.Fields[0].RawValue())
		after, err := ParseSignature(changed.header.Fields[0].RawValue())
		r := changed.verify(z, noon)[0]
		same := err == nil && bytes.Equal(before.Signature, after.Signature) &&
			canonicalText(m, before.SignedFields) == canonicalText(changed, after.SignedFields)
		if same != (r.Status == Pass) {
			rt.Fatalf("octet %d: same canonical form %v, but %s, %v", at, same, r.Status, r.Err)
		}
	})
}
