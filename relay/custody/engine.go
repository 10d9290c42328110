package custody

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"anechoic/ledger"
)

// ErrNotFound says that there is no record or body of a name.
var ErrNotFound = errors.New("no such record")

// ErrFull says that the engine has no room: 452 DISK_FULL. What frees room is
// still taken.
var ErrFull = errors.New("out of storage")

// ErrDamaged says that the disk gave something back otherwise than it was written. What
// was not asked for can be read, and writing goes on.
var ErrDamaged = errors.New("stored data is damaged")

// ErrBroken says that the engine saw a failed write or fsync and takes no more
// until it is opened again: what was not acknowledged may be lost, what was is not.
var ErrBroken = errors.New("engine is broken")

// ErrClosed says that the engine was closed.
var ErrClosed = errors.New("engine is closed")

// ErrBadBatch says that a batch cannot be stored as it is; nothing of it was.
var ErrBadBatch = errors.New("bad batch")

// ChunkThreshold is the size in octets up to which a body rides in its batch,
// and of the chunks that a larger one is written in.
const ChunkThreshold = 256 << 10

// Engine is where state lives. Implementations are safe for concurrent use and
// pass the suite of package enginetest.
type Engine interface {
	// Commit makes a batch durable, whole or not at all. It returns nil only
	// after it is (unless b.Lazy). Facts get consecutive offsets in the order of
	// commits. After an error other than ErrBadBatch, ErrFull without ErrBroken,
	// or ErrClosed the batch may have happened or not: a context that ends early
	// does not say which.
	Commit(ctx context.Context, b *Batch) error
	// Get reads one record. The bytes are the caller's. ErrDamaged: it is there, or its
	// neighbours, and cannot be read.
	Get(ctx context.Context, key string) ([]byte, error)
	// Scan calls visit for each record whose key begins with prefix and is not
	// below from, in the order of keys, until visit says false. The bytes are
	// visit's until it returns. The facts and segments of the ledger are records
	// too (ledger.FactKey, ledger.SegmentKey); only durable ones are shown. ErrDamaged:
	// what follows the last that was visited cannot be read; what is further on can, from
	// a key behind the damage.
	Scan(ctx context.Context, prefix, from string, visit func(key string, value []byte) bool) error
	// OpenBody gives a body that a committed batch carried.
	OpenBody(ctx context.Context, name string) (StoredBody, error)
}

// StoredBody is a body as an engine gives it back. There is nothing to close.
type StoredBody interface {
	io.ReaderAt
	// Size is the number of octets.
	Size() int64
	// Whole gives all octets if they are in one piece: those of at most
	// ChunkThreshold. They are shared and must not be changed.
	Whole() ([]byte, bool)
}

// Batch is one atomic change: records put and deleted, bodies, and the facts
// that tell of it. What it deletes is deleted before what it puts is put.
type Batch struct {
	Put        []Record
	Delete     []string
	PutBody    []BodyRecord
	DeleteBody []string
	Facts      []ledger.Fact
	Lazy       bool // need not be durable before the next batch that is: facts about refusals
}

// Record is a key with its value. Keys are printable ASCII paths such as
// "message/<id>", and not those of the ledger, which are written by Facts alone.
type Record struct {
	Key   string
	Value []byte
}

// BodyRecord is a body to be stored: up to ChunkThreshold octets ride in the
// batch, larger ones are written before it, in chunks that the batch makes real.
// Content must give exactly Size octets. A name is a key without a slash, and
// is used once.
type BodyRecord struct {
	Name    string
	Size    int64
	Content io.Reader
}

// MaxKey is the longest key or body name, in octets.
const MaxKey = 256

// Check says what is wrong with the form of a batch; engines ask it first. The
// error wraps ErrBadBatch.
func (b *Batch) Check() error {
	for _, r := range b.Put {
		if err := checkKey(r.Key); err != nil {
			return err
		}
	}
	for _, k := range b.Delete {
		if err := checkKey(k); err != nil {
			return err
		}
	}
	for _, r := range b.PutBody {
		if err := checkName(r.Name); err != nil {
			return err
		}
		if r.Size < 0 || r.Content == nil {
			return fmt.Errorf("%w: body %q has no content", ErrBadBatch, r.Name)
		}
	}
	for _, n := range b.DeleteBody {
		if err := checkName(n); err != nil {
			return err
		}
	}
	return nil
}

func checkKey(key string) error {
	if key == "" || len(key) > MaxKey {
		return fmt.Errorf("%w: a key of %d octets", ErrBadBatch, len(key))
	}
	for i := 0; i < len(key); i++ {
		if key[i] <= ' ' || key[i] > '~' {
			return fmt.Errorf("%w: key %q", ErrBadBatch, key)
		}
	}
	if strings.HasPrefix(key, ledger.FactPrefix) || strings.HasPrefix(key, ledger.SegmentPrefix) {
		return fmt.Errorf("%w: key %q is the ledger's", ErrBadBatch, key)
	}
	return nil
}

func checkName(name string) error {
	if strings.Contains(name, "/") {
		return fmt.Errorf("%w: body name %q", ErrBadBatch, name)
	}
	return checkKey(name)
}
