package app

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"anechoic/engine/memory"
	"anechoic/relay/custody"
)

// TestPiecesAreTheStateAgainAndAChangeStaysNearby: whatever is put in or taken out, the
// pieces far from it are the same.
func TestPiecesAreTheStateAgainAndAChangeStaysNearby(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	state := make([]byte, 4<<20)
	for i := range state {
		state[i] = byte(random.Uint32())
	}
	known := map[string]bool{}
	for _, piece := range cutPieces(state) {
		known[pieceName(piece)] = true
	}
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.IntRange(0, len(state)).Draw(t, "at")
		out := rapid.IntRange(0, min(2000, len(state)-at)).Draw(t, "out")
		in := rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "in")
		changed := slices.Concat(state[:at], in, state[at+out:])
		pieces, fresh := cutPieces(changed), 0
		for i, piece := range pieces {
			if len(piece) > pieceMax || len(piece) < pieceMin && i < len(pieces)-1 {
				t.Fatalf("piece %d of %d has %d octets", i, len(pieces), len(piece))
			}
			if !known[pieceName(piece)] {
				fresh++
			}
		}
		if !bytes.Equal(slices.Concat(pieces...), changed) {
			t.Fatal("the pieces are not the state")
		}
		if fresh > 12 {
			t.Fatalf("%d of %d pieces are new", fresh, len(pieces))
		}
	})
}

// failing is a store that takes so many commits more, and then none.
type failing struct {
	custody.Engine
	left int
}

var errStopped = errors.New("stopped")

func (f *failing) Commit(ctx context.Context, b *custody.Batch) error {
	if f.left--; f.left < 0 {
		return errStopped
	}
	return f.Engine.Commit(ctx, b)
}

// TestASaveThatStopsAnywhereLeavesTheStateBeforeOrAfter, and nothing else in the store.
func TestASaveThatStopsAnywhereLeavesTheStateBeforeOrAfter(t *testing.T) {
	for left := range 3 {
		store := memory.New()
		var h heard
		w := newFollower(t, store, &h)
		spoofed(t, store, time.Now().Add(-10*time.Minute), 0, 120)
		drain(w)
		w.save(t.Context(), time.Now())
		before := w.at
		spoofed(t, store, time.Now().Add(-5*time.Minute), 120, 100)
		drain(w)
		w.store = &failing{store, left}
		w.save(t.Context(), time.Now())
		if err := store.Commit(t.Context(), &custody.Batch{Put: []custody.Record{{Key: statePrefix + "0123", Value: []byte("of a save that stopped")}}}); err != nil {
			t.Fatal(err)
		}
		again := newFollower(t, store, &h)
		if again.at.Next != before.Next && again.at.Next != w.at.Next {
			t.Errorf("after %d commits it goes on at %d", left, again.at.Next)
		}
		drain(again)
		if again.at.Next < 220 || len(again.detector.Open()) != len(w.detector.Open()) {
			t.Errorf("after %d commits it stands at %d with %d findings", left, again.at.Next, len(again.detector.Open()))
		}
		pieces := 0
		if err := store.Scan(t.Context(), statePrefix, "", func(string, []byte) bool { pieces++; return true }); err != nil {
			t.Fatal(err)
		}
		if named := again.at.pieces(); pieces != len(named) {
			t.Errorf("after %d commits the store has %d pieces, %d are named", left, pieces, len(named))
		}
	}
}
