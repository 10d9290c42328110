package custody

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
)

// Bounds of detention. A source that says hold must not be able to fill the
// store with what nobody proved: past them its mail is refused as without hold.
const (
	DetainedMessages = 1000      // of one organisation
	DetainedOctets   = 256 << 20 // of one organisation, header and body
	DetainedFor      = 30 * 24 * time.Hour
)

// ErrDetentionFull says that an organisation has no room for more detained mail.
var ErrDetentionFull = errors.New("no room for more detained mail of this organisation")

// ErrDetentionBusy says that somebody releases or drops the same message now.
var ErrDetentionBusy = errors.New("somebody else is about to release or drop it")

// Detention is a message that nobody proved to be the organisation's, although
// its source handed it over. It has no warrant, so no lease returns it: it waits
// for a person until it expires. Each step is one durable batch:
//
//	step             before a crash in it       after
//	Detain           nothing, no receipt        detained
//	ReleaseDetained  detained                   in custody, due, no longer detained
//	DropDetained     detained                   nothing
type Detention struct {
	ID           mail.ID
	Organisation org.ID // whose source handed it over
	Source       string
	Reason       mail.Reason          // why it is not relayed
	Evidence     attribution.Evidence // plain values; of secrets digests only
	From         mail.Address
	Envelope     mail.Envelope
	Header       mail.Header // as it arrived, evidence stripped
	Body         *mail.Body  // read once; still the caller's to close
	// Facts tell of it in the same durable batch. Without any, a held fact is made
	// of the rest.
	Facts []ledger.Fact
}

// Detained is what is known of a detained message, without its content.
type Detained struct {
	ID           mail.ID
	Organisation org.ID
	Source       string
	Reason       mail.Reason
	Evidence     attribution.Evidence
	From         mail.Address
	Envelope     mail.Envelope // with recipients
	Kept         time.Time
	Expires      time.Time
	HeaderSize   int64
	Size         int64 // octets of header and body
}

// Detain keeps a message that may not be relayed: one durable batch of record,
// body and facts. The Receipt says that it is done; after an error nothing may
// be acknowledged. ErrDetentionFull: the organisation has too much already.
func (q *Queue) Detain(ctx context.Context, d Detention, now time.Time) (Receipt, error) {
	if err := q.awaitDetained(ctx); err != nil {
		return Receipt{}, fmt.Errorf("custody: detain %s: %w", d.ID, err)
	}
	header := d.Header.Bytes()
	size := int64(len(header)) + d.bodySize()
	if err := d.check(); err != nil {
		return Receipt{}, fmt.Errorf("custody: detain %s: %w", d.ID, err)
	}
	expires := now.Add(DetainedFor).UTC()
	if err := q.detained.reserve(d.ID, detainedEntry{org: d.Organisation, size: size, expires: expires}); err != nil {
		return Receipt{}, fmt.Errorf("custody: detain %s: %w", d.ID, err)
	}
	b, err := q.stageDetention(&d, header, now.UTC(), expires)
	if err == nil {
		err = q.engine.Commit(ctx, b)
	}
	if err != nil {
		q.detained.forget(d.ID)
		return Receipt{}, fmt.Errorf("custody: detain %s: %w", d.ID, err)
	}
	q.detained.unclaim(d.ID)
	return Receipt{id: d.ID, detained: true}, nil
}

func (d *Detention) bodySize() int64 {
	if d.Body == nil {
		return 0
	}
	return d.Body.Size()
}

func (d *Detention) check() error {
	switch {
	case !d.ID.Valid():
		return errors.New("the id is not one that mail.NewID made")
	case d.Organisation == "" || d.Source == "":
		return errors.New("it is not said whose source it came from")
	case d.Reason == "":
		return errors.New("it is not said why")
	case len(d.Envelope.Recipients) == 0:
		return errors.New("there is no recipient")
	case d.Body == nil:
		return errors.New("there is no body")
	}
	return nil
}

// stageDetention makes the batch that keeps a detained message.
func (q *Queue) stageDetention(d *Detention, header []byte, kept, expires time.Time) (*Batch, error) {
	r := detainedRecord{
		Org: d.Organisation, Source: d.Source, Reason: d.Reason, Evidence: d.Evidence, From: d.From, Envelope: d.Envelope,
		Recipients: d.Envelope.Recipients, Kept: kept, Expires: expires, HeaderSize: int64(len(header)),
	}
	var err error
	if r.Hash, r.Size, err = hashContent(header, d.Body.Reader()); err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	value, err := q.seals.sealDetained(d.ID, &r)
	if err != nil {
		return nil, err
	}
	facts := d.Facts
	if len(facts) == 0 {
		facts = []ledger.Fact{r.fact(d.ID, ledger.Held, kept)}
	}
	return &Batch{
		Put:     []Record{{Key: detainedKey(d.ID), Value: value}},
		PutBody: []BodyRecord{{Name: detainedBody(d.ID), Size: r.Size, Content: io.MultiReader(bytes.NewReader(header), d.Body.Reader())}},
		Facts:   facts,
	}, nil
}

// DetainedFilter selects detained messages. Zero fields select all.
type DetainedFilter struct {
	Org    org.ID
	Reason mail.Reason
	After  mail.ID // messages after this id, to page on
	Limit  int     // 0: DefaultList; at most MaxList
}

// ListDetained gives detained messages in order of id, which is that of time.
// next is the After of the next page, empty at the end. What is damaged is set
// aside and left out.
func (q *Queue) ListDetained(ctx context.Context, f DetainedFilter) (list []Detained, next mail.ID, err error) {
	limit := f.Limit
	if limit <= 0 {
		limit = DefaultList
	}
	limit = min(limit, MaxList)
	from := ""
	if f.After != "" {
		from = detainedKey(f.After) + "0" // what follows that key
	}
	var damaged []Record
	err = q.engine.Scan(ctx, detainedPrefix, from, func(key string, value []byte) bool {
		id, r, err := q.seals.openDetained(key, value)
		switch {
		case err != nil:
			damaged = append(damaged, Record{Key: key, Value: append([]byte(nil), value...)})
		case f.Org != "" && f.Org != r.Org, f.Reason != "" && f.Reason != r.Reason:
		case len(list) == limit:
			next = list[limit-1].ID
			return false
		default:
			list = append(list, r.detained(id))
		}
		return true
	})
	for _, r := range damaged {
		err = errors.Join(err, q.moveDetainedAside(ctx, r.Key, r.Value, errRecord))
	}
	if err != nil {
		return nil, "", fmt.Errorf("custody: list detained: %w", err)
	}
	return list, next, nil
}

// LoadDetained gives a detained message with its content, both verified.
// ErrNotFound: there is none of that id; ErrSetAside: it is not what was kept.
func (q *Queue) LoadDetained(ctx context.Context, id mail.ID) (Detained, Content, error) {
	r, value, err := q.readDetained(ctx, id)
	if err != nil {
		return Detained{}, Content{}, err
	}
	body, err := q.engine.OpenBody(ctx, detainedBody(id))
	if err == nil {
		var c Content
		if c, err = readContent(body, &messageRecord{HeaderSize: r.HeaderSize, Size: r.Size, Hash: r.Hash}); err == nil {
			return r.detained(id), c, nil
		}
	}
	if errors.Is(err, errRecord) || errors.Is(err, ErrNotFound) {
		return Detained{}, Content{}, q.setDetainedAside(ctx, detainedKey(id), value, err)
	}
	return Detained{}, Content{}, fmt.Errorf("custody: load detained %s: %w", id, err)
}

// ReleaseDetained turns a detained message into one in custody: the record goes
// and the message is kept, in one durable batch. The submission must have the
// same id and a Proven warrant of the same organisation: nothing else was proven
// meanwhile.
func (q *Queue) ReleaseDetained(ctx context.Context, s Submission, now time.Time) (Receipt, error) {
	fail := func(err error) (Receipt, error) {
		return Receipt{}, fmt.Errorf("custody: release detained %s: %w", s.ID, err)
	}
	if err := errors.Join(q.awaitDetained(ctx), q.detained.claim(s.ID)); err != nil {
		return fail(err)
	}
	defer q.detained.unclaim(s.ID)
	r, _, err := q.readDetained(ctx, s.ID)
	if err != nil {
		return fail(err)
	}
	if w, ok := s.Warrant.(Proven); !ok || w.IsZero() || w.Organisation() != r.Org {
		return fail(fmt.Errorf("%w of %s", ErrNoWarrant, r.Org))
	}
	b := Batch{Facts: []ledger.Fact{r.fact(s.ID, ledger.Released, now)}}
	k, err := q.stage(ctx, &b, s, now)
	if err != nil {
		return fail(err)
	}
	b.Delete, b.DeleteBody = append(b.Delete, detainedKey(s.ID)), append(b.DeleteBody, detainedBody(s.ID))
	if err := q.engine.Commit(ctx, &b); err != nil {
		return fail(err)
	}
	q.detained.forget(s.ID)
	q.enter(k)
	q.wakeUp()
	return Receipt{id: s.ID}, nil
}

// DropDetained gives a detained message up: nobody is told, because nobody is
// proven to have sent it.
func (q *Queue) DropDetained(ctx context.Context, id mail.ID, now time.Time) error {
	return q.endDetention(ctx, id, "", now)
}

// ExpireDetained drops what was detained for too long, and says how many.
func (q *Queue) ExpireDetained(ctx context.Context, now time.Time) (expired int, err error) {
	if err := q.awaitDetained(ctx); err != nil {
		return 0, fmt.Errorf("custody: expire detained: %w", err)
	}
	for _, id := range q.detained.expired(now) {
		err := q.endDetention(ctx, id, "nobody released it in time", now)
		switch {
		case err == nil:
			expired++
		case !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDetentionBusy) && !errors.Is(err, ErrSetAside):
			return expired, err
		}
	}
	return expired, nil
}

func (q *Queue) endDetention(ctx context.Context, id mail.ID, detail string, now time.Time) error {
	fail := func(err error) error { return fmt.Errorf("custody: drop detained %s: %w", id, err) }
	if err := errors.Join(q.awaitDetained(ctx), q.detained.claim(id)); err != nil {
		return fail(err)
	}
	defer q.detained.unclaim(id)
	r, _, err := q.readDetained(ctx, id)
	if err != nil {
		return fail(err)
	}
	fact := r.fact(id, ledger.Dropped, now)
	fact.Detail = detail
	b := Batch{Delete: []string{detainedKey(id)}, DeleteBody: []string{detainedBody(id)}, Facts: []ledger.Fact{fact}}
	if err := q.engine.Commit(ctx, &b); err != nil {
		return fail(err)
	}
	q.detained.forget(id)
	return nil
}

// DetainedUse is how much is detained.
type DetainedUse struct {
	Messages int
	Octets   int64
}

// DetainedUse counts what is detained for an organisation; for all if it is
// empty.
func (q *Queue) DetainedUse(of org.ID) DetainedUse { return q.detained.use(of) }
