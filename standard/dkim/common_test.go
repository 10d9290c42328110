package dkim

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"anechoic/mail"
)

var update = flag.Bool("update", false, "write the golden files of testdata again")

// noon is when tests take place unless they say otherwise.
var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

var errServfail = errors.New("SERVFAIL")

// zone is a Resolver that knows TXT records. A name that is absent does not
// exist; one whose only record is "SERVFAIL" cannot be asked.
type zone map[string][]string

func (z zone) TXT(_ context.Context, name string) (mail.Answer[string], error) {
	records, ok := z[strings.ToLower(name)]
	if !ok {
		return mail.Answer[string]{}, mail.ErrNoDomain
	}
	if len(records) == 1 && records[0] == "SERVFAIL" {
		return mail.Answer[string]{}, errServfail
	}
	return mail.Answer[string]{Records: records}, nil
}

func (zone) MX(context.Context, string) (mail.Answer[mail.MX], error) { panic("not asked") }
func (zone) Addresses(context.Context, string) (mail.Answer[netip.Addr], error) {
	panic("not asked")
}
func (zone) PTR(context.Context, netip.Addr) (mail.Answer[string], error) { panic("not asked") }
func (zone) CNAME(context.Context, string) (mail.Answer[string], error)   { panic("not asked") }
func (zone) TLSA(context.Context, string) (mail.Answer[mail.TLSA], error) { panic("not asked") }

// message is a header and a body as tests handle them.
type message struct {
	header mail.Header
	body   []byte
}

// parse reads a message with CRLF line ends.
func parse(t testing.TB, raw []byte) message {
	t.Helper()
	m, err := split(raw)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func split(raw []byte) (message, error) {
	head, body := raw, []byte(nil)
	if i := bytes.Index(raw, []byte("\r\n\r\n")); i >= 0 {
		head, body = raw[:i+2], raw[i+4:]
	}
	header, err := mail.ParseHeader(head, mail.HeaderLimits{})
	return message{header, body}, err
}

// withCRLF gives text the line ends of the wire, whatever it has on disk.
func withCRLF(b []byte) []byte {
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
}

func text(s string) []byte { return withCRLF([]byte(s)) }

func (m message) bytes() []byte { return append(m.header.Bytes(), m.body...) }

func (m message) hashes() BodyHashes {
	h := NewBodyHasher(m.header)
	h.Write(m.body)
	return h.Sum()
}

func (m message) verify(r mail.Resolver, now time.Time) []Result {
	return Verify(context.Background(), r, m.header, m.hashes(), now)
}

// one verifies a message that has one signature.
func (m message) one(t testing.TB, r mail.Resolver, now time.Time) Result {
	t.Helper()
	results := m.verify(r, now)
	if len(results) != 1 {
		t.Fatalf("got %d results, want 1", len(results))
	}
	return results[0]
}

func domain(t testing.TB, s string) mail.Domain {
	t.Helper()
	d, err := mail.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Keys are made once for all tests. The Ed25519 key is always the same.
var (
	edKey   = ed25519.NewKeyFromSeed(bytes.Repeat([]byte("anechoic"), 4))
	rsa2048 = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(2048) })
	rsa1024 = sync.OnceValue(func() *rsa.PrivateKey { return newRSA(1024) })
)

func newRSA(bits int) *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return k
}

// signers are the two keys every organisation has, and the zone they are
// published in.
func signers(t testing.TB) ([]Signer, zone) {
	d := domain(t, "t.example")
	list := []Signer{
		{Domain: d, Selector: "r1", Algorithm: RSASHA256, Key: rsa2048()},
		{Domain: d, Selector: "e1", Algorithm: Ed25519SHA256, Key: edKey},
	}
	return list, publish(list)
}

func publish(list []Signer) zone {
	z := zone{}
	for _, s := range list {
		name := KeyName(s.Selector, s.Domain)
		z[name] = append(z[name], RecordValue(s.Key.Public()))
	}
	return z
}

// handSign puts a DKIM-Signature field on top of a message whose other tags are
// given as they are: it fills in bh= (where the tags say bh=;) and b=. So tests
// can sign what Sign never would.
func handSign(t testing.TB, raw []byte, key crypto.Signer, tags string) message {
	t.Helper()
	m := parse(t, raw)
	tags = string(text(tags))
	form := Simple
	if list, err := ParseTags([]byte(tags)); err == nil {
		c, _ := list.Get("c")
		_, form, _ = ParseCanonicalization(c)
	}
	hasher := NewBodyHasher(wantsBoth)
	hasher.Write(m.body)
	body, _ := hasher.Sum().of(form)
	tags = strings.Replace(tags, "bh=;", "bh="+base64.StdEncoding.EncodeToString(body[:])+";", 1)
	if !strings.HasSuffix(tags, ";") {
		tags += ";"
	}
	s, _ := ParseSignature([]byte(tags + " b=AA=="))
	own := mail.NewField(signatureField, tags+" b=")
	digest := NewIndex(m.header).Digest(s.SignedFields, own, s.Header)
	var opts crypto.SignerOpts = crypto.SHA256
	if _, ok := key.(ed25519.PrivateKey); ok {
		opts = crypto.Hash(0)
	}
	signature, err := key.Sign(rand.Reader, digest[:], opts)
	if err != nil {
		t.Fatal(err)
	}
	signed := mail.NewField(signatureField, tags+" b="+base64.StdEncoding.EncodeToString(signature))
	return message{m.header.Prepend(signed), m.body}
}

// projectRoot is the folder of go.mod.
func projectRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("there is no go.mod above this package")
		}
		dir = filepath.Dir(dir)
	}
}

// shared finds a folder beside the project, or where env says.
func shared(t testing.TB, env, name string) string {
	t.Helper()
	dir := os.Getenv(env)
	if dir == "" {
		dir = filepath.Join(projectRoot(t), "..", "shared", name)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("%s is not there: set %s to the folder of %s", dir, env, name)
	}
	return dir
}

const plainMessage = `From: Ada <ada@t.example>
To: Bob <bob@r.example>
Subject: minutes of
 the meeting
Date: Sun, 1 Nov 2026 11:59:00 +0000
Message-ID: <1@t.example>

Dear Bob,

  here they are.

Ada
`

func sum(b string) [32]byte { return sha256.Sum256([]byte(b)) }
