package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
)

// postfix is an instance of Postfix in a folder of its own.
type postfix struct {
	dir     string
	address string // where its smtpd listens
}

// mainCF is what every instance has in common; the folder stands for %[1]s.
const mainCF = `compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
shlib_directory = /usr/lib/postfix
meta_directory = /etc/postfix
mail_owner = postfix
setgid_group = postdrop
maillog_file = %[1]s/data/mail.log
maillog_file_prefixes = %[1]s
myhostname = postfix.example
mydestination =
inet_protocols = ipv4
inet_interfaces = all
mynetworks = 127.0.0.0/8
disable_dns_lookups = yes
smtp_host_lookup = native
smtpd_peername_lookup = no
alias_maps =
alias_database =
local_recipient_maps =
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
notify_classes =
minimal_backoff_time = 2s
queue_run_delay = 2s
`

const masterCF = `%s inet n - n - - smtpd
pickup    unix  n - n 60 1 pickup
cleanup   unix  n - n - 0 cleanup
qmgr      unix  n - n 300 1 qmgr
tlsmgr    unix  - - n 1000? 1 tlsmgr
rewrite   unix  - - n - - trivial-rewrite
bounce    unix  - - n - 0 bounce
defer     unix  - - n - 0 bounce
trace     unix  - - n - 0 bounce
verify    unix  - - n - 1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n - - proxymap
smtp      unix  - - n - - smtp
relay     unix  - - n - - smtp
error     unix  - - n - - error
retry     unix  - - n - - error
discard   unix  - - n - - discard
anvil     unix  - - n - 1 anvil
scache    unix  - - n - 1 scache
postlog   unix-dgram n - n - 1 postlogd
`

// startPostfix runs an instance that listens at an address, with more settings
// for a folder.
func startPostfix(t *testing.T, address string, settings func(dir string) string) *postfix {
	t.Helper()
	requirePostfix(t)
	dir, err := os.MkdirTemp("", "postfix")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &postfix{dir: dir, address: address}
	if err := os.Chmod(dir, 0o755); err != nil { // its processes run as other users
		t.Fatal(err)
	}
	for _, name := range []string{"etc", "spool", "data"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(filepath.Join(dir, "data"), ownerOf(t, "postfix"), -1); err != nil {
		t.Fatal(err)
	}
	p.write(t, "etc/main.cf", lastOfEach(fmt.Sprintf(mainCF, dir)+settings(dir)))
	p.write(t, "etc/master.cf", fmt.Sprintf(masterCF, address))
	if out, err := outputOf(exec.Command("postfix", "-c", filepath.Join(dir, "etc"), "start")); err != nil {
		t.Fatalf("postfix start: %v\n%s%s", err, out, p.log())
	}
	t.Cleanup(func() {
		if out, err := outputOf(exec.Command("postfix", "-c", filepath.Join(dir, "etc"), "stop")); err != nil {
			t.Errorf("postfix stop: %v\n%s", err, out)
		}
		if t.Failed() {
			t.Logf("Postfix said:\n%s", p.log())
		}
	})
	p.awaitPort(t)
	return p
}

// lastOfEach leaves out a parameter that is given again further down. Every process
// of Postfix would warn of it as it begins, postlogd too: to the socket that it
// reads itself, and for ever if that is full by then.
func lastOfEach(main string) string {
	last := map[string]string{}
	var names []string
	for line := range strings.Lines(main) {
		name, _, _ := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); len(names) > 0 && strings.HasPrefix(line, " ") {
			last[names[len(names)-1]] += line
			continue
		}
		names = slices.DeleteFunc(names, func(n string) bool { return n == name })
		names = append(names, name)
		last[name] = line
	}
	var kept strings.Builder
	for _, name := range names {
		kept.WriteString(last[name])
	}
	return kept.String()
}

func requirePostfix(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("postfix"); err != nil {
		missing(t, "Postfix is missing: apt-get install postfix libsasl2-modules")
	}
	if os.Getuid() != 0 {
		missing(t, "Postfix can be started by root only: run this test as root, in a container for example")
	}
}

func ownerOf(t *testing.T, name string) int {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		missing(t, "there is no user "+name+": apt-get install postfix")
	}
	id, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (p *postfix) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (p *postfix) log() string {
	text, err := os.ReadFile(filepath.Join(p.dir, "data", "mail.log"))
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// awaitPort waits until it listens.
func (p *postfix) awaitPort(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		conn, err := net.Dial("tcp", p.address)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("Postfix does not listen: %v\n%s", err, p.log())
		}
	}
}

// freePort gives a port of an address that nobody listens on.
func freePort(t *testing.T, host string) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// TestPostfixDeliversThroughTheRelay: an organisation's mail server with the
// relay as its relayhost, over TLS and with its credential. Its own mail is
// signed; what it hands over in a foreign name is refused, and Postfix is told why.
func TestPostfixDeliversThroughTheRelay(t *testing.T) {
	requirePostfix(t)
	r := start(t, options{})
	next := fmt.Sprintf("[127.0.0.1]:%s", port(r.app.Ready().Submission[0]))
	p := startPostfix(t, fmt.Sprintf("127.51.0.1:%d", freePort(t, "127.51.0.1")), func(dir string) string {
		if err := os.WriteFile(filepath.Join(dir, "etc", "password"), []byte(next+" "+username+":"+r.password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`relayhost = %s
smtp_tls_security_level = encrypt
smtp_sasl_auth_enable = yes
smtp_sasl_security_options = noanonymous
smtp_sasl_password_maps = texthash:%s/etc/password
`, next, dir)
	})
	send := func(id, from string, to ...string) {
		t.Helper()
		text := "From: Ann <" + from + ">\r\nTo: bob@mailbox.example\r\nSubject: through Postfix\r\nMessage-ID: " + id + "\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\r\nHello\r\n.a dot\r\n"
		if err := hand(t, p.address, from, to, text); err != nil {
			t.Fatalf("%v\n%s", err, p.log())
		}
	}
	for i := range 5 {
		send(fmt.Sprintf("<postfix-%d@acme.example>", i), sender, "bob@mailbox.example", "eve@mailbox.example")
	}
	var last []byte
	for i := range 5 {
		last = r.await(t, fmt.Sprintf("<postfix-%d@acme.example>", i)).Data
	}
	if !strings.Contains(string(last), "by postfix.example (Postfix)") || !strings.Contains(string(last), "\r\n.a dot\r\n") {
		t.Errorf("it did not come as Postfix sent it:\n%s", last)
	}
	r.verifiedByOthers(t, last)
	send("<postfix-foreign@acme.example>", "ceo@globex.example", "bob@mailbox.example")
	p.awaitLog(t, "FROM_NOT_OWNED id=")
}

// awaitLog waits for a text in Postfix's log.
func (p *postfix) awaitLog(t *testing.T, text string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !strings.Contains(p.log(), text); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("Postfix's log has no %q:\n%s", text, p.log())
		}
	}
}

// exchanger is where Postfix listens as dest.example's exchanger.
var exchanger = netip.MustParseAddr("127.51.0.2")

// startExchanger runs a relay, and Postfix as the exchanger of dest.example that
// hands on to the receiver.
func startExchanger(t *testing.T, level string, certificate []byte) (*relay, *postfix) {
	t.Helper()
	requirePostfix(t)
	mxPort := freePort(t, exchanger.String())
	r := start(t, options{port: mxPort, tls: level})
	r.internet.Zone.SetMX("dest.example", mail.MX{Preference: 10, Host: "mx.dest.example"})
	r.internet.Zone.SetAddresses("mx.dest.example", exchanger)
	return r, startPostfix(t, fmt.Sprintf("%s:%d", exchanger, mxPort), func(dir string) string {
		transport := fmt.Sprintf("dest.example smtp:[%s]:%d\n", r.receiver.Addr().Addr(), r.receiver.Addr().Port())
		err := errors.Join(
			os.WriteFile(filepath.Join(dir, "etc", "tls.pem"), certificate, 0o600),
			os.WriteFile(filepath.Join(dir, "etc", "transport"), []byte(transport), 0o644))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`relay_domains = dest.example
transport_maps = texthash:%[1]s/etc/transport
smtpd_tls_security_level = may
smtpd_tls_cert_file = %[1]s/etc/tls.pem
smtpd_tls_key_file = %[1]s/etc/tls.pem
`, dir)
	})
}

// TestTheRelayDeliversToPostfix over TLS: with any certificate where TLS is
// opportunistic, with one that can be trusted where it is required.
func TestTheRelayDeliversToPostfix(t *testing.T) {
	for level, certificate := range map[string][]byte{"opportunistic": newCertificate(), "required": trusted} {
		t.Run(level, func(t *testing.T) {
			r, _ := startExchanger(t, level, certificate)
			id := "<to-postfix-" + level + "@acme.example>"
			submit(t, r, id, "bob@dest.example")
			j := r.await(t, id)
			if !strings.Contains(string(j.Data), "by postfix.example (Postfix) with ESMTPS") {
				t.Errorf("Postfix did not get it over TLS:\n%s", j.Data)
			}
			if f := r.fact(t, ledger.Delivered, "bob@dest.example"); !strings.HasPrefix(f.TLS, "TLS") || !strings.HasPrefix(f.Reply, "250 2.0.0") {
				t.Errorf("the ledger has TLS %q and reply %q", f.TLS, f.Reply)
			}
			r.verifiedByOthers(t, j.Data)
		})
	}
}

// TestRequiredTLSIsNotGivenUp: an exchanger whose certificate cannot be trusted
// gets nothing, neither inside that TLS nor in clear.
func TestRequiredTLSIsNotGivenUp(t *testing.T) {
	r, p := startExchanger(t, "required", newCertificate())
	submit(t, r, "<not-in-clear@acme.example>", "bob@dest.example")
	r.fact(t, ledger.Deferred, "bob@dest.example")
	if _, arrived := r.receiver.Judgement("<not-in-clear@acme.example>"); arrived || strings.Contains(p.log(), "from=<ann@acme.example>") {
		t.Errorf("it was sent:\n%s", p.log())
	}
}

// submit hands the relay a message with the credential.
func submit(t *testing.T, r *relay, id, to string) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		missing(t, "python3 is missing: apt-get install python3")
	}
	const script = `
import smtplib, ssl, sys
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
with smtplib.SMTP_SSL("127.0.0.1", int(sys.argv[1]), context=context, timeout=60) as c:
    c.login(sys.argv[2], sys.argv[3])
    c.sendmail("ann@acme.example", [sys.argv[5]], "From: ann@acme.example\r\nTo: bob@dest.example\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: " + sys.argv[4] + "\r\nSubject: x\r\n\r\n.dot\r\n\r\nend\r\n")
`
	run(t, exec.Command(python, "-c", script, port(r.app.Ready().SMTPTLS[0]), username, r.password, id, to))
}

// trusted is an exchanger's certificate that this process takes for one of the
// system's roots: TestMain says so before anybody looks.
var trusted = newCertificate()

func TestMain(m *testing.M) {
	roots, err := os.CreateTemp("", "roots*.pem")
	if err == nil {
		_, err = roots.Write(trusted[strings.Index(string(trusted), "-----BEGIN CERTIFICATE"):])
	}
	if err = errors.Join(err, roots.Close(), os.Setenv("SSL_CERT_FILE", roots.Name())); err != nil {
		panic(err)
	}
	code := m.Run()
	os.Remove(roots.Name())
	os.Exit(code)
}

// newCertificate makes key and self-signed certificate of the exchanger, in PEM.
func newCertificate() []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "mx.dest.example"}, DNSNames: []string{"mx.dest.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
}
