package ledger

import (
	"context"
	"fmt"
	"time"
)

// disorder is how far facts may stand out of the order of their times: one is
// dated when its transaction's data began, and stored when they were judged.
const disorder = 15 * time.Minute

// ReadSince is Read from the first fact of a time on, found by bisection, and
// somewhat before: facts are stored nearly, not quite, in the order of their times.
func ReadSince(ctx context.Context, source Scanner, since time.Time, visit func(Fact) bool) error {
	since = since.Add(-disorder)
	low, high := uint64(0), uint64(1)
	for {
		early, err := isBefore(ctx, source, high, since)
		if err != nil {
			return err
		}
		if !early {
			break
		}
		low, high = high, high*2
	}
	for low < high {
		middle := low + (high-low)/2
		early, err := isBefore(ctx, source, middle, since)
		if err != nil {
			return err
		}
		if early {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return Read(ctx, source, low, visit)
}

// isBefore says that there is a fact of this offset, and that it is older.
func isBefore(ctx context.Context, source Scanner, offset uint64, t time.Time) (before bool, err error) {
	err = Read(ctx, source, offset, func(f Fact) bool {
		before = f.Offset == offset && f.Time.Before(t)
		return false
	})
	if err != nil {
		return false, fmt.Errorf("ledger: look for %s: %w", t.Format(time.RFC3339), err)
	}
	return before, nil
}
