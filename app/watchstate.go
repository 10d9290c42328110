package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"anechoic/relay/custody"
)

// What detection knows is stored every few seconds, and only what changed of it. The
// state is cut into pieces where its octets say so, and a piece is named by what it
// holds: whoever sent nothing since the last time lies in pieces that are there already.
// A hundred thousand principals are tens of megabytes, and those who were active in the
// last seconds are some hundred kilobytes of them.
//
// The pieces that are new are written first, a few at a time; then one batch makes them
// the state: it holds where the follower stands, the names of the pieces in order, and
// takes out those that are not named any more.
//
//	it stops before the last batch    the state before is whole; new pieces are swept at the next start
//	it stops after it                 the new state is whole
//
// After a crash the facts since then are read again. They give the same findings, and
// what was told is not told twice: nothing is lost but the seconds to read them.

// Bounds of what is stored.
const (
	saveEvery   = 5 * time.Second // at least
	saveRate    = 1 << 20         // octets a second that are written
	cutRate     = 8 << 20         // octets a second that are looked at
	pieceMean   = 64 << 10
	pieceMin    = 16 << 10
	pieceMax    = 256 << 10
	piecesOnce  = 16 // in one batch: 4 MiB at most
	statePrefix = "watch/state/"
)

// cutPieces cuts a state into pieces. Where is decided by the last octets before the
// cut alone, so that what is put in or taken out changes the pieces around it only.
func cutPieces(state []byte) (pieces [][]byte) {
	for len(state) > 0 {
		n := cutAt(state)
		pieces, state = append(pieces, state[:n]), state[n:]
	}
	return pieces
}

// cutAt is the length of the first piece: where a rolling sum of the last 64 octets has
// zeros in its highest bits.
func cutAt(state []byte) int {
	if len(state) <= pieceMin {
		return len(state)
	}
	var sum uint64
	for i := pieceMin - 64; i < min(len(state), pieceMax); i++ {
		sum = sum<<1 + spread[state[i]]
		if i >= pieceMin && sum>>(64-16) == 0 { // 16 bits: one of pieceMean
			return i
		}
	}
	return min(len(state), pieceMax)
}

// spread gives every octet a number of 64 bits. They have to be the same always, and
// nothing more.
var spread = func() (table [256]uint64) {
	for i := range table {
		sum := sha256.Sum256([]byte{byte(i)})
		for _, b := range sum[:8] {
			table[i] = table[i]<<8 | uint64(b)
		}
	}
	return table
}()

func pieceName(piece []byte) string {
	sum := sha256.Sum256(piece)
	return hex.EncodeToString(sum[:16])
}

// restore reads the state that the position names.
func (w *follower) restore(ctx context.Context) error {
	detector, err := w.pieces(ctx, w.at.Detector)
	if err != nil {
		return err
	}
	grouper, err := w.pieces(ctx, w.at.Grouper)
	if err != nil {
		return err
	}
	return errors.Join(w.detector.Restore(detector), w.grouper.Restore(grouper))
}

func (w *follower) pieces(ctx context.Context, names []string) ([]byte, error) {
	var state bytes.Buffer
	for _, name := range names {
		piece, err := w.store.Get(ctx, statePrefix+name)
		if err == nil && pieceName(piece) != name {
			err = errors.New("it holds something else")
		}
		if err != nil {
			return nil, fmt.Errorf("watch: state %s: %w", name, err)
		}
		state.Write(piece)
	}
	return state.Bytes(), nil
}

// sweepState takes out pieces that no position names: of a save that a crash ended.
func (w *follower) sweepState(ctx context.Context) error {
	named := w.at.pieces()
	b := &custody.Batch{Lazy: true}
	err := w.store.Scan(ctx, statePrefix, "", func(key string, _ []byte) bool {
		if !named[strings.TrimPrefix(key, statePrefix)] {
			b.Delete = append(b.Delete, key)
		}
		return true
	})
	if err == nil && len(b.Delete) > 0 {
		err = w.store.Commit(ctx, b)
	}
	return err
}

// pieces are the names of all that a position needs.
func (p *position) pieces() map[string]bool {
	named := make(map[string]bool, len(p.Detector)+len(p.Grouper))
	for _, name := range slices.Concat(p.Detector, p.Grouper) {
		named[name] = true
	}
	return named
}

// save writes what changed of the state, and then the position.
func (w *follower) save(ctx context.Context, now time.Time) {
	detector, grouper := cutPieces(w.detector.Snapshot()), cutPieces(w.grouper.Snapshot())
	next := w.at
	known, written, looked := w.at.pieces(), 0, 0
	fresh := &custody.Batch{Lazy: true}
	note := func(pieces [][]byte) (names []string, err error) {
		for _, piece := range pieces {
			name := pieceName(piece)
			names, looked = append(names, name), looked+len(piece)
			if known[name] {
				continue
			}
			known[name], written = true, written+len(piece)
			if fresh.Put = append(fresh.Put, custody.Record{Key: statePrefix + name, Value: piece}); len(fresh.Put) == piecesOnce {
				err = errors.Join(err, w.store.Commit(ctx, fresh))
				fresh = &custody.Batch{Lazy: true}
			}
		}
		return names, err
	}
	var err, again error
	next.Detector, err = note(detector)
	next.Grouper, again = note(grouper)
	if err = errors.Join(err, again); err == nil {
		err = w.commitPosition(ctx, fresh, &next)
	}
	if err != nil {
		w.log.Error("what detection knows could not be stored", "error", err)
	} else {
		w.at, w.dirty = next, false
	}
	w.saveNext = now.Add(max(saveEvery, time.Duration(written)*time.Second/saveRate, time.Duration(looked)*time.Second/cutRate))
}

// commitPosition makes a position the one that is read at the next start.
func (w *follower) commitPosition(ctx context.Context, b *custody.Batch, next *position) error {
	named := next.pieces()
	for name := range w.at.pieces() {
		if !named[name] {
			b.Delete = append(b.Delete, statePrefix+name)
		}
	}
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	b.Put = append(b.Put, custody.Record{Key: positionKey, Value: text})
	return w.store.Commit(ctx, b)
}
