package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"anechoic/app"
	"anechoic/control/api"
	"anechoic/lab"
	"anechoic/ledger"
	"anechoic/mail"
)

// program is the relay as a process of its own.
type program struct {
	cmd   *exec.Cmd
	ready app.Ready
	ended chan error
}

// ready is where the relay listens, in this process or in its own.
func (r *relay) ready() app.Ready {
	if r.program != nil {
		return r.program.ready
	}
	return r.app.Ready()
}

// asProgram ends the relay in this process and starts the binary on its files.
// What it writes to standard error goes to the relay's log.
func (r *relay) asProgram(t *testing.T) (binary string) {
	t.Helper()
	binary = filepath.Join(t.TempDir(), "anechoic")
	build := exec.Command("go", "build", "-o", binary, "anechoic/cmd/anechoic")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	r.stop(t)
	p := &program{cmd: exec.Command(binary, "serve", "--config", r.configFile()), ended: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), "GOTRACEBACK=all")
	p.cmd.Stderr = r.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.ready)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() { p.cmd.Process.Kill() }) // does nothing to one that ended
	if err != nil {
		t.Fatalf("%v; log:\n%s", err, r.log)
	}
	r.program = p
	return binary
}

// A20: the program as it is installed tells no secret: in its log, in what every
// command prints, in what the control socket answers, and in the dump of all its
// goroutines when it is killed while secrets are in flight.
func TestTheProgramTellsNoSecret(t *testing.T) {
	r := newRelay(t, registry(), publishMicrosoftKeys)
	binary := r.asProgram(t)
	all := everyForm(t, r)
	queued, held := r.traffic(t)
	for path, text := range everyAnswer(t, r) {
		noForm(t, all, path, text)
	}
	for _, args := range commandLines(queued, held) {
		for _, more := range [][]string{nil, {"--json"}} {
			args := append(append([]string{}, args...), more...)
			var out bytes.Buffer
			c := exec.CommandContext(t.Context(), binary, append(args, "--config", r.configFile())...)
			c.Stdout, c.Stderr = &out, &out
			if err := c.Run(); err != nil && c.ProcessState.ExitCode() > 5 || out.Len() == 0 {
				t.Errorf("anechoic %s: %v\n%s", strings.Join(args, " "), err, &out)
			}
			noForm(t, all, "anechoic "+strings.Join(args, " "), out.String())
		}
	}
	noForm(t, all, "the replies", r.said.String())
	r.openSessions(t)
	if err := r.program.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	<-r.program.ended
	dump := r.log.String()
	if !strings.Contains(dump, "SIGQUIT") || strings.Count(dump, "smtpd.(*conn)") < 3 {
		t.Errorf("the dump shows no sessions:\n%s", dump)
	}
	noForm(t, all, "log and dump", dump)
}

// commandLines is every command that prints what the relay knows.
func commandLines(queued, held mail.ID) [][]string {
	var lines [][]string
	for _, line := range []string{
		"config show", "config validate", "status", "log search", "log search --org acme", "log show " + string(queued), "log show " + string(held), "log verify",
		"queue list", "queue show " + string(queued), "quarantine list", "quarantine show " + string(held), "key list", "key show acme.test an1", "source seen", "org list", "apply", "version",
		"queue hold --dry-run --all", "quarantine release --dry-run --all",
	} {
		lines = append(lines, strings.Fields(line))
	}
	return lines
}

// traffic has secrets go through every door: taken, refused, put off, held.
func (r *relay) traffic(t *testing.T) (queued, held mail.ID) {
	t.Helper()
	r.receiver.Answer("busy.test", "451 4.2.1 busy")
	secret := acme.SecretName + ": " + acmeSecret
	for _, l := range []letter{
		mailFromMicrosoft(acme, "ann@acme.test"),
		mailFromMicrosoft(acme, "ann@acme.test").inChunks(100),
		mailFromMicrosoft(acme, "ann@acme.test").ended(acme.SecretName + ": " + acmeNextSecret),
		mailFromMicrosoft(attacker, "ann@acme.test", secret),
		mailFromMicrosoft(acme, "ceo@globex.test"),
		mailFromMicrosoft(acme, "ann@acme.test").edited("From: ann@acme.test", "From: ann@acme.test, "+acmeSecret),
		mailFromUser("app@acme", "ann@acme.test", secret),
		mailFromUser("app@acme", "ann@globex.test"),
		mailFromUser("app@acme", "ann@acme.test").with("app@acme", passwords["app@globex"]),
		mailFromUser("app@acme", "ann@acme.test").with(passwords["app@acme"], "app@acme"), // in the wrong field
	} {
		r.send(t, l)
	}
	_, answer := r.send(t, mailFromMicrosoft(acme, "ann@acme.test").recipients("victim@busy.test"))
	queued = acceptedID(answer)
	held = r.detain(t, mailThrough(hooli, lab.Forward, vps, "someone@gmail.test").sender("box@hooli.test").topped(hooli.SecretName+": "+hooliSecret))
	r.await(t, r.marked(t))
	return queued, held
}

// marked sends an honest message and gives its Message-ID.
func (r *relay) marked(t *testing.T) string {
	t.Helper()
	l := mailFromUser("app@globex", "ann@globex.test")
	if _, answer := r.send(t, l); answer.code != 250 {
		t.Fatalf("the marker: %s", answer)
	}
	return messageID(l.data)
}

// openSessions leaves sessions in the middle of what they do: the secret header in
// half a header, in half a body and in half a chunk, the password asked for and
// half given.
func (r *relay) openSessions(t *testing.T) {
	t.Helper()
	begin := func() *client {
		c, _ := r.open(t, mailFromUser("app@acme", "ann@acme.test"))
		c.must(250, "MAIL FROM:<ann@acme.test>")
		c.must(250, "RCPT TO:<victim@"+mailbox+">")
		return c
	}
	secret := acme.SecretName + ": " + acmeSecret + "\r\n"
	for _, half := range []string{secret, "From: ann@acme.test\r\n" + secret + "\r\n" + acmeSecret + "\r\n"} {
		c := begin()
		c.must(354, "DATA")
		c.write(half)
	}
	begin().write("BDAT 4000 LAST\r\n" + secret)
	c, _ := r.open(t, mailFromUser("", "ann@acme.test"))
	c.must(334, "AUTH LOGIN")
	c.must(334, base64.StdEncoding.EncodeToString([]byte("app@acme")))
	c.write(base64.StdEncoding.EncodeToString([]byte(passwords["app@acme"])))
	r.marked(t) // the octets before it have been read
}

var getPath = regexp.MustCompile(`"GET (/api/v1/[^"]*)"`)

// controlPaths gives the GET paths of the control socket with every value there is
// for what stands in braces.
func controlPaths(t *testing.T, r *relay) (paths []string) {
	t.Helper()
	code, err := os.ReadFile(filepath.Join(projectRoot(t), "control", "api", "server.go"))
	if err != nil {
		t.Fatal(err)
	}
	client := api.NewClient(filepath.Join(r.dir, "data"))
	ids := map[mail.ID]bool{"aaaaaaaaaaaaaaaaaaaaaaaaaa": true}
	err = client.Log(t.Context(), nil, func(f ledger.Fact) bool { ids[f.ID] = f.ID != ""; return len(ids) < 200 })
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range getPath.FindAllStringSubmatch(string(code), -1) {
		path := strings.NewReplacer("{org}", "acme", "{domain}", "acme.test", "{selector}", "an1", "{source}", "m365", "{token}", "aaaaaaaaaaaa").Replace(found[1])
		if !strings.Contains(path, "{id}") {
			paths = append(paths, path)
			continue
		}
		for id, is := range ids {
			if is {
				paths = append(paths, strings.ReplaceAll(path, "{id}", string(id)))
			}
		}
	}
	if len(paths) < 10 {
		t.Fatalf("only %v", paths)
	}
	return paths
}

// socketClient speaks HTTP to the control socket of a data directory.
func socketClient(dataDir string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dataDir, "control.sock"))
	}}}
}

func fetch(t *testing.T, c *http.Client, url string) (code int, text string) {
	t.Helper()
	ctx := t.Context()
	stream := strings.HasSuffix(url, "/tail") // has no end: what comes in a second
	if stream {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Second)
		defer cancel()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil && !stream {
		t.Fatal(err)
	}
	return answer.StatusCode, fmt.Sprint(answer.Header, string(body))
}
