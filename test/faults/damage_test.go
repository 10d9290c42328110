package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"anechoic/engine/local"
	"anechoic/ledger"
	"anechoic/relay/custody"
)

// damagedMessages are kept before the disk changes an octet; their bodies lie in
// blocks of about two.
const damagedMessages = 40

// manyMessages have their records in several blocks.
const manyMessages = 400

// An octet of a stored body changes on the disk: its message, and at most those
// that lie in the same block, are set aside with a fact, and never sent. All
// others leave, and new mail is taken.
func TestAMessageThatTheDiskChangedIsSetAsideAndTheOthersLeave(t *testing.T) {
	disk := vfs.NewMem()
	inEngine(t, disk, func(q *custody.Queue, _ *local.Engine) {
		for range damagedMessages {
			s, err := submission(20 << 10)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := q.Keep(t.Context(), s, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	})
	inEngine(t, disk, func(*custody.Queue, *local.Engine) {}) // what was in the log is in a table now
	if !flip(t, disk, []byte("sixteen octets\r\n")) {
		t.Fatal("no table holds a body")
	}
	inEngine(t, disk, func(q *custody.Queue, e *local.Engine) {
		sent, aside := 0, 0
		for {
			leases, err := q.Lease(t.Context(), time.Now().Add(24*time.Hour), 50, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(leases) == 0 {
				break
			}
			for _, l := range leases {
				if _, _, err := q.Load(t.Context(), l); errors.Is(err, custody.ErrSetAside) {
					aside++
					continue
				} else if err != nil {
					t.Fatal(err)
				}
				sent++
				if err := q.Settle(t.Context(), l, delivered(l), nil, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if aside == 0 || aside > 4 || sent+aside != damagedMessages {
			t.Errorf("%d were sent and %d set aside, of %d", sent, aside, damagedMessages)
		}
		facts := 0
		if err := ledger.Read(t.Context(), e, 0, func(f ledger.Fact) bool {
			if f.Event == ledger.SetAside && strings.Contains(f.Detail, "checksum") {
				facts++
			}
			return true
		}); err != nil || facts != aside {
			t.Errorf("%d facts tell of it, want %d: %v", facts, aside, err)
		}
		s, err := submission(1000)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Keep(t.Context(), s, time.Now()); err != nil {
			t.Errorf("new mail: %v", err)
		}
	})
}

// The disk changes a record, and with it a block of them: nothing is made of that,
// neither mail nor an empty queue. New mail is taken and leaves. When the file is
// restored, everything is there.
func TestDamagedRecordsLoseNothingAndNewMailGoesOn(t *testing.T) {
	disk := vfs.NewMem()
	inEngine(t, disk, func(q *custody.Queue, _ *local.Engine) {
		for range manyMessages {
			s, err := submission(1 << 10)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := q.Keep(t.Context(), s, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	})
	inEngine(t, disk, func(*custody.Queue, *local.Engine) {}) // what was in the log is in a table now
	record := []byte(`"header_size"`)
	if !flip(t, disk, record) {
		t.Fatal("no table holds a record")
	}
	inUnreadEngine(t, disk, func(q *custody.Queue, _ *local.Engine) {
		soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := q.Read(soon); err == nil {
			t.Error("a damaged queue counts as read")
		}
		s, err := submission(1 << 10)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Keep(t.Context(), s, time.Now()); err != nil {
			t.Fatalf("new mail: %v", err)
		}
		if there := drain(t, q); !there[s.ID] || len(there) > 1 {
			t.Errorf("%d messages left, the new one: %t", len(there), there[s.ID])
		}
	})
	record[len(record)/2] ^= 1 // as it stands there now
	if !flip(t, disk, record) {
		t.Fatal("the damage is gone")
	}
	inEngine(t, disk, func(q *custody.Queue, _ *local.Engine) {
		if n := len(drain(t, q)); n != manyMessages {
			t.Errorf("%d of %d messages are there after the file was restored", n, manyMessages)
		}
	})
}

// inEngine opens engine and queue, reads it, and closes them.
func inEngine(t *testing.T, disk vfs.FS, do func(*custody.Queue, *local.Engine)) {
	t.Helper()
	inUnreadEngine(t, disk, func(q *custody.Queue, e *local.Engine) {
		if err := q.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		do(q, e)
	})
}

func inUnreadEngine(t *testing.T, disk vfs.FS, do func(*custody.Queue, *local.Engine)) {
	t.Helper()
	e, err := local.Open(local.Options{Dir: "data", FS: disk, Reserve: 1})
	if err != nil {
		t.Fatal(err)
	}
	q, err := custody.OpenQueue(t.Context(), e, custody.Options{SealKey: make([]byte, 32), RetryAfter: []time.Duration{time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	do(q, e)
	q.Close()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// flip changes one octet of what, in the midst of a table that holds it.
func flip(t *testing.T, disk vfs.FS, what []byte) bool {
	t.Helper()
	names, err := disk.List("data")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		path := disk.PathJoin("data", name)
		f, err := disk.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(f)
		if err = errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		there := bytes.Split(content, what)
		if len(there) == 1 {
			continue
		}
		at := len(bytes.Join(there[:len(there)/2], what))
		content[at+len(what)/2] ^= 1
		changed, err := disk.Create(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := changed.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(changed.Sync(), changed.Close()); err != nil {
			t.Fatal(err)
		}
		return true
	}
	return false
}
