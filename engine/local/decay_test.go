package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"anechoic/relay/custody"
)

// TestADecayedBlockCostsWhatIsInItAndNoMore: what a disk changed is custody.ErrDamaged for
// who asks for it, a scan goes up to it, and from behind it.
func TestADecayedBlockCostsWhatIsInItAndNoMore(t *testing.T) {
	ctx := context.Background()
	options := Options{Dir: t.TempDir(), Reserve: 1}
	open := func() *Engine {
		e, err := Open(options)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := open()
	const records = 2000
	var b custody.Batch
	for i := range records {
		b.Put = append(b.Put, custody.Record{Key: fmt.Sprintf("message/%06d", i), Value: []byte(strings.Repeat(fmt.Sprint(i, " "), 80))})
	}
	if err := errors.Join(e.Commit(ctx, &b), e.Close(), open().Close()); err != nil { // opened again the log becomes a table
		t.Fatal(err)
	}
	spoil(t, options.Dir)
	e = open()
	defer e.Close()
	last, count := "", 0
	visit := func(key string, _ []byte) bool { last = key; count++; return true }
	if err := e.Scan(ctx, "message/", "", visit); !errors.Is(err, custody.ErrDamaged) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("the scan came to %s: %v", last, err)
	}
	damaged, behind := 0, ""
	for i := range records {
		key := fmt.Sprintf("message/%06d", i)
		switch _, err := e.Get(ctx, key); {
		case errors.Is(err, custody.ErrDamaged):
			damaged++
		case err != nil:
			t.Fatal(err)
		case damaged > 0 && behind == "":
			behind = key
		}
	}
	if damaged == 0 || damaged > records/10 {
		t.Fatalf("%d of %d records are damaged", damaged, records)
	}
	if err := e.Scan(ctx, "message/", behind, visit); err != nil || count != records-damaged {
		t.Errorf("%d records are there and %d damaged of %d: %v", count, damaged, records, err)
	}
	if err := e.Commit(ctx, &custody.Batch{Put: []custody.Record{{Key: "message/x", Value: []byte("y")}}}); err != nil {
		t.Errorf("writing does not go on: %v", err)
	}
}

// spoil changes an octet in the middle of the largest table.
func spoil(t *testing.T, dir string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	largest, size := "", int64(0)
	for _, name := range tables {
		if info, err := os.Stat(name); err == nil && info.Size() > size {
			largest, size = name, info.Size()
		}
	}
	if largest == "" {
		t.Fatal("there is no table")
	}
	content, err := os.ReadFile(largest)
	if err != nil {
		t.Fatal(err)
	}
	content[size/3] ^= 1
	if err := os.WriteFile(largest, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
