package acceptance

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"
	"github.com/cockroachdb/pebble/v2"

	"anechoic/control/api"
	"anechoic/ledger"
	"anechoic/mail"
)

// ran is what a command of the program said.
type ran struct {
	code      int
	out, errs string
}

// command runs the binary on the files of this relay.
func (r *relay) command(t *testing.T, binary string, args ...string) (told ran) {
	t.Helper()
	var out, errs bytes.Buffer
	c := exec.CommandContext(t.Context(), binary, append(args, "--config", r.configFile())...)
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ran{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

// must is command for what has to work.
func (r *relay) must(t *testing.T, binary string, args ...string) string {
	t.Helper()
	told := r.command(t, binary, args...)
	if told.code != 0 {
		t.Fatalf("anechoic %s: exit code %d\n%s%s", strings.Join(args, " "), told.code, told.out, told.errs)
	}
	return told.out
}

// run starts the binary on the files of this relay.
func (r *relay) run(t *testing.T, binary string) {
	t.Helper()
	p := &program{cmd: exec.Command(binary, "serve", "--config", r.configFile()), ended: make(chan error, 1)}
	p.cmd.Stderr = r.log
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() }) // does nothing to one that ended
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &p.ready)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	if err != nil {
		t.Fatalf("%v; log:\n%s", err, r.log)
	}
	r.program, r.api = p, api.NewClient(filepath.Join(r.dir, "data"))
}

// end stops the program as a service manager does.
func (r *relay) end(t *testing.T) {
	t.Helper()
	if err := r.program.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-r.program.ended; err != nil {
		t.Fatalf("%v; log:\n%s", err, r.log)
	}
}

// The restore drill of docs/backup.md, with the program as it is installed: what was
// delivered after the backup was made is not sent again unasked.
func TestARestoredRelaySendsNothingUnasked(t *testing.T) {
	r := newRelay(t, registry(), nil)
	binary := r.asProgram(t)
	delivered, letterOne := r.busy(t, mailFromUser("app@acme", "ann@acme.test"))
	waiting, letterTwo := r.busy(t, mailFromUser("app@acme", "ann@acme.test"))
	dir := t.TempDir()

	// A backup of the running relay, and the same for somebody who has the identity.
	plain, sealed := filepath.Join(dir, "plain.tar.zst"), filepath.Join(dir, "sealed.tar.zst.age")
	told := r.command(t, binary, "backup", "create", plain, "--plain")
	if told.code != 0 || !strings.Contains(told.errs, "it is not encrypted and holds private keys") {
		t.Fatalf("%+v", told)
	}
	if info, err := os.Stat(plain); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	identity, recipient := ageIdentity(t, dir)
	r.must(t, binary, "backup", "create", sealed, "--recipient", recipient)
	eventually(t, "the checkpoint is gone", func() bool {
		_, err := os.Stat(filepath.Join(r.dir, "data", "checkpoint"))
		return errors.Is(err, os.ErrNotExist)
	})

	// What nobody can read is no backup; a flipped bit is noticed.
	if told := r.command(t, binary, "backup", "verify", sealed); told.code != 1 || !strings.Contains(told.errs, "--identity-file") {
		t.Errorf("%+v", told)
	}
	if out := r.must(t, binary, "backup", "verify", sealed, "--identity-file", identity); !strings.Contains(out, "as it was made") || !strings.Contains(out, "2 messages, 2 queued and 0 held") {
		t.Errorf("it said %q", out)
	}
	flipped := filepath.Join(dir, "flipped.tar.zst")
	flip(t, plain, flipped)
	if told := r.command(t, binary, "backup", "verify", flipped); told.code != 3 || !strings.Contains(told.out, "the backup is damaged") {
		t.Errorf("%+v", told)
	}

	// Then one of the two is delivered, and the machine is lost.
	r.retry(t, delivered)
	r.await(t, messageID(letterOne.data))
	r.end(t)

	// Its successor.
	next := r.successor(t)
	target := filepath.Join(next.dir, "data")
	if told := next.command(t, binary, "restore", flipped, "--to", target); told.code != 1 || !strings.Contains(told.errs, "the backup is damaged") {
		t.Errorf("%+v", told)
	}
	if _, err := os.Stat(target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a failed restore left %s", target)
	}
	told = next.command(t, binary, "restore", sealed, "--identity-file", identity, "--to", target, "--config-to", next.dir)
	if told.code != 0 || !strings.Contains(told.out, "2 recipients of 2 messages: nothing of it is sent before queue release") || !strings.Contains(told.errs, "keys that were revoked since sign again") {
		t.Fatalf("%+v", told)
	}
	next.run(t, binary)
	for _, id := range []mail.ID{delivered, waiting} {
		next.heldFor(t, id, mail.ReasonRestored)
	}
	next.await(t, next.marked(t)) // delivery is at work
	if n := r.receiver.Repeated(); n != 0 {
		t.Errorf("%d messages came twice", n)
	}
	if _, arrived := r.receiver.Judgement(messageID(letterTwo.data)); arrived {
		t.Error("what was restored was sent unasked")
	}
	if out := next.must(t, binary, "log", "search", "--event", string(ledger.Restored), "--json"); !strings.Contains(out, "2 recipients of 2 messages held") {
		t.Errorf("the ledger says %q", out)
	}

	// What is let go arrives, and nothing else.
	next.must(t, binary, "queue", "release", string(waiting))
	next.await(t, messageID(letterTwo.data))
	next.must(t, binary, "queue", "drop", string(delivered), "--yes")
	next.await(t, next.marked(t))
	if n := r.receiver.Repeated(); n != 0 {
		t.Errorf("%d messages came twice", n)
	}
	next.must(t, binary, "log", "verify")
	next.end(t)
}

// successor is another machine in the same internet.
func (r *relay) successor(t *testing.T) *relay {
	t.Helper()
	dir, err := os.MkdirTemp("", "anechoic") // short: the path of a control socket has at most 107 octets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &relay{dir: dir, internet: r.internet, receiver: r.receiver, log: r.log, said: r.said}
}

// ageIdentity makes a file with an identity, and gives its recipient.
func ageIdentity(t *testing.T, dir string) (file, recipient string) {
	t.Helper()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "key.txt")
	if err := os.WriteFile(file, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, identity.Recipient().String()
}

// flip copies a file with one bit changed in its midst.
func flip(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 4
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A store of a newer version, and the rest of a restore that was cut off, are no data
// to start on; upgrade check says so before anybody tries.
func TestTheProgramStartsOnNothingItCannotRead(t *testing.T) {
	r := newRelay(t, registry(), nil)
	binary := r.asProgram(t)
	id, _ := r.busy(t, mailFromUser("app@acme", "ann@acme.test"))
	if out := r.must(t, binary, "upgrade", "check"); !strings.Contains(out, "runs      anechoic") || !strings.Contains(out, "1 message in the queue") || !strings.Contains(out, "this version starts here; the one before reads the data afterwards") {
		t.Errorf("of a running relay it said %q", out)
	}
	r.end(t)
	data := filepath.Join(r.dir, "data")
	text, err := os.ReadFile(r.configFile())
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "relay.toml", strings.Replace(string(text), `retry_after = ["1h"]`, `retry_after = ["2h"]`, 1))
	if out := r.must(t, binary, "upgrade", "check"); strings.Contains(out, "runs") || !strings.Contains(out, "setting   delivery.retry_after: [2h], was [1h]: it stands in the file, which was changed") {
		t.Errorf("of one that does not run it said %q", out)
	}

	if err := os.Mkdir(filepath.Join(data, ".restoring"), 0o700); err != nil {
		t.Fatal(err)
	}
	if told := r.command(t, binary, "serve"); told.code != 1 || !strings.Contains(told.errs, "a restore into this data directory did not finish") {
		t.Errorf("%+v", told)
	}
	if err := os.Remove(filepath.Join(data, ".restoring")); err != nil {
		t.Fatal(err)
	}

	setStoreFormat(t, filepath.Join(data, "store"), "2")
	if told := r.command(t, binary, "serve"); told.code != 1 || !strings.Contains(told.errs, "the store was written by a newer anechoic: it has format 2, and this one reads up to 1") {
		t.Errorf("%+v", told)
	}
	if told := r.command(t, binary, "upgrade", "check"); told.code != 3 || !strings.Contains(told.out, "the store was written by a newer anechoic") || !strings.Contains(told.out, "would not start here") {
		t.Errorf("%+v", told)
	}
	setStoreFormat(t, filepath.Join(data, "store"), "1")
	if err := os.MkdirAll(filepath.Join(data, "checkpoint", "left"), 0o700); err != nil {
		t.Fatal(err)
	}
	r.run(t, binary)
	if _, err := r.api.Queued(t.Context(), id); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(data, "checkpoint")); !errors.Is(err, os.ErrNotExist) {
		t.Error("the rest of a checkpoint is still there")
	}
	r.end(t)
}

func setStoreFormat(t *testing.T, dir, version string) {
	t.Helper()
	db, err := pebble.Open(dir, &pebble.Options{FormatMajorVersion: pebble.FormatWALSyncChunks})
	if err == nil {
		err = errors.Join(db.Set([]byte("vformat"), []byte(version), pebble.Sync), db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A checkpoint lives as long as who asked for it, and there is one at a time.
func TestACheckpointGoesWithWhoAskedForIt(t *testing.T) {
	r := newRelay(t, registry(), nil)
	var store string
	failed := errors.New("it was interrupted")
	err := r.api.UseCheckpoint(t.Context(), func(c api.Checkpoint) error {
		store = c.Store
		if _, err := os.Stat(store); err != nil {
			t.Error(err)
		}
		err := api.NewClient(filepath.Join(r.dir, "data")).UseCheckpoint(t.Context(), func(api.Checkpoint) error { return nil })
		var told *api.Problem
		if !errors.As(err, &told) || told.Code != api.CodeConflict {
			t.Errorf("a second one: %v", err)
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Fatal(err)
	}
	eventually(t, "the checkpoint is gone", func() bool {
		_, err := os.Stat(filepath.Dir(store))
		return errors.Is(err, os.ErrNotExist)
	})
	r.acceptedAndDelivered(t, mailFromUser("app@acme", "ann@acme.test"))
}
