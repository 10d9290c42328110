package screen

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // the form of a ClamAV signature, not a secret
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anechoic/mail"
)

// patience is how long a real scanner may take to start on a busy machine.
const patience = 30 * time.Second

// eicar is the test file of all virus scanners (eicar.org), put together here so
// that this file is none.
var eicar = `X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-` + `STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`

func program(t *testing.T, name, pkg string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	t.Skipf("%s is missing: apt-get install --no-install-recommends %s", name, pkg)
	return ""
}

// workshop is a folder that programs which drop their rights can write in, with
// these files.
func workshop(t *testing.T, files map[string]string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "screen")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.ReplaceAll(text, "@DIR@", dir)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// start runs a scanner until the test ends, and waits until it answers a ping.
func start(t *testing.T, s Scanner, cmd *exec.Cmd) {
	t.Helper()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-ended
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.Ping(ctx)
		if err == nil {
			return
		}
		select {
		case status := <-ended:
			ended <- status
			t.Fatalf("%s ended at its start: %v\n%s", cmd.Path, status, log.String())
		case <-ctx.Done():
			t.Fatalf("%s does not answer: %v\n", cmd.Path, err)
		case <-tick.C:
		}
	}
}

// freeAddress is an address of loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startClamd runs ClamAV with a database of ours that knows one file.
func startClamd(t *testing.T) *Clamd {
	t.Helper()
	path := program(t, "clamd", "clamav-daemon")
	sum := md5.Sum([]byte(eicar)) //nolint:gosec // see above
	dir := workshop(t, map[string]string{
		"test.hdb":   fmt.Sprintf("%s:%d:Anechoic.Test.EICAR\n", hex.EncodeToString(sum[:]), len(eicar)),
		"clamd.conf": "DatabaseDirectory @DIR@\nLocalSocket @DIR@/socket\nForeground yes\nOfficialDatabaseOnly no\nStreamMaxLength 200K\nAlertEncryptedArchive yes\nTemporaryDirectory @DIR@\nUser root\n",
	})
	c := &Clamd{Endpoint: Endpoint{Network: "unix", Address: dir + "/socket"}}
	start(t, c, exec.Command(path, "-c", dir+"/clamd.conf"))
	return c
}

// attached is a message with one attachment.
func attached(content string) string {
	return strings.Replace(plain, "Subject:", "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nSubject:", 1) +
		"--b\nContent-Type: text/plain\n\nsee there\n--b\nContent-Type: application/octet-stream\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment; filename=a.com\n\n" +
		base64.StdEncoding.EncodeToString([]byte(content)) + "\n--b--\n"
}

func TestClamAVFindsWhatItsDatabaseKnows(t *testing.T) {
	c := startClamd(t)
	if v := ask(t, c, question(t, plain)); v.Action != Pass || v.Refusal() != nil {
		t.Errorf("a plain message: %v, %s", v.Action, v.Detail())
	}
	v := ask(t, c, question(t, attached(eicar)))
	if v.Action != Refuse || v.Refusal().Reason() != mail.ReasonMalware || !strings.Contains(v.Detail(), "Anechoic.Test.EICAR") {
		t.Errorf("the test file: %v, %v", v.Action, v.Refusal())
	}
	q := question(t, plain+strings.Repeat("a longer line than the one before\n", 60_000))
	v = ask(t, c, q)
	if v.Action != Lost || v.Refusal().Code() != 451 {
		t.Errorf("more than its limit: %v, %s", v.Action, v.Detail())
	}
	t.Log(v.Detail())
}

func TestWhatIsTooBigForClamAVDoesNotHaveItLeftAlone(t *testing.T) {
	c := startClamd(t)
	s := New(Options{Scanners: []Scanner{c}, Losses: 2})
	big := question(t, plain+strings.Repeat("a longer line than the one before\n", 60_000))
	for range 5 {
		if v := s.Ask(context.Background(), big); v.Action != Lost {
			t.Fatalf("more than its limit: %v", v.Action)
		}
	}
	if v := s.Ask(context.Background(), question(t, plain)); v.Action != Pass {
		t.Errorf("the message after them: %v, %s", v.Action, v.Detail())
	}
}

// rspamdConf is a scanner that knows two words and no name server: nothing of it
// reaches out.
const rspamdConf = `options {
  disable_hyperscan = true;
  url_tld = "@DIR@/suffixes";
  pidfile = "@DIR@/pid";
  filters = "regexp";
  dns { nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; }
  control_socket = "@DIR@/control.sock mode=0600";
  local_addrs = [];
}
logging { type = "console"; level = "notice"; }
actions { reject = 15; add_header = 6; greylist = 4; }
lua = "@DIR@/rules.lua";
worker "normal" {
  bind_socket = "ADDRESS";
  count = 1;
}
`

// rspamdRules are rules of one word each: the action, and a virus scanner's symbol.
const rspamdRules = `
local function rule(symbol, word, score, act)
  rspamd_config:register_symbol({ name = symbol, score = score, callback = function(task)
    if not tostring(task:get_content()):find(word, 1, true) then return false end
    if act then task:set_pre_result(act, 'by the test') end
    return true, 1.0, 'an option'
  end })
end
rule('TEST_SPAM', 'XTEST-SPAM', 7.5)
rule('CLAM_VIRUS', 'XTEST-VIRUS', 20.0, 'reject')
rule('CLAM_VIRUS_FAIL', 'XTEST-LOST', 0.0)
rule('TEST_REJECT', 'XTEST-REJECT', 40.0)
rule('TEST_SOFT', 'XTEST-SOFT', 1.0, 'soft reject')
rspamd_config:register_symbol({ name = 'TEST_TOLD', score = 1.0, callback = function(task)
  local ip, from, rcpts = task:get_ip(), task:get_from('smtp'), task:get_recipients('smtp')
  return task:get_user() == 'acme/erp' and ip and ip:to_string() == '192.0.2.7' and task:get_helo() == 'erp.acme.example'
    and from[1].addr == 'ann@acme.example' and #rcpts == 1 and rcpts[1].addr == 'bob@dest.example'
    and tostring(task:get_request_header('Anechoic-Direction')) == 'outbound'
    and tostring(task:get_request_header('Anechoic-Organisation')) == 'acme'
    and task:get_header('X-Told') ~= nil
end })
`

func startRspamd(t *testing.T) *Rspamd {
	t.Helper()
	path := program(t, "rspamd", "rspamd")
	address := freeAddress(t)
	dir := workshop(t, map[string]string{
		"rspamd.conf": strings.ReplaceAll(rspamdConf, "ADDRESS", address),
		"rules.lua":   rspamdRules,
		"suffixes":    "// ===BEGIN ICANN DOMAINS===\ncom\nexample\n",
	})
	r := NewRspamd(Endpoint{Network: "tcp", Address: address}, "relay.anechoic.test", nil)
	t.Cleanup(r.Close)
	start(t, r, exec.Command(path, "-f", "-u", "nobody", "-g", "nogroup", "--var=DBDIR="+dir, "--var=RUNDIR="+dir, "-c", filepath.Join(dir, "rspamd.conf")))
	return r
}

func TestRspamdSaysWhatItsRulesSay(t *testing.T) {
	r := startRspamd(t)
	for _, c := range []struct {
		word   string
		rules  Rules
		action Action
		reason mail.Reason
	}{
		{word: "Nothing special", action: Pass},
		{word: "XTEST-SPAM", action: Mark},
		{word: "XTEST-SPAM", rules: Rules{HoldAt: 6}, action: Hold, reason: mail.ReasonContentRefused},
		{word: "XTEST-SPAM", rules: Rules{HoldAt: 6, RefuseAt: 7}, action: Refuse, reason: mail.ReasonContentRefused},
		{word: "XTEST-REJECT", action: Refuse, reason: mail.ReasonContentRefused},
		{word: "XTEST-VIRUS", action: Refuse, reason: mail.ReasonMalware},
		{word: "XTEST-LOST", action: Lost, reason: mail.ReasonScreeningLost},
		{word: "XTEST-SOFT", action: Defer, reason: mail.ReasonContentRefused},
	} {
		q := question(t, plain+c.word+"\n")
		q.Rules = c.rules
		v := ask(t, r, q)
		if v.Action != c.action || v.Reason != c.reason {
			t.Errorf("%s with %+v: %v %s (%s)", c.word, c.rules, v.Action, v.Reason, v.Detail())
		}
	}
}

func TestRspamdIsToldWhoSendsWhatToWhom(t *testing.T) {
	r := startRspamd(t)
	v := ask(t, r, question(t, "X-Told: yes\n"+plain))
	if !strings.Contains(v.Detail(), "TEST_TOLD") {
		t.Errorf("%v: %s", v.Action, v.Detail())
	}
}

func TestALargeMessageIsReadFromItsFile(t *testing.T) {
	r := startRspamd(t)
	q := question(t, plain)
	w := &mail.BodyWriter{Threshold: 1 << 10, Dir: t.TempDir()}
	for range 50_000 {
		if _, err := w.Write([]byte("a line of a message that is longer than what is kept in memory\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write([]byte("XTEST-SPAM\r\n")); err != nil {
		t.Fatal(err)
	}
	q.Message.Body = w.Body()
	defer q.Message.Body.Close()
	if v := ask(t, r, q); v.Action != Mark {
		t.Errorf("%v: %s", v.Action, v.Detail())
	}
}

// pythonMilter judges by the words of a message, as libmilter has it.
const pythonMilter = `
import sys, Milter
class Filter(Milter.Base):
    def __init__(self):
        self.text, self.told = b'', []
    def connect(self, name, family, addr):
        self.told.append(name + ' ' + addr[0])
        return Milter.CONTINUE
    def envfrom(self, f, *args):
        self.told += [f, self.getsymval('i') or '', self.getsymval('{auth_authen}') or '', self.getsymval('{anechoic_direction}') or '']
        return Milter.CONTINUE
    def envrcpt(self, to, *args):
        self.told.append(to)
        return Milter.REJECT if 'refused' in to else Milter.CONTINUE
    def header(self, name, value):
        if name == 'X-Code':
            self.setreply(value[:3], value[4:9], value[10:])
            return Milter.REJECT if value[0] == '5' else Milter.TEMPFAIL
        return Milter.CONTINUE
    def body(self, chunk):
        self.text += chunk
        return Milter.CONTINUE
    def eom(self):
        self.addheader('X-Seen', '%d octets, %s\n\tand a fold' % (len(self.text), ' '.join(self.told)))
        self.addheader('X-Other', 'not wanted')
        if b'XQUARANTINE' in self.text:
            self.quarantine('for a person')
        if b'XDISCARD' in self.text:
            return Milter.DISCARD
        if b'XREJECT' in self.text:
            return Milter.REJECT
        return Milter.ACCEPT
Milter.factory = Filter
Milter.set_flags(Milter.ADDHDRS | Milter.QUARANTINE)
Milter.runmilter('test', 'unix:' + sys.argv[1], 60)
`

func startMilter(t *testing.T) *Milter {
	t.Helper()
	python := program(t, "/usr/bin/python3", "python3") // Debian's, which has the package
	if exec.Command(python, "-c", "import Milter").Run() != nil {
		t.Skip("python's Milter is missing: apt-get install --no-install-recommends python3-milter")
	}
	dir := workshop(t, map[string]string{"filter.py": pythonMilter})
	m := &Milter{Endpoint: Endpoint{Network: "unix", Address: dir + "/socket"}, Hostname: "relay.anechoic.test", Headers: []string{"X-Seen"}}
	start(t, m, exec.Command(python, dir+"/filter.py", dir+"/socket"))
	return m
}

func TestAMilterOfLibmilterJudgesMessages(t *testing.T) {
	m := startMilter(t)
	for _, c := range []struct {
		text   string
		action Action
		detail string
	}{
		{plain, Pass, ""},
		{plain + "XQUARANTINE\n", Hold, "for a person"},
		{plain + "XDISCARD\n", Hold, "discard"},
		{plain + "XREJECT\n", Refuse, ""},
		{"X-Code: 550 5.7.9 no such content here\n" + plain, Refuse, "550: 5.7.9 no such content here"},
		{"X-Code: 451 4.7.9 come back later\n" + plain, Defer, "451: 4.7.9 come back later"},
		{plain + strings.Repeat("a body of more than one chunk of sixty-four thousand octets\n", 4000) + "XREJECT\n", Refuse, ""},
	} {
		v := ask(t, m, question(t, c.text))
		if v.Action != c.action || !strings.Contains(v.Detail(), c.detail) {
			t.Errorf("%.40q: %v: %s", c.text, v.Action, v.Detail())
		}
	}
	q := question(t, plain)
	q.Envelope.Recipients = append(q.Envelope.Recipients, mail.Recipient{Address: address(t, "refused@dest.example")})
	if v := ask(t, m, q); v.Action != Refuse {
		t.Errorf("one of two recipients refused: %v", v.Action)
	}
}

func TestAMilterAddsOnlyFieldsThatAreListed(t *testing.T) {
	m := startMilter(t)
	q := question(t, plain)
	v := ask(t, m, q)
	if v.Action != Pass || len(v.Headers) != 1 {
		t.Fatalf("%v with %d fields: %s", v.Action, len(v.Headers), v.Detail())
	}
	want := "X-Seen: 15 octets, erp.acme.example 192.0.2.7 <ann@acme.example> " + string(q.ID) + " acme/erp outbound <bob@dest.example>\r\n\tand a fold\r\n"
	if got := string(v.Headers[0].Raw()); got != want {
		t.Errorf("it added %q, not %q", got, want)
	}
}

func TestOpenDKIMTakesPartAsAMilter(t *testing.T) {
	path := program(t, "opendkim", "opendkim")
	dir := workshop(t, map[string]string{
		"conf": "Mode v\nSocket local:@DIR@/socket\nBackground no\nPidFile @DIR@/pid\nUserID root\nOn-NoSignature accept\nOn-BadSignature reject\nOn-DNSError tempfail\nOn-KeyNotFound reject\nNameservers 127.0.0.1\nTestDNSData file:@DIR@/keys\nPeerList file:@DIR@/peers\nInternalHosts file:@DIR@/peers\n",
		"keys": "sel._domainkey.acme.example v=DKIM1; k=rsa; p=\n", "peers": "192.0.2.99\n",
	})
	m := &Milter{Endpoint: Endpoint{Network: "unix", Address: dir + "/socket"}, Hostname: "relay.anechoic.test"}
	start(t, m, exec.Command(path, "-f", "-x", dir+"/conf"))
	if v := ask(t, m, question(t, plain)); v.Action != Pass {
		t.Errorf("%v: %s", v.Action, v.Detail())
	}
}
