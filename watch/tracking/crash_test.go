package tracking

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Where the child of TestAnIndexKilledAtAnyMoment… works, if this process is it.
const childFolder = "ANECHOIC_TRACKING_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childFolder); dir != "" {
		if err := followAsChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// killDeadline ends a child that hangs.
const killDeadline = 2 * time.Minute

// followAsChild indexes the ledger of a folder, whose facts come by and by, with a line
// on standard output after each step and "end" at the end.
func followAsChild(dir string) error {
	all, err := readLedger(filepath.Join(dir, "ledger"))
	if err != nil {
		return err
	}
	shown := new(records)
	*shown = all
	i, err := Open(Options{Dir: filepath.Join(dir, "index"), Ledger: shown})
	if err != nil {
		return err
	}
	*shown = all[:min(uint64(len(all)), i.end+1)] // what an earlier child had seen
	for {
		if err := i.Follow(context.Background(), time.Now().Add(time.Hour)); err != nil {
			return err
		}
		if rand.N(4) == 0 {
			if err := i.Sweep(context.Background(), time.Now()); err != nil {
				return err
			}
		}
		fmt.Println(len(*shown))
		if len(*shown) == len(all) {
			fmt.Println("end")
			return i.Close()
		}
		*shown = all[:min(len(all), len(*shown)+1+rand.N(250))]
	}
}

// writeLedger and readLedger keep records in a file, each behind its size.
func writeLedger(path string, all records) error {
	var b []byte
	for _, record := range all {
		b = appendCounted(b, record)
	}
	return os.WriteFile(path, b, 0o600)
}

func readLedger(path string) (all records, err error) {
	b, err := os.ReadFile(path)
	for len(b) > 0 && err == nil {
		size, n := binary.Uvarint(b)
		all, b = append(all, b[n:n+int(size)]), b[n+int(size):]
	}
	return all, err
}

// killed runs a child, and kills it after some steps, in the middle of the next. It says
// whether the child came to its end before.
func killed(t *testing.T, dir string, steps int) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), killDeadline)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), childFolder+"="+dir)
	var complaint bytes.Buffer
	child.Stderr = &complaint
	said, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	ended := false
	for range steps {
		if !lines.Scan() {
			break
		}
		ended = ended || lines.Text() == "end"
	}
	for range rand.N(2000) { // somewhere in what it does next
		rand.Int()
	}
	if err := child.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, said)
	_ = child.Wait() // it was killed
	if complaint.Len() > 0 && !strings.Contains(complaint.String(), "race") {
		t.Fatalf("the child says: %s", complaint.String())
	}
	return ended
}

// SIGKILL comes at random moments, again and again: then every search finds what an
// index finds that is made of the ledger alone, and every file is as it was written.
func TestAnIndexKilledAtAnyMomentIsThatOfTheLedger(t *testing.T) {
	dir := t.TempDir()
	var all records
	for m := range 1200 {
		for _, f := range typical(m) {
			f.Time = f.Time.Add(time.Duration(m) * 100 * time.Second) // a day and a half
			all.add(f)
		}
	}
	if err := writeLedger(filepath.Join(dir, "ledger"), all); err != nil {
		t.Fatal(err)
	}
	for kills := 0; kills < 8 && !killed(t, dir, rand.N(8)); kills++ {
	}
	survivor, fresh := indexed(t, filepath.Join(dir, "index"), &all), indexed(t, t.TempDir(), &all)
	for _, p := range survivor.all() {
		if err := p.check(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for _, text := range []string{"", "org:org3", "event:delivered", "to:somebody7@far7.example", "word:4x70*", "peer:192.0.2.0/29", "since:2026-11-02"} {
		want, got := found(t, fresh, text, Page{Limit: MaxPage}), found(t, survivor, text, Page{Limit: MaxPage})
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(want[0].Peer)); diff != "" {
			t.Errorf("%q: -anew +survivor\n%.2000s", text, diff)
		}
	}
	if s := survivor.Status(); s.Offset != uint64(len(all)) || s.Behind || len(s.Gaps) > 0 {
		t.Errorf("it stands at %+v", s)
	}
}

// indexed opens an index and brings it to the end of the ledger.
func indexed(t *testing.T, dir string, all *records) *Index {
	t.Helper()
	i, err := Open(Options{Dir: dir, Ledger: all})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	if err := errors.Join(i.Follow(t.Context(), time.Now().Add(time.Hour)), i.Sweep(t.Context(), time.Now())); err != nil {
		t.Fatal(err)
	}
	return i
}

// Whatever became of a file, the index opens, every search is whole meanwhile, and the
// file is made again; what was there is kept for who wants to look.
func TestAFileThatIsNoPartitionAnyMoreIsMadeAgain(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"cut short":       func(path string) error { return os.Truncate(path, 5000) },
		"cut in the head": func(path string) error { return os.Truncate(path, 50) },
		"empty":           func(path string) error { return os.Truncate(path, 0) },
		"not SQLite": func(path string) error {
			return os.WriteFile(path, bytes.Repeat([]byte("<script>\x1b[2J\n"), 500), 0o600)
		},
		"gone":            os.Remove,
		"noise beside it": func(path string) error { return os.WriteFile(path+"-wal", bytes.Repeat([]byte{7}, 9000), 0o600) },
		"a folder":        func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			i, all, dir := filled(t, 100)
			if err := i.Close(); err != nil {
				t.Fatal(err)
			}
			if err := spoil(files(dir)[0]); err != nil {
				t.Fatal(err)
			}
			j, err := Open(Options{Dir: dir, Ledger: all})
			if err != nil {
				t.Fatal(err)
			}
			defer j.Close()
			if got := found(t, j, "org:org3", Page{}); len(got) != 3 {
				t.Errorf("before it is made again: %d facts", len(got))
			}
			if err := errors.Join(j.Follow(t.Context(), time.Now().Add(time.Hour)), j.Sweep(t.Context(), time.Now())); err != nil {
				t.Fatal(err)
			}
			if got, s := found(t, j, "org:org3", Page{}), j.Status(); len(got) != 3 || len(s.Gaps) > 0 || s.Offset != 300 || s.Partitions != 1 {
				t.Errorf("after: %d facts, %+v", len(got), s)
			}
		})
	}
}
