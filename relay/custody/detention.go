package custody

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
)

// Keys of detained messages. The body has a name of its own: the message gets
// its id as name when it is released.
const (
	detainedPrefix     = "detained/" // detained/<id>
	detainedBodyPrefix = "detained-"
)

func detainedKey(id mail.ID) string  { return detainedPrefix + string(id) }
func detainedBody(id mail.ID) string { return detainedBodyPrefix + string(id) }

// detainedRecord is what is stored of a detained message beside its content: the
// version, an HMAC of the rest for this id, and this as JSON. It never changes.
type detainedRecord struct {
	Org        org.ID               `json:"org"`
	Source     string               `json:"source"`
	Claimed    bool                 `json:"claimed,omitzero"`
	Subject    string               `json:"subject,omitempty"`
	Reason     mail.Reason          `json:"reason"`
	Evidence   attribution.Evidence `json:"evidence"`
	Verdicts   Verdicts             `json:"verdicts,omitzero"`
	From       mail.Address         `json:"from"`
	Envelope   mail.Envelope        `json:"envelope"`
	Recipients []mail.Recipient     `json:"recipients"`
	Kept       time.Time            `json:"kept"`
	Expires    time.Time            `json:"expires"`
	HeaderSize int64                `json:"header_size"`
	Size       int64                `json:"size"`
	Hash       []byte               `json:"hash"` // SHA-256 of header and body
}

// sealDetained writes a record so that nobody can edit what it says at rest:
// evidence that was added to it would prove something.
func (s sealer) sealDetained(id mail.ID, r *detainedRecord) ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return append(append([]byte{recordVersion1}, s.detainedMAC(id, text)...), text...), nil
}

func (s sealer) detainedMAC(id mail.ID, text []byte) []byte {
	return authenticate(s.detained, make(canonical, 0, 64).text("detained 1").text(string(id)), text)
}

// openDetained reads what sealDetained wrote under its key; anything else is
// errRecord.
func (s sealer) openDetained(key string, value []byte) (mail.ID, *detainedRecord, error) {
	id := mail.ID(strings.TrimPrefix(key, detainedPrefix))
	switch {
	case !id.Valid() || detainedKey(id) != key:
		return "", nil, fmt.Errorf("%w: key %q names no detained message", errRecord, key)
	case len(value) < 1+sha256.Size || value[0] != recordVersion1:
		return id, nil, fmt.Errorf("%w: it is not of version %d", errRecord, recordVersion1)
	}
	mac, text := value[1:1+sha256.Size], value[1+sha256.Size:]
	if !hmac.Equal(mac, s.detainedMAC(id, text)) {
		return id, nil, fmt.Errorf("%w: it is not what was written", errRecord)
	}
	r := new(detainedRecord)
	if err := json.Unmarshal(text, r); err != nil {
		return id, nil, fmt.Errorf("%w: %v", errRecord, err)
	}
	return id, r, nil
}

// mayBecome says that a warrant is of the kind and the organisation that the
// message was detained with.
func (r *detainedRecord) mayBecome(w Warrant) bool {
	switch w := w.(type) {
	case Proven:
		return r.Verdicts == Verdicts{} && !w.IsZero() && w.Organisation() == r.Org
	case Inbound:
		return r.Verdicts != Verdicts{} && !w.IsZero() && w.Organisation() == r.Org && w.Verdicts() == r.Verdicts
	}
	return false
}

// detained is the record for others.
func (r *detainedRecord) detained(id mail.ID) Detained {
	d := Detained{
		ID: id, Organisation: r.Org, Source: r.Source, Claimed: r.Claimed, Subject: r.Subject, Reason: r.Reason, Evidence: r.Evidence, Verdicts: r.Verdicts, From: r.From, Envelope: r.Envelope,
		Kept: r.Kept, Expires: r.Expires, HeaderSize: r.HeaderSize, Size: r.Size,
	}
	d.Envelope.Recipients = r.Recipients
	return d
}

// fact is an event of a detained message.
func (r *detainedRecord) fact(id mail.ID, event ledger.Event, now time.Time) ledger.Fact {
	f := ledger.Fact{
		Time: now.UTC(), ID: id, Event: event, Org: string(r.Org), Source: r.Source, Direction: "outbound", MailFrom: r.Envelope.From.String(),
		From: r.From.String(), Size: r.Size, Identity: ledger.Unproven, Reason: r.Reason, Disposition: disposition(event),
	}
	if (r.Verdicts != Verdicts{}) { // it came in
		f.Direction = "inbound"
	}
	if r.Claimed { // nothing proves the organisation
		f.Org, f.ClaimedOrg = "", string(r.Org)
	}
	for _, to := range r.Recipients {
		f.Rcpt = append(f.Rcpt, to.Address.String())
	}
	return f
}

// readDetained reads one record, also as it is stored, and sets it aside if it is
// damaged.
func (q *Queue) readDetained(ctx context.Context, id mail.ID) (r *detainedRecord, value []byte, err error) {
	if !id.Valid() {
		return nil, nil, fmt.Errorf("custody: detained %q: %w", id, ErrNotFound)
	}
	if value, err = q.engine.Get(ctx, detainedKey(id)); err != nil {
		return nil, nil, fmt.Errorf("custody: detained %s: %w", id, err)
	}
	if _, r, err = q.seals.openDetained(detainedKey(id), value); err != nil {
		return nil, nil, q.setDetainedAside(ctx, detainedKey(id), value, err)
	}
	return r, value, nil
}

// setDetainedAside moves a record that is not what was kept aside, and gives
// ErrSetAside.
func (q *Queue) setDetainedAside(ctx context.Context, key string, value []byte, cause error) error {
	return errors.Join(fmt.Errorf("custody: %s: %w: %w", key, ErrSetAside, cause), q.moveDetainedAside(ctx, key, value, cause))
}

// moveDetainedAside moves a damaged record. Its body stays for whoever looks into
// it; neither is ever sent.
func (q *Queue) moveDetainedAside(ctx context.Context, key string, value []byte, cause error) error {
	id := mail.ID(strings.TrimPrefix(key, detainedPrefix))
	q.opts.Log.Error("a detained message is not what was kept: it was set aside", "id", id, "cause", cause)
	q.detained.forget(id)
	return q.engine.Commit(ctx, &Batch{
		Put: []Record{{Key: asidePrefix + key, Value: value}}, Delete: []string{key},
		Facts: []ledger.Fact{{Time: time.Now().UTC(), ID: id, Event: ledger.SetAside, Detail: "detained: " + cause.Error()}},
	})
}

// detainedIndex is what is detained, in memory: for the caps, for expiry, and so
// that one person at a time ends a detention. It does no I/O.
type detainedIndex struct {
	mu       sync.Mutex // guards what follows
	messages map[mail.ID]*detainedEntry
	uses     map[room]DetainedUse
}

// room is what a cap is about: all mail of an organisation, or of that what only
// claims it.
type room struct {
	org         org.ID
	claimedOnly bool
}

type detainedEntry struct {
	org         org.ID
	reason      mail.Reason
	claimedOnly bool // nobody's source handed it over
	size        int64
	expires     time.Time
	claimed     bool // being kept, released or dropped
}

// rooms are what the message takes room of.
func (e *detainedEntry) rooms() []room {
	all := []room{{org: e.org}, {org: e.org, claimedOnly: true}}
	if e.claimedOnly {
		return all
	}
	return all[:1]
}

// hasRoom says whether a message fits beside those that are there.
func (r room) hasRoom(used DetainedUse, size int64) error {
	messages, octets, what := DetainedMessages, int64(DetainedOctets), ""
	if r.claimedOnly {
		messages, octets, what = ClaimedMessages, ClaimedOctets, " that only claim it"
	}
	if used.Messages >= messages || used.Octets+size > octets {
		return fmt.Errorf("%w: %s has %d messages%s of %d octets, at most %d of %d are kept", ErrDetentionFull, r.org, used.Messages, what, used.Octets, messages, octets)
	}
	return nil
}

// reserve makes room for a message that is about to be kept, and claims it.
func (x *detainedIndex) reserve(id mail.ID, e detainedEntry) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.messages[id] != nil {
		return errors.New("a message of that id is detained already")
	}
	for _, r := range e.rooms() {
		if err := r.hasRoom(x.uses[r], e.size); err != nil {
			return err
		}
	}
	e.claimed = true
	x.put(id, e)
	return nil
}

// add notes a message that is there.
func (x *detainedIndex) add(id mail.ID, e detainedEntry) {
	x.forget(id)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.put(id, e)
}

func (x *detainedIndex) put(id mail.ID, e detainedEntry) {
	if x.messages == nil {
		x.messages, x.uses = map[mail.ID]*detainedEntry{}, map[room]DetainedUse{}
	}
	x.messages[id] = &e
	for _, r := range e.rooms() {
		used := x.uses[r]
		x.uses[r] = DetainedUse{Messages: used.Messages + 1, Octets: used.Octets + e.size}
	}
}

// forget notes that a message is there no more.
func (x *detainedIndex) forget(id mail.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := x.messages[id]
	if e == nil {
		return
	}
	delete(x.messages, id)
	for _, r := range e.rooms() {
		used := x.uses[r]
		if used = (DetainedUse{Messages: used.Messages - 1, Octets: used.Octets - e.size}); used.Messages == 0 {
			delete(x.uses, r)
			continue
		}
		x.uses[r] = used
	}
}

func (x *detainedIndex) claim(id mail.ID) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch e := x.messages[id]; {
	case e == nil:
		return ErrNotFound
	case e.claimed:
		return ErrDetentionBusy
	default:
		e.claimed = true
		return nil
	}
}

func (x *detainedIndex) unclaim(id mail.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e := x.messages[id]; e != nil {
		e.claimed = false
	}
}

// expired gives what has no time left.
func (x *detainedIndex) expired(now time.Time) (ids []mail.ID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, e := range x.messages {
		if !now.Before(e.expires) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (x *detainedIndex) use(of org.ID) (all DetainedUse) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if of != "" {
		return x.uses[room{org: of}]
	}
	for r, u := range x.uses {
		if !r.claimedOnly {
			all.Messages += u.Messages
			all.Octets += u.Octets
		}
	}
	return all
}

// shares counts by organisation and reason.
func (x *detainedIndex) shares() (list []DetainedShare) {
	x.mu.Lock()
	defer x.mu.Unlock()
	at := map[DetainedShare]int{} // of an organisation and a reason, with no messages
	for _, e := range x.messages {
		key := DetainedShare{Organisation: e.org, Reason: e.reason}
		i, known := at[key]
		if !known {
			i = len(list)
			at[key], list = i, append(list, key)
		}
		list[i].Messages++
	}
	return list
}
