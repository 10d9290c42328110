package custody

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
)

// Keys of the queue's records. The body of a message has its id as name.
const (
	messagePrefix   = "message/"   // message/<id>
	recipientPrefix = "recipient/" // recipient/<id>/<number in 8 hexadecimal digits>
	asidePrefix     = "aside/"     // aside/<key as it was>
)

func messageKey(id mail.ID) string { return messagePrefix + string(id) }

func recipientKey(id mail.ID, number uint32) string {
	digits := strconv.FormatUint(uint64(number), 16)
	return recipientPrefix + string(id) + "/00000000"[:9-len(digits)] + digits
}

func parseMessageKey(key string) (mail.ID, error) {
	id := mail.ID(strings.TrimPrefix(key, messagePrefix))
	if !id.Valid() {
		return "", fmt.Errorf("%w: key %q names no message", errRecord, key)
	}
	return id, nil
}

func parseRecipientKey(key string) (mail.ID, uint32, error) {
	text, digits, _ := strings.Cut(strings.TrimPrefix(key, recipientPrefix), "/")
	number, err := strconv.ParseUint(digits, 16, 32)
	if id := mail.ID(text); err == nil && id.Valid() && recipientKey(id, uint32(number)) == key {
		return id, uint32(number), nil
	}
	return "", 0, fmt.Errorf("%w: key %q names no recipient", errRecord, key)
}

// errRecord says that stored bytes are no record of the queue.
var errRecord = errors.New("record is damaged")

// recordVersion begins every value; JSON follows.
const recordVersion = 1

func encodeRecord(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append([]byte{recordVersion}, b...), nil
}

func decodeRecord(b []byte, v any) error {
	if len(b) == 0 || b[0] != recordVersion {
		return fmt.Errorf("%w: it is not of version %d", errRecord, recordVersion)
	}
	if err := json.Unmarshal(b[1:], v); err != nil {
		return fmt.Errorf("%w: %v", errRecord, err)
	}
	return nil
}

// messageRecord is what is stored of a message beside its content. It never
// changes while the message is in custody.
type messageRecord struct {
	Kind       WarrantKind   `json:"kind"`
	Sealed     []byte        `json:"sealed"` // the warrant
	SignAs     mail.Domain   `json:"sign_as,omitzero"`
	Org        string        `json:"org"`
	Source     string        `json:"source,omitempty"`
	Kept       time.Time     `json:"kept"`
	Expires    time.Time     `json:"expires"`
	Envelope   mail.Envelope `json:"envelope"`
	Recipients uint32        `json:"recipients"` // as accepted
	Accepted   []byte        `json:"accepted"`   // hash of all of them
	HeaderSize int64         `json:"header_size"`
	Size       int64         `json:"size"`
	Hash       []byte        `json:"hash"` // SHA-256 of header and body
}

// decodeMessage reads a messageRecord and refuses one that cannot be right.
func decodeMessage(b []byte) (*messageRecord, error) {
	m := new(messageRecord)
	if err := decodeRecord(b, m); err != nil {
		return nil, err
	}
	if m.Kind == "" || m.Org == "" || m.Kept.IsZero() || m.Expires.IsZero() || m.Recipients == 0 ||
		m.HeaderSize < 2 || m.Size < m.HeaderSize || len(m.Hash) != sha256.Size {
		return nil, fmt.Errorf("%w: a field is missing or cannot be right", errRecord)
	}
	return m, nil
}

func (m *messageRecord) message(id mail.ID) *Message {
	return &Message{
		ID: id, Kind: m.Kind, Organisation: m.Org, Source: m.Source, Kept: m.Kept, Expires: m.Expires,
		Envelope: m.Envelope, HeaderSize: m.HeaderSize, Size: m.Size,
	}
}

// recipientState is State as it is stored: a leased recipient is stored as it
// would be without the lease.
type recipientState uint8

const (
	recipientQueued recipientState = iota
	recipientHeld
	recipientDropped // given up while an attempt was in flight: gone when that ends, or at the next start
)

// recipientRecord is what is stored of one recipient that is not done.
type recipientRecord struct {
	mail.Recipient
	MAC      []byte         `json:"mac"` // over message, number and Recipient
	Due      time.Time      `json:"due"`
	Attempts uint16         `json:"attempts,omitempty"`
	State    recipientState `json:"state,omitempty"`
	Reason   mail.Reason    `json:"reason,omitempty"` // of the hold
	Reply    string         `json:"reply,omitempty"`  // of the last attempt
}

func decodeRecipient(b []byte) (*recipientRecord, error) {
	r := new(recipientRecord)
	if err := decodeRecord(b, r); err != nil {
		return nil, err
	}
	if r.Address.Domain().IsZero() || r.Due.IsZero() || r.State > recipientDropped {
		return nil, fmt.Errorf("%w: a field is missing or cannot be right", errRecord)
	}
	return r, nil
}

// sealer seals and opens what is stored. Each use has a key of its own, made of
// Options.SealKey.
type sealer struct {
	proof, notice, recipient, detained []byte
}

func newSealer(key []byte) sealer {
	derive := func(use string) []byte { return authenticate(key, []byte("anechoic custody "+use)) }
	return sealer{proof: derive("proof"), notice: derive("notice"), recipient: derive("recipient"), detained: derive("detained")}
}

// recipientMACSize is the octets kept of a recipient's HMAC (RFC 2104 section 5
// allows half of its output).
const recipientMACSize = 16

func authenticate(key []byte, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// canonical writes fields so that no two lists of fields give the same bytes.
type canonical []byte

func (c canonical) text(s string) canonical {
	return append(binary.BigEndian.AppendUint32(c, uint32(len(s))), s...)
}

func (c canonical) number(n int64) canonical { return binary.BigEndian.AppendUint64(c, uint64(n)) }

func (c canonical) recipient(r *mail.Recipient) canonical {
	return c.text(r.Address.String()).number(int64(r.Notify)).text(r.ORcpt)
}

func (s sealer) recipientMAC(id mail.ID, number uint32, r *mail.Recipient) []byte {
	c := make(canonical, 0, 128).text(string(id)).number(int64(number)).recipient(r)
	return authenticate(s.recipient, c)[:recipientMACSize]
}

// context is what a sealed warrant is bound to: this message, its envelope with
// the recipients as accepted, its times and its content.
func (m *messageRecord) context(id mail.ID) []byte {
	octets := int64(0) // what the envelope lets stand outside ASCII
	if m.Envelope.EightBit {
		octets |= 1
	}
	if m.Envelope.UTF8 {
		octets |= 2
	}
	return make(canonical, 0, 512).text("message 1").text(string(id)).text(string(m.Kind)).text(m.SignAs.String()).
		text(m.Org).text(m.Source).number(m.Kept.UnixNano()).number(m.Expires.UnixNano()).
		text(m.Envelope.From.String()).number(octets).text(m.Envelope.Ret).text(m.Envelope.EnvID).
		number(int64(m.Recipients)).text(string(m.Accepted)).number(m.HeaderSize).number(m.Size).text(string(m.Hash))
}

// notice is what is sealed of a Notice.
type notice struct {
	About mail.ID `json:"about"`
	Org   org.ID  `json:"org"`
}

// describe writes into m whose warrant it is; what seal seals afterwards.
func (m *messageRecord) describe(w Warrant) error {
	switch w := w.(type) {
	case Proven:
		m.SignAs, m.Org, m.Source = w.signAs, string(w.Organisation()), w.proof.Source()
	case Notice:
		m.Org = string(w.org)
	default:
		return ErrNoWarrant
	}
	if w.IsZero() {
		return ErrNoWarrant
	}
	m.Kind = w.Kind()
	return nil
}

// seal writes the warrant into m, bound to all else that m says.
func (s sealer) seal(id mail.ID, m *messageRecord, w Warrant) (err error) {
	switch w := w.(type) {
	case Proven:
		m.Sealed, err = attribution.Seal(s.proof, w.proof, m.context(id))
	case Notice:
		var content []byte
		content, err = json.Marshal(notice{About: w.about, Org: w.org})
		m.Sealed = append(authenticate(s.notice, m.context(id), content), content...)
	default:
		err = ErrNoWarrant
	}
	return err
}

// open makes the warrant again that seal wrote, or says why it cannot be.
func (s sealer) open(id mail.ID, m *messageRecord) (Warrant, error) {
	switch m.Kind {
	case KindProven:
		proof, err := attribution.Open(s.proof, m.Sealed, m.context(id))
		if err != nil {
			return nil, err
		}
		return NewProven(proof, m.SignAs)
	case KindNotice:
		if len(m.Sealed) < sha256.Size {
			return nil, ErrNoWarrant
		}
		mac, content := m.Sealed[:sha256.Size], m.Sealed[sha256.Size:]
		if !hmac.Equal(mac, authenticate(s.notice, m.context(id), content)) {
			return nil, fmt.Errorf("%w: the stored notice does not verify", ErrNoWarrant)
		}
		var n notice
		if err := json.Unmarshal(content, &n); err != nil {
			return nil, fmt.Errorf("%w: %v", errRecord, err)
		}
		return NewNotice(n.About, n.Org)
	}
	return nil, fmt.Errorf("%w of kind %q", ErrNoWarrant, m.Kind)
}

// hashContent is SHA-256 of a header and what r gives, and the octets of both.
func hashContent(header []byte, r io.Reader) (sum []byte, size int64, err error) {
	h := sha256.New()
	h.Write(header)
	n, err := io.Copy(h, r)
	return h.Sum(nil), int64(len(header)) + n, err
}
