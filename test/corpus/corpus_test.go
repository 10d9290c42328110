package corpus

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/textproto"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"anechoic/app"
	"anechoic/lab"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/standard/dkim"
)

var update = flag.Bool("update", false, "write testdata/refused.golden anew")

// patience bounds the whole run.
const patience = 5 * time.Minute

// lines is how many connections send at a time.
const lines = 8

// message is one of the corpus, ready to be sent.
type message struct {
	name  string // folder and file
	text  string // CRLF lines, without stamps
	from  string // MAIL FROM
	to    string // by which it is known again
	chunk int    // octets of a BDAT chunk; 0: it is sent by DATA
}

var tenant = lab.Tenant{
	GUID: "11111111-1111-4111-8111-111111111111", Originator: "corpus.example", SecretName: "X-Corpus-Relay-Key", Secret: org.NewSecret(),
}

// stamps are what Microsoft 365 writes on mailbox mail of the tenant.
func stamps() string {
	lines := []string{
		"X-OriginatorOrg: " + tenant.Originator, "X-MS-Exchange-CrossTenant-AuthAs: Internal", "X-MS-Exchange-CrossTenant-FromEntityHeader: Hosted",
		"X-MS-Exchange-CrossTenant-Id: " + tenant.GUID, tenant.SecretName + ": " + tenant.Secret,
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

func TestRealMessagesPassUnchanged(t *testing.T) {
	messages := read(t)
	r := start(t, domainsOf(messages))
	refused := r.sendAll(t, messages)
	compareRefused(t, refused)
	r.compareDelivered(t, messages, refused)
	t.Logf("corpus: %d messages, %d passed unchanged, %d refused by strict rules", len(messages), len(messages)-len(refused), len(refused))
}

// read gives the messages of the corpus in order of their names.
func read(t *testing.T) (messages []message) {
	t.Helper()
	folder := filepath.Join(suitesFolder(t), "real", "spamassassin-public-corpus")
	files, err := filepath.Glob(filepath.Join(folder, "*", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Skipf("the shared test data are not there: set ANECHOIC_SUITES to their folder (looked in %s)", folder)
	}
	slices.Sort(files)
	for i, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name, err := filepath.Rel(folder, file)
		if err != nil {
			t.Fatal(err)
		}
		m := message{name: filepath.ToSlash(name), text: asSent(b), from: "user@corpus.example", to: fmt.Sprintf("m%04d@mailbox.example", i)}
		if o, ok := originators(m.text); ok {
			m.from = o.From.Address.String()
		}
		messages = append(messages, m)
	}
	return messages
}

// suitesFolder is where the shared test data are, which are no part of the project.
func suitesFolder(t *testing.T) string {
	t.Helper()
	if root := os.Getenv("ANECHOIC_SUITES"); root != "" {
		return root
	}
	return filepath.Join(projectRoot(t), "..", "shared", "suites")
}

func projectRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("no go.mod above the test")
	return ""
}

// asSent takes off the line of the mailbox file and makes line ends CRLF, the
// last one included: SMTP has no other.
func asSent(b []byte) string {
	if bytes.HasPrefix(b, []byte("From ")) {
		_, b, _ = bytes.Cut(b, []byte("\n"))
	}
	text := strings.ReplaceAll(strings.ReplaceAll(string(b), "\r\n", "\n"), "\n", "\r\n")
	if !strings.HasSuffix(text, "\r\n") {
		text += "\r\n"
	}
	return text
}

// originators reads who a message is from, if it says so properly.
func originators(text string) (mail.Originators, bool) {
	head, _, _ := strings.Cut(text, "\r\n\r\n")
	header, err := mail.ParseHeader([]byte(head+"\r\n"), mail.HeaderLimits{})
	if err != nil {
		return mail.Originators{}, false
	}
	o, refusal := mail.ReadOriginators(header)
	return o, refusal == nil
}

// domainsOf gives the names in From and Sender that an organisation can register:
// nobody's are public suffixes and the names that Microsoft gives to tenants.
func domainsOf(messages []message) []mail.Domain {
	found := map[mail.Domain]bool{}
	for _, m := range messages {
		o, _ := originators(m.text)
		for _, a := range append(o.Sender, o.From.Address) {
			if d := a.Domain(); !d.IsZero() && !d.IsPublicSuffix() && !strings.HasSuffix(d.String(), ".onmicrosoft.com") {
				found[d] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(found), func(a, b mail.Domain) int { return strings.Compare(a.String(), b.String()) })
}

// relay is the program under test with the internet around it.
type relay struct {
	internet *lab.Internet
	receiver *lab.Receiver
	app      *app.App
}

// start runs a relay whose one organisation owns the domains. They share one
// Ed25519 key: thousands of keys would show nothing more.
func start(t *testing.T, owned []mail.Domain) *relay {
	t.Helper()
	dir, err := os.MkdirTemp("", "anechoic") // short: the path of a control socket has at most 107 octets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := new(relay)
	if r.internet, err = lab.NewInternet(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.internet.Close() })
	if r.receiver, err = lab.NewReceiver("127.50.0.2:0", r.internet.Zone); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.receiver.Close() })
	r.receiver.Key = func(j lab.Judgement) string { return j.Recipients[0] }
	r.internet.AddReceiver("mailbox.example", r.receiver.Addr().Addr())
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range owned {
		r.internet.AddCustomer(d.String(), "corpus")
		r.internet.Publish(dkim.KeyName("an1e", d), dkim.RecordValue(key.Public()))
	}
	write(t, dir, "key.pem", keyPEM(t, key))
	write(t, dir, "registry.toml", registry(owned))
	write(t, dir, "relay.toml", fmt.Sprintf(nodeConfig, r.internet.DNS(), lab.ProviderRange, r.receiver.Addr().Port()))
	if r.app, err = app.New(app.Options{ConfigFile: filepath.Join(dir, "relay.toml"), Version: "test"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.app.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := r.app.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

const nodeConfig = `hostname = "relay.anechoic.example"
data_dir = "data"
registry = "registry.toml"
[smtp]
listen = ["127.0.0.1:0"]
[dns]
servers = [%q]
[providers.microsoft365]
ranges = [%q]
[delivery]
port = %d
retry_after = ["1s"]
[console]
listen = ""
[operations]
listen = ""
`

func registry(owned []mail.Domain) string {
	sum, _ := org.HashSecret(tenant.Secret)
	var b strings.Builder
	b.WriteString("[[organisation]]\nid = \"corpus\"\nname = \"Corpus\"\n")
	for _, d := range owned {
		fmt.Fprintf(&b, "[[organisation.domain]]\nname = %q\ndkim = [ { selector = \"an1e\", algorithm = \"ed25519\", key_file = \"key.pem\" } ]\n", d)
	}
	fmt.Fprintf(&b, "[[organisation.source]]\nid = \"m365\"\nkind = \"microsoft365\"\ntenant_ids = [%q]\noriginator_orgs = [%q]\nsecret_header = { name = %q, sha256 = [\"%x\"] }\n",
		tenant.GUID, tenant.Originator, tenant.SecretName, sum)
	return b.String()
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func keyPEM(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// sendAll sends over several connections and gives the refusals by name.
func (r *relay) sendAll(t *testing.T, messages []message) map[string]string {
	t.Helper()
	refused, mu := map[string]string{}, sync.Mutex{}
	next := make(chan message)
	var senders sync.WaitGroup
	for range lines {
		host := r.internet.ProviderHost()
		senders.Go(func() {
			c := &line{relay: r.app.Ready().SMTP[0], host: host}
			defer c.hangUp()
			for m := range next {
				refusal, err := c.deliver(m)
				if err != nil {
					t.Errorf("%s: %v", m.name, err)
				}
				if refusal != "" {
					mu.Lock()
					refused[m.name] = refusal
					mu.Unlock()
				}
			}
		})
	}
	for _, m := range messages {
		next <- m
	}
	close(next)
	senders.Wait()
	return refused
}

// line is one sender's connection, opened again after the relay closed it.
type line struct {
	relay string
	host  netip.Addr
	conn  net.Conn
	text  *textproto.Conn
}

func (l *line) hangUp() {
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// dial connects from the provider's host and changes to TLS.
func (l *line) dial() (err error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: l.host.AsSlice()}}
	if l.conn, err = dialer.Dial("tcp", l.relay); err != nil {
		return err
	}
	if err := l.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	l.text = textproto.NewConn(l.conn)
	if _, _, err := l.text.ReadResponse(220); err != nil {
		return err
	}
	if err := errors.Join(l.cmd(250, "EHLO mail.outbound.example"), l.cmd(220, "STARTTLS")); err != nil {
		return err
	}
	l.conn = tls.Client(l.conn, &tls.Config{InsecureSkipVerify: true}) // the relay made its certificate itself
	l.text = textproto.NewConn(l.conn)
	return l.cmd(250, "EHLO mail.outbound.example")
}

func (l *line) cmd(code int, command string) error {
	if err := l.text.PrintfLine("%s", command); err != nil {
		return err
	}
	_, _, err := l.text.ReadResponse(code)
	return err
}

// deliver sends a message, again on a new connection where one broke: a refusal that
// closes the connection may be lost when its peer still writes, or is slow.
func (l *line) deliver(m message) (refusal string, err error) {
	for range 3 {
		if refusal, err = l.send(m); err == nil {
			return refusal, nil
		}
		l.hangUp()
	}
	return "", err
}

// send gives the refusal, if there is one; an error is the connection's.
func (l *line) send(m message) (refusal string, err error) {
	if l.conn == nil {
		if err := l.dial(); err != nil {
			return "", err
		}
	}
	if err = l.cmd(250, "MAIL FROM:<"+m.from+">"); err == nil {
		err = l.cmd(250, "RCPT TO:<"+m.to+">")
	}
	switch {
	case err != nil:
	case m.chunk > 0:
		err = l.chunks(stamped(m.text), m.chunk)
	default:
		if err = l.cmd(354, "DATA"); err == nil {
			err = l.cmd(250, stuffed(stamped(m.text))+".")
		}
	}
	var said *textproto.Error
	switch {
	case err == nil:
		return "", nil
	case !errors.As(err, &said):
		return "", err
	case said.Code == 521 || said.Code == 421:
		l.hangUp()
		return reason(said), nil
	}
	return reason(said), l.cmd(250, "RSET")
}

// chunks sends a message by BDAT (RFC 3030). After a refusal it sends no more.
func (l *line) chunks(text string, size int) error {
	for {
		n := min(size, len(text))
		last := ""
		if n == len(text) {
			last = " LAST"
		}
		if _, err := fmt.Fprintf(l.text.W, "BDAT %d%s\r\n%s", n, last, text[:n]); err != nil {
			return err
		}
		if err := l.text.W.Flush(); err != nil {
			return err
		}
		if _, _, err := l.text.ReadResponse(250); err != nil || last != "" {
			return err
		}
		text = text[n:]
	}
}

// reason is a refusal without its id.
func reason(e *textproto.Error) string {
	enhanced, _, _ := strings.Cut(e.Msg, " ")
	_, rest, _ := strings.Cut(e.Msg, "[")
	word, _, _ := strings.Cut(rest, " ")
	return fmt.Sprintf("%d %s %s", e.Code, enhanced, word)
}

// stamped adds the tenant's stamps at the end of the header, which may be all.
func stamped(text string) string {
	head, body, found := strings.Cut(text, "\r\n\r\n")
	if !found {
		return text + stamps()
	}
	return head + "\r\n" + stamps() + "\r\n" + body
}

// stuffed doubles the dots at the starts of lines (RFC 5321 section 4.5.2).
func stuffed(text string) string {
	if strings.HasPrefix(text, ".") {
		text = "." + text
	}
	return strings.ReplaceAll(text, "\r\n.", "\r\n..")
}

// compareRefused holds the refusals against the list.
func compareRefused(t *testing.T, refused map[string]string) {
	t.Helper()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		fmt.Fprintf(&b, "%s\t%s\n", name, refused[name])
	}
	const golden = "testdata/refused.golden"
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(golden, []byte(b.String()), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) == b.String() {
		return
	}
	was := map[string]string{}
	for l := range strings.Lines(string(want)) {
		name, why, _ := strings.Cut(strings.TrimSpace(l), "\t")
		was[name] = why
	}
	for name := range refused {
		if was[name] != refused[name] {
			t.Errorf("%s is refused: %s; the list says %q", name, refused[name], was[name])
		}
	}
	for name := range was {
		if refused[name] == "" {
			t.Errorf("%s passes; the list says %s", name, was[name])
		}
	}
}

// compareDelivered wants what was not refused, once each: our Received, one
// signature that holds, then the message as it was.
func (r *relay) compareDelivered(t *testing.T, messages []message, refused map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := r.receiver.Wait(ctx, len(messages)-len(refused)); err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		j, arrived := r.receiver.Judgement(m.to)
		switch {
		case refused[m.name] != "" && arrived:
			t.Errorf("%s was refused and arrived", m.name)
		case refused[m.name] == "":
			if problem := compare(m, j, arrived); problem != "" {
				t.Errorf("%s: %s", m.name, problem)
			}
		}
	}
	if n := r.receiver.Repeated(); n > 0 {
		t.Errorf("%d messages came twice", n)
	}
}

// compare says what is wrong with a message that arrived; nothing: it is right.
func compare(m message, j lab.Judgement, arrived bool) string {
	ours, unchanged := strings.CutSuffix(string(j.Data), expected(m.text))
	switch {
	case !arrived:
		return "it did not arrive"
	case !unchanged:
		return fmt.Sprintf("it changed on its way\nwas %q\nis  %q", m.text, j.Data)
	case !j.Aligned || len(j.SignedBy) != 1:
		return fmt.Sprintf("signed by %v, DMARC passes: %v", j.SignedBy, j.Aligned)
	case j.MailFrom != m.from:
		return "MAIL FROM is " + j.MailFrom
	}
	header, err := mail.ParseHeader([]byte(ours), mail.HeaderLimits{})
	if err != nil || len(header.Fields) != 2 || !header.Fields[0].Is("Received") || !header.Fields[1].Is("DKIM-Signature") {
		return fmt.Sprintf("our fields are %q, %v", ours, err)
	}
	return ""
}

// expected is a message as it should arrive, but for our fields: without evidence,
// and with the empty line that ends a header which is all.
func expected(text string) string {
	text = without(text, isEvidence)
	if !strings.Contains("\r\n"+text, "\r\n\r\n") {
		text += "\r\n"
	}
	return text
}

// isEvidence tells the fields that never leave, by their names in lower case.
func isEvidence(name string) bool {
	return name == "x-originatororg" || strings.HasPrefix(name, "x-ms-exchange-organization-") ||
		strings.HasPrefix(name, "x-ms-exchange-crosstenant-") || strings.HasPrefix(name, "x-anechoic-")
}

// without takes some fields off a header, with their continuation lines.
func without(text string, drop func(name string) bool) string {
	var kept strings.Builder
	dropping, rest := false, text
	for line := range strings.Lines(text) {
		if line == "\r\n" {
			break
		}
		if line[0] != ' ' && line[0] != '\t' {
			name, _, _ := strings.Cut(strings.ToLower(line), ":")
			dropping = drop(name) && !strings.Contains(strings.TrimRight(line, "\r\n"), "\r") // such a line is several for some
		}
		if !dropping {
			kept.WriteString(line)
		}
		rest = rest[len(line):]
	}
	return kept.String() + rest
}
