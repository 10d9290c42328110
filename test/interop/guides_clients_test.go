package interop

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"anechoic/lab"
)

// on puts this machine's addresses into a guide's registry.
func on(registry, address, here string) string { return strings.ReplaceAll(registry, address, here) }

// anyArrives waits for the n-th message, whatever its id, and gives it.
func (g *ground) anyArrives(t *testing.T, n int) (last lab.Judgement) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := g.receiver.Wait(ctx, n); err != nil {
		t.Fatal(err)
	}
	for _, j := range g.receiver.Judgements() {
		if !j.Aligned || len(j.SignedBy) != 2 {
			t.Errorf("signed by %v, DMARC passes: %v", j.SignedBy, j.Aligned)
		}
		if !slices.Contains(g.arrived, j.MessageID) {
			g.arrived, last = append(g.arrived, j.MessageID), j
		}
	}
	return last
}

func TestTheProgramsOfTheApplicationsPage(t *testing.T) {
	page := readGuide(t, "applications.md")
	g := layGround(t, on(page.block(t, "toml registry", 0), "192.0.2.0/24", "127.0.0.0/8"), "")
	t.Run("swaks", func(t *testing.T) {
		if _, err := exec.LookPath("swaks"); err != nil {
			missing(t, "swaks is missing: apt-get install swaks libnet-ssleay-perl")
		}
		before := len(g.receiver.Judgements())
		run(t, exec.Command("sh", "-e", "-c", g.names(page.block(t, "sh swaks", 0), "--auth-user billing@acme", "--auth-user billing@acme --auth-password "+g.password)))
		g.anyArrives(t, before+1)
	})
	t.Run("Python, which checks the certificate", func(t *testing.T) {
		python, err := exec.LookPath("python3")
		if err != nil {
			missing(t, "python3 is missing: apt-get install python3")
		}
		before := len(g.receiver.Judgements())
		program := g.names(page.block(t, "python", 0), `"relay.acme.example", 587`, `"localhost", `+g.submission(), `"…"`, `"`+g.password+`"`)
		cmd := exec.Command(python, "-c", program)
		cmd.Env = append(os.Environ(), "SSL_CERT_FILE="+g.authority)
		run(t, cmd)
		if j := g.anyArrives(t, before+1); !strings.Contains(string(j.Data), "Please find the invoice below.") {
			t.Errorf("another message came:\n%s", j.Data)
		}
	})
	for _, c := range []struct {
		reply, reason, password, from, header string
		secure                                bool
	}{
		{"530", "TLS_REQUIRED", "", "billing@acme.example", "billing@acme.example", false},
		{"530", "AUTH_REQUIRED", "", "billing@acme.example", "billing@acme.example", true},
		{"535", "AUTH_FAILED", "wrong", "billing@acme.example", "billing@acme.example", true},
		{"550", "FROM_NOT_OWNED", g.password, "billing@acme.example", "customer@globex.example", true},
		{"550", "SENDER_NOT_OWNED", g.password, "customer@globex.example", "billing@acme.example", true},
		{"550", "SOURCE_NOT_ALLOWED", g.password, "ceo@acme.example", "ceo@acme.example", true},
	} {
		t.Run("is told "+c.reason, func(t *testing.T) {
			err := g.submits(t, c.secure, "billing@acme", c.password, c.from, "From: "+c.header+"\r\n")
			if err == nil || !strings.HasPrefix(err.Error(), c.reply) || !strings.Contains(err.Error(), "["+c.reason+" id=") {
				t.Errorf("it is told: %v", err)
			}
			page.tells(t, "`"+c.reply+"`", c.reason)
		})
	}
}

// submits hands the relay a message and gives its first refusal.
func (g *ground) submits(t *testing.T, secure bool, user, password, from, header string) error {
	t.Helper()
	c := dial(t, g.app.Ready().Submission[0])
	if secure {
		if err := c.StartTLS(&tls.Config{ServerName: "localhost", RootCAs: g.roots(t)}); err != nil {
			t.Fatal(err)
		}
	}
	if password != "" {
		if err := c.Auth(smtp.PlainAuth("", user, password, "127.0.0.1")); err != nil {
			return err
		}
	}
	return sends(c, from, header)
}

// sends gives the first refusal of a message.
func sends(c *smtp.Client, from, header string) error {
	if err := c.Mail(from); err != nil {
		return err
	}
	if err := c.Rcpt("bob@mailbox.example"); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%sTo: bob@mailbox.example\r\nSubject: scan\r\n\r\nHello\r\n", header)
	return errors.Join(err, w.Close())
}

// roots are the authority that issued the relay's certificate.
func (g *ground) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(g.authority)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	block, _ := pem.Decode(text)
	authority, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(authority)
	return pool
}

// byExchange is the trace of a message that a user wrote on a server with two
// network names: submitted within the server, then handed to the other.
const byExchange = "Received: from MBX2.acme.local (10.1.2.4) by MBX1.acme.local (10.1.2.3) with\r\n Microsoft SMTP Server (version=TLS1_2,\r\n cipher=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384) id 15.1.2507.35; Sun, 22 Nov\r\n 2026 12:00:01 +0000\r\n" +
	"Received: from MBX2.acme.local ([fe80::ad98:1:2:3]) by MBX2.acme.local\r\n ([fe80::ad98:1:2:3%12]) with mapi id 15.01.2507.035; Sun, 22 Nov 2026 12:00:00\r\n +0000\r\n" +
	"From: Ann <ann@acme.example>\r\nX-MS-Exchange-Organization-AuthAs: Internal\r\n"

// TestTheExchangePage: mail as Exchange Server hands it over is proven with the
// page's registry; what entered from a network it does not list is forwarded.
func TestTheExchangePage(t *testing.T) {
	page := readGuide(t, "exchange.md")
	g := layGround(t, on(page.block(t, "toml registry", 0), "203.0.113.10/32", "127.0.0.0/8"), "")
	if err := g.submits(t, true, "exchange@acme", g.password, "ann@acme.example", byExchange); err != nil {
		t.Errorf("it is refused: %v", err)
	}
	if j := g.anyArrives(t, 1); len(j.Leaked) > 0 {
		t.Errorf("it leaves with %v", j.Leaked)
	}
	outside := strings.Replace(byExchange, "10.1.2.4", "203.0.113.9", 1)
	if err := g.submits(t, true, "exchange@acme", g.password, "ann@acme.example", outside); err == nil || !strings.Contains(err.Error(), "[FORWARDED_MAIL id=") {
		t.Errorf("what entered from outside: %v", err)
	}
	page.tells(t, "FORWARDED_MAIL", "`internal`")
}

// TestTheScannersPage: what it says of TLS, and the commands for short passwords.
func TestTheScannersPage(t *testing.T) {
	page := readGuide(t, "scanners.md")
	g := layGround(t, on(page.block(t, "toml registry", 0), "192.0.2.0/24", "127.0.0.0/8"), "")
	address := g.app.Ready().SMTPTLS[0]
	for name, c := range map[string]struct {
		conf *tls.Config
		ok   bool
	}{
		"TLS 1.1":                  {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		"TLS 1.2 without ECDHE":    {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_CBC_SHA}}, false},
		"TLS 1.2 as it is usually": {&tls.Config{MaxVersion: tls.VersionTLS12}, true},
	} {
		c.conf.ServerName, c.conf.RootCAs = "localhost", g.roots(t)
		conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, c.conf)
		if err == nil {
			conn.Close()
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if out := run(t, exec.Command("sh", "-e", "-c", page.block(t, "sh password", 0))); len(out) != 20 {
		t.Errorf("the command for a password prints %q", out)
	}
}

// TestAnOldScannerProvesItselfByItsAddress, in clear, and by no other.
func TestAnOldScannerProvesItselfByItsAddress(t *testing.T) {
	page := readGuide(t, "scanners.md")
	g := layGround(t, on(page.block(t, "toml registry", 1), "192.0.2.40/32", "127.0.0.7/32"), "")
	from := func(address, sender string) error {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		c, err := greet(&dialer, g.app.Ready().SMTP[0])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return sends(c, sender, "From: "+sender+"\r\n")
	}
	if err := from("127.0.0.7", "scanner@acme.example"); err != nil {
		t.Errorf("the scanner is refused: %v", err)
	}
	g.anyArrives(t, 1)
	for _, c := range []struct{ reason, address, sender string }{
		{"SOURCE_NOT_ALLOWED", "127.0.0.7", "ceo@acme.example"},
		{"RELAY_DENIED", "127.0.0.8", "scanner@acme.example"},
	} {
		if err := from(c.address, c.sender); err == nil || !strings.Contains(err.Error(), "["+c.reason+" id=") {
			t.Errorf("from %s as %s: %v", c.address, c.sender, err)
		}
		page.tells(t, "`550`", c.reason)
	}
}

// TestDevicesBehindPostfix: the scanners' page on top of Postfix's.
func TestDevicesBehindPostfix(t *testing.T) {
	requirePostfix(t)
	devices, page := readGuide(t, "scanners.md"), readGuide(t, "postfix.md")
	g := layGround(t, page.block(t, "toml registry", 0), "")
	p := startPostfix(t, fmt.Sprintf("127.51.0.1:%d", freePort(t, "127.51.0.1")), func(dir string) string {
		etc := filepath.Join(dir, "etc")
		writeFile(t, etc, "relay_password", []byte(g.names(page.block(t, "postfix relay_password", 0), "PASSWORD", g.password)))
		return g.names(page.block(t, "postfix password", 0), "/etc/postfix", etc) + devices.block(t, "postfix devices", 0)
	})
	note{"<device@acme.example>", "scanner@acme.example", "scanner@acme.example", ""}.hand(t, p.address)
	g.arrives(t, "<device@acme.example>", "scanner@acme.example")
	if err := hand(t, p.address, "ceo@acme.example", []string{"bob@mailbox.example"}, "From: ceo@acme.example\r\n\r\nHello\r\n"); err == nil {
		t.Error("a device may send as anybody")
	}
}
