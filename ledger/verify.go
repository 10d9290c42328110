package ledger

import (
	"context"
	"fmt"
)

// Report is what Verify found.
type Report struct {
	Facts    uint64 `json:"facts"`    // read and in order
	Segments uint64 `json:"segments"` // whose root and chain are right
	Unsealed uint64 `json:"unsealed"` // facts after the last segment, not protected yet
	Erased   uint64 `json:"erased"`   // facts whose personal part was erased
	Head     Hash   `json:"head"`     // hash of the last good segment: written down elsewhere, it shows a later cut or rewrite
	Bad      string `json:"bad,omitempty"`
}

// OK says that nothing bad was found.
func (r Report) OK() bool { return r.Bad == "" }

// segmentPage is how many segments are read at a time, which bounds memory.
const segmentPage = 256

// Verify reads the whole ledger and recomputes every leaf, root and link. Bad
// says in plain words where the first thing stands that is not as it was
// sealed: a changed octet, a missing, added or moved fact or segment. What it
// cannot see is a ledger cut off at the end of a segment, or rewritten whole:
// compare Head with one kept elsewhere. An error says that the ledger could not
// be read, which is no verdict.
func Verify(ctx context.Context, source Scanner) (Report, error) {
	return VerifyTelling(ctx, source, func(uint64) {})
}

// VerifyTelling is Verify that tells after each segment how many facts it has read.
func VerifyTelling(ctx context.Context, source Scanner, reached func(facts uint64)) (Report, error) {
	v := verifier{ctx: ctx, source: source, number: 1, reached: reached}
	for !v.ended && v.report.Bad == "" {
		if err := v.page(); err != nil {
			return v.report, fmt.Errorf("ledger: verify: %w", err)
		}
	}
	if v.report.Bad == "" {
		if err := v.tail(); err != nil {
			return v.report, fmt.Errorf("ledger: verify: %w", err)
		}
	}
	return v.report, nil
}

// verifier is how far Verify has come.
type verifier struct {
	ctx    context.Context
	source Scanner
	report Report
	number uint64 // of the next segment
	next   uint64 // offset of the next fact
	ended  bool   // no more segments

	reached func(facts uint64)
}

func (v *verifier) bad(format string, args ...any) {
	if v.report.Bad == "" {
		v.report.Bad = fmt.Sprintf(format, args...)
	}
}

// page reads some segments and checks each.
func (v *verifier) page() error {
	var segments []Segment
	wanted := v.number
	err := v.source.Scan(v.ctx, SegmentPrefix, SegmentKey(wanted), func(key string, value []byte) bool {
		if key != SegmentKey(wanted) {
			v.bad("segment %d is missing: %s stands in its place", wanted, key)
			return false
		}
		s, err := ParseSegment(value)
		if err != nil {
			v.bad("segment %d: %v", wanted, err)
			return false
		}
		segments = append(segments, s)
		wanted++
		return len(segments) < segmentPage
	})
	if err != nil {
		return err
	}
	v.ended = len(segments) < segmentPage
	broken := v.report.Bad
	v.report.Bad = "" // what stands before it comes first
	for _, s := range segments {
		if err := v.segment(s); err != nil || v.report.Bad != "" {
			return err
		}
	}
	v.report.Bad = broken
	return nil
}

// segment checks one segment and its facts.
func (v *verifier) segment(s Segment) error {
	switch {
	case s.Number != v.number:
		v.bad("segment %d says that it is number %d", v.number, s.Number)
	case s.Previous != v.report.Head:
		v.bad("segment %d does not follow the one before: it names %s, not %s", s.Number, s.Previous, v.report.Head)
	case s.First != v.next:
		v.bad("segment %d begins at fact %d, but fact %d is next", s.Number, s.First, v.next)
	case s.Count == 0:
		v.bad("segment %d is empty", s.Number)
	}
	if v.report.Bad != "" {
		return nil
	}
	root, err := v.facts(s)
	if err != nil || v.report.Bad != "" {
		return err
	}
	if root != s.Root {
		v.bad("facts %d to %d are not what segment %d sealed: at least one was changed", s.First, s.First+s.Count-1, s.Number)
		return nil
	}
	v.report.Segments++
	v.report.Head = s.Hash()
	v.number++
	v.reached(v.report.Facts)
	return nil
}

// facts reads the facts of a segment and gives the root they lead to.
func (v *verifier) facts(s Segment) (Hash, error) {
	var t tree
	end := s.First + s.Count
	err := v.source.Scan(v.ctx, FactPrefix, FactKey(s.First), func(key string, value []byte) bool {
		if !v.fact(key, value) {
			return false
		}
		leaf, err := Leaf(v.next-1, value)
		if err != nil {
			v.bad("fact %d: %v", v.next-1, err)
			return false
		}
		t.add(leaf)
		return v.next < end
	})
	if err == nil && v.report.Bad == "" && v.next < end {
		v.bad("fact %d is missing, and segment %d sealed it", v.next, s.Number)
	}
	return t.root(), err
}

// fact checks that one record is the next fact and can be read.
func (v *verifier) fact(key string, value []byte) bool {
	if key != FactKey(v.next) {
		v.bad("fact %d is missing: %s stands in its place", v.next, key)
		return false
	}
	if _, err := Decode(v.next, value); err != nil {
		v.bad("fact %d: %v", v.next, err)
		return false
	}
	if value[0] == versionErased {
		v.report.Erased++
	}
	v.next++
	v.report.Facts++
	return true
}

// tail reads what no segment seals yet.
func (v *verifier) tail() error {
	sealed := v.next
	err := v.source.Scan(v.ctx, FactPrefix, FactKey(v.next), v.fact)
	v.report.Unsealed = v.next - sealed
	return err
}
