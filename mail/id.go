package mail

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"time"
)

// ID names a transaction, the message it leads to and each connection: 26
// characters a–z and 2–7, in order of time. It is what a reply shows as id=.
type ID string

var idEncoding = base32.NewEncoding("234567abcdefghijklmnopqrstuvwxyz").WithPadding(base32.NoPadding)

// NewID makes an identifier of 48 bits of time (milliseconds) and 80 random bits.
func NewID(now time.Time) ID {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(now.UnixMilli())<<16)
	if _, err := rand.Read(b[6:]); err != nil {
		panic(err) // crypto/rand never fails on supported systems (its documentation)
	}
	return ID(idEncoding.EncodeToString(b[:]))
}

// Valid says that id has the form NewID gives; what users type is checked so.
// It encodes again, because the decoder passes over line ends and spare bits.
func (id ID) Valid() bool {
	_, ok := id.Octets()
	return ok
}

// Octets is what NewID made the identifier of, for who keeps many of them; not ok
// if it is not Valid.
func (id ID) Octets() (octets [16]byte, ok bool) {
	const length = 26
	if len(id) != length {
		return octets, false
	}
	var text, again [length]byte
	copy(text[:], id)
	var b [17]byte
	if n, err := idEncoding.Decode(b[:], text[:]); err != nil || n != len(octets) {
		return octets, false
	}
	copy(octets[:], b[:])
	idEncoding.Encode(again[:], octets[:])
	return octets, again == text
}

// Time is when NewID made the identifier, to the millisecond; not ok if it is not
// Valid.
func (id ID) Time() (at time.Time, ok bool) {
	b, ok := id.Octets()
	if !ok {
		return at, false
	}
	var ms [8]byte
	copy(ms[2:], b[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:]))).UTC(), true
}

// IDOf is the identifier with these octets.
func IDOf(octets [16]byte) ID { return ID(idEncoding.EncodeToString(octets[:])) }
