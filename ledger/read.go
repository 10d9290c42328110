package ledger

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Keys of the ledger in the engine's store. They order as their numbers do.
const (
	FactPrefix    = "fact/"
	SegmentPrefix = "segment/"
)

// FactKey is where the fact of an offset is stored.
func FactKey(offset uint64) string { return numbered(FactPrefix, offset) }

// SegmentKey is where the segment of a number is stored.
func SegmentKey(number uint64) string { return numbered(SegmentPrefix, number) }

func numbered(prefix string, n uint64) string {
	digits := strconv.FormatUint(n, 16)
	return prefix + "0000000000000000"[len(digits):] + digits
}

// ParseKey reads the number of a key that FactKey or SegmentKey made.
func ParseKey(prefix, key string) (uint64, error) {
	digits, ok := strings.CutPrefix(key, prefix)
	n, err := strconv.ParseUint(digits, 16, 64)
	if !ok || err != nil || numbered(prefix, n) != key {
		return 0, fmt.Errorf("%w: %q is no key of %s", ErrMalformed, key, prefix)
	}
	return n, nil
}

// Scanner is the part of an engine the ledger is read through: visit is called
// for each record whose key begins with prefix and is not below from, in the
// order of keys, until it says false. The bytes are visit's until it returns.
type Scanner interface {
	Scan(ctx context.Context, prefix, from string, visit func(key string, value []byte) bool) error
}

// Read calls visit for each fact from an offset on, in order, until it says
// false. It stops with an error at a record that cannot be read; Read from the
// offset after it goes on.
func Read(ctx context.Context, source Scanner, from uint64, visit func(Fact) bool) error {
	var bad error
	err := source.Scan(ctx, FactPrefix, FactKey(from), func(key string, value []byte) bool {
		f, err := readFact(key, value)
		if err != nil {
			bad = fmt.Errorf("ledger: read %s: %w", key, err)
			return false
		}
		return visit(f)
	})
	if err != nil {
		return fmt.Errorf("ledger: read from offset %d: %w", from, err)
	}
	return bad
}

func readFact(key string, record []byte) (Fact, error) {
	offset, err := ParseKey(FactPrefix, key)
	if err != nil {
		return Fact{}, err
	}
	return Decode(offset, record)
}
