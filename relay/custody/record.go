package custody

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/mail/jsonobject"
	"anechoic/org"
	"anechoic/relay/attribution"
)

// Keys of the queue's records. The body of a message has its id as name.
const (
	messagePrefix    = "message/"    // message/<id>
	recipientPrefix  = "recipient/"  // recipient/<id>/<number in 8 hexadecimal digits>
	suspensionPrefix = "suspension/" // suspension/<scope>/<hash of the name>
	asidePrefix      = "aside/"      // aside/<key as it was>
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

// Versions of a value. Version 1 is the octet 1 and JSON. Version 2 is the octet
// 2, the CRC-32C of the rest, the length of the summary as a varint, the summary,
// and JSON. The summary is what the index needs; the sum tells damage at the start,
// without a look at the JSON. Neither proves anything: HMACs in the JSON do.
const (
	recordVersion1 = 1
	recordVersion  = 2
)

const sumSize = crc32.Size

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// stored is a record with what the index needs of it, and its JSON, which is
// written by hand: every message has two.
type stored interface {
	summary(canonical) canonical
	appendJSON([]byte) ([]byte, error)
}

func encodeRecord(v stored) ([]byte, error) {
	var room [160]byte
	summary := v.summary(canonical(room[:0]))
	b := make([]byte, 1+sumSize, recordRoom)
	b[0] = recordVersion
	b = binary.AppendUvarint(b, uint64(len(summary)))
	b, err := v.appendJSON(append(b, summary...))
	if err != nil {
		return nil, err
	}
	sumRecord(b)
	return b, nil
}

// recordRoom is what most records have room in, in octets.
const recordRoom = 768

// sumRecord writes the sum of a value of version 2 into it.
func sumRecord(b []byte) {
	binary.BigEndian.PutUint32(b[1:], crc32.Checksum(b[1+sumSize:], castagnoli))
}

// splitRecord gives the parts of a value that is not damaged. The summary is nil
// in version 1.
func splitRecord(b []byte) (summary, text []byte, err error) {
	switch {
	case len(b) > 0 && b[0] == recordVersion1:
		return nil, b[1:], nil
	case len(b) <= 1+sumSize || b[0] != recordVersion:
		return nil, nil, fmt.Errorf("%w: it is not of version %d or %d", errRecord, recordVersion1, recordVersion)
	}
	rest := b[1+sumSize:]
	if crc32.Checksum(rest, castagnoli) != binary.BigEndian.Uint32(b[1:]) {
		return nil, nil, fmt.Errorf("%w: its sum is not that of what it holds", errRecord)
	}
	length, n := binary.Uvarint(rest)
	if n <= 0 || length > uint64(len(rest)-n) {
		return nil, nil, fmt.Errorf("%w: its summary is cut short", errRecord)
	}
	end := n + int(length)
	return rest[n:end:end], rest[end:], nil
}

func decodeRecord(b []byte, v any) error {
	_, text, err := splitRecord(b)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%w: %v", errRecord, err)
	}
	return nil
}

// cut takes one field that canonical.text wrote off a summary.
func (c canonical) cut() (field []byte, rest canonical, ok bool) {
	if len(c) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(c)
	if uint64(n) > uint64(len(c)-4) {
		return nil, nil, false
	}
	return c[4 : 4+n], c[4+n:], true
}

var errSummary = fmt.Errorf("%w: its summary cannot be right", errRecord)

// glance is what the index needs of a message record. Its bytes are the record's.
type glance struct{ org, source []byte }

func glanceMessage(b []byte) (g glance, err error) {
	summary, _, err := splitRecord(b)
	if err != nil {
		return g, err
	}
	if summary == nil {
		m, err := decodeMessage(b)
		if err != nil {
			return g, err
		}
		return glance{[]byte(m.Org), []byte(m.Source)}, nil
	}
	var rest canonical
	var ok1, ok2 bool
	g.org, rest, ok1 = canonical(summary).cut()
	g.source, rest, ok2 = rest.cut()
	if !ok1 || !ok2 || len(rest) > 0 || len(g.org) == 0 {
		return g, errSummary
	}
	return g, nil
}

// glanceRecipient is what the index needs of a recipient record. lane is the domain
// with its way (see cutWay); its bytes are the record's.
func glanceRecipient(b []byte) (r rcpt, lane []byte, err error) {
	summary, _, err := splitRecord(b)
	if err != nil {
		return r, nil, err
	}
	if summary == nil {
		full, err := decodeRecipient(b)
		if err != nil {
			return r, nil, err
		}
		return full.rcpt(), full.Course.way().appendTo([]byte(full.Address.Domain().String())), nil
	}
	const fixed = 8 + 2 + 1
	if len(summary) <= fixed || summary[10] > byte(recipientDropped) {
		return r, nil, errSummary
	}
	r.due = int64(binary.BigEndian.Uint64(summary))
	r.attempts = binary.BigEndian.Uint16(summary[8:])
	r.state = recipientState(summary[10])
	return r, summary[fixed:], nil
}

func (m *messageRecord) summary(c canonical) canonical { return c.text(m.Org).text(m.Source) }

func (r *recipientRecord) summary(c canonical) canonical {
	c = binary.BigEndian.AppendUint16(c.number(r.Due.UnixNano()), r.Attempts)
	return r.Course.way().appendTo(append(append(c, byte(r.State)), r.Address.Domain().String()...))
}

func (r *recipientRecord) rcpt() rcpt {
	return rcpt{due: r.Due.UnixNano(), attempts: r.Attempts, state: r.State}
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

func (m *messageRecord) appendJSON(b []byte) ([]byte, error) {
	o := jsonobject.Begin(b)
	o.Text("kind", string(m.Kind))
	o.Octets("sealed", m.Sealed)
	o.Text("sign_as", m.SignAs.String())
	o.Text("org", m.Org)
	o.Text("source", m.Source)
	o.Time("kept", m.Kept)
	o.Time("expires", m.Expires)
	o.Inner("envelope", func(o *jsonobject.Object) {
		e := &m.Envelope
		o.Text("from", e.From.String())
		o.True("8bit", e.EightBit)
		o.True("utf8", e.UTF8)
		o.True("reqtls", e.RequireTLS)
		o.Text("ret", e.Ret)
		o.Text("envid", e.EnvID)
	})
	o.Unsigned("recipients", uint64(m.Recipients))
	o.Octets("accepted", m.Accepted)
	o.Number("header_size", m.HeaderSize)
	o.Number("size", m.Size)
	o.Octets("hash", m.Hash)
	return o.End(), nil
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

// direction is the word of the ledger.
func (m *messageRecord) direction() string {
	if m.Kind == KindInbound {
		return "inbound"
	}
	return "outbound"
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
	MAC      []byte         `json:"mac"` // over message, number, Recipient and where Course leads
	Due      time.Time      `json:"due"`
	Attempts uint16         `json:"attempts,omitempty"`
	State    recipientState `json:"state,omitempty"`
	Reason   mail.Reason    `json:"reason,omitempty"` // of the hold
	Reply    string         `json:"reply,omitempty"`  // of the last attempt
	Told     bool           `json:"told,omitempty"`   // the sender was told of a delay
	Course   *Course        `json:"course,omitempty"` // what a person decided; nil: the domain's way
}

func (r *recipientRecord) appendJSON(b []byte) (_ []byte, err error) {
	o := jsonobject.Begin(b)
	o.Text("address", r.Address.String())
	o.Unsigned("notify", uint64(r.Notify))
	o.Text("orcpt", r.ORcpt)
	o.Octets("mac", r.MAC)
	o.Time("due", r.Due)
	o.Unsigned("attempts", uint64(r.Attempts))
	o.Unsigned("state", uint64(r.State))
	o.Text("reason", string(r.Reason))
	o.Text("reply", r.Reply)
	o.True("told", r.Told)
	if r.Course != nil {
		err = o.Value("course", r.Course)
	}
	return o.End(), err
}

func decodeRecipient(b []byte) (*recipientRecord, error) {
	r := new(recipientRecord)
	if err := decodeRecord(b, r); err != nil {
		return nil, err
	}
	if r.Address.Domain().IsZero() || r.Due.IsZero() || r.State > recipientDropped || r.Course != nil && (r.Course.way() == way{} || r.Course.check() != nil) {
		return nil, fmt.Errorf("%w: a field is missing or cannot be right", errRecord)
	}
	return r, nil
}

// sealer seals and opens what is stored. Each use has a key of its own, made of
// Options.SealKey.
type sealer struct {
	proof, notice, inbound, disowned, recipient, detained []byte
}

func newSealer(key []byte) sealer {
	derive := func(use string) []byte { return authenticate(key, []byte("anechoic custody "+use)) }
	return sealer{
		proof: derive("proof"), notice: derive("notice"), inbound: derive("inbound"), disowned: derive("disowned"),
		recipient: derive("recipient"), detained: derive("detained"),
	}
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

func (s sealer) recipientMAC(id mail.ID, number uint32, r *mail.Recipient, course *Course) []byte {
	c := make(canonical, 0, 128).text(string(id)).number(int64(number)).recipient(r)
	if course != nil {
		c = c.text(string(course.way().appendTo(nil)))
	}
	return authenticate(s.recipient, c)[:recipientMACSize]
}

// isAccepted says that a stored recipient is one that was accepted, on the course
// that it was given.
func (s sealer) isAccepted(id mail.ID, number uint32, r *recipientRecord) bool {
	return hmac.Equal(r.MAC, s.recipientMAC(id, number, &r.Recipient, r.Course))
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
	if m.Envelope.RequireTLS { // nor may it be lost on the way
		octets |= 4
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

// inbound is what is sealed of an Inbound.
type inbound struct {
	Org      org.ID   `json:"org"`
	Verdicts Verdicts `json:"verdicts"`
}

// describe writes into m whose warrant it is; what seal seals afterwards.
func (m *messageRecord) describe(w Warrant) error {
	switch w := w.(type) {
	case Proven:
		m.SignAs, m.Org, m.Source = w.signAs, string(w.Organisation()), w.proof.Source()
	case Notice:
		m.Org = string(w.org)
	case Inbound:
		m.Org = string(w.org)
	case Disowned:
		m.Org, m.Source = string(w.Organisation()), w.proof.Source()
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
	case Disowned:
		m.Sealed, err = attribution.Seal(s.disowned, w.proof, m.context(id))
	case Notice:
		m.Sealed, err = sealText(s.notice, m.context(id), notice{About: w.about, Org: w.org})
	case Inbound:
		m.Sealed, err = sealText(s.inbound, m.context(id), inbound{Org: w.org, Verdicts: w.verdicts})
	default:
		err = ErrNoWarrant
	}
	return err
}

// sealText is an HMAC over a context and v as JSON, then that.
func sealText(key, context []byte, v any) ([]byte, error) {
	text, err := json.Marshal(v)
	return append(authenticate(key, context, text), text...), err
}

// openText reads what sealText wrote in the same context.
func openText(key, context, sealed []byte, v any) error {
	if len(sealed) < sha256.Size {
		return ErrNoWarrant
	}
	mac, text := sealed[:sha256.Size], sealed[sha256.Size:]
	if !hmac.Equal(mac, authenticate(key, context, text)) {
		return fmt.Errorf("%w: what is stored of it does not verify", ErrNoWarrant)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%w: %v", errRecord, err)
	}
	return nil
}

// open makes the warrant again that seal wrote, or says why it cannot be.
func (s sealer) open(id mail.ID, m *messageRecord) (Warrant, error) {
	switch m.Kind {
	case KindProven, KindDisowned:
		return s.openProof(id, m)
	case KindNotice:
		var n notice
		if err := openText(s.notice, m.context(id), m.Sealed, &n); err != nil {
			return nil, err
		}
		return NewNotice(n.About, n.Org)
	case KindInbound:
		var in inbound
		if err := openText(s.inbound, m.context(id), m.Sealed, &in); err != nil {
			return nil, err
		}
		return NewInbound(in.Org, in.Verdicts)
	}
	return nil, fmt.Errorf("%w of kind %q", ErrNoWarrant, m.Kind)
}

// openProof opens a warrant that rests on a proof.
func (s sealer) openProof(id mail.ID, m *messageRecord) (Warrant, error) {
	key := s.proof
	if m.Kind == KindDisowned {
		key = s.disowned
	}
	proof, err := attribution.Open(key, m.Sealed, m.context(id))
	switch {
	case err != nil:
		return nil, err
	case m.Kind == KindDisowned:
		return NewDisowned(proof)
	}
	return NewProven(proof, m.SignAs)
}

// hashContent is SHA-256 of a header and what r gives, and the octets of both.
func hashContent(header []byte, r io.Reader) (sum []byte, size int64, err error) {
	h := sha256.New()
	h.Write(header)
	n, err := io.Copy(h, r)
	return h.Sum(nil), int64(len(header)) + n, err
}
