package alert

import (
	"bufio"
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var hostile = Alert{
	Key: "k", Org: `ac|me"]`, Kind: "campaign", Severity: Critical, Title: "a|b\\c\r\nCEF:0|Other|fake=1|\"]",
	Text: "first\nact=fake msg=x \\\n<13>1 2026-01-01T00:00:00Z fake fake - - -", Campaign: `c=1`, Finding: `f]"\`,
}

func hostileIncident() Incident {
	i, _ := Incident{}.After(hostile.clean(noon))
	return i
}

func TestNothingInAnAlertBreaksASyslogLine(t *testing.T) {
	i := hostileIncident()
	line := string(line5424("relay.test", &i, EventOpened, RFC5424, "1"))
	want := `<106>1 2026-11-23T12:00:00.000Z relay.test anechoic ` + strconv.Itoa(os.Getpid()) +
		` campaign [alert@32473 event="alert.opened.v1" incident="` + i.ID + `" organisation="ac|me\"\]" severity="critical" campaign="c=1" finding="f\]\"\\" count="1"] ` +
		"\ufeff" + `a|b\c  CEF:0|Other|fake=1|"]: first act=fake msg=x \ <13>1 2026-01-01T00:00:00Z fake fake - - -`
	if line != want {
		t.Errorf("\n%q\nnot\n%q", line, want)
	}
}

func TestNothingInAnAlertBreaksCEF(t *testing.T) {
	i := hostileIncident()
	want := `CEF:0|Anechoic|Anechoic|1\|2|campaign|a\|b\\c  CEF:0\|Other\|fake=1\|"]|9|rt=1795435200000 externalId=` + i.ID +
		` cnt=1 act=alert.opened.v1 cs1Label=organisation cs1=ac|me"] cs2Label=campaign cs2=c\=1 cs3Label=finding cs3=f]"\\ msg=first\nact\=fake msg\=x \\\n<13>1 2026-01-01T00:00:00Z fake fake - - -`
	if got := cefLine(&i, EventOpened, "1|2"); got != want {
		t.Errorf("\n%s\nnot\n%s", got, want)
	}
}

// unescapedEquals finds keys of a CEF extension as a reader of it does.
var unescapedEquals = regexp.MustCompile(`(?:^|[^\\])(?:\\\\)*=`)

func TestACEFLineHasTheKeysItShouldWhateverIsInIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a=|\\\n "]{0,40}`)
		i, _ := Incident{}.After(Alert{Key: "k", Org: text.Draw(t, "org"), Title: text.Draw(t, "title"), Text: text.Draw(t, "text"), Campaign: text.Draw(t, "campaign")}.clean(noon))
		line := cefLine(&i, EventOpened, "1")
		bars := 0
		for k := 0; k < len(line) && bars < 7; k++ {
			if line[k] == '\\' {
				k++
			} else if line[k] == '|' {
				bars++
				if bars == 7 {
					line = line[k+1:]
				}
			}
		}
		if n := len(unescapedEquals.FindAllString(line, -1)); bars != 7 || n != 11 || strings.Contains(line, "\n") {
			t.Fatalf("%d bars, %d keys: %s", bars, n, line)
		}
	})
}

// feedTo sends hostile alerts to a server and gives what must arrive for each.
func feedTo(t *testing.T, target Target, n int) (want string, f *feed) {
	f = newFeed(target, "relay.test", "1", slog.New(slog.DiscardHandler))
	i := hostileIncident()
	for range n {
		f.offer(&i, EventOpened)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return string(line5424("relay.test", &i, EventOpened, target.Format, "1")), f
}

// framed reads one message of a stream (RFC 6587 section 3.4.1).
func framed(r *bufio.Reader) (string, error) {
	length, err := r.ReadString(' ')
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(strings.TrimSpace(length))
	if err != nil {
		return "", err
	}
	text := make([]byte, n)
	_, err = io.ReadFull(r, text)
	return string(text), err
}

func TestSyslogOverUDPIsADatagramEach(t *testing.T) {
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	want, _ := feedTo(t, Target{Network: "udp", Address: server.LocalAddr().String(), Format: RFC5424}, 2)
	buffer := make([]byte, 65536)
	for range 2 {
		if n, _, err := server.ReadFrom(buffer); err != nil || string(buffer[:n]) != want {
			t.Errorf("%v: %q", err, buffer[:n])
		}
	}
}

func TestSyslogOverAUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	server, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	want, _ := feedTo(t, Target{Network: "unix", Address: path, Format: CEF}, 1)
	buffer := make([]byte, 65536)
	if n, _, err := server.ReadFrom(buffer); err != nil || string(buffer[:n]) != want {
		t.Errorf("%v: %q", err, buffer[:n])
	}
}

func TestSyslogOverTCPSurvivesAServerThatHangsUp(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	want, f := feedTo(t, Target{Network: "tcp", Address: server.Addr().String(), Format: RFC5424}, 1)
	for round := range 3 {
		conn, err := server.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := framed(bufio.NewReader(conn)); err != nil || got != want {
			t.Errorf("round %d: %v: %q", round, err, got)
		}
		conn.Close()
		if round < 2 {
			i := hostileIncident()
			f.offer(&i, EventOpened)
		}
	}
}

func TestSyslogOverTLSChecksTheCertificate(t *testing.T) {
	web := newReceiver(t)
	pool := x509.NewCertPool()
	pool.AddCert(web.Certificate())
	f := newFeed(Target{Network: "tls", Address: web.Listener.Addr().String(), Format: RFC5424, Roots: pool}, "relay.test", "1", slog.New(slog.DiscardHandler))
	conn, err := f.send(t.Context(), nil, []byte("line"))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	f.target.Roots = x509.NewCertPool()
	if conn, err := f.send(t.Context(), nil, []byte("line")); err == nil {
		conn.Close()
		t.Error("a certificate of nobody was taken")
	}
}

func TestAServerThatIsNotThereKeepsNobodyWaitingAndWhatIsLostIsCounted(t *testing.T) {
	f := newFeed(Target{Network: "tcp", Address: "127.0.0.1:1", Format: RFC5424}, "relay.test", "1", slog.New(slog.DiscardHandler))
	i := hostileIncident()
	for range maxLines + 7 {
		f.offer(&i, EventOpened)
	}
	if n := f.dropped.Load(); n != 7 {
		t.Errorf("%d were dropped", n)
	}
}

func TestRsyslogReadsWhatIsSent(t *testing.T) {
	program, err := exec.LookPath("rsyslogd")
	if err != nil {
		t.Skip("rsyslogd is missing: apt-get install rsyslog")
	}
	folder := t.TempDir()
	out, socket, file := filepath.Join(folder, "out"), filepath.Join(folder, "port"), filepath.Join(folder, "rsyslog.conf")
	config := fmt.Sprintf(`module(load="imtcp")
template(name="parts" type="string" string="%%pri%%~%%hostname%%~%%app-name%%~%%msgid%%~%%structured-data%%~%%msg%%\n")
ruleset(name="all") { action(type="omfile" file=%q template="parts") }
input(type="imtcp" port="0" address="127.0.0.1" listenPortFileName=%q ruleset="all")
`, out, socket)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, "-n", "-f", file, "-i", filepath.Join(folder, "pid"))
	var said strings.Builder
	c.Stderr = &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { c.Process.Kill(); c.Wait() }()
	var port []byte
	until(t, "rsyslog listens", func() bool { port, _ = os.ReadFile(socket); return len(port) > 0 })
	feedTo(t, Target{Network: "tcp", Address: "127.0.0.1:" + strings.TrimSpace(string(port)), Format: RFC5424}, 1)
	var got []byte
	until(t, "rsyslog writes", func() bool { got, _ = os.ReadFile(out); return strings.HasSuffix(string(got), "\n") })
	i := hostileIncident()
	want := `106~relay.test~anechoic~campaign~` + structured(&i, EventOpened) + "~\ufeff" + oneLine(i.Title+": "+i.Text) + "\n"
	if strings.ReplaceAll(string(got), "\ufeff", "") != strings.ReplaceAll(want, "\ufeff", "") {
		t.Errorf("\n%q\nnot\n%q\n%s", got, want, said.String())
	}
}

func TestTargetsAreReadAsTheyAreWritten(t *testing.T) {
	for text, good := range map[string]bool{
		"udp:127.0.0.1:514": true, "tcp:[::1]:601": true, "tls:siem.test:6514": true, "unix:/dev/log": true,
		"": false, "udp:": false, "unix:dev/log": false, "http:host:1": false, "tcp:host": false, "tcp:host:0": false, "tcp:host:99999": false,
	} {
		target, err := ParseTarget(text)
		if (err == nil) != good || good && target.String() != text {
			t.Errorf("%q: %+v, %v", text, target, err)
		}
	}
}
