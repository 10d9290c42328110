package interop

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"anechoic/org"
)

// guide is a page of the manual whose configuration is run as it stands, but for
// names, ports and paths.
type guide struct{ name, text string }

func readGuide(t *testing.T, name string) guide {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(projectRoot(t), "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return guide{name, string(text)}
}

var fenced = regexp.MustCompile("(?ms)^```([^\n]*)\n(.*?)^```$")

// block gives the n-th fenced block of a kind, from 0.
func (g guide) block(t *testing.T, kind string, n int) string {
	t.Helper()
	for _, m := range fenced.FindAllStringSubmatch(g.text, -1) {
		if m[1] == kind {
			if n == 0 {
				return m[2]
			}
			n--
		}
	}
	t.Fatalf("docs/%s has no such block ```%s", g.name, kind)
	return ""
}

// tells holds what was seen against the page: a row of its tables has all these
// words.
func (g guide) tells(t *testing.T, words ...string) {
	t.Helper()
	for line := range strings.Lines(g.text) {
		missing := 0
		for _, w := range words {
			if !strings.Contains(line, w) {
				missing++
			}
		}
		if missing == 0 && strings.HasPrefix(line, "|") {
			return
		}
	}
	t.Errorf("docs/%s has no row with %q", g.name, words)
}

// ground is what the guides' configurations meet: a relay whose certificate an
// authority of the test issued for "localhost", under which name all programs
// here find it.
type ground struct {
	*relay
	authority string   // file
	arrived   []string // ids that anyArrives saw
}

var (
	dkimLine     = regexp.MustCompile(`(?m)^ *dkim = \[ \{ selector = "an1".*$`)
	passwordHash = regexp.MustCompile(`argon2id = "[^"]*"`)
	keyHash      = regexp.MustCompile(`spki_sha256( *)= \["[0-9a-f]{64}"\]`)
)

// layGround starts a relay with the registry of a guide. Passwords in it become
// one that is known here, and keys' hashes the one given. config is more of
// relay.toml.
func layGround(t *testing.T, registry, spki string, config ...string) *ground {
	t.Helper()
	password := org.NewSecret()
	registry = dkimLine.ReplaceAllString(registry, `dkim = [ { selector = "an1", algorithm = "rsa-2048", key_file = "an1.pem" }, { selector = "an1e", algorithm = "ed25519", key_file = "an1e.pem" } ]`)
	registry = passwordHash.ReplaceAllLiteralString(registry, `argon2id = "`+org.HashPassword([]byte(password))+`"`)
	registry = keyHash.ReplaceAllString(registry, `spki_sha256$1= ["`+spki+`"]`)
	dir := publicDir(t)
	i := newIssuer(t)
	certificate, _ := i.certificate(t, "localhost", "relay.anechoic.example")
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	authority := writeFile(t, dir, "authority.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}))
	chain := writeFile(t, dir, "relay.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}))
	private := writeFile(t, dir, "relay.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	r := start(t, options{directory: registry, config: strings.Join(config, ""), smtp: fmt.Sprintf("tls_cert = %q\ntls_key = %q\n", chain, private)})
	r.password = password
	return &ground{relay: r, authority: authority}
}

// publicDir is a temporary folder that other users may enter.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "guide")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func writeFile(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func (g *ground) submission() string { return port(g.app.Ready().Submission[0]) }

// names puts this machine's names into a block of a guide.
func (g *ground) names(text string, more ...string) string {
	return strings.NewReplacer(append(more,
		"relay.acme.example]:587", "localhost]:"+g.submission(),
		"relay.acme.example:587", "localhost:"+g.submission(),
		"relay.acme.example", "localhost",
		"port = 587", "port = "+g.submission(),
		"/etc/ssl/certs/ca-certificates.crt", g.authority,
	)...).Replace(text)
}

// certificateOf runs the guide's commands that make a certificate, and gives the
// folder and the hash they print.
func (g guide) certificateOf(t *testing.T) (dir, spki string) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		missing(t, "openssl is missing: apt-get install openssl")
	}
	dir = publicDir(t)
	sh := exec.Command("sh", "-e", "-c", g.block(t, "sh certificate", 0))
	sh.Dir = dir
	sh.Stderr = io.Discard
	out := run(t, sh)
	spki, _, _ = strings.Cut(out, " ")
	if len(spki) != 64 {
		t.Fatalf("the commands of docs/%s do not print a hash but %s", g.name, out)
	}
	for _, name := range []string{"relay.key", "relay.crt"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o644); err != nil { // Exim runs as a user of its own
			t.Fatal(err)
		}
	}
	return dir, spki
}

// note is what a mail server of the guides gets to send.
type note struct{ id, envelope, from, above string }

// hand gives a note to a mail server, as one of its own clients does.
func (n note) hand(t *testing.T, server string) {
	t.Helper()
	text := n.above + "From: " + n.from + "\r\nTo: bob@mailbox.example\r\nSubject: as the guide says\r\nMessage-ID: " + n.id + "\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\r\nHello\r\n"
	if err := hand(t, server, n.envelope, []string{"bob@mailbox.example"}, text); err != nil {
		t.Fatal(err)
	}
}

// fromOutside is a trace of a message that entered the server from a stranger.
const fromOutside = "Received: from stranger.example (stranger.example [203.0.113.9])\r\n\tby mail.acme.example with ESMTP id 1;\r\n\tSun, 22 Nov 2026 11:59:00 +0000\r\n"

// refusals are messages that the guides say bounce, by reason.
var refusals = map[string]note{
	"FROM_NOT_OWNED":   {"<foreign-from@acme.example>", sender, "ceo@globex.example", ""},
	"SENDER_NOT_OWNED": {"<foreign-envelope@acme.example>", "ceo@globex.example", sender, ""},
	"FORWARDED_MAIL":   {"<from-outside@acme.example>", sender, sender, fromOutside},
}

// arrives waits for the note: signed, by DMARC the organisation's, and from where
// the guide says.
func (g *ground) arrives(t *testing.T, id, from string) {
	t.Helper()
	j := g.await(t, id)
	if !strings.Contains(string(j.Data), "\nFrom: "+from+"\r\n") || !strings.HasSuffix(j.MailFrom, "@acme.example") {
		t.Errorf("envelope sender %s:\n%s", j.MailFrom, j.Data)
	}
}

// guidedPostfix starts Postfix with a block of the guide.
func (g *ground) guidedPostfix(t *testing.T, page guide, kind, password, keys string) *postfix {
	t.Helper()
	return startPostfix(t, fmt.Sprintf("127.51.0.1:%d", freePort(t, "127.51.0.1")), func(dir string) string {
		etc := filepath.Join(dir, "etc")
		writeFile(t, etc, "relay_password", []byte(g.names(page.block(t, "postfix relay_password", 0), "PASSWORD", password)))
		return g.names(page.block(t, "postfix "+kind, 0), "/etc/postfix/relay.pem", filepath.Join(keys, "relay.pem"), "/etc/postfix", etc)
	})
}

func TestThePostfixGuide(t *testing.T) {
	requirePostfix(t)
	page := readGuide(t, "postfix.md")
	g := layGround(t, page.block(t, "toml registry", 0), "")
	p := g.guidedPostfix(t, page, "password", g.password, "")
	if out := run(t, exec.Command("postconf", "-c", filepath.Join(p.dir, "etc"), "-n")); strings.Contains(out, "warning") {
		t.Errorf("Postfix does not know a parameter of the guide:\n%s", out)
	}
	note{"<guide-1@acme.example>", sender, sender, ""}.hand(t, p.address)
	g.arrives(t, "<guide-1@acme.example>", sender)
	t.Run("a cron job's mail is from the domain itself", func(t *testing.T) {
		note{"<guide-cron@acme.example>", "root@web1.acme.example", "root@web1.acme.example", ""}.hand(t, p.address)
		g.arrives(t, "<guide-cron@acme.example>", "root@acme.example")
	})
	for reason, n := range refusals {
		t.Run("bounces with "+reason, func(t *testing.T) {
			n.hand(t, p.address)
			p.awaitLine(t, "["+reason+" id=", "status=bounced")
			page.tells(t, reason, "status=bounced", "| bounces |")
		})
	}
}

func TestThePostfixGuideWithAWrongPassword(t *testing.T) {
	requirePostfix(t)
	page := readGuide(t, "postfix.md")
	g := layGround(t, page.block(t, "toml registry", 0), "")
	p := g.guidedPostfix(t, page, "password", "wrong", "")
	note{"<guide-waits@acme.example>", sender, sender, ""}.hand(t, p.address)
	p.awaitLine(t, "[AUTH_FAILED id=", "status=deferred")
	page.tells(t, "AUTH_FAILED", "status=deferred", "waits, and leaves once mended", "`postfix reload && postqueue -f`")

	etc := filepath.Join(p.dir, "etc")
	writeFile(t, etc, "relay_password", []byte(g.names(page.block(t, "postfix relay_password", 0), "PASSWORD", g.password)))
	run(t, exec.Command("postfix", "-c", etc, "reload"))
	run(t, exec.Command("postqueue", "-c", etc, "-f"))
	g.arrives(t, "<guide-waits@acme.example>", sender)
}

func TestThePostfixGuideWithoutAPassword(t *testing.T) {
	requirePostfix(t)
	page := readGuide(t, "postfix.md")
	g := layGround(t, page.block(t, "toml registry", 0), "")
	p := startPostfix(t, fmt.Sprintf("127.51.0.1:%d", freePort(t, "127.51.0.1")), func(dir string) string {
		writeFile(t, filepath.Join(dir, "etc"), "relay_password", nil)
		return g.names(page.block(t, "postfix password", 0), "/etc/postfix", filepath.Join(dir, "etc"))
	})
	note{"<guide-none@acme.example>", sender, sender, ""}.hand(t, p.address)
	p.awaitLine(t, "[AUTH_REQUIRED id=", "status=bounced")
	page.tells(t, "AUTH_REQUIRED", "status=bounced", "| bounces |")
}

func TestThePostfixGuideWithAStrangersCertificate(t *testing.T) {
	requirePostfix(t)
	page := readGuide(t, "postfix.md")
	g := layGround(t, page.block(t, "toml registry", 0), "")
	g.authority = writeFile(t, publicDir(t), "other.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: newIssuer(t).cert.Raw}))
	p := g.guidedPostfix(t, page, "password", g.password, "")
	note{"<guide-untrusted@acme.example>", sender, sender, ""}.hand(t, p.address)
	p.awaitLine(t, "Server certificate not", "status=deferred")
	page.tells(t, "Server certificate not", "status=deferred", "| waits |")
}

func TestThePostfixGuideWithACertificate(t *testing.T) {
	requirePostfix(t)
	page := readGuide(t, "postfix.md")
	keys, spki := page.certificateOf(t)
	g := layGround(t, page.block(t, "toml registry", 1), spki)
	p := g.guidedPostfix(t, page, "certificate", "", keys)
	note{"<guide-certificate@acme.example>", sender, sender, ""}.hand(t, p.address)
	g.arrives(t, "<guide-certificate@acme.example>", sender)

	strangers, _ := page.certificateOf(t)
	other := g.guidedPostfix(t, page, "certificate", "", strangers)
	note{"<guide-unregistered@acme.example>", sender, sender, ""}.hand(t, other.address)
	other.awaitLine(t, "[AUTH_REQUIRED id=", "status=bounced")
}

// awaitLine waits for a line with both texts in Postfix's log.
func (p *postfix) awaitLine(t *testing.T, one, other string) {
	t.Helper()
	p.awaitLog(t, one)
	p.awaitLog(t, other)
	for line := range strings.Lines(p.log()) {
		if strings.Contains(line, one) && strings.Contains(line, other) {
			return
		}
	}
	t.Errorf("no line of Postfix's log has both %q and %q:\n%s", one, other, p.log())
}

// eximAround is the mail server around the guide's blocks.
const eximAround = `primary_hostname = web1.acme.example
daemon_smtp_ports = %[1]d
local_interfaces = %[2]s
disable_ipv6 = true
spool_directory = /spool
log_file_path = /log/%%slog
keep_environment =
tls_advertise_hosts =
log_selector = -queue_run
domainlist local_domains = web1.acme.example
acl_smtp_rcpt = take
%[3]s
begin acl
take:
  accept
begin routers
%[4]s
begin transports
%[5]s
begin rewrite
%[6]s
begin retry
* * F,1h,2s
begin authenticators
%[7]s
`

// guidedExim starts Exim with the guide's blocks.
func (g *ground) guidedExim(t *testing.T, page guide, kind, password, keys string) *guest {
	t.Helper()
	e := furnish(t, "usr/sbin/exim4")
	listen := netip.AddrPortFrom(netip.MustParseAddr("127.51.0.3"), freePort(t, "127.51.0.3"))
	e.address = listen.String()
	for name, from := range map[string]string{"authority.pem": g.authority, "relay.crt": filepath.Join(keys, "relay.crt"), "relay.key": filepath.Join(keys, "relay.key")} {
		if data, err := os.ReadFile(from); err == nil {
			e.write(t, "etc/exim4/"+name, string(data), 0o644)
		} else if keys != "" {
			t.Fatal(err)
		}
	}
	authenticator := ""
	if kind == "password" {
		authenticator = page.block(t, "exim authenticator", 0)
	}
	conf := fmt.Sprintf(eximAround, listen.Port(), listen.Addr(),
		page.block(t, "exim main", 0),
		strings.Replace(page.block(t, "exim router", 0), "  no_more\n", "  self = send\n  no_more\n", 1), // the relay is on the same machine
		page.block(t, "exim transport "+kind, 0), page.block(t, "exim rewrite", 0), authenticator)
	conf = g.names(conf, "PASSWORD", strings.ReplaceAll(password, "^", "^^"), "/etc/ssl/certs/ca-certificates.crt", "/etc/exim4/authority.pem")
	e.write(t, "etc/exim4/exim4.conf", conf, 0o644)
	e.start(t, "/usr/sbin/exim4", "-bdf", "-q1s")
	return e
}

// awaitLine waits for a line of Exim's log that has a text and, between spaces, a
// mark: what became of the message ("==", "**"), or more of the text.
func (g *guest) awaitLine(t *testing.T, mark, text string) {
	t.Helper()
	g.awaitLog(t, text)
	g.awaitLog(t, " "+mark+" ")
	for line := range strings.Lines(g.log()) {
		if strings.Contains(line, " "+mark+" ") && strings.Contains(line, text) {
			return
		}
	}
	t.Errorf("no line of Exim's log has both %s and %q:\n%s", mark, text, g.log())
}

func TestTheEximGuide(t *testing.T) {
	page := readGuide(t, "exim.md")
	g := layGround(t, page.block(t, "toml registry", 0), "")
	e := g.guidedExim(t, page, "password", g.password, "")
	note{"<exim-guide@acme.example>", sender, sender, ""}.hand(t, e.address)
	g.arrives(t, "<exim-guide@acme.example>", sender)
	t.Run("a cron job's mail is from the domain itself", func(t *testing.T) {
		note{"<exim-cron@acme.example>", "root@web1.acme.example", "root@web1.acme.example", ""}.hand(t, e.address)
		g.arrives(t, "<exim-cron@acme.example>", "root@acme.example")
	})
	for reason, n := range refusals {
		t.Run("bounces with "+reason, func(t *testing.T) {
			n.hand(t, e.address)
			e.awaitLine(t, "**", "["+reason+" id=")
			page.tells(t, reason, "`**`", "| bounces |")
		})
	}
}

func TestTheEximGuideWithAWrongPassword(t *testing.T) {
	page := readGuide(t, "exim.md")
	g := layGround(t, page.block(t, "toml registry", 0), "")
	e := g.guidedExim(t, page, "password", "wrong", "")
	note{"<exim-waits@acme.example>", sender, sender, ""}.hand(t, e.address)
	e.awaitLine(t, "authenticator failed", "[AUTH_FAILED id=")
	e.awaitLine(t, "==", "authentication required")
	page.tells(t, "AUTH_FAILED", "`==`", "`authenticator failed`", "| waits, and leaves once mended |")

	conf := filepath.Join(e.root, "etc/exim4/exim4.conf")
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	e.write(t, "etc/exim4/exim4.conf", strings.Replace(string(text), "^mta@acme^wrong", "^mta@acme^"+g.password, 1), 0o644)
	g.arrives(t, "<exim-waits@acme.example>", sender)
}

func TestTheEximGuideWithAStrangersCertificate(t *testing.T) {
	page := readGuide(t, "exim.md")
	g := layGround(t, page.block(t, "toml registry", 0), "")
	g.authority = writeFile(t, publicDir(t), "other.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: newIssuer(t).cert.Raw}))
	e := g.guidedExim(t, page, "password", g.password, "")
	note{"<exim-untrusted@acme.example>", sender, sender, ""}.hand(t, e.address)
	e.awaitLine(t, "==", "TLS session")
	page.tells(t, "TLS session", "`==`", "| waits |")
}

func TestTheEximGuideWithACertificate(t *testing.T) {
	page := readGuide(t, "exim.md")
	keys, spki := page.certificateOf(t)
	g := layGround(t, page.block(t, "toml registry", 1), spki)
	e := g.guidedExim(t, page, "certificate", "", keys)
	note{"<exim-certificate@acme.example>", sender, sender, ""}.hand(t, e.address)
	g.arrives(t, "<exim-certificate@acme.example>", sender)

	strangers, _ := page.certificateOf(t)
	other := g.guidedExim(t, page, "certificate", "", strangers)
	note{"<exim-unregistered@acme.example>", sender, sender, ""}.hand(t, other.address)
	other.awaitLine(t, "**", "[AUTH_REQUIRED id=")
	page.tells(t, "AUTH_REQUIRED", "`**`", "| bounces |")
}
