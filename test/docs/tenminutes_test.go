package docs

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestTheTenMinutesOfTheREADME runs each command of the README's ten minutes in a
// shell, as a reader pastes them, and wants the answers that the page shows. Only
// ports are others.
func TestTheTenMinutesOfTheREADME(t *testing.T) {
	r := &reader{T: t, dir: t.TempDir()}
	for _, port := range []string{"2525", "2587", "5301", "2530"} {
		r.ports = append(r.ports, "127.0.0.1:"+port, freePort(t))
	}
	for _, b := range read(t, "README.md").blocks() {
		if b.kind != "console try" {
			continue
		}
		for _, step := range steps(b.text) {
			r.follow(step)
		}
	}
	if r.followed < 15 {
		t.Errorf("only %d commands were found: the search is broken", r.followed)
	}
	arrived, err := os.ReadFile(filepath.Join(r.dir, "internet/mailbox/1.eml"))
	if err != nil || bytes.Count(arrived, []byte("DKIM-Signature:")) != 2 {
		t.Errorf("what arrived: %v\n%s", err, arrived)
	}
	if more, _ := filepath.Glob(filepath.Join(r.dir, "internet/mailbox/*")); len(more) != 1 {
		t.Errorf("%d messages arrived: %v", len(more), more)
	}
}

// reader is somebody with a shell.
type reader struct {
	*testing.T
	dir      string
	ports    []string // of the page, and in their place
	followed int
}

// step is a command of a block, and what the page shows under it.
type step struct {
	command string
	shows   []string
}

// steps takes a block apart: a command begins with $, and goes on to END where it has
// a here-document.
func steps(text string) (list []step) {
	document := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		last := len(list) - 1
		switch {
		case strings.HasPrefix(line, "$ "):
			list = append(list, step{command: line[2:]})
			document = strings.Contains(line, "<<'END'")
		case document:
			list[last].command += "\n" + line
			document = line != "END"
		case strings.TrimSpace(line) != "":
			list[last].shows = append(list[last].shows, line)
		}
	}
	return list
}

// alike makes what differs from run to run the same: ids and blanks at the end.
var alike = regexp.MustCompile(`id=[a-z2-7]{26}`)

// follow runs a command until its answer is what the page shows: records in DNS and
// deliveries take their time.
func (r *reader) follow(s step) {
	r.Helper()
	r.followed++
	command := strings.NewReplacer(append(r.ports, "anechoic lab send --from", "anechoic lab send --server "+r.ports[1]+" --from", "anechoic lab send --rogue", "anechoic lab send --server "+r.ports[1]+" --rogue",
		"lab internet internet", "lab internet internet --dns "+r.ports[5]+" --mailbox "+r.ports[7])...).Replace(s.command)
	if strings.HasSuffix(command, "&") {
		r.background(strings.TrimSuffix(command, "&"), s.shows)
		return
	}
	if strings.HasPrefix(command, "cat >relay.toml") {
		command += "\nprintf '[operations]\\nlisten = \"127.0.0.1:0\"\\n' >>relay.toml"
	}
	var answer string
	for until := time.Now().Add(patience); ; time.Sleep(200 * time.Millisecond) {
		out, _ := r.shell(context.Background(), command).CombinedOutput() // what is refused ends with another code
		if answer = string(out); shown(answer, s.shows) {
			return
		}
		if time.Now().After(until) || strings.Contains(command, ">>") {
			break
		}
	}
	r.Fatalf("%s\nanswers\n%s\nand not as the page has it:\n%s", command, answer, strings.Join(s.shows, "\n"))
}

// shell is a command in the reader's folder, where anechoic is the program.
func (r *reader) shell(ctx context.Context, command string) *exec.Cmd {
	c := exec.CommandContext(ctx, "sh", "-c", command)
	c.Dir = r.dir
	c.Env = append(os.Environ(), "PATH="+filepath.Dir(anechoic(r.T))+":"+os.Getenv("PATH"))
	return c
}

// background starts a command that goes on, and waits for what the page shows of it.
func (r *reader) background(command string, shows []string) {
	r.Helper()
	said := filepath.Join(r.dir, fmt.Sprintf("said-%d", r.followed))
	out, err := os.Create(said)
	if err != nil {
		r.Fatal(err)
	}
	defer out.Close()
	c := r.shell(context.Background(), "exec "+command)
	c.Stdout, c.Stderr = out, out
	if err := c.Start(); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		if err := c.Wait(); err != nil {
			r.Errorf("%s does not end with 0: %v", command, err)
		}
	})
	var text []byte
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		if text, _ = os.ReadFile(said); shown(string(text), shows) {
			return
		}
	}
	r.Fatalf("%s says\n%s\nand not as the page has it:\n%s", command, text, strings.Join(shows, "\n"))
}

// shown says that an answer has each line that the page shows, in this order.
func shown(answer string, shows []string) bool {
	answer = alike.ReplaceAllString(answer, "id=")
	for _, line := range shows {
		line = alike.ReplaceAllString(line, "id=")
		at := strings.Index(answer, line)
		if at < 0 {
			return false
		}
		answer = answer[at+len(line):]
	}
	return true
}

// freePort is an address on loopback whose port nobody has.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
