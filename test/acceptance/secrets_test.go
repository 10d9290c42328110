package acceptance

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"anechoic/app"
	"anechoic/control/api"
	"anechoic/mail"
)

// forms are the ways in which a program shows octets: as they are, in base64 of
// either alphabet wherever they begin in a longer text, in hexadecimal, escaped
// for a URL, and as Go prints octets.
func forms(octets string) (list []string) {
	b := []byte(octets)
	list = append(list, octets, hex.EncodeToString(b), strings.ToUpper(hex.EncodeToString(b)), strings.Trim(fmt.Sprint(b), "[]"), strings.Trim(fmt.Sprintf("%q", octets), `"`))
	if escaped := url.QueryEscape(octets); escaped != octets {
		list = append(list, escaped)
	}
	for before := range 3 {
		encoded := base64.StdEncoding.EncodeToString(append(make([]byte, before), b...))
		inner := encoded[before+(before+1)/2:] // what the octets before take part in is left out
		inner = inner[:len(inner)-4]           // and what those behind do
		list = append(list, inner, strings.NewReplacer("+", "-", "/", "_").Replace(inner))
	}
	return list
}

// everyForm gives the secrets of the matrix, those of the data directory and the
// private parts of the keys, each in every form.
func everyForm(t *testing.T, r *relay) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for name, secret := range secrets() {
		found[name] = forms(secret)
	}
	private := func(name string, key any) {
		for i, octets := range privateParts(key) {
			found[fmt.Sprint("part ", i, " of ", name)] = forms(octets)
		}
	}
	for name, key := range keys() {
		private("key "+name, key)
	}
	seal, err := os.ReadFile(filepath.Join(r.dir, "data", "seal.key"))
	tlsKey, errTLS := os.ReadFile(filepath.Join(r.dir, "data", "self-signed.key"))
	if err := errors.Join(err, errTLS); err != nil {
		t.Fatal(err)
	}
	found["the seal key"] = forms(string(seal))
	block, _ := pem.Decode(tlsKey)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	private("the TLS key", key)
	return found
}

// privateParts are the octets of a private key that nobody else may have.
func privateParts(key any) []string {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return []string{string(k.D.Bytes()), k.D.String(), string(k.Primes[0].Bytes()), string(k.Primes[1].Bytes()), k.Primes[0].String(), k.Primes[1].String()}
	case ed25519.PrivateKey:
		return []string{string(k.Seed())}
	case *ecdsa.PrivateKey:
		octets, err := k.Bytes()
		if err != nil {
			panic(err) // a key of a named curve
		}
		return []string{string(octets)}
	}
	panic(fmt.Sprintf("a key of type %T", key))
}

// noForm wants no secret in a text, in whatever form.
func noForm(t *testing.T, secrets map[string][]string, where, text string) {
	t.Helper()
	for name, list := range secrets {
		for i, form := range list {
			if strings.Contains(text, form) {
				t.Errorf("%s is in %s (form %d)", name, where, i)
				break
			}
		}
	}
}

func TestSecretsAreFoundInEveryForm(t *testing.T) {
	const secret = "anx1_a+secret/with?every sort\x00of=octet"
	list := map[string][]string{"it": forms(secret)}
	for before := range 4 {
		text := []byte(strings.Repeat("x", before) + secret + "behind")
		for _, shown := range []string{
			string(text), hex.EncodeToString(text), fmt.Sprintf("%X", text), fmt.Sprint(text), fmt.Sprintf("%q", text), url.QueryEscape(string(text)),
			base64.StdEncoding.EncodeToString(text), base64.URLEncoding.EncodeToString(text), base64.RawStdEncoding.EncodeToString(text),
		} {
			hit := false
			for _, form := range list["it"] {
				hit = hit || strings.Contains(shown, form)
			}
			if !hit {
				t.Errorf("it would not be seen in %s", shown)
			}
		}
	}
}

// faultyLog is a log that panics once at each of some lines: a fault in the middle
// of whatever wrote the line.
type faultyLog struct {
	slog.Handler
	mu     sync.Mutex // guards faults
	faults map[string]func()
}

// Handle implements slog.Handler.
func (f *faultyLog) Handle(ctx context.Context, r slog.Record) error {
	f.mu.Lock()
	fault := f.faults[r.Message]
	delete(f.faults, r.Message)
	f.mu.Unlock()
	if fault != nil {
		fault()
	}
	return f.Handler.Handle(ctx, r)
}

func (f *faultyLog) arm(line string, fault func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[line] = fault
}

func (f *faultyLog) armed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.faults)
}

// faulty is a relay whose log panics where a test wants it to.
func faulty(t *testing.T) (*relay, *faultyLog) {
	t.Helper()
	r := newRelay(t, registry(), publishMicrosoftKeys)
	r.stop(t)
	log := &faultyLog{Handler: slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}), faults: map[string]func(){}}
	a, err := app.New(app.Options{ConfigFile: r.configFile(), Log: slog.New(log), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	r.app, r.api = a, api.NewClient(filepath.Join(r.dir, "data"))
	return r, log
}

// inFlight is what a careless stage might panic with.
func inFlight() string {
	user := "app@acme"
	return fmt.Sprintf("%s: %s, %s, %s, %s, %v", acme.SecretName, acmeSecret, passwords[user], plainResponse(user, passwords[user]), keyPEM(keys()["acme.test/an1e"]), []byte(acmeSecret))
}

var noMap map[string]string

// careless are panics whose values hold every secret that is in flight, or that
// come of handling them.
var careless = map[string]func(){
	"an error":       func() { panic(fmt.Errorf("the message was %s", inFlight())) },
	"a text":         func() { panic(inFlight()) },
	"a structure":    func() { panic(struct{ Header []string }{strings.Split(inFlight(), ", ")}) },
	"octets":         func() { panic([]byte(inFlight())) },
	"a wrong index":  func() { _ = inFlight()[len(inFlight())+1:] },
	"a wrong type":   func() { var v any = inFlight(); _ = v.(fmt.Stringer) },
	"a missing map":  func() { noMap[inFlight()] = inFlight() },
	"an unhashable":  func() { m := map[any]bool{}; m[[]string{inFlight()}] = true },
	"nothing at all": func() { panic(nil) },
}

// A20: whatever goes wrong while secrets are in flight, they are in no log, no
// reply, no metric, no fact and no answer; and the relay goes on.
func TestAPanicTellsNoSecret(t *testing.T) {
	r, log := faulty(t)
	marker := func(name string) {
		if _, answer := r.send(t, mailFromUser("app@globex", "ann@globex.test")); answer.code != 250 {
			t.Fatalf("%s: the relay does not go on: %s", name, answer)
		}
	}
	places := map[string]func(t *testing.T){
		// At the end of the data, with the secret header read and matched.
		"a secret header has leaked: replace it": func(t *testing.T) {
			thief := attacker
			thief.GUID = fmt.Sprintf("99999999-9999-4999-8999-%012d", drafts.Add(1)) // each tenant's leak is told once
			l := mailFromMicrosoft(thief, "ann@acme.test", acme.SecretName+": "+acmeSecret)
			if _, answer := r.send(t, l); answer.reason != mail.ReasonInternal {
				t.Errorf("intake: %s", answer)
			}
		},
		// In an attempt, with the message and its keys' signatures loaded.
		"attempt": func(t *testing.T) {
			if _, answer := r.send(t, mailFromMicrosoft(acme, "ann@acme.test")); answer.code != 250 {
				t.Errorf("delivery: %s", answer)
			}
		},
		// In a session that authenticated, inside its data.
		"smtp: connection lost inside message data, the message is not taken": func(t *testing.T) {
			c, _ := r.open(t, mailFromUser("app@acme", "ann@acme.test"))
			c.must(250, "MAIL FROM:<ann@acme.test>")
			c.must(250, "RCPT TO:<victim@"+mailbox+">")
			c.must(354, "DATA")
			c.write(acme.SecretName + ": " + acmeSecret + "\r\n")
			c.conn.Close()
		},
		// In a request to the control socket.
		"queue steered": func(t *testing.T) {
			_, err := r.api.Steer(t.Context(), api.Hold, api.Selection{Org: "acme"}, nil)
			if err == nil || strings.Contains(err.Error(), acmeSecret) {
				t.Errorf("control: %v", err)
			}
		},
	}
	n := 0
	for what, fault := range careless {
		for line, provoke := range places {
			t.Run(what+" at "+line, func(t *testing.T) {
				before := strings.Count(r.log.String(), "goroutine ")
				log.arm(line, fault)
				provoke(t)
				eventually(t, "the fault", func() bool { return log.armed() == 0 && strings.Count(r.log.String(), "goroutine ") > before })
				marker(what)
				n++
			})
		}
	}
	noFormAnywhere(t, r)
	if told := strings.Count(r.log.String(), "goroutine "); told < n {
		t.Errorf("%d panics, %d stacks in the log", n, told)
	}
}

// noFormAnywhere looks through all that a relay in this process gave away.
func noFormAnywhere(t *testing.T, r *relay) {
	t.Helper()
	all := everyForm(t, r)
	noForm(t, all, "the log", r.log.String())
	noForm(t, all, "the replies", r.said.String())
	noForm(t, all, "the metrics", r.metricsPage(t))
	noForm(t, all, "the ledger", fmt.Sprint(r.facts(t, url.Values{})))
	for path, text := range everyAnswer(t, r) {
		noForm(t, all, path, text)
	}
	for _, j := range r.receiver.Judgements() {
		noForm(t, all, "message "+j.MessageID, string(j.Data))
	}
}

// A20: a secret that a person puts where it does not belong is not repeated by
// what complains of it: the validator, the program that does not start, the log of
// a reload.
func TestASecretAtTheWrongPlaceIsNotRepeated(t *testing.T) {
	r := newRelay(t, registry(), nil)
	all := everyForm(t, r)
	block := string(keyPEM(keys()["globex.test/an1e"]))
	escaped := strings.ReplaceAll(block, "\n", `\n`)
	oneLine := strings.Split(block, "\n")[1]
	password := passwords["app@globex"]
	for name, change := range map[string]func(string) string{
		"as a header's hash":             edit(digest(acmeSecret), acmeSecret),
		"as a header's name":             edit(`name = "X-Acme-Relay-Key"`, fmt.Sprintf("name = %q", acmeSecret+": x")),
		"as a tenant":                    edit(acme.GUID, acmeSecret),
		"as an originator":               edit(`"acme.onmicrosoft.com"]`+"\nprovider", fmt.Sprintf("%q]\nprovider", acmeSecret)),
		"as an organisation's id":        edit(`id = "globex"`, fmt.Sprintf("id = %q", acmeSecret)),
		"as an unknown key":              edit(`name = "globex"`, fmt.Sprintf("name = \"globex\"\nsecret = %q", acmeSecret)),
		"as a key's own name":            edit(`name = "globex"`, fmt.Sprintf("name = \"globex\"\n%s = 1", acmeSecret)),
		"outside quotes":                 edit(`name = "globex"`, "name = "+acmeSecret),
		"in a table's name":              edit(`name = "globex"`, "name = \"globex\"\n["+acmeSecret+"]"),
		"as what a source may send as":   edit(`from = ["*@globex.test"]`, fmt.Sprintf("from = [%q]", acmeSecret)),
		"as a domain":                    edit(`name = "globex.test"`, fmt.Sprintf("name = %q", acmeSecret)),
		"as an address":                  edit("203.0.113.10/32", acmeSecret),
		"as a certificate's hash":        edit(spki("gateway"), acmeSecret),
		"a password as its hash":         edit(hashes()["app@globex"], password),
		"a password without a table":     edit(fmt.Sprintf("password = { argon2id = %q }", hashes()["app@globex"]), fmt.Sprintf("password = %q", password)),
		"a password by another name":     edit(fmt.Sprintf("{ argon2id = %q }", hashes()["app@globex"]), fmt.Sprintf("{ plain = %q }", password)),
		"a password that is a number":    edit(fmt.Sprintf("password = { argon2id = %q }", hashes()["app@globex"]), "password = 4711"),
		"a hash as the user's name":      edit(`username = "app@globex"`, fmt.Sprintf("username = \"a b %s\"", hashes()["app@globex"])),
		"a hash as the source's kind":    edit(`username = "app@globex"`, fmt.Sprintf("username = \"app@globex\"\nrole = %q", hashes()["app@globex"])),
		"a key instead of its file":      edit(keyFile("globex.test/an1e"), escaped),
		"a key as the selector":          edit(`[ { selector = "an1e", algorithm = "ed25519", key_file = "globex`, fmt.Sprintf(`[ { selector = "%s", algorithm = "ed25519", key_file = "globex`, escaped)),
		"a key's line as the algorithm":  edit(`[ { selector = "an1e", algorithm = "ed25519", key_file = "globex`, fmt.Sprintf(`[ { selector = "an1e", algorithm = "%s", key_file = "globex`, oneLine)),
		"a key's line instead of a file": edit(keyFile("globex.test/an1e"), oneLine),
	} {
		t.Run(name, func(t *testing.T) {
			r.writeRegistry(t, change(registry()))
			defer r.writeRegistry(t, registry())
			_, err := app.New(app.Options{ConfigFile: r.configFile(), Version: "test"})
			if err == nil {
				t.Fatal("it loads")
			}
			noForm(t, all, "the error", err.Error())
			_, err = r.api.Reload(t.Context())
			if err == nil {
				t.Fatal("it is reloaded")
			}
			noForm(t, all, "the answer", fmt.Sprintf("%v %+v", err, err))
		})
	}
	noFormAnywhere(t, r)
}

// everyAnswer asks the control socket and the operations listener for all that can
// be asked for: every GET path that the server's code names.
func everyAnswer(t *testing.T, r *relay) map[string]string {
	t.Helper()
	answers := map[string]string{}
	socket := socketClient(filepath.Join(r.dir, "data"))
	for _, path := range controlPaths(t, r) {
		code, text := fetch(t, socket, "http://control"+path)
		if code != http.StatusOK && code != http.StatusNotFound && !strings.Contains(text, "is no id of this relay") || strings.Contains(text, "there is nothing at") {
			t.Errorf("%s: %d %s", path, code, text)
		}
		answers["the answer of "+path] = text
	}
	for _, path := range []string{"/metrics", "/livez", "/readyz", "/debug/pprof/goroutine?debug=2", "/debug/vars", "/debug/requests", "/"} {
		code, text := fetch(t, http.DefaultClient, "http://"+r.ready().Operations+path)
		if open := path == "/metrics" || path == "/livez" || path == "/readyz"; open != (code == http.StatusOK) {
			t.Errorf("%s: %d", path, code)
		}
		answers["the answer of "+path] = text
	}
	return answers
}
