package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
	"time"
)

// A segment is sealed when it has MaxSegment facts, or SealAfter its first.
const (
	MaxSegment = 4096
	SealAfter  = time.Second
)

// Hash is a SHA-256 hash.
type Hash [sha256.Size]byte

// String is the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes what String writes.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// The first octet of what is hashed says what it is (RFC 6962 section 2.1 for
// the first two), so that none can be taken for another.
const (
	leafPrefix    = 0
	nodePrefix    = 1
	segmentPrefix = 2
)

func leafHash(offset uint64, public []byte, commitment Hash) Hash {
	b := make([]byte, 0, 1024)
	b = append(b, leafPrefix)
	b = binary.BigEndian.AppendUint64(b, offset)
	b = append(b, public...)
	b = append(b, commitment[:]...)
	return sha256.Sum256(b)
}

func nodeHash(left, right Hash) Hash {
	var b [1 + 2*sha256.Size]byte
	b[0] = nodePrefix
	copy(b[1:], left[:])
	copy(b[1+sha256.Size:], right[:])
	return sha256.Sum256(b[:])
}

// tree is a Merkle tree that grows by leaves (RFC 6962 section 2.1): one root
// for each set bit of count, the largest subtree first.
type tree struct {
	count uint64
	roots []Hash
}

func (t *tree) add(leaf Hash) {
	for range bits.TrailingZeros64(^t.count) {
		last := len(t.roots) - 1
		leaf = nodeHash(t.roots[last], leaf)
		t.roots = t.roots[:last]
	}
	t.roots = append(t.roots, leaf)
	t.count++
}

func (t *tree) root() Hash {
	if t.count == 0 {
		return sha256.Sum256(nil)
	}
	root := t.roots[len(t.roots)-1]
	for i := len(t.roots) - 2; i >= 0; i-- {
		root = nodeHash(t.roots[i], root)
	}
	return root
}

func (t *tree) reset() { t.count, t.roots = 0, t.roots[:0] }

// Segment seals Count facts from offset First on. Segments are numbered from 1
// without gaps; each names the hash of the one before, so that the hash of the
// last stands for the whole ledger up to it.
type Segment struct {
	Number   uint64
	First    uint64
	Count    uint64
	Root     Hash // of the Merkle tree of the facts' leaves
	Previous Hash // hash of the segment before; zero for the first
	Sealed   time.Time
}

// A stored segment is version, number, first, count, root, previous, time of
// sealing in nanoseconds, and the hash of all that.
const (
	versionSegment = 1
	segmentBody    = 1 + 3*8 + 2*sha256.Size + 8
	segmentSize    = segmentBody + sha256.Size
)

// Bytes is the segment as it is stored under SegmentKey.
func (s Segment) Bytes() []byte {
	b := make([]byte, 0, segmentSize)
	b = append(b, versionSegment)
	b = binary.BigEndian.AppendUint64(b, s.Number)
	b = binary.BigEndian.AppendUint64(b, s.First)
	b = binary.BigEndian.AppendUint64(b, s.Count)
	b = append(b, s.Root[:]...)
	b = append(b, s.Previous[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Sealed.UnixNano()))
	h := hashSegment(b)
	return append(b, h[:]...)
}

// Hash is what the next segment names as Previous.
func (s Segment) Hash() Hash { return Hash(s.Bytes()[segmentBody:]) }

func hashSegment(body []byte) Hash {
	return sha256.Sum256(append([]byte{segmentPrefix}, body...))
}

// ParseSegment reads what Bytes wrote; any changed octet is ErrMalformed.
func ParseSegment(b []byte) (Segment, error) {
	if len(b) != segmentSize || b[0] != versionSegment {
		return Segment{}, fmt.Errorf("%w: no segment in %d octets", ErrMalformed, len(b))
	}
	if Hash(b[segmentBody:]) != hashSegment(b[:segmentBody]) {
		return Segment{}, fmt.Errorf("%w: the segment's own hash does not fit", ErrMalformed)
	}
	s := Segment{
		Number: binary.BigEndian.Uint64(b[1:]),
		First:  binary.BigEndian.Uint64(b[9:]),
		Count:  binary.BigEndian.Uint64(b[17:]),
		Sealed: time.Unix(0, int64(binary.BigEndian.Uint64(b[25+2*sha256.Size:]))).UTC(),
	}
	copy(s.Root[:], b[25:])
	copy(s.Previous[:], b[25+sha256.Size:])
	return s, nil
}

// Sealer collects the leaves of facts in the order of their offsets and makes
// segments of them. An engine owns one; it is not safe for concurrent use.
type Sealer struct {
	number   uint64 // of the segment in the making
	first    uint64
	previous Hash
	tree     tree
}

// NewSealer continues after the last segment; the zero Segment begins a ledger.
func NewSealer(last Segment) *Sealer {
	if last.Number == 0 {
		return &Sealer{number: 1}
	}
	return &Sealer{number: last.Number + 1, first: last.First + last.Count, previous: last.Hash()}
}

// Next is the offset of the fact that is added next.
func (s *Sealer) Next() uint64 { return s.first + s.tree.count }

// Number is of the segment in the making.
func (s *Sealer) Number() uint64 { return s.number }

// Pending is the number of facts that were added and not sealed.
func (s *Sealer) Pending() int { return int(s.tree.count) }

// Full says that the segment is to be sealed now.
func (s *Sealer) Full() bool { return s.tree.count >= MaxSegment }

// Add takes the leaf of the fact at offset Next.
func (s *Sealer) Add(leaf Hash) { s.tree.add(leaf) }

// Seal ends the segment in the making, which must not be empty, and begins the
// next.
func (s *Sealer) Seal(now time.Time) Segment {
	done := Segment{Number: s.number, First: s.first, Count: s.tree.count, Root: s.tree.root(), Previous: s.previous, Sealed: now.UTC()}
	s.number++
	s.first += s.tree.count
	s.previous = done.Hash()
	s.tree.reset()
	return done
}

// Skip goes on at a later offset, after damage that could not be sealed. Verify
// reports the gap.
func (s *Sealer) Skip(next uint64) {
	if s.tree.count == 0 && next > s.first {
		s.first = next
	}
}

// Clone is a second Sealer at the same point.
func (s *Sealer) Clone() *Sealer {
	c := *s
	c.tree.roots = append([]Hash(nil), s.tree.roots...)
	return &c
}
