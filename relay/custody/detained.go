package custody

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
)

// Bounds of detention. A source that says hold must not be able to fill the
// store with what nobody proved: past them its mail is refused as without hold.
const (
	DetainedMessages = 1000                // of one organisation
	DetainedOctets   = 256 << 20           // of one organisation, header and body
	DetainedFor      = 30 * 24 * time.Hour // where Options say nothing else

	// Of what only claims an organisation: strangers cannot fill the room that its
	// own sources' mail needs.
	ClaimedMessages = DetainedMessages / 2
	ClaimedOctets   = DetainedOctets / 2
)

// maxSubject bounds what is kept of a Subject beside the content, to search in.
const maxSubject = 500

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
	Organisation org.ID // whose source handed it over, whom it is for, or whom it claims
	Source       string
	Claimed      bool                 // nobody's source handed it over: its From alone names the organisation
	Reason       mail.Reason          // why it is not relayed
	Evidence     attribution.Evidence // plain values; of secrets digests only
	Verdicts     Verdicts             // of a message for the organisation; zero: it came from its source
	From         mail.Address
	Envelope     mail.Envelope
	Header       mail.Header // as it arrived, evidence stripped
	Body         *mail.Body  // read once; still the caller's to close
	// Facts tell of it in the same durable batch. Without any, a held fact is made
	// of the rest.
	Facts []ledger.Fact
}

// Detained is what is known of a detained message, without its content but for
// the Subject, which is for the eyes of whoever judges it and for no log.
type Detained struct {
	ID           mail.ID
	Organisation org.ID
	Source       string
	Claimed      bool
	Reason       mail.Reason
	Evidence     attribution.Evidence
	Verdicts     Verdicts // zero but for inbound messages
	From         mail.Address
	Subject      string        // as it stands in the header, and not whole if it is long
	Envelope     mail.Envelope // with recipients
	Kept         time.Time
	Expires      time.Time
	HeaderSize   int64
	Size         int64 // octets of header and body
}

// Inbound says that it is a message for the organisation, not one of its own.
func (d *Detained) Inbound() bool { return d.Verdicts != Verdicts{} }

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
	expires := now.Add(q.opts.DetainFor).UTC()
	if err := q.detained.reserve(d.ID, detainedEntry{org: d.Organisation, reason: d.Reason, claimedOnly: d.Claimed, size: size, expires: expires}); err != nil {
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
	case d.Organisation == "" || !exactlyOne(d.Source != "", d.Verdicts != Verdicts{}, d.Claimed):
		return errors.New("it is not said whose source it came from, whom it is for, or whom it claims")
	case d.Reason == "":
		return errors.New("it is not said why")
	case len(d.Envelope.Recipients) == 0:
		return errors.New("there is no recipient")
	case d.Body == nil:
		return errors.New("there is no body")
	}
	return nil
}

func exactlyOne(said ...bool) bool {
	n := 0
	for _, s := range said {
		if s {
			n++
		}
	}
	return n == 1
}

// subjectOf is what is kept of a Subject: of several, as readers differ, the first.
func subjectOf(h mail.Header) string {
	f, ok := h.First("Subject")
	if !ok {
		return ""
	}
	v := f.Value()
	return strings.ToValidUTF8(v[:min(len(v), maxSubject)], "\uFFFD")
}

// stageDetention makes the batch that keeps a detained message.
func (q *Queue) stageDetention(d *Detention, header []byte, kept, expires time.Time) (*Batch, error) {
	r := detainedRecord{
		Org: d.Organisation, Source: d.Source, Claimed: d.Claimed, Subject: subjectOf(d.Header), Reason: d.Reason, Evidence: d.Evidence, Verdicts: d.Verdicts, From: d.From, Envelope: d.Envelope,
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
	Where  func(*Detained) bool // nil: all; it is called while the store is read, and must not wait
	After  mail.ID              // messages after this id, to page on
	Limit  int                  // 0: DefaultList; at most MaxList
}

// maxDetainedLook is how many messages one page looks at: past them it ends, with
// where to go on, so that a filter that little matches holds nobody up.
const maxDetainedLook = 20_000

// ListDetained gives detained messages in order of id, which is that of time.
// next is the After of the next page, empty at the end; a page may be short, or
// empty, before that. What is damaged is set aside and left out.
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
	looked, last := 0, mail.ID("")
	err = q.engine.Scan(ctx, detainedPrefix, from, func(key string, value []byte) bool {
		if looked++; looked > maxDetainedLook {
			next = last
			return false
		}
		id, r, err := q.seals.openDetained(key, value)
		if err != nil {
			damaged = append(damaged, Record{Key: key, Value: append([]byte(nil), value...)})
			return true
		}
		if d := r.detained(id); f.selects(&d) {
			if len(list) == limit {
				next = last
				return false
			}
			list = append(list, d)
		}
		last = id
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

func (f *DetainedFilter) selects(d *Detained) bool {
	return (f.Org == "" || f.Org == d.Organisation) && (f.Reason == "" || f.Reason == d.Reason) && (f.Where == nil || f.Where(d))
}

// LookDetained gives what is known of a detained message, without reading its
// content. The errors are those of LoadDetained.
func (q *Queue) LookDetained(ctx context.Context, id mail.ID) (Detained, error) {
	r, _, err := q.readDetained(ctx, id)
	if err != nil {
		return Detained{}, err
	}
	return r.detained(id), nil
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
	if unreadable(err) || errors.Is(err, ErrNotFound) {
		return Detained{}, Content{}, q.setDetainedAside(ctx, detainedKey(id), value, err)
	}
	return Detained{}, Content{}, fmt.Errorf("custody: load detained %s: %w", id, err)
}

// ReleaseDetained turns a detained message into one in custody: the record goes
// and the message is kept, in one durable batch. The submission must have the
// same id and a warrant of the same organisation: Proven, or Inbound for a message
// that came in. by says who asked for it, in the ledger.
func (q *Queue) ReleaseDetained(ctx context.Context, s Submission, by string, now time.Time) (Receipt, error) {
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
	if !r.mayBecome(s.Warrant) {
		return fail(fmt.Errorf("%w of %s", ErrNoWarrant, r.Org))
	}
	fact := r.fact(s.ID, ledger.Released, now)
	fact.Detail = byWhom(by)
	b := Batch{Facts: []ledger.Fact{fact}}
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
// proven to have sent it. by says who asked for it, in the ledger.
func (q *Queue) DropDetained(ctx context.Context, id mail.ID, by string, now time.Time) error {
	return q.endDetention(ctx, id, byWhom(by), now)
}

func byWhom(by string) string {
	if by == "" {
		return ""
	}
	return "by " + by
}

// ReadDetained writes down, before it happens, that a person takes a copy of a
// detained message: there is a fact of every one that left this way.
func (q *Queue) ReadDetained(ctx context.Context, id mail.ID, by string, now time.Time) error {
	r, _, err := q.readDetained(ctx, id)
	if err != nil {
		return err
	}
	fact := r.fact(id, ledger.Exported, now)
	fact.Detail = byWhom(by)
	if err := q.engine.Commit(ctx, &Batch{Facts: []ledger.Fact{fact}}); err != nil {
		return fmt.Errorf("custody: export detained %s: %w", id, err)
	}
	return nil
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

// DetainedShare is what is detained for one organisation for one reason.
type DetainedShare struct {
	Organisation org.ID
	Reason       mail.Reason
	Messages     int
}

// DetainedShares gives what is detained, by organisation and reason, in no order.
func (q *Queue) DetainedShares() []DetainedShare { return q.detained.shares() }
