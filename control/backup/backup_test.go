package backup

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/engine/local"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

func TestABackupHoldsTheRelayAndNothingThatIsMadeAnew(t *testing.T) {
	n := newNode(t)
	m := open(t, n.backup(t)).Manifest()
	var names []string
	for _, f := range m.Files {
		if !strings.HasPrefix(f.Name, "data/store/") {
			names = append(names, strings.TrimSuffix(f.Name, n.dir[1:]+"/elsewhere/shaping.toml"))
		}
	}
	want := []string{"data/keys/acme/acme.test/an.age", "data/keys/identity.txt", "data/seal.key", "data/self-signed.key", "config/relay.toml", "config/outside/", "config/registry.toml", "config/tls/relay.crt"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	if q := m.Queue; q.Messages != 2 || q.Queued != 2 || q.Held != 1 || q.Damaged != 0 {
		t.Errorf("the queue is %+v", q)
	}
	if len(m.Missing) != 1 || !strings.Contains(m.Missing[0], "organisation[0].domain[0].dkim[0].key_file") {
		t.Errorf("missing: %q", m.Missing)
	}
	if m.Ledger.Facts == 0 || m.Running || m.DataDir != n.data || m.Store != local.CurrentFormat() {
		t.Errorf("%+v", m)
	}
}

func TestAVerifiedBackupIsTheRelayAsItWas(t *testing.T) {
	n := newNode(t)
	work := t.TempDir()
	c, err := Verify(ctx, open(t, n.backup(t)), work, nil)
	if err != nil || !c.OK() || c.Keys != 1 || c.Queue.Messages != 2 || c.Ledger.Facts != c.Manifest.Ledger.Facts {
		t.Errorf("%+v, %v", c, err)
	}
	if left, _ := os.ReadDir(work); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
}

// What is wrong with the data is told, although the archive is as it was made.
func TestVerifyTellsWhatIsWrongWithTheData(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(*testing.T, node)
		want string
	}{
		"another key file": {func(t *testing.T, n node) {
			put(t, filepath.Join(n.data, "keys/acme/acme.test/an.age"), "age-encryption.org/v1\n")
		}, "its signing key acme/acme.test/an.age does not open"},
		"no identity": {func(t *testing.T, n node) { put(t, filepath.Join(n.data, "keys/identity.txt"), "lost") }, "its signing keys do not open"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			c.harm(t, n)
			checked, err := Verify(ctx, open(t, n.backup(t)), t.TempDir(), nil)
			if err != nil || len(checked.Problems) != 1 || !strings.Contains(checked.Problems[0], c.want) {
				t.Errorf("%q, %v", checked.Problems, err)
			}
		})
	}
}

// A backup is not made of a relay whose queue could not be opened afterwards.
func TestNoBackupIsMadeWithoutTheKeyOfTheQueue(t *testing.T) {
	n := newNode(t)
	put(t, filepath.Join(n.data, "seal.key"), strings.Repeat("x", 32))
	if _, err := Create(ctx, n.source(), new(bytes.Buffer)); !errors.Is(err, custody.ErrSealKey) {
		t.Errorf("with another key: %v", err)
	}
	os.Remove(filepath.Join(n.data, "seal.key"))
	if _, err := Create(ctx, n.source(), new(bytes.Buffer)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without: %v", err)
	}
}

func TestADirectoryThatIsInUseIsNotPacked(t *testing.T) {
	n := newNode(t)
	n.inQueue(t, func(*custody.Queue) {
		if _, err := Create(ctx, n.source(), new(bytes.Buffer)); !errors.Is(err, local.ErrInUse) {
			t.Errorf("it said %v", err)
		}
	})
}

// full is a disk that takes so much.
type full int

func (f *full) Write(p []byte) (int, error) {
	if *f -= full(len(p)); *f < 0 {
		return 0, syscall.ENOSPC
	}
	return len(p), nil
}

func TestPackingEndsOnAFullDiskAndWhenItIsInterrupted(t *testing.T) {
	n := newNode(t)
	room := full(1000)
	if _, err := Create(ctx, n.source(), &room); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a full disk: %v", err)
	}
	interrupted, cancel := context.WithCancel(ctx)
	s := n.source()
	s.Progress = func(done, of int64) { cancel() }
	if _, err := Create(interrupted, s, new(bytes.Buffer)); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func TestLinksInTheDataDirectoryAreNotLeftOut(t *testing.T) {
	n := newNode(t)
	if err := os.Symlink("/etc/hostname", filepath.Join(n.data, "keys", "linked.age")); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(ctx, n.source(), new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "linked.age is no regular file") {
		t.Errorf("it said %v", err)
	}
}

// Everything that waited is held, what was held says why as before, and nothing can
// be leased.
func TestARestoredQueueIsHeldWhole(t *testing.T) {
	n := newNode(t)
	restored := node{data: filepath.Join(t.TempDir(), "new", "data")}
	etc := filepath.Join(t.TempDir(), "etc")
	r, err := Restore(ctx, open(t, n.backup(t)), Target{DataDir: restored.data, ConfigDir: etc, By: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Held != (Held{Messages: 1, Recipients: 2}) {
		t.Errorf("held: %+v", r.Held)
	}
	if err := Unfinished(restored.data); err != nil {
		t.Error(err)
	}
	restored.inQueue(t, func(q *custody.Queue) {
		leases, err := q.Lease(ctx, time.Now().Add(30*24*time.Hour), 100, nil)
		if err != nil || len(leases) != 0 {
			t.Errorf("%d leases, %v", len(leases), err)
		}
		var reasons []mail.Reason
		entries, _, err := q.List(ctx, custody.Filter{})
		for _, e := range entries {
			for _, r := range e.Recipients {
				reasons = append(reasons, r.Reason)
			}
		}
		if want := []mail.Reason{mail.ReasonRestored, mail.ReasonRestored, mail.ReasonHeld}; err != nil || !slices.Equal(reasons, want) {
			t.Errorf("%v, %v", reasons, err)
		}
		done, err := q.Release(ctx, custody.Filter{Limit: 1}, time.Now())
		if leases, _ := q.Lease(ctx, time.Now(), 100, nil); err != nil || done.Recipients != 2 || len(leases) != 2 {
			t.Errorf("released: %+v, %d leases, %v", done, len(leases), err)
		}
	})
	told := restoredFact(t, restored.data)
	for _, part := range []string{"a backup of relay.test made on ", ": 2 recipients of 1 messages held, 0 detained; by ann"} {
		if !strings.Contains(told, part) {
			t.Errorf("the ledger says %q", told)
		}
	}
	for name, want := range map[string]string{"relay.toml": "hostname", "registry.toml": "acme", "tls/relay.crt": "a certificate", "outside" + n.dir + "/elsewhere/shaping.toml": "# nothing"} {
		if text, err := os.ReadFile(filepath.Join(etc, name)); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	if len(r.Missing) != 1 || !strings.Contains(r.Missing[0], "gone.pem") {
		t.Errorf("missing: %q", r.Missing)
	}
	if info, err := os.Stat(filepath.Join(restored.data, "keys", "identity.txt")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func restoredFact(t *testing.T, data string) (told string) {
	t.Helper()
	r, err := local.OpenReader(filepath.Join(data, "store"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := ledger.Read(ctx, r, 0, func(f ledger.Fact) bool {
		if f.Event == ledger.Restored {
			told = f.Detail
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	return told
}

// A restore that fails leaves what was there before it: nothing.
func TestAFailedRestoreLeavesNothing(t *testing.T) {
	n := newNode(t)
	b := n.backup(t)
	b[len(b)-40] ^= 1 // in the sum at its very end: all of it is unpacked before that shows
	interrupted, cancel := context.WithCancel(ctx)
	for name, c := range map[string]struct {
		ctx  context.Context
		b    []byte
		done func(int64, int64)
		want error
	}{
		"damaged":     {ctx, b, nil, ErrDamaged},
		"interrupted": {interrupted, n.backup(t), func(int64, int64) { cancel() }, context.Canceled},
	} {
		dir := t.TempDir()
		target := Target{DataDir: filepath.Join(dir, "data"), ConfigDir: filepath.Join(dir, "etc"), Progress: c.done}
		if err := os.Mkdir(target.ConfigDir, 0o700); err != nil { // was there, and stays
			t.Fatal(err)
		}
		if _, err := Restore(c.ctx, open(t, c.b), target); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) != 1 || entries[0].Name() != "etc" {
			t.Errorf("%s: %v is left", name, entries)
		}
		if entries, _ := os.ReadDir(target.ConfigDir); len(entries) != 0 {
			t.Errorf("%s: %v is left", name, entries)
		}
	}
}

func TestRestoreWantsAnEmptyDirectory(t *testing.T) {
	n := newNode(t)
	a := n.backup(t)
	if _, err := Restore(ctx, open(t, a), Target{DataDir: n.data}); err == nil || !strings.Contains(err.Error(), "is not empty (.new-123 is in it)") {
		t.Errorf("a data directory: %v", err)
	}
	dir := t.TempDir()
	if _, err := Restore(ctx, open(t, a), Target{DataDir: filepath.Join(dir, "data"), ConfigDir: filepath.Dir(n.config)}); err == nil || !strings.Contains(err.Error(), "etc is not empty") {
		t.Errorf("a configuration: %v", err)
	}
	empty := t.TempDir()
	if err := os.Mkdir(filepath.Join(empty, "lost+found"), 0o700); err != nil { // a disk of its own
		t.Fatal(err)
	}
	if _, err := Restore(ctx, open(t, a), Target{DataDir: empty}); err != nil {
		t.Error(err)
	}
}

// What a restore that was killed leaves is known, and not taken for a relay's data.
func TestTheRestOfARestoreIsNoDataDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := Unfinished(dir); err != nil {
		t.Error(err)
	}
	put(t, filepath.Join(dir, restoringName, "seal.key"), "half")
	if err := Unfinished(dir); !errors.Is(err, ErrUnfinished) {
		t.Errorf("it said %v", err)
	}
	if _, err := Restore(ctx, open(t, newNode(t).backup(t)), Target{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "is not empty (.restoring is in it)") {
		t.Errorf("it said %v", err)
	}
}

func TestAnUpgradeCheckSaysWhatChanges(t *testing.T) {
	n := newNode(t)
	started := LastStart{Version: "v0", Time: time.Now().UTC().Round(0), Store: local.CurrentFormat(), Config: "hostname = \"relay.test\"\n[smtp]\nmax_hops = 50\nlisten = [\"a\"]\n"}
	if err := started.Write(n.data); err != nil {
		t.Fatal(err)
	}
	file := "[smtp]\nlisten = [\"a\", \"b\"]\n"
	now := "hostname = \"relay.test\"\n[smtp]\nmax_hops = 30\nlisten = [\"a\", \"b\"]\nnew = true\n"
	u, err := CheckUpgrade(ctx, n.data, "", now, []byte(file))
	if err != nil || len(u.Problems) != 0 || !u.Back || u.Queue.Messages != 2 {
		t.Fatalf("%+v, %v", u, err)
	}
	want := []Setting{{"smtp.listen", "[a]", "[a b]", true}, {"smtp.max_hops", "50", "30", false}, {"smtp.new", "", "true", false}}
	if diff := cmp.Diff(want, u.Settings); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&started, u.Started); diff != "" {
		t.Error(diff)
	}
	put(t, filepath.Join(n.data, lastStartName), "{")
	put(t, filepath.Join(n.data, sealKeyName), strings.Repeat("x", 32))
	u, err = CheckUpgrade(ctx, n.data, "", now, []byte(file))
	if err != nil || len(u.Problems) != 2 || !strings.Contains(u.Problems[0], lastStartName) || !strings.Contains(u.Problems[1], "seal key") {
		t.Errorf("%q, %v", u.Problems, err)
	}
	if u, err := CheckUpgrade(ctx, t.TempDir(), "", now, nil); err != nil || u.Store != nil || len(u.Problems) != 0 || !u.Back {
		t.Errorf("an empty directory: %+v, %v", u, err)
	}
}
