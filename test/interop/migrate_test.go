package interop

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"anechoic/app"
	"anechoic/control/config"
	"anechoic/control/migrate"
	"anechoic/control/migrate/maillog"
	"anechoic/lab"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/standard/dkim"
)

// TestWhatDebianShipsIsImported: the main.cf, master.cf and opendkim.conf as the
// packages install them become a configuration that loads.
func TestWhatDebianShipsIsImported(t *testing.T) {
	for _, file := range []string{"/usr/share/postfix/main.cf.dist", "/usr/share/postfix/main.cf.debian", "/etc/postfix/main.cf"} {
		if _, err := os.Stat(file); err != nil {
			missing(t, file+" is missing: apt-get install postfix")
		}
		o := migrate.Options{Main: file, Master: "/usr/share/postfix/master.cf.dist"}
		if _, err := os.Stat("/etc/opendkim.conf"); err == nil {
			o.OpenDKIM = "/etc/opendkim.conf"
		}
		estate, err := migrate.Read(o)
		if err != nil {
			t.Fatal(err)
		}
		p := estate.Draft(migrate.Wishes{Organisations: []migrate.Choice{{ID: "acme", Items: []string{domainName}}}})
		loads(t, p, filepath.Join(t.TempDir(), "new"))
		if len(p.Holes) > 0 || len(p.Unread) > 0 {
			t.Errorf("%s: %+v, %v", file, p.Holes, p.Unread)
		}
	}
}

// loads writes a plan, and asks whether a relay would start with it.
func loads(t *testing.T, p *migrate.Plan, dir string) {
	t.Helper()
	if err := p.Write(dir); err != nil {
		t.Fatal(err)
	}
	_, _, problems, _ := config.Validate(filepath.Join(dir, migrate.RelayFile))
	for _, problem := range problems {
		t.Error(problem)
	}
}

// TestAPostfixMovesOver: Postfix sends mail, and its log is judged by what its
// configuration became; then the relay starts with that, and a user who moved over sends
// as itself, and as nobody else.
func TestAPostfixMovesOver(t *testing.T) {
	requirePostfix(t)
	dir, err := os.MkdirTemp("", "moved")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	internet, err := lab.NewInternet()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { internet.Close() })
	receiver, err := lab.NewReceiver("127.50.0.5:0", internet.Zone)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { receiver.Close() })
	internet.AddCustomer(domainName, "acme")
	internet.AddReceiver("mailbox.example", receiver.Addr().Addr())

	p := startPostfix(t, fmt.Sprintf("127.51.0.3:%d", freePort(t, "127.51.0.3")), func(dir string) string {
		return fmt.Sprintf("relayhost = [%s]:%d\nsmtpd_sender_login_maps = inline:{%s=mover}\n", receiver.Addr().Addr(), receiver.Addr().Port(), sender)
	})
	for i, from := range []string{sender, "ceo@acme.example", "stranger@elsewhere.example"} {
		text := fmt.Sprintf("From: <%s>\r\nTo: bob@mailbox.example\r\nMessage-ID: <moved-%d@acme.example>\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\nSubject: x\r\n\r\nx\r\n", from, i)
		if err := hand(t, p.address, from, []string{"bob@mailbox.example"}, text); err != nil {
			t.Fatal(err)
		}
	}
	p.awaitLog(t, "from=<stranger@elsewhere.example>")

	users := filepath.Join(dir, "users")
	key := filepath.Join(dir, "acme.private")
	run(t, exec.Command("openssl", "genrsa", "-traditional", "-out", key, "2048"))
	write(t, users, "mover:{PLAIN}a password of old:1000:1000::/home/mover\n")
	write(t, filepath.Join(dir, "opendkim.conf"), "Domain acme.example\nSelector old\nKeyFile "+key+"\nInternalHosts 127.0.0.1\n")
	estate, err := migrate.Read(migrate.Options{Main: filepath.Join(p.dir, "etc", "main.cf"), Users: users, OpenDKIM: filepath.Join(dir, "opendkim.conf")})
	if err != nil {
		t.Fatal(err)
	}
	plan := estate.Draft(migrate.Wishes{Organisations: []migrate.Choice{{ID: "acme", Items: []string{domainName}}}})
	if len(plan.Unread) > 0 {
		t.Errorf("unread: %v", plan.Unread)
	}
	moved := filepath.Join(dir, "new")
	loads(t, plan, moved)
	judgedByItsLog(t, moved, p.log())
	startsAndSends(t, moved, internet, receiver)
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// judgedByItsLog reads the log that Postfix wrote: three messages, from loopback, which
// proves nothing.
func judgedByItsLog(t *testing.T, moved, log string) {
	t.Helper()
	_, dir, problems, _ := config.Validate(filepath.Join(moved, migrate.RelayFile))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	tally := maillog.NewTally()
	j := maillog.NewJoiner(func(m *maillog.Message) { tally.Add(m, maillog.Judge(dir, m)) })
	if _, err := j.Read(t.Context(), strings.NewReader(log)); err != nil {
		t.Fatal(err)
	}
	j.Flush()
	tally.Settle(10)
	if tally.Messages != 3 || tally.Refused != 3 || len(tally.Senders) != 3 || tally.Senders[0].Organisation != "acme" {
		t.Errorf("%+v\n%s", tally, log)
	}
}

// startsAndSends runs the relay with the written files, for the test's internet.
func startsAndSends(t *testing.T, moved string, internet *lab.Internet, receiver *lab.Receiver) {
	t.Helper()
	file := filepath.Join(moved, migrate.RelayFile)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for line := range strings.Lines(string(text)) { // the ports are the test's, and mail goes by MX
		if !strings.HasPrefix(line, "smart_host") && !strings.HasPrefix(line, "listen") && !strings.HasPrefix(line, "  \"") && !strings.HasPrefix(line, "]") {
			kept = append(kept, strings.Replace(line, "[delivery]", fmt.Sprintf("[delivery]\nport = %d", receiver.Addr().Port()), 1))
		}
	}
	all := strings.Replace(strings.Join(kept, ""), "[smtp]", "[smtp]\nlisten = [\"127.0.0.1:0\"]\nlisten_submission = [\"127.0.0.1:0\"]", 1)
	write(t, file, all+fmt.Sprintf("\n[dns]\nservers = [%q]\n[console]\nlisten = \"\"\n[operations]\nlisten = \"\"\n", internet.DNS()))
	enforce(t, moved)
	publishOld(t, moved, internet)
	a, err := app.New(app.Options{ConfigFile: file, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := a.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	if err := asMover(a.Ready().Submission[0], sender); err != nil {
		t.Errorf("its own mail: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if j, err := receiver.Await(ctx, "<moved@acme.example>"); err != nil || !j.Aligned || len(j.SignedBy) != 1 {
		t.Errorf("its own mail came signed by %v, DMARC passes: %v, %v", j.SignedBy, j.Aligned, err)
	}
	if err := asMover(a.Ready().Submission[0], "ceo@acme.example"); err == nil || !strings.Contains(err.Error(), "SOURCE_NOT_ALLOWED") {
		t.Errorf("mail as somebody else: %v", err)
	}
}

// enforce ends learning, so that mail as somebody else is refused and not held.
func enforce(t *testing.T, moved string) {
	t.Helper()
	file := filepath.Join(moved, migrate.RegistryFile)
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), "learning = true\n\n") {
		t.Fatalf("the organisation does not begin by learning: %v\n%s", err, text)
	}
	write(t, file, strings.Replace(string(text), "learning = true\n\n", "\n", 1))
}

// publishOld puts the record of the old key in DNS, as it stood there before.
func publishOld(t *testing.T, moved string, internet *lab.Internet) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(moved, "keys", "acme.example-old.pem"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := org.ParsePrivateKey(text, org.RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	domain, err := mail.ParseDomain(domainName)
	if err != nil {
		t.Fatal(err)
	}
	internet.Publish(dkim.KeyName("old", domain), dkim.RecordValue(key.Public()))
}

// asMover submits a message with the password of old.
func asMover(address, from string) error {
	c, err := greet(new(net.Dialer), address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil { // a certificate of its own, on loopback
		return err
	}
	if err := c.Auth(smtp.PlainAuth("", "mover", "a password of old", "127.0.0.1")); err != nil {
		return err
	}
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
	fmt.Fprintf(w, "From: <%s>\r\nTo: bob@mailbox.example\r\nMessage-ID: <moved@acme.example>\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\nSubject: x\r\n\r\nx\r\n", from)
	return w.Close()
}
