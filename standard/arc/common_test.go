package arc

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
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
	"anechoic/standard/authres"
	"anechoic/standard/dkim"
)

var update = flag.Bool("update", false, "write the golden files of testdata again")

// noon is when tests take place unless they say otherwise.
var noon = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// zone is a Resolver that knows TXT records. A name that is absent does not exist;
// one whose only record is "SERVFAIL" cannot be asked.
type zone map[string][]string

func (z zone) TXT(ctx context.Context, name string) (mail.Answer[string], error) {
	if err := ctx.Err(); err != nil {
		return mail.Answer[string]{}, err
	}
	records, ok := z[strings.ToLower(name)]
	if !ok {
		return mail.Answer[string]{}, mail.ErrNoDomain
	}
	if len(records) == 1 && records[0] == "SERVFAIL" {
		return mail.Answer[string]{}, errors.New("SERVFAIL")
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
	switch i := bytes.Index(raw, []byte("\r\n\r\n")); {
	case bytes.HasPrefix(raw, []byte("\r\n")):
		head, body = nil, raw[2:]
	case i >= 0:
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

func (m message) hashes() dkim.BodyHashes {
	h := dkim.NewBodyHasher(m.header)
	h.Write(m.body)
	return h.Sum()
}

func (m message) validate(r mail.Resolver) Chain {
	return Validate(context.Background(), r, m.header, m.hashes(), noon)
}

// passOn seals a message as the next handler of its way does.
func (m message) passOn(t testing.TB, z zone, s dkim.Signer) message {
	t.Helper()
	fields, err := Seal(m.header, m.hashes(), m.validate(z), saw(m.validate(z)), s, noon)
	if err != nil {
		t.Fatal(err)
	}
	return message{m.header.Prepend(fields...), m.body}
}

// replace gives the message with one text for another.
func (m message) replace(t testing.TB, old, new string) message {
	t.Helper()
	raw := m.bytes()
	if !bytes.Contains(raw, []byte(old)) {
		t.Fatalf("the message has no %q", old)
	}
	return parse(t, bytes.Replace(raw, []byte(old), []byte(new), 1))
}

// without gives the message without the nth field of that name.
func (m message) without(name string, n int) message {
	return message{m.header.Without(func(f mail.Field) bool {
		if f.Is(name) {
			n--
			return n == -1
		}
		return false
	}), m.body}
}

// saw is what a handler reports that had this chain come in.
func saw(c Chain) authres.Results {
	return authres.Results{ID: "mx.h.example", Methods: []authres.Result{
		authres.Result{Method: "arc", Value: c.Status.String()},
		authres.Result{Method: "spf", Value: "pass"}.With("smtp", "mailfrom", "ada@t.example"),
		authres.Result{Method: "dmarc", Value: "fail"}.With("header", "from", "t.example"),
	}}
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
	rsa2048 = sync.OnceValue(func() *rsa.PrivateKey {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		return k
	})
)

// handlers are three servers on the way of a message, and the zone with their keys.
func handlers(t testing.TB) ([]dkim.Signer, zone) {
	list := []dkim.Signer{
		{Domain: domain(t, "first.example"), Selector: "a", Key: rsa2048()},
		{Domain: domain(t, "second.example"), Selector: "b", Key: edKey},
		{Domain: domain(t, "third.example"), Selector: "c", Key: rsa2048()},
	}
	z := zone{}
	for _, s := range list {
		z[dkim.KeyName(s.Selector, s.Domain)] = []string{dkim.RecordValue(s.Key.Public())}
	}
	return list, z
}

// relayed is a message that passed n handlers.
func relayed(t testing.TB, n int) (message, zone) {
	list, z := handlers(t)
	m := parse(t, text(plainMessage))
	for i := range n {
		m = m.passOn(t, z, list[i%len(list)])
	}
	return m, z
}

const plainMessage = `Received: from t.example by mx.h.example; Sun, 1 Nov 2026 11:59:30 +0000
From: Ada <ada@t.example>
To: Bob <bob@r.example>
Subject: minutes of
 the meeting
Date: Sun, 1 Nov 2026 11:59:00 +0000
Message-ID: <1@t.example>

Dear Bob,

  here they are.

Ada
`

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

func read(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// zoneFile reads {"name": {"TXT": ["text", ["in", "pieces"]]}}.
func zoneFile(t testing.TB, file string) zone {
	t.Helper()
	var names map[string]struct{ TXT []any }
	if err := json.Unmarshal(read(t, file), &names); err != nil {
		t.Fatal(err)
	}
	z := zone{}
	for name, node := range names {
		for _, record := range node.TXT {
			text, ok := record.(string)
			if pieces, many := record.([]any); many {
				for _, p := range pieces {
					text += p.(string)
				}
			} else if !ok {
				t.Fatalf("%s: a record of %s is no text", file, name)
			}
			z[name] = append(z[name], text)
		}
	}
	return z
}
