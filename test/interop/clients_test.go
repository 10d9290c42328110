package interop

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// TestSwaksDelivers: STARTTLS and TLS from the start, AUTH PLAIN and LOGIN.
func TestSwaksDelivers(t *testing.T) {
	swaks, err := exec.LookPath("swaks")
	if err != nil {
		missing(t, "swaks is missing: apt-get install swaks libnet-ssleay-perl")
	}
	r := start(t, options{})
	ready := r.app.Ready()
	last := ""
	for _, way := range []struct {
		name, server string
		args         []string
	}{
		{"STARTTLS, AUTH PLAIN", ready.Submission[0], []string{"--tls", "--auth", "PLAIN"}},
		{"STARTTLS, AUTH LOGIN", ready.Submission[0], []string{"--tls", "--auth", "LOGIN"}},
		{"TLS from the start, AUTH PLAIN", ready.SMTPTLS[0], []string{"--tls-on-connect", "--auth", "PLAIN"}},
		{"the plain port with STARTTLS", ready.SMTP[0], []string{"--tls", "--auth", "LOGIN"}},
		{"pipelined", ready.Submission[0], []string{"--tls", "--auth", "PLAIN", "--pipeline"}},
	} {
		t.Run(way.name, func(t *testing.T) {
			id := fmt.Sprintf("<swaks-%s@acme.example>", strings.NewReplacer(" ", "-", ",", "").Replace(way.name))
			args := append([]string{
				"--server", "127.0.0.1", "--port", port(way.server), "--auth-user", username, "--auth-password", r.password,
				"--from", sender, "--to", "bob@mailbox.example", "--header", "Message-Id: " + id, "--body", "Hello\n.a dot\n..two\n", "--timeout", "30",
			}, way.args...)
			run(t, exec.Command(swaks, args...))
			j := r.await(t, id)
			if !strings.Contains(string(j.Data), "\r\n.a dot\r\n..two\r\n") {
				t.Errorf("the body changed:\n%s", j.Data)
			}
			last = string(j.Data)
		})
	}
	r.verifiedByOthers(t, []byte(last))
}

// TestSwaksIsRefused: a wrong password and a From of nobody here.
func TestSwaksIsRefused(t *testing.T) {
	swaks, err := exec.LookPath("swaks")
	if err != nil {
		missing(t, "swaks is missing: apt-get install swaks libnet-ssleay-perl")
	}
	r := start(t, options{})
	for _, c := range []struct{ name, password, from, want string }{
		{"a wrong password", "guess", sender, "AUTH_FAILED"},
		{"a From of nobody here", r.password, "ceo@globex.example", "FROM_NOT_OWNED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := outputOf(exec.Command(swaks, "--server", "127.0.0.1", "--port", port(r.app.Ready().Submission[0]), "--tls", "--auth", "PLAIN",
				"--auth-user", username, "--auth-password", c.password, "--from", c.from, "--to", "bob@mailbox.example"))
			if err == nil || !strings.Contains(string(out), "["+c.want+" id=") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// smtplibScript sends one message of several recipients, with long base64, 8-bit
// octets and dots, as Python programs do.
const smtplibScript = `
import smtplib, ssl, sys
port, user, password, message_id = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
text = ("From: Ann <ann@acme.example>\r\nTo: bob@mailbox.example, eve@mailbox.example\r\nSubject: from Python\r\nMessage-ID: " + message_id +
        "\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n").encode()
text += ".\r\n..\r\ncaf\u00e9\r\n".encode() + b"".join(b"%075d\r\n" % i for i in range(30000))
with smtplib.SMTP("127.0.0.1", port, timeout=60) as c:
    c.starttls(context=context)
    c.login(user, password)
    refused = c.sendmail("ann@acme.example", ["bob@mailbox.example", "eve@mailbox.example"], text, mail_options=["BODY=8BITMIME"])
    assert not refused, refused
    try:
        c.sendmail("ann@acme.example", ["bob@mailbox.example"], text.replace(b"From: Ann <ann@acme.example>", b"From: ceo@globex.example"))
        raise SystemExit("a foreign From was accepted")
    except smtplib.SMTPDataError as e:
        assert e.smtp_code == 550, e
    c.noop()
`

func TestPythonDelivers(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		missing(t, "python3 is missing: apt-get install python3")
	}
	r := start(t, options{})
	const id = "<python-1@acme.example>"
	run(t, exec.Command(python, "-c", smtplibScript, port(r.app.Ready().Submission[0]), username, r.password, id))
	j := r.await(t, id)
	if !strings.Contains(string(j.Data), "\r\n\r\n.\r\n..\r\ncaf\u00e9\r\n0000") || strings.Count(string(j.Data), "\r\n") < 30000 {
		t.Errorf("the body changed: %.2000q", j.Data)
	}
	r.verifiedByOthers(t, j.Data)
}
