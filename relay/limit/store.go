package limit

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/axiomhq/hyperloglog"
)

// Record is a key with its value. Keys are printable ASCII.
type Record struct {
	Key   string
	Value []byte
}

// Store keeps records over a restart.
type Store interface {
	// Save deletes and puts records: all or nothing, durable when it returns nil.
	// What is deleted is deleted before what is put is put.
	Save(ctx context.Context, put []Record, gone []string) error
	// Load calls visit for each record whose key begins with prefix.
	Load(ctx context.Context, prefix string, visit func(Record)) error
}

// Kinds of records below a Book's prefix.
const (
	accountRecord = "account/" // <principal>
	seenRecord    = "seen/"    // <principal>/<slot>: hashes of 8 octets
	sketchRecord  = "sketch/"  // <principal>/<hour>
	clockRecord   = "clock"
)

// inOneSave is how many records are written at a time, so that no lock is held and
// no batch grows without bound.
const inOneSave = 1000

// storedClock is the record of the clock.
type storedClock struct {
	Budget int64     `json:"budget"`
	Wall   time.Time `json:"wall"`
	Mark   uint64    `json:"mark"`   // of Flush
	Secret string    `json:"secret"` // hex
}

// storedAccount is the record of an account.
type storedAccount struct {
	Scope        Scope            `json:"scope"`
	Organisation string           `json:"org"`
	Name         string           `json:"name,omitempty"`
	More         string           `json:"more,omitempty"`
	Rates        [rateCount]int64 `json:"rates"`
	Day          [][4]uint64      `json:"day,omitempty"` // slot, messages, recipients, octets
}

// Hash is the keyed hash of a recipient's address, by which it is known again.
// Without the key, which is in the store beside the hashes, it tells nothing.
func (b *Book) Hash(address string) uint64 {
	b.mu.Lock()
	secret := b.key()
	b.mu.Unlock()
	var buffer [320]byte
	sum := sha256.Sum256(append(append(buffer[:0], secret[:]...), address...))
	return binary.BigEndian.Uint64(sum[:])
}

// key makes the secret if there is none. mu is held.
func (b *Book) key() [16]byte {
	if b.secret == [16]byte{} {
		rand.Read(b.secret[:]) // it never fails (package crypto/rand)
	}
	return b.secret
}

// nameOf is the principal in a key: of any length, and of any characters.
func nameOf(p Principal) string {
	sum := sha256.Sum256([]byte(strconv.Itoa(int(p.scope)) + "\x00" + p.organisation + "\x00" + p.name + "\x00" + p.more))
	return hex.EncodeToString(sum[:16])
}

func (b *Book) accountKey(p Principal) string { return b.Prefix + accountRecord + nameOf(p) }

func (b *Book) slotKey(kind string, p Principal, slot uint32) string {
	return b.Prefix + kind + nameOf(p) + "/" + fmt.Sprintf("%08x", slot)
}

// recipientKeys are all keys that records of recipients may have now. mu is held.
func (b *Book) recipientKeys(p Principal) (keys []string) {
	last := slotOf(b.clock.high)
	for slot := last - 2*uint32(Day/slotWidth); slot <= last; slot++ {
		keys = append(keys, b.slotKey(seenRecord, p, slot))
		if slot%sketchSlots == 0 {
			keys = append(keys, b.slotKey(sketchRecord, p, slot/sketchSlots))
		}
	}
	return keys
}

// Flush writes what changed since the last one, and forgets accounts that have
// nothing left to remember. mark is the caller's: how far it had come in whatever
// it charges from when Flush was called; Load gives it back. After an error what
// was not written is written the next time.
func (b *Book) Flush(ctx context.Context, s Store, now time.Time, mark uint64) error {
	b.mu.Lock()
	at := b.clock.at(now)
	dirty := b.settle(at)
	gone := b.gone
	b.gone = nil
	first := !b.stored
	b.mu.Unlock()
	for len(gone) > inOneSave {
		if err := s.Save(ctx, nil, gone[:inOneSave]); err != nil {
			return b.again(err, dirty, gone)
		}
		gone = gone[inOneSave:]
	}
	for first || len(dirty) > 0 || len(gone) > 0 {
		n := min(len(dirty), inOneSave)
		put, over := b.records(dirty[:n], at)
		if n == len(dirty) { // the mark counts once all is written
			put = append(put, b.clockRecord(at, now, mark))
		}
		if err := s.Save(ctx, put, append(gone, over...)); err != nil {
			return b.again(err, dirty, gone)
		}
		dirty, gone, first = dirty[n:], nil, false
	}
	b.mu.Lock()
	b.stored = true
	b.mu.Unlock()
	return nil
}

// settle lists accounts to be written, and forgets those that are over. mu is held.
func (b *Book) settle(at int64) (dirty []Principal) {
	for p, a := range b.accounts {
		a.day.forget(at)
		if a.unique != nil {
			b.countExactly(a, at)
		}
		switch {
		case a.whole(at):
			b.forget(p)
		case a.dirty:
			a.dirty = false
			dirty = append(dirty, p)
		}
	}
	return dirty
}

// whole says that there is nothing left to remember.
func (a *account) whole(at int64) bool {
	for _, whole := range a.rates {
		if whole > at {
			return false
		}
	}
	return len(a.day.slots) == 0
}

func (b *Book) again(err error, dirty []Principal, gone []string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range dirty {
		if a := b.accounts[p]; a != nil {
			a.dirty = true
			if r := a.unique; r != nil {
				r.current.dirty = r.current.dirty || len(r.current.hashes) > 0
				for i := range r.hours {
					r.hours[i].dirty = true
				}
			}
		}
	}
	b.gone = append(b.gone, gone...) // who came back meanwhile is dirty, and put after it is deleted
	return fmt.Errorf("limit: store what was spent: %w", err)
}

func (b *Book) clockRecord(at int64, now time.Time, mark uint64) Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	secret := b.key()
	text, _ := json.Marshal(storedClock{Budget: at, Wall: now.UTC().Round(0), Mark: mark, Secret: hex.EncodeToString(secret[:])}) // plain values
	return Record{Key: b.Prefix + clockRecord, Value: text}
}

// records gives the records of accounts, and the keys of those that are over.
func (b *Book) records(principals []Principal, at int64) (put []Record, gone []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range principals {
		a := b.accounts[p]
		if a == nil {
			continue // forgotten meanwhile
		}
		put = append(put, Record{Key: b.accountKey(p), Value: a.encode(p)})
		if a.unique != nil {
			more, over := b.recipientRecords(p, a.unique)
			put, gone = append(put, more...), append(gone, over...)
		}
	}
	return put, gone
}

func (a *account) encode(p Principal) []byte {
	stored := storedAccount{Scope: p.scope, Organisation: p.organisation, Name: p.name, More: p.more, Rates: a.rates}
	for _, s := range a.day.slots {
		stored.Day = append(stored.Day, [4]uint64{uint64(s.at), uint64(s.messages), uint64(s.recipients), s.bytes})
	}
	text, _ := json.Marshal(stored) // plain values
	return text
}

// recipientRecords gives what is not stored yet of different recipients. mu is held.
func (b *Book) recipientRecords(p Principal, r *recipients) (put []Record, gone []string) {
	if r.sketchy {
		gone = append(gone, b.recipientKeys(p)...)
		r.sketchy = false
	}
	for _, number := range r.gone {
		gone = append(gone, b.slotKey(sketchRecord, p, number))
	}
	r.gone = nil
	slots := r.before
	if r.current.dirty {
		slots = append(slots, r.current)
		r.current.dirty = false
	}
	for _, f := range slots {
		put = append(put, Record{Key: b.slotKey(seenRecord, p, f.slot), Value: encodeHashes(f.hashes)})
		gone = append(gone, b.slotKey(seenRecord, p, f.slot-uint32(Day/slotWidth)-2)) // it has been over for a while
	}
	r.before = nil
	for i := range r.hours {
		if h := &r.hours[i]; h.dirty {
			h.dirty = false
			if text, err := h.sketch.MarshalBinary(); err == nil {
				put = append(put, Record{Key: b.slotKey(sketchRecord, p, h.number), Value: text})
			}
		}
	}
	return put, gone
}

func encodeHashes(hashes []uint64) []byte {
	text := make([]byte, 0, 8*len(hashes))
	for _, h := range hashes {
		text = binary.BigEndian.AppendUint64(text, h)
	}
	return text
}

// errDamaged says that a record cannot be read. Its budget is whole again.
var errDamaged = errors.New("a record of limits is damaged")

// Load reads back what Flush stored, into an empty Book, and gives the mark of the
// last Flush; stored says that there was one. What cannot be read is left out and
// told in the error, all else counts.
func (b *Book) Load(ctx context.Context, s Store, now time.Time) (mark uint64, stored bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var bad error
	names := map[string]*account{}
	clock := storedClock{}
	if err := s.Load(ctx, b.Prefix+clockRecord, func(r Record) { stored = json.Unmarshal(r.Value, &clock) == nil }); err != nil {
		return 0, false, fmt.Errorf("limit: read what was spent: %w", err)
	}
	if b.stored = stored; stored {
		b.resume(clock, now)
	}
	err = s.Load(ctx, b.Prefix+accountRecord, func(r Record) {
		p, a, err := decodeAccount(r.Value, b.clock.at(now))
		if err != nil || b.accountKey(p) != r.Key {
			bad = errors.Join(bad, fmt.Errorf("%w: %s", errDamaged, r.Key))
			return
		}
		if b.accounts == nil {
			b.accounts = map[Principal]*account{}
		}
		b.accounts[p], names[nameOf(p)] = a, a
	})
	err = errors.Join(err, s.Load(ctx, b.Prefix+seenRecord, func(r Record) { b.loadSeen(names, r) }))
	err = errors.Join(err, s.Load(ctx, b.Prefix+sketchRecord, func(r Record) { b.loadSketch(names, r) }))
	for _, a := range names {
		if a.unique != nil && len(a.unique.hours) > 0 {
			slices.SortFunc(a.unique.hours, func(x, y hour) int { return int(x.number) - int(y.number) })
			b.exact -= len(a.unique.seen)
			a.unique.seen = nil
			a.unique.merge()
		}
	}
	return clock.Mark, stored, errors.Join(err, bad)
}

func (b *Book) resume(c storedClock, now time.Time) {
	b.clock.resume(c.Budget, c.Wall, now)
	if secret, err := hex.DecodeString(c.Secret); err == nil && len(secret) == len(b.secret) {
		b.secret = [16]byte(secret)
	}
}

// decodeAccount reads a record. Slots to come are damage; rates that are never whole
// again are cut to their span.
func decodeAccount(text []byte, at int64) (Principal, *account, error) {
	var stored storedAccount
	if err := json.Unmarshal(text, &stored); err != nil {
		return Principal{}, nil, err
	}
	p := Principal{scope: stored.Scope, organisation: stored.Organisation, name: stored.Name, more: stored.More}
	a := &account{}
	for i, r := range (&Caps{}).rates() {
		a.rates[i] = min(stored.Rates[i], at+int64(r.span))
	}
	var last uint64
	for _, s := range stored.Day {
		if s[0] <= last || s[0] > uint64(slotOf(at)) || s[1] > 1<<32-1 || s[2] > 1<<32-1 || s[3] > 1<<62 {
			return p, nil, errDamaged
		}
		last = s[0]
		a.day.add(uint32(s[0]), Amount{Messages: int64(s[1]), Recipients: int64(s[2]), Bytes: int64(s[3])})
	}
	a.day.forget(at)
	return p, a, nil
}

// slotOfKey takes the account and slot out of a key of recipients.
func (b *Book) slotOfKey(kind string, names map[string]*account, r Record) (*recipients, uint32) {
	rest := r.Key[len(b.Prefix)+len(kind):]
	if len(rest) != 32+1+8 {
		return nil, 0
	}
	slot, err := strconv.ParseUint(rest[33:], 16, 32)
	a := names[rest[:32]]
	if a == nil || err != nil {
		return nil, 0
	}
	if a.unique == nil {
		a.unique = &recipients{seen: map[uint64]uint32{}}
	}
	return a.unique, uint32(slot)
}

func (b *Book) loadSeen(names map[string]*account, r Record) {
	into, slot := b.slotOfKey(seenRecord, names, r)
	if into == nil || over(slot) <= b.clock.high {
		b.gone = append(b.gone, r.Key)
		return
	}
	before := len(into.seen)
	for text := r.Value; len(text) >= 8; text = text[8:] {
		h := binary.BigEndian.Uint64(text)
		into.seen[h] = max(into.seen[h], slot)
		if slot == slotOf(b.clock.high) {
			into.current.slot, into.current.hashes = slot, append(into.current.hashes, h)
		}
	}
	b.exact += len(into.seen) - before
}

func (b *Book) loadSketch(names map[string]*account, r Record) {
	into, number := b.slotOfKey(sketchRecord, names, r)
	h := hour{number: number, sketch: hyperloglog.New14()}
	if into == nil || over(h.last()) <= b.clock.high || h.sketch.UnmarshalBinary(r.Value) != nil {
		b.gone = append(b.gone, r.Key)
		return
	}
	into.hours = append(into.hours, h)
}
