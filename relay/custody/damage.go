package custody

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
)

// What the engine cannot read. A disk that gives a block back otherwise than it was
// written takes some records at once, and nobody knows which. Reading goes on behind
// them: what they were is found by what belongs to them elsewhere. A message whose
// record is lost has recipients without a message, one whose recipients are lost is a
// message without any; both are set aside as other damage is. What cannot be read is
// never deleted: it may be read again from a backup, or by a better disk.

// stretch is a part of the store that cannot be read: keys above after and below next.
type stretch struct {
	after string // the last that was read, or where reading began
	next  string // where reading goes on; empty: nothing behind can be read
}

func (s stretch) String() string {
	if s.next == "" {
		return "what follows " + s.after
	}
	return "what is between " + s.after + " and " + s.next
}

// holds says that a message is one of those of which nothing was read, begun that it is
// the last of which something was.
func (s stretch) holds(prefix string, id mail.ID) (whole, begun bool) {
	key := prefix + string(id)
	begun = strings.HasPrefix(s.after, key)
	return !begun && key > s.after && (s.next == "" || key < s.next), begun
}

// scanPast is Engine.Scan of keys that go on with an id after their prefix. Behind what
// is damaged it goes on, after it told lost.
func (q *Queue) scanPast(ctx context.Context, prefix, from string, visit func(key string, value []byte) bool, lost func(stretch)) error {
	for from = max(prefix, from); ; {
		last, ended := from, false
		err := q.engine.Scan(ctx, prefix, from, func(key string, value []byte) bool {
			last, ended = key, !visit(key, value)
			return !ended
		})
		if ended || !errors.Is(err, ErrDamaged) {
			return err
		}
		next, err := q.behind(ctx, prefix, last)
		if err != nil {
			return err
		}
		lost(stretch{after: last, next: next})
		if next == "" {
			return nil
		}
		from = next
	}
}

// maxIDTime is the latest time of an id, in milliseconds.
const maxIDTime = 1<<48 - 1

// behind finds where reading can go on after a key behind which the store is damaged;
// empty: nowhere. Ids are in order of time: it looks a millisecond further, then two,
// four and so on, and closes in to the millisecond.
func (q *Queue) behind(ctx context.Context, prefix, key string) (string, error) {
	at := func(ms int64) string {
		var k idKey
		binary.BigEndian.PutUint64(k[:8], uint64(ms)<<16)
		return prefix + string(mail.IDOf(k))
	}
	readable := func(ms int64) (bool, error) {
		err := q.engine.Scan(ctx, prefix, at(ms), func(string, []byte) bool { return false })
		if errors.Is(err, ErrDamaged) {
			return false, nil
		}
		return err == nil, err
	}
	id, _, _ := strings.Cut(key[len(prefix):], "/")
	low, high := keyOf(mail.ID(id)).kept()/int64(time.Millisecond), int64(0)
	for far := int64(1); ; far *= 2 {
		if high = low + far; high > maxIDTime {
			return "", nil
		}
		ok, err := readable(high)
		if err != nil {
			return "", err
		}
		if ok {
			low += far / 2
			break
		}
	}
	for low+1 < high {
		middle := low + (high-low)/2
		ok, err := readable(middle)
		switch {
		case err != nil:
			return "", err
		case ok:
			high = middle
		default:
			low = middle
		}
	}
	return at(high), nil
}

// skip is told of a stretch that reading back went past.
func (r *reading) skip(prefix string, s stretch) {
	r.q.opts.Log.Error("a part of the store cannot be read: what belongs to it is set aside and not sent; restore it from a backup", "records", prefix, "lost", s.String())
	r.skipped = append(r.skipped, ledger.Fact{Time: time.Now().UTC(), Event: ledger.SetAside, Detail: s.String() + " cannot be read"})
}

var errRecipientsLost = fmt.Errorf("%w: recipients of it cannot be read", ErrDamaged)

// missRecipients looks for the messages whose recipients are in a part of the store that
// cannot be read: those without any are set aside whole; of one with some, the others
// go on, and nothing of it is ever deleted.
func (r *reading) missRecipients(ctx context.Context) error {
	for i := range r.found {
		f := &r.found[i]
		whole, begun := r.missing(f.id)
		if !whole && !begun {
			continue
		}
		key := messageKey(f.id)
		value, err := r.q.engine.Get(ctx, key)
		if err != nil {
			return err
		}
		if !whole && r.readAll(f.id, value) {
			continue
		}
		d := damaged(key, value, f.id, errRecipientsLost)
		d.stays = !whole
		f.aside, r.lost[f.id] = whole, true
		r.damaged = append(r.damaged, d)
	}
	return nil
}

// missing says whether recipients of a message are in a stretch that cannot be read.
func (r *reading) missing(id mail.ID) (whole, begun bool) {
	for _, s := range r.gaps {
		w, b := s.holds(recipientPrefix, id)
		whole, begun = whole || w, begun || b
	}
	return whole, begun
}

// readAll says that the last recipient of a message was the last that was read before a
// stretch: so none of the message is in it.
func (r *reading) readAll(id mail.ID, value []byte) bool {
	m, err := decodeMessage(value)
	if err != nil {
		return false
	}
	for _, s := range r.gaps {
		if of, number, err := parseRecipientKey(s.after); err == nil && of == id && number+1 < m.Recipients {
			return false
		}
	}
	return true
}

// unreadable says that an error is about what is stored, and not about who reads it.
func unreadable(err error) bool { return errors.Is(err, ErrDamaged) || errors.Is(err, errRecord) }
