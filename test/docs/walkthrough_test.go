package docs

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/smtp"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"anechoic/lab"
	"anechoic/mail"
)

// patience bounds every wait; what takes as long is broken.
const patience = 2 * time.Minute

// walk is a reader who follows the page, on a machine where the internet is
// on loopback.
type walk struct {
	*testing.T
	dir      string
	internet *lab.Internet
	receiver *lab.Receiver
	ready    struct {
		Submission []string `json:"submission"`
		Operations string   `json:"operations"`
	}
}

// firstConfiguration is the page that writes the files by hand.
const firstConfiguration = "docs/first-configuration.md"

// Its example.
const (
	sender   = "billing@acme.example"
	receiver = "you@mailbox.example"
	password = "change-this-password"
)

func TestTheFirstConfigurationByHand(t *testing.T) {
	w := newWalk(t)
	w.says("config validate", "relay.toml: valid: 1 organisation, 1 domain, 2 sources")
	stop := w.serve()
	w.refusedWith(mail.ReasonDomainUnverified)
	w.internet.Zone.SetTXT("_anechoic.acme.example", "v=anechoic1; org=acme")
	w.says("status", "acme.example  verified  an1 NOT published, an1e NOT published")
	w.refusedWith(mail.ReasonKeyNotPublished)
	w.publish()
	stop() // what DNS just said counts for seconds; a new start asks anew, with the same keys

	stop = w.serve()
	w.says("key list", "an1       rsa-2048   yes", "an1e      ed25519    yes")
	w.says("status", "acme.example  verified  an1 published, an1e published")
	id := w.accepted()
	w.arrived(id)
	w.says("log show "+id, "Proven to be acme's, by source billing with credential.", `Delivered to you@mailbox.example`)
	w.says("status", "\n  No\n", "queue     empty")
	w.says("log verify", "as it was sealed: ")
	w.metrics()
	stop()
	w.says("log verify", "as it was sealed: ")
}

// newWalk writes the page's files, with ports and name server of this range.
func newWalk(t *testing.T) *walk {
	t.Helper()
	w := &walk{T: t, dir: t.TempDir()}
	var err error
	if w.internet, err = lab.NewInternet(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.internet.Close() })
	if w.receiver, err = lab.NewReceiver("127.50.0.9:0", w.internet.Zone); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.receiver.Close() })
	w.internet.AddReceiver("mailbox.example", w.receiver.Addr().Addr())

	readme := read(t, firstConfiguration)
	relay := strings.NewReplacer("127.0.0.1:2525", "127.0.0.1:0", "127.0.0.1:2587", "127.0.0.1:0").Replace(readme.blockOf(t, "toml relay"))
	relay += fmt.Sprintf("[dns]\nservers = [%q]\n[delivery]\nport = %d\n[operations]\nlisten = \"127.0.0.1:0\"\n", w.internet.DNS(), w.receiver.Addr().Port())
	write(t, w.dir, "relay.toml", relay)
	write(t, w.dir, "registry.toml", readme.blockOf(t, "toml registry"))
	return w
}

// command is the program with arguments, in the reader's folder.
func (w *walk) command(args ...string) *exec.Cmd {
	program := anechoic(w.T)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w.Cleanup(cancel)
	c := exec.CommandContext(ctx, program, args...)
	c.Dir = w.dir
	return c
}

// says runs a command that must end with 0 and print these texts.
func (w *walk) says(line string, texts ...string) []byte {
	w.Helper()
	c := w.command(strings.Fields(line)...)
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		w.Fatalf("anechoic %s: %v\n%s%s", line, err, out, &errs)
	}
	for _, text := range texts {
		if !strings.Contains(string(out), text) {
			w.Errorf("anechoic %s does not say %q but:\n%s%s", line, text, out, &errs)
		}
	}
	return out
}

// serve starts the relay, reads its ready line, and gives what ends it, with 0.
func (w *walk) serve() (stop func()) {
	w.Helper()
	c, log := exec.Command(anechoic(w.T), "serve"), &bytes.Buffer{}
	c.Dir, c.Stderr = w.dir, log
	out, err := c.StdoutPipe()
	if err != nil {
		w.Fatal(err)
	}
	if err := c.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = c.Process.Kill() }) // nothing, if it has ended
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &w.ready)
	}
	if err != nil || len(w.ready.Submission) != 1 {
		_ = c.Process.Kill()
		_ = c.Wait()
		w.Fatalf("serve is not ready: %v: %s\n%s", err, line, log)
	}
	return func() {
		w.Helper()
		if err := errors.Join(c.Process.Signal(syscall.SIGTERM), c.Wait()); err != nil {
			w.Errorf("serve did not end with 0: %v\n%s", err, log)
		}
	}
}

// publish does for DNS what the page says, with what key list prints.
func (w *walk) publish() {
	w.Helper()
	var keys []struct {
		Name      string `json:"record_name"`
		Value     string `json:"record_value"`
		Published bool   `json:"published"`
	}
	if err := json.Unmarshal(w.says("key list --json"), &keys); err != nil || len(keys) != 2 {
		w.Fatalf("key list --json gives %d keys: %v", len(keys), err)
	}
	for _, k := range keys {
		if k.Published {
			w.Errorf("%s is said to be published, and is not", k.Name)
		}
		w.internet.Publish(k.Name, k.Value)
	}
}

// send is the application: STARTTLS, AUTH, one message.
func (w *walk) send() (string, error) {
	w.Helper()
	c, err := smtp.Dial(w.ready.Submission[0])
	if err != nil {
		w.Fatal(err)
	}
	defer c.Close()
	if err := errors.Join(
		c.StartTLS(&tls.Config{InsecureSkipVerify: true}), // self-signed, as the page says
		c.Auth(smtp.PlainAuth("", "billing@acme", password, "127.0.0.1")),
		c.Mail(sender), c.Rcpt(receiver)); err != nil {
		w.Fatal(err)
	}
	id, err := c.Text.Cmd("DATA")
	if err != nil {
		w.Fatal(err)
	}
	c.Text.StartResponse(id)
	defer c.Text.EndResponse(id)
	if _, _, err := c.Text.ReadResponse(354); err != nil {
		w.Fatal(err)
	}
	content := c.Text.DotWriter()
	_, err = io.WriteString(content, "From: "+sender+"\r\nTo: "+receiver+"\r\nSubject: Invoice\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <ten-minutes@acme.example>\r\n\r\nPlease find the invoice below.\r\n")
	if err := errors.Join(err, content.Close()); err != nil {
		w.Fatal(err)
	}
	_, text, err := c.Text.ReadResponse(250)
	return text, err
}

func (w *walk) refusedWith(reason mail.Reason) {
	w.Helper()
	text, err := w.send()
	if err == nil || !strings.Contains(err.Error(), "["+string(reason)+" id=") {
		w.Fatalf("the reply is no %s: %s %v", reason, text, err)
	}
}

func (w *walk) accepted() string {
	w.Helper()
	text, err := w.send()
	_, id, ok := strings.Cut(text, "2.0.0 Kept id=")
	if err != nil || !ok {
		w.Fatalf("the message was not kept: %s %v", text, err)
	}
	return id
}

// arrived waits for the message at its receiver, and for the fact that says so.
func (w *walk) arrived(id string) {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.receiver.Wait(ctx, 1); err != nil {
		w.Fatal(err)
	}
	if j, ok := w.receiver.Judgement("<ten-minutes@acme.example>"); !ok || !j.Aligned || len(j.SignedBy) != 2 {
		w.Errorf("the receiver found %d valid signatures, DMARC pass: %t", len(j.SignedBy), j.Aligned)
	}
	tail := w.command("log", "tail", "--id", id, "--event", "delivered", "--json")
	out, err := tail.StdoutPipe()
	if err != nil {
		w.Fatal(err)
	}
	if err := tail.Start(); err != nil {
		w.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		w.Errorf("log tail shows no delivery: %v", err)
	}
	_ = tail.Process.Signal(syscall.SIGTERM)
	if err := tail.Wait(); err != nil {
		w.Errorf("log tail does not end with 0: %v", err)
	}
}

var metricName = regexp.MustCompile(`(?m)^# TYPE (anechoic_\w+) `)

// metrics holds what the relay shows against the page. What went up on the way
// here must not be said to stand still, nor the other way round.
func (w *walk) metrics() {
	w.Helper()
	response, err := http.Get("http://" + w.ready.Operations + "/metrics")
	if err != nil {
		w.Fatal(err)
	}
	defer response.Body.Close()
	shown, err := io.ReadAll(response.Body)
	if err != nil {
		w.Fatal(err)
	}
	documented := map[string]bool{} // counted yet
	for _, row := range cells(read(w.T, filepath.Join("docs", "operations.md")).text) {
		for _, name := range spans(row[0]) {
			if strings.HasPrefix(name, "anechoic_") {
				documented[name] = !strings.Contains(row[len(row)-1], "Not counted yet")
			}
		}
	}
	var names []string
	for _, m := range metricName.FindAllSubmatch(shown, -1) {
		names = append(names, string(m[1]))
		if _, ok := documented[string(m[1])]; !ok {
			w.Errorf("docs/operations.md does not tell of the metric %s", m[1])
		}
	}
	for name, counted := range documented {
		switch moves := movesByThen(name); {
		case counted && !slices.Contains(names, name):
			w.Errorf("docs/operations.md tells of %s, and /metrics does not show it", name)
		case counted && moves && !above0(shown, name):
			w.Errorf("docs/operations.md does not say that %s is not counted yet, and it stands at 0", name)
		case !counted && moves && above0(shown, name):
			w.Errorf("docs/operations.md says that %s is not counted yet, and it is: take the mark out", name)
		}
	}
}

// movesByThen says that what happened in the ten minutes makes a metric rise.
func movesByThen(name string) bool {
	for _, still := range []string{"unproven", "refused", "faults", "findings", "egress_in_spf", "reloads", "_queue_", "connections_open", "scanner_resting", "_alert", "_webhook_", "campaigns_open", "responses_in_force", "watch_lag", "watch_skipped", "limit_decisions", "mailbox_reports"} {
		if strings.Contains(name, still) {
			return false
		}
	}
	return true
}

// above0 says that some series of a metric is not 0.
func above0(shown []byte, name string) bool {
	return regexp.MustCompile(`(?m)^` + name + `(?:_count)?(?:\{[^}]*\})? [^0]`).Match(shown)
}
