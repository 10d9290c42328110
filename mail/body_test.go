package mail

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// TestBodiesAreWhatWasWritten whatever the size of the writes and the threshold.
func TestBodiesAreWhatWasWritten(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		w := BodyWriter{Threshold: int64(rapid.IntRange(0, 50).Draw(t, "threshold")), Dir: dir}
		var want []byte
		for _, p := range rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 30)).Draw(t, "writes") {
			n, err := w.Write(p)
			if err != nil || n != len(p) {
				t.Fatalf("%d, %v", n, err)
			}
			want = append(want, p...)
		}
		b := w.Body()
		for range 2 { // it can be read again
			got, err := io.ReadAll(b.Reader())
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%q, %v; want %q", got, err, want)
			}
		}
		mem, in := b.InMemory()
		if b.Size() != int64(len(want)) || in != (b.Size() <= w.Threshold) || in && !bytes.Equal(mem, want) {
			t.Fatalf("size %d, in memory %v, threshold %d", b.Size(), in, w.Threshold)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}

// TestABodyIsItsOwn: what is written after it, into the same buffer, is not in it.
func TestABodyIsItsOwn(t *testing.T) {
	var bodies []*Body
	for i := range 20 {
		w := BodyWriter{Threshold: 1 << 20}
		if _, err := w.Write(bytes.Repeat([]byte{byte(i)}, 1+i*5000)); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if err := w.Abort(); err != nil {
				t.Error(err)
			}
			continue
		}
		bodies = append(bodies, w.Body())
	}
	for _, b := range bodies {
		if mem, in := b.InMemory(); !in || int64(len(mem)) != b.Size() || len(bytes.Trim(mem, string(mem[:1]))) > 0 {
			t.Errorf("%d octets are not what was written", b.Size())
		}
	}
}

func TestSeveralReadersReadASpilledBody(t *testing.T) {
	w := BodyWriter{Threshold: 10, Dir: t.TempDir()}
	want := bytes.Repeat([]byte("0123456789"), 1000)
	if _, err := w.Write(want); err != nil {
		t.Fatal(err)
	}
	b := w.Body()
	defer b.Close()
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			if got, err := io.ReadAll(b.Reader()); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d octets, %v", len(got), err)
			}
		})
	}
	readers.Wait()
	m := Message{Header: must(ParseHeader([]byte("A: b\r\n"), HeaderLimits{})), Body: b}
	if m.Size() != int64(len("A: b\r\n\r\n")+len(want)) {
		t.Errorf("%d octets", m.Size())
	}
}

func TestADiskThatFailsIsAnError(t *testing.T) {
	w := BodyWriter{Threshold: 1, Dir: filepath.Join(t.TempDir(), "absent")}
	if _, err := w.Write([]byte("more")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := w.Abort(); err != nil {
		t.Error(err)
	}
	spilled := BodyWriter{Dir: t.TempDir()}
	if _, err := spilled.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := spilled.Abort(); err != nil {
		t.Fatal(err)
	}
	if _, err := spilled.Write([]byte("y")); err == nil {
		t.Error("it can be written after Abort")
	}
	if b := NewBody(nil); b.Size() != 0 || b.Close() != nil {
		t.Error("the empty body")
	}
}
