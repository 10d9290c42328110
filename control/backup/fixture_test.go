package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"anechoic/engine/local"
	"anechoic/mail"
	"anechoic/relay/custody"
)

var ctx = context.Background()

// node is the files of a relay that does not run.
type node struct{ dir, data, config string }

var sealKey = bytes.Repeat([]byte{7}, 32)

// newNode makes one: two recipients of one message queued, one of a large message
// held, a message to nobody any more, keys, and a configuration with its files.
func newNode(t testing.TB) node {
	t.Helper()
	dir := t.TempDir()
	n := node{dir: dir, data: filepath.Join(dir, "data"), config: filepath.Join(dir, "etc", "relay.toml")}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	var key bytes.Buffer
	w, err := age.Encrypt(&key, identity.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "a private key")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"data/seal.key":                   string(sealKey),
		"data/self-signed.key":            "a key",
		"data/keys/identity.txt":          identity.String() + "\n",
		"data/keys/acme/acme.test/an.age": key.String(),
		"data/spool/arriving":             "not acknowledged",
		"data/.new-123":                   "half a file",
		"etc/relay.toml":                  "hostname = \"relay.test\"\nregistry = \"registry.toml\"\n[smtp]\ntls_cert = \"tls/relay.crt\"\n[delivery]\nshaping = \"" + dir + "/elsewhere/shaping.toml\"\n",
		"etc/registry.toml":               "[[organisation]]\nid = \"acme\"\n[[organisation.domain]]\nname = \"acme.test\"\ndkim = [{ selector = \"a\", key_file = \"gone.pem\" }]\n",
		"etc/tls/relay.crt":               "a certificate",
		"elsewhere/shaping.toml":          "# nothing",
	} {
		put(t, filepath.Join(dir, name), text)
	}
	n.inQueue(t, func(q *custody.Queue) {
		keep(t, q, "Hello.\r\n", "bob@busy.test", "eve@other.test")
		keep(t, q, strings.Repeat("Hello.\r\n", 50_000), "held@busy.test")
		if _, err := q.Hold(ctx, custody.Filter{Limit: 1, After: first(t, q)}, mail.ReasonHeld, time.Now()); err != nil {
			t.Fatal(err)
		}
	})
	return n
}

func put(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// inQueue opens the queue of a node.
func (n node) inQueue(t testing.TB, do func(*custody.Queue)) {
	t.Helper()
	e, err := local.Open(local.Options{Dir: filepath.Join(n.data, "store")})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	q, err := custody.OpenQueue(ctx, e, custody.Options{SealKey: sealKey})
	if err == nil {
		err = q.Read(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	do(q)
}

func first(t testing.TB, q *custody.Queue) mail.ID {
	t.Helper()
	entries, _, err := q.List(ctx, custody.Filter{Limit: 1})
	if err != nil || len(entries) != 1 {
		t.Fatal(entries, err)
	}
	return entries[0].ID
}

func keep(t testing.TB, q *custody.Queue, text string, to ...string) {
	t.Helper()
	warrant, err := custody.NewNotice("about", "acme")
	if err != nil {
		t.Fatal(err)
	}
	header, err := mail.ParseHeader([]byte("From: relay@relay.test\r\nSubject: hello\r\n"), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	s := custody.Submission{ID: mail.NewID(time.Now()), Warrant: warrant, Header: header, Body: mail.NewBody([]byte(text))}
	for _, r := range to {
		a, err := mail.ParseAddress(r)
		if err != nil {
			t.Fatal(err)
		}
		s.Envelope.Recipients = append(s.Envelope.Recipients, mail.Recipient{Address: a})
	}
	if _, err := q.Keep(ctx, s, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// backup makes one of a node.
func (n node) backup(t testing.TB, to ...age.Recipient) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := Create(ctx, n.source(to...), &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func (n node) source(to ...age.Recipient) Source {
	return Source{Version: "v1", Hostname: "relay.test", DataDir: n.data, ConfigFile: n.config, Recipients: to}
}

func open(t testing.TB, b []byte, with ...age.Identity) *Archive {
	t.Helper()
	a, err := Open(bytes.NewReader(b), with)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// readAll reads an archive as every use of it does.
func readAll(b []byte, with ...age.Identity) error {
	a, err := Open(bytes.NewReader(b), with)
	if err != nil {
		return err
	}
	defer a.Close()
	return a.Each(ctx, func(_ File, content io.Reader) error { _, err := io.Copy(io.Discard, content); return err })
}

// member is a file of an archive that somebody made up.
type member struct {
	tar.Header
	text string
}

func file(name, text string) member {
	return member{tar.Header{Name: name, Typeflag: tar.TypeReg}, text}
}

// sealedTar makes a container of members.
func sealedTar(t testing.TB, members ...member) []byte {
	t.Helper()
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	for _, m := range members {
		h := m.Header
		if h.Size == 0 {
			h.Size = int64(len(m.text))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return sealedBytes(t, content.Bytes())
}

func sealedBytes(t testing.TB, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	s, err := seal(&out, nil)
	if err == nil {
		_, err = s.Write(content)
	}
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// manifestOf is that of members.
func manifestOf(t testing.TB, members ...member) member {
	t.Helper()
	m := Manifest{Format: 1, Version: "v1", Config: []ConfigFile{}, Files: []File{}}
	for _, f := range members {
		m.Files = append(m.Files, File{Name: f.Name, Size: int64(len(f.text))})
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return file(manifestName, string(text))
}

func sumsOf(members ...member) member {
	text := ""
	for _, m := range members {
		sum := sha256.Sum256([]byte(m.text))
		text += fmt.Sprintf("%s  %s\n", hex.EncodeToString(sum[:]), m.Name)
	}
	return file(sumsName, text)
}

// whole is an archive of members as Create would write it.
func whole(t testing.TB, members ...member) []byte {
	t.Helper()
	all := append([]member{manifestOf(t, members...)}, members...)
	return sealedTar(t, append(all, sumsOf(all...))...)
}
