package interop

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
)

// Exim, OpenSMTPD and Postfix cannot be installed beside each other. The first two
// are unpacked from their Debian packages into a folder, which ANECHOIC_PEERS
// names, and run in a tree of their own: with their libraries, their users and
// nothing else.
const unpackHint = `it is missing in $ANECHOIC_PEERS (by default /tmp/anechoic-peers): in an empty folder,
apt-get download exim4-daemon-light exim4-base libidn12 opensmtpd; for p in *.deb; do dpkg-deb -x "$p" /tmp/anechoic-peers; done`

func unpacked() string {
	if folder := os.Getenv("ANECHOIC_PEERS"); folder != "" {
		return folder
	}
	return "/tmp/anechoic-peers"
}

// guest is a program that runs in its tree.
type guest struct {
	root    string
	address string
	output  string // file
}

// furnish makes the tree of a program: it, the folders it wants, its libraries.
func furnish(t *testing.T, program string, more ...string) *guest {
	t.Helper()
	if _, err := os.Stat(filepath.Join(unpacked(), program)); err != nil {
		missing(t, program+": "+unpackHint)
	}
	if os.Getuid() != 0 {
		missing(t, "mail servers can be started by root only: run this test as root, in a container for example")
	}
	root, err := os.MkdirTemp("", "peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	g := &guest{root: root, output: filepath.Join(root, "output")}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"dev", "etc/exim4", "tmp", "run", "var/run", "var/spool/smtpd", "var/lib/opensmtpd/empty", "log", "spool"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, minor := range map[string]int{"null": 3, "urandom": 9} {
		path := filepath.Join(root, "dev", name)
		if err := syscall.Mknod(path, syscall.S_IFCHR|0o666, 1<<8|minor); err != nil {
			missing(t, "a device cannot be made here ("+err.Error()+"): run this test where root may")
		}
		if err := os.Chmod(path, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "var/spool/smtpd"), 0o711); err != nil {
		t.Fatal(err)
	}
	for _, name := range append(more, program) {
		g.copyProgram(t, name)
	}
	g.write(t, "etc/passwd", "root:x:0:0::/root:/bin/false\nDebian-exim:x:2001:2001::/spool:/bin/false\nopensmtpd:x:2002:2002::/var/lib/opensmtpd/empty:/bin/false\nopensmtpq:x:2003:2003::/var/lib/opensmtpd/empty:/bin/false\n", 0o644)
	g.write(t, "etc/group", "root:x:0:\nDebian-exim:x:2001:\nopensmtpd:x:2002:\nopensmtpq:x:2003:\n", 0o644)
	g.write(t, "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n", 0o644)
	g.write(t, "etc/hosts", "127.0.0.1 localhost\n", 0o644)
	g.write(t, "etc/resolv.conf", "", 0o644)
	for _, dir := range []string{"spool", "log"} {
		if err := os.Chown(filepath.Join(root, dir), 2001, 2001); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

var libraryPath = regexp.MustCompile(`/[^ ]+`)

// copyProgram copies a program and the libraries that it is linked with.
func (g *guest) copyProgram(t *testing.T, name string) {
	t.Helper()
	source := filepath.Join(unpacked(), name)
	copyFile(t, source, filepath.Join(g.root, name))
	ldd := exec.Command("ldd", source)
	libraries, _ := filepath.Glob(filepath.Join(unpacked(), "usr/lib/*-linux-gnu"))
	ldd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
	for _, path := range libraryPath.FindAllString(run(t, ldd), -1) {
		copyFile(t, path, filepath.Join(g.root, strings.TrimPrefix(path, unpacked())))
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

func (g *guest) write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(g.root, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask
		t.Fatal(err)
	}
}

// start runs the program until the test ends, and waits until it listens.
func (g *guest) start(t *testing.T, args ...string) {
	t.Helper()
	out, err := os.Create(g.output)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Path, cmd.Dir, cmd.Env = args[0], "/", []string{"PATH=/usr/sbin:/usr/bin"}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: g.root, Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s said:\n%s", args[0], g.log())
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) // the processes it started too
		end(cmd, syscall.SIGTERM)
		out.Close()
	})
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		if conn, err := net.Dial("tcp", g.address); err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen:\n%s", args[0], g.log())
		}
	}
}

// log is all that the program wrote.
func (g *guest) log() (text string) {
	files, _ := filepath.Glob(filepath.Join(g.root, "log", "*"))
	for _, file := range append(files, g.output) {
		part, err := os.ReadFile(file)
		if err != nil {
			text += err.Error() + "\n"
		}
		text += string(part)
	}
	return text
}

func (g *guest) awaitLog(t *testing.T, text string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !strings.Contains(g.log(), text); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("the log has no %q:\n%s", text, g.log())
		}
	}
}

// next is where a guest sends what it takes.
type next struct {
	address  netip.AddrPort
	username string // with a password: over TLS, with AUTH
	password string
}

// peers are the servers the tests below are about.
var peers = map[string]func(t *testing.T, listen netip.AddrPort, to next) *guest{"Exim": startExim, "OpenSMTPD": startOpenSMTPD}

// eximConf writes Received in the form of RFC 5321 section 4.4. Exim's own, for a
// client whose address has no name, puts the address it saw where others have the
// client's word ("from [192.0.2.1] (helo=name)"), and the relay does not believe it.
const eximConf = `primary_hostname = exim.example
daemon_smtp_ports = %d
local_interfaces = %s
disable_ipv6 = true
spool_directory = /spool
log_file_path = /log/%%slog
tls_advertise_hosts = %s
tls_certificate = /etc/cert.pem
tls_privatekey = /etc/key.pem
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
chunking_advertise_hosts = *
keep_environment =
log_selector = -queue_run
received_header_text = Received: from $sender_helo_name ([$sender_host_address])\n\tby $primary_hostname with $received_protocol (Exim $version_number)\n\tid $message_exim_id
acl_smtp_rcpt = check
acl_smtp_mail = note
begin acl
check:
  warn logwrite = said $smtp_command
  accept
note:
  warn logwrite = said $smtp_command
  accept
begin routers
out:
  driver = manualroute
  route_list = * %s byname
  transport = remote
  self = send
begin transports
remote:
  driver = smtp
  port = %d
  hosts_try_chunking = *
%s
begin retry
* * F,1h,2s
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^%s^%s
`

func startExim(t *testing.T, listen netip.AddrPort, to next) *guest {
	t.Helper()
	g := furnish(t, "usr/sbin/exim4")
	g.address = listen.String()
	g.writeCertificate(t)
	offer, how := "*", ""
	if to.username != "" { // the test hands it mail without TLS
		offer, how = "", "  hosts_require_tls = *\n  hosts_require_auth = *\n  tls_verify_certificates =\n  tls_try_verify_hosts =\n"
	}
	g.write(t, "etc/exim4/exim4.conf", fmt.Sprintf(eximConf, listen.Port(), listen.Addr(), offer, to.address.Addr(), to.address.Port(), how, to.username, strings.ReplaceAll(to.password, "^", "^^")), 0o644)
	g.start(t, "/usr/sbin/exim4", "-bdf", "-q1s")
	return g
}

// startOpenSMTPD offers no TLS: the handshake of Debian's OpenSMTPD as a server fails
// in this tree, with any key. As a client it uses TLS.
func startOpenSMTPD(t *testing.T, listen netip.AddrPort, to next) *guest {
	t.Helper()
	g := furnish(t, "usr/sbin/smtpd", "usr/sbin/smtpctl", "usr/libexec/opensmtpd/lockspool", "usr/libexec/opensmtpd/mail.local")
	g.address = listen.String()
	action := fmt.Sprintf(`action "out" relay host smtp://%s`, to.address)
	if to.username != "" {
		g.write(t, "etc/secrets", "relay "+to.username+":"+to.password+"\n", 0o644)
		action = fmt.Sprintf("table secrets file:/etc/secrets\naction \"out\" relay host smtp+tls://relay@%s auth <secrets> tls no-verify", to.address)
	}
	g.write(t, "etc/smtpd.conf", fmt.Sprintf(`listen on %s port %d hostname opensmtpd.example
%s
match from any for any action "out"
`, listen.Addr(), listen.Port(), action), 0o644)
	g.start(t, "/usr/sbin/smtpd", "-d", "-f", "/etc/smtpd.conf")
	return g
}

// writeCertificate gives the guest a certificate of the exchanger.
func (g *guest) writeCertificate(t *testing.T) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.dest.example"}, DNSNames: []string{"mx.dest.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	g.write(t, "etc/key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), 0o644)
	g.write(t, "etc/cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o644)
}

// TestOthersDeliverThroughTheRelay: Exim and OpenSMTPD with the relay as their
// smart host, over TLS and with a credential.
func TestOthersDeliverThroughTheRelay(t *testing.T) {
	for name, begin := range peers {
		t.Run(name, func(t *testing.T) {
			r := start(t, options{})
			listen := netip.MustParseAddr("127.51.0.3")
			submission := netip.MustParseAddrPort("127.0.0.1:" + port(r.app.Ready().Submission[0]))
			g := begin(t, netip.AddrPortFrom(listen, freePort(t, listen.String())), next{submission, username, r.password})
			for i := range 3 {
				id := fmt.Sprintf("<%s-%d@acme.example>", strings.ToLower(name), i)
				text := "From: Ann <" + sender + ">\r\nTo: bob@mailbox.example\r\nSubject: through " + name + "\r\nMessage-ID: " + id + "\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\r\nHello\r\n.a dot\r\n"
				if err := hand(t, g.address, sender, []string{"bob@mailbox.example", "eve@mailbox.example"}, text); err != nil {
					t.Fatal(err)
				}
				if j := r.await(t, id); !strings.Contains(string(j.Data), strings.ToLower(name)+".example") || !strings.Contains(string(j.Data), "\r\n.a dot\r\n") {
					t.Errorf("it did not come as %s sent it:\n%s", name, j.Data)
				}
			}
		})
	}
}

// TestTheRelayDeliversToOthers: Exim, over TLS, and OpenSMTPD as the exchanger of
// dest.example. What arrives behind them still verifies.
func TestTheRelayDeliversToOthers(t *testing.T) {
	for name, begin := range peers {
		t.Run(name, func(t *testing.T) {
			mx := netip.AddrPortFrom(exchanger, freePort(t, exchanger.String()))
			r := start(t, options{port: mx.Port()})
			r.internet.Zone.SetMX("dest.example", mail.MX{Preference: 10, Host: "mx.dest.example"})
			r.internet.Zone.SetAddresses("mx.dest.example", exchanger)
			g := begin(t, mx, next{address: r.receiver.Addr()})
			id := "<to-" + strings.ToLower(name) + "@acme.example>"
			submit(t, r, id, "bob@dest.example")
			r.await(t, id)
			f := r.fact(t, ledger.Delivered, "bob@dest.example")
			if strings.HasPrefix(f.TLS, "TLS") != (name == "Exim") || !strings.HasPrefix(f.Reply, "250 ") || f.Egress == "" {
				t.Errorf("the ledger has TLS %q, reply %q and egress %q", f.TLS, f.Reply, f.Egress)
			}
			if name == "Exim" {
				r.extensionsOfExim(t, g)
			}
		})
	}
}

// extensionsOfExim: chunks, DSN parameters and addresses outside ASCII, which Exim
// writes into its log.
func (r *relay) extensionsOfExim(t *testing.T, g *guest) {
	t.Helper()
	g.awaitLog(t, " K ") // the message came in chunks
	const script = `
import smtplib, ssl, sys
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
with smtplib.SMTP_SSL("127.0.0.1", int(sys.argv[1]), context=context, timeout=60) as c:
    c.login(sys.argv[2], sys.argv[3])
    text = "From: ann@acme.example\r\nTo: bob@dest.example\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <%s@acme.example>\r\nSubject: x\r\n\r\nHello\r\n"
    c.sendmail("ann@acme.example", ["dsn@dest.example"], text % "dsn", mail_options=["RET=HDRS", "ENVID=QQ314159"], rcpt_options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;dsn@dest.example"])
    c.sendmail("ann@acme.example", ["b\u00f6b@dest.example"], (text % "utf8").replace("Hello", "Gr\u00fc\u00dfe").encode(), mail_options=["SMTPUTF8", "BODY=8BITMIME"])
    c.sendmail("ann@acme.example", ["large@dest.example"], text % "large" + "x" * 70 + "\r\n" + ("." * 60 + "\r\n") * 20000)
`
	python, err := exec.LookPath("python3")
	if err != nil {
		missing(t, "python3 is missing: apt-get install python3")
	}
	run(t, exec.Command(python, "-c", script, port(r.app.Ready().SMTPTLS[0]), username, r.password))
	for _, recipient := range []string{"dsn@dest.example", "böb@dest.example", "large@dest.example"} {
		if f := r.fact(t, ledger.Delivered, recipient); !strings.HasPrefix(f.Reply, "250 ") {
			t.Errorf("%s: %q", recipient, f.Reply)
		}
	}
	g.awaitLog(t, "ENVID=QQ314159")
	g.awaitLog(t, "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;dsn@dest.example")
	if j := r.await(t, "<large@acme.example>"); strings.Count(string(j.Data), "\r\n"+strings.Repeat(".", 60)) != 20000 {
		t.Error("the large message did not come as it was sent")
	}
}
