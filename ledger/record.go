package ledger

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"anechoic/mail"
)

// ErrMalformed says that stored bytes are no record or segment of the ledger.
var ErrMalformed = errors.New("malformed ledger record")

// A stored record is
//
//	version (1 octet) | length of public (4, big-endian) | public | rest
//
// where public is JSON, and rest is a 16-octet key and the personal JSON, or,
// after erasure, the 32-octet commitment that key and personal led to.
const (
	versionWhole  = 1
	versionErased = 2

	recordHead = 5
	keySize    = 16 // 128 bits hide what can be guessed, such as an address
)

// MaxPublic bounds the public part of one record, in octets: far more than any
// fact needs, so that a damaged length is noticed before it is believed.
const MaxPublic = 1 << 20

// public is the part of a Fact that stays; its fields have the names and tags
// of Fact. The offset is the record's key and part of its leaf. appendPublic
// writes what is read into it.
type public struct {
	Time         time.Time   `json:"time"`
	ID           mail.ID     `json:"id"`
	Event        Event       `json:"event"`
	Org          string      `json:"org"`
	ClaimedOrg   string      `json:"claimed_org"`
	Source       string      `json:"source"`
	Direction    string      `json:"direction"`
	Peer         netip.Addr  `json:"peer"`
	Helo         string      `json:"helo"`
	Size         int64       `json:"size"`
	Disposition  Disposition `json:"disposition"`
	Identity     Identity    `json:"identity"`
	Reason       mail.Reason `json:"reason"`
	Class        string      `json:"class"`
	Proofs       []string    `json:"proofs"`
	Origin       string      `json:"origin"`
	Results      string      `json:"results"`
	Tenant       string      `json:"tenant"`
	Originator   string      `json:"originator"`
	ConnectingIP string      `json:"connecting_ip"`
	Generation   uint64      `json:"generation"`
	Site         string      `json:"site"`
	Attempt      int         `json:"attempt"`
	Egress       string      `json:"egress"`
	TLS          string      `json:"tls"`
	Count        int         `json:"count"`
}

// personal is the part of a Fact that can be erased.
type personal struct {
	MailFrom string   `json:"mail_from"`
	From     string   `json:"from"`
	Rcpt     []string `json:"rcpt"`
	Reply    string   `json:"reply"`
	Detail   string   `json:"detail"`

	MessageID string `json:"message_id"`
	Print     Print  `json:"print"`
}

// joinPublic is a fact of its public part alone.
func joinPublic(offset uint64, p *public) Fact {
	return Fact{
		Offset: offset, Time: p.Time, ID: p.ID, Event: p.Event, Org: p.Org, ClaimedOrg: p.ClaimedOrg, Source: p.Source,
		Direction: p.Direction, Peer: p.Peer, Helo: p.Helo,
		Size: p.Size, Disposition: p.Disposition, Identity: p.Identity, Reason: p.Reason, Class: p.Class, Proofs: p.Proofs,
		Origin: p.Origin, Results: p.Results, Tenant: p.Tenant, Originator: p.Originator, ConnectingIP: p.ConnectingIP,
		Generation: p.Generation, Site: p.Site, Attempt: p.Attempt, Egress: p.Egress, TLS: p.TLS, Count: p.Count,
	}
}

// joinPersonal puts the personal part into its fact.
func joinPersonal(f *Fact, q *personal) {
	f.MailFrom, f.From, f.Rcpt, f.Reply, f.Detail, f.MessageID, f.Print = q.MailFrom, q.From, q.Rcpt, q.Reply, q.Detail, q.MessageID, q.Print
}

// Encoded is a fact ready to be stored: its record and what its leaf needs,
// which is all but the offset. The hashing of its content is done already, so
// that whoever hands out offsets has little left to do.
type Encoded struct {
	record     []byte
	public     []byte // part of record
	commitment Hash
}

// Encode makes the record of a fact, with a fresh key for its personal part.
// The offset is no part of it: the engine gives one when it stores the record.
func Encode(f Fact) (Encoded, error) {
	record := make([]byte, recordHead, 1024)
	record[0] = versionWhole
	record = appendPublic(record, &f)
	end := len(record)
	if end-recordHead > MaxPublic {
		return Encoded{}, fmt.Errorf("ledger: encode a fact %s of %s: %d octets, the limit is %d", f.Event, f.ID, end-recordHead, MaxPublic)
	}
	binary.BigEndian.PutUint32(record[1:], uint32(end-recordHead))
	key := newKey()
	record = append(record, key[:]...)
	record = appendPersonal(record, &f)
	return Encoded{record: record, public: record[recordHead:end], commitment: commit(key[:], record[end+keySize:])}, nil
}

// Record is the bytes to store under FactKey.
func (e Encoded) Record() []byte { return e.record }

// Leaf is the Merkle leaf of the fact at an offset.
func (e Encoded) Leaf(offset uint64) Hash { return leafHash(offset, e.public, e.commitment) }

// parsed is a record taken apart; its slices share the record's bytes.
type parsed struct {
	public   []byte
	key      []byte // nil once erased
	personal []byte
	erased   []byte // the commitment, once erased
}

// commitment is what key and personal part lead to.
func (p parsed) commitment() Hash {
	if p.key != nil {
		return commit(p.key, p.personal)
	}
	return Hash(p.erased)
}

func parse(record []byte) (parsed, error) {
	if len(record) < recordHead {
		return parsed{}, fmt.Errorf("%w: %d octets", ErrMalformed, len(record))
	}
	n := binary.BigEndian.Uint32(record[1:])
	if n > MaxPublic || int(n) > len(record)-recordHead {
		return parsed{}, fmt.Errorf("%w: its public part would have %d octets", ErrMalformed, n)
	}
	p := parsed{public: record[recordHead : recordHead+n]}
	rest := record[recordHead+n:]
	switch {
	case record[0] == versionWhole && len(rest) >= keySize:
		p.key, p.personal = rest[:keySize], rest[keySize:]
	case record[0] == versionErased && len(rest) == len(Hash{}):
		p.erased = rest
	default:
		return parsed{}, fmt.Errorf("%w: version %d with %d octets after the public part", ErrMalformed, record[0], len(rest))
	}
	return p, nil
}

// Erase gives the record without its personal fields. Its leaf is the same, so
// that a sealed segment still verifies; what was erased cannot be guessed from
// what stays, because the key goes too.
func Erase(record []byte) ([]byte, error) {
	r, err := parse(record)
	if err != nil {
		return nil, err
	}
	commitment := r.commitment()
	erased := make([]byte, 0, recordHead+len(r.public)+len(commitment))
	erased = append(erased, versionErased)
	erased = binary.BigEndian.AppendUint32(erased, uint32(len(r.public)))
	erased = append(erased, r.public...)
	return append(erased, commitment[:]...), nil
}

// Leaf is the Merkle leaf of a stored record.
func Leaf(offset uint64, record []byte) (Hash, error) {
	r, err := parse(record)
	if err != nil {
		return Hash{}, err
	}
	return leafHash(offset, r.public, r.commitment()), nil
}

// commit is HMAC-SHA256 (RFC 2104) of the personal part under its key.
func commit(key, personal []byte) (h Hash) {
	m := hmac.New(sha256.New, key)
	m.Write(personal)
	m.Sum(h[:0])
	return h
}

// Keys of facts are made of one random key of the process and a counter: as
// unpredictable as reading the system's generator for each, and cheaper.
var (
	processKey = sync.OnceValue(func() (k [sha256.Size]byte) {
		if _, err := rand.Read(k[:]); err != nil {
			panic(err) // crypto/rand never fails on supported systems (its documentation)
		}
		return k
	})
	keyCounter atomic.Uint64
)

func newKey() (key [keySize]byte) {
	var in [sha256.Size + 8]byte
	secret := processKey()
	copy(in[:], secret[:])
	binary.BigEndian.PutUint64(in[sha256.Size:], keyCounter.Add(1))
	sum := sha256.Sum256(in[:])
	copy(key[:], sum[:])
	return key
}
