// Package suppression remembers, for each organisation by itself, the addresses
// that its mail should not be tried at any more: those that failed for good again
// and again, those whose owners complained, those a person put there.
//
// Each reason is a mark, a record of its own under the organisation and a keyed
// hash of the address, with the time at which it ends: marks are written, never
// changed, so that nothing is lost between two writers, and the same report twice
// is one mark. An address is suppressed while a complaint or a person's mark
// stands, or as many hard bounces of different messages as the organisation's
// rule wants. Judge is that rule, and pure.
//
// It guarantees that a mark of one organisation never touches another's mail, that
// every mark ends, and that Remove leaves nothing of an address. It stops no
// message by itself: who sends asks Look. Whether a bounce or complaint may be
// believed is not decided here.
package suppression

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
)

// ErrMark says that a mark cannot be made or read.
var ErrMark = errors.New("no mark of a suppression list")

// Reason is why a mark was made.
type Reason string

// The reasons.
const (
	HardBounce Reason = "hard_bounce" // failed for good, by what is said of the address
	Complaint  Reason = "complaint"   // its owner, or their provider, complained
	Manual     Reason = "manual"      // a person put it there
)

// Mark is one reason why an address is not tried.
type Mark struct {
	Address string    `json:"address"`
	Reason  Reason    `json:"reason"`
	Class   string    `json:"class,omitempty"` // of a hard bounce
	About   mail.ID   `json:"about,omitempty"` // the message that failed, or was complained of
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"`
	Note    string    `json:"note,omitempty"` // of a person
}

// Entry is one address of a list with its marks that stand, oldest first.
type Entry struct {
	Address    string
	Suppressed bool      // else it has fewer hard bounces than the rule wants
	Reason     Reason    // of the mark that weighs most
	Since      time.Time // of that reason's first mark
	Until      time.Time // when it is tried again; of one not suppressed: when it is forgotten
	Marks      []Mark
}

// Judge is what marks of one address come to at a time.
func Judge(rule org.Suppression, marks []Mark, now time.Time) Entry {
	var e Entry
	for _, m := range marks {
		if now.Before(m.Until) && !now.Before(m.Since) {
			e.Marks = append(e.Marks, m)
		}
	}
	if len(e.Marks) == 0 {
		return e
	}
	slices.SortFunc(e.Marks, func(a, b Mark) int { return a.Since.Compare(b.Since) })
	e.Address = e.Marks[0].Address
	for _, reason := range []Reason{Manual, Complaint, HardBounce} {
		e.weigh(rule, reason)
	}
	return e
}

// weigh lets the marks of one reason count, if none that weighs more did.
func (e *Entry) weigh(rule org.Suppression, reason Reason) {
	var ends []time.Time
	since := time.Time{}
	for _, m := range e.Marks {
		if m.Reason == reason {
			if since.IsZero() {
				since = m.Since
			}
			ends = append(ends, m.Until)
		}
	}
	need := 1
	if reason == HardBounce {
		need = max(rule.HardBounces, 1)
	}
	slices.SortFunc(ends, func(a, b time.Time) int { return b.Compare(a) }) // the last first
	switch {
	case len(ends) >= need && (!e.Suppressed || ends[need-1].After(e.Until)):
		if !e.Suppressed {
			e.Reason, e.Since = reason, since
		}
		e.Suppressed, e.Until = true, ends[need-1]
	case len(ends) > 0 && !e.Suppressed:
		e.Reason, e.Since, e.Until = reason, since, ends[0]
	}
}

// Records is the part of an engine that a List needs.
type Records interface {
	Scan(ctx context.Context, prefix, from string, visit func(key string, value []byte) bool) error
	Commit(ctx context.Context, b *custody.Batch) error
}

// List is the suppression lists of all organisations, in an engine.
type List struct {
	records Records
	key     []byte
}

// New is the lists in an engine. secret keeps the addresses from being guessed by
// their keys; another secret finds none of them.
func New(records Records, secret []byte) *List {
	return &List{records: records, key: keyed(secret, "anechoic suppression 1")}
}

// Keys are suppression/<organisation>/<hash of the address>/<what>.
const prefix = "suppression/"

const hashOctets = 16 // half of HMAC-SHA256, as RFC 2104 section 5 allows

func organisationPrefix(o org.ID) string { return prefix + string(o) + "/" }

func (l *List) addressPrefix(o org.ID, address string) string {
	sum := keyed(l.key, string(o)+"\x00"+strings.ToLower(address))
	return organisationPrefix(o) + hex.EncodeToString(sum[:hashOctets]) + "/"
}

func keyed(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// Record is a mark as it is put into a batch: in the batch of the fact that tells
// of it.
func (l *List) Record(o org.ID, m Mark) (custody.Record, error) {
	what := string(m.Reason)
	switch {
	case o == "" || m.Address == "" || m.Since.IsZero() || !m.Until.After(m.Since):
		return custody.Record{}, fmt.Errorf("%w: organisation, address or time is missing", ErrMark)
	case m.Reason == HardBounce && m.About.Valid():
		what += "/" + string(m.About) // a message counts once
	case m.Reason != Complaint && m.Reason != Manual:
		return custody.Record{}, fmt.Errorf("%w: reason %q about %q", ErrMark, m.Reason, m.About)
	}
	value, err := json.Marshal(m)
	if err != nil {
		return custody.Record{}, fmt.Errorf("%w: %v", ErrMark, err)
	}
	return custody.Record{Key: l.addressPrefix(o, m.Address) + what, Value: value}, nil
}

// Put commits a batch that holds records of Record.
func (l *List) Put(ctx context.Context, b *custody.Batch) error {
	if err := l.records.Commit(ctx, b); err != nil {
		return fmt.Errorf("suppression list: %w", err)
	}
	return nil
}

// Look says how an address stands on an organisation's list.
func (l *List) Look(ctx context.Context, o org.ID, rule org.Suppression, address string, now time.Time) (Entry, error) {
	_, marks, err := l.marks(ctx, l.addressPrefix(o, address))
	if err != nil {
		return Entry{}, fmt.Errorf("suppression list of %s: %w", o, err)
	}
	return Judge(rule, marks, now), nil
}

// marks reads the records below a prefix. One that cannot be read is passed over:
// it must not stop mail.
func (l *List) marks(ctx context.Context, below string) (keys []string, marks []Mark, err error) {
	err = l.records.Scan(ctx, below, "", func(key string, value []byte) bool {
		keys = append(keys, key)
		var m Mark
		if json.Unmarshal(value, &m) == nil {
			marks = append(marks, m)
		}
		return true
	})
	return keys, marks, err
}

// Remove takes an address off a list, whatever put it there, and leaves nothing of
// it. The fact is written in the same batch; without a record there is none.
func (l *List) Remove(ctx context.Context, o org.ID, address string, tell func(removed int) custody.Batch) (removed int, err error) {
	keys, _, err := l.marks(ctx, l.addressPrefix(o, address))
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	b := tell(len(keys))
	b.Delete = append(b.Delete, keys...)
	if err := l.records.Commit(ctx, &b); err != nil {
		return 0, fmt.Errorf("suppression list of %s: %w", o, err)
	}
	return len(keys), nil
}
