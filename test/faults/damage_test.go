package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"anechoic/engine/local"
	"anechoic/ledger"
	"anechoic/mail"
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

// The disk changes a record, and with it a block of them: what cannot be read is set
// aside and told, nothing else waits for it, and no octet of it is deleted. When the
// file is restored, nothing goes out a second time.
func TestDamagedRecordsAreSetAsideAndTheRestGoesOn(t *testing.T) {
	disk := vfs.NewMem()
	kept := map[mail.ID]bool{}
	inEngine(t, disk, func(q *custody.Queue, _ *local.Engine) {
		for range manyMessages {
			s, err := submission(1 << 10)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := q.Keep(t.Context(), s, time.Now()); err != nil {
				t.Fatal(err)
			}
			kept[s.ID] = true
		}
	})
	inEngine(t, disk, func(*custody.Queue, *local.Engine) {}) // what was in the log is in a table now
	record := []byte(`"header_size"`)
	if !flip(t, disk, record) {
		t.Fatal("no table holds a record")
	}
	var sent map[mail.ID]bool
	inEngine(t, disk, func(q *custody.Queue, e *local.Engine) {
		s, err := submission(1 << 10)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Keep(t.Context(), s, time.Now()); err != nil {
			t.Fatalf("new mail: %v", err)
		}
		if sent = drain(t, q); !sent[s.ID] || len(sent) < manyMessages/2 || len(sent) > manyMessages {
			t.Errorf("%d messages left, the new one: %t", len(sent), sent[s.ID])
		}
		told := map[mail.ID]bool{}
		if err := ledger.Read(t.Context(), e, 0, func(f ledger.Fact) bool {
			if f.Event == ledger.SetAside {
				told[f.ID] = true
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		for id := range kept {
			if sent[id] == told[id] {
				t.Errorf("%s was sent %t and set aside %t", id, sent[id], told[id])
			}
		}
	})
	record[len(record)/2] ^= 1 // as it stands there now
	if !flip(t, disk, record) {
		t.Fatal("the damage is gone")
	}
	inEngine(t, disk, func(q *custody.Queue, e *local.Engine) {
		for id := range drain(t, q) {
			if sent[id] || !kept[id] {
				t.Errorf("%s goes out again", id)
			}
		}
		for id := range kept { // what was set aside is there for whoever looks into it
			if sent[id] {
				continue
			}
			if _, err := e.OpenBody(t.Context(), string(id)); err != nil {
				t.Errorf("the content of %s: %v", id, err)
			}
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
