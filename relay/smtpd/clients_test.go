package smtpd

import (
	"net"
	"os/exec"
	"strings"
	"testing"
)

const pythonClient = `
import smtplib, sys
host, port, user, password = sys.argv[1:]
for starttls in (False, True):
    c = smtplib.SMTP(host, int(port), local_hostname="client.a.example")
    if starttls:
        import ssl
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        c.starttls(context=context)
        c.login(user, password)
    refused = c.sendmail("a@a.example", ["b@b.example", "refused@b.example"],
        "From: a@a.example\r\nSubject: python\r\n\r\n.dot\r\n..\r\nlast line", mail_options=["BODY=8BITMIME"])
    assert list(refused) == ["refused@b.example"], refused
    c.quit()
`

func TestPythonDelivers(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed (Debian: apt install python3)")
	}
	h := &recorder{}
	host, port, _ := net.SplitHostPort(start(t, newServer(h), Plain))
	if out, err := exec.Command(python, "-c", pythonClient, host, port, testUser, testPassword).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	kept := h.kept()
	if len(kept) != 2 {
		t.Fatalf("%d kept", len(kept))
	}
	for i, protocol := range []string{"ESMTP", "ESMTPSA"} {
		if got := kept[i].session.Protocol(); got != protocol {
			t.Errorf("message %d came with %s", i, got)
		}
		if got := string(kept[i].content()); got != "From: a@a.example\r\nSubject: python\r\n\r\n.dot\r\n..\r\nlast line\r\n" {
			t.Errorf("message %d is %q", i, got)
		}
	}
}

func TestSwaksDelivers(t *testing.T) {
	swaks, err := exec.LookPath("swaks")
	if err != nil {
		t.Skip("swaks is not installed (Debian: apt install swaks)")
	}
	h := &recorder{}
	for _, way := range []struct {
		mode     Mode
		protocol string
		args     []string
	}{
		{Plain, "ESMTP", nil},
		{Plain, "ESMTP", []string{"--pipeline"}},
		{Plain, "SMTP", []string{"--protocol", "SMTP"}},
		{Plain, "ESMTPS", []string{"-tls"}},
		{ImplicitTLS, "ESMTPSA", []string{"-tlsc", "--auth", "PLAIN", "-au", testUser, "-ap", testPassword}},
		{Submission, "ESMTPSA", []string{"-tls", "--auth", "LOGIN", "-au", testUser, "-ap", testPassword}},
		{Proxy, "ESMTP", []string{"--proxy-version", "1", "--proxy-family", "TCP4", "--proxy-source", "192.0.2.1", "--proxy-source-port", "40000", "--proxy-dest", "192.0.2.2", "--proxy-dest-port", "25"}},
	} {
		host, port, _ := net.SplitHostPort(start(t, newServer(h), way.mode))
		args := append([]string{"--server", host, "--port", port, "--from", "a@a.example", "--to", "b@b.example", "--body", "swaks\n.dot"}, way.args...)
		before := len(h.kept())
		if out, err := exec.Command(swaks, args...).CombinedOutput(); err != nil {
			t.Errorf("%s %v: %v: %s", way.mode, way.args, err, out)
			continue
		}
		m := h.kept()[before]
		if got := m.session.Protocol(); got != way.protocol || !strings.Contains(string(m.body), "swaks\r\n.dot") {
			t.Errorf("%s %v: with %s, %q", way.mode, way.args, got, m.body)
		}
	}
}
