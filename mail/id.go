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
	b, err := idEncoding.DecodeString(string(id))
	return err == nil && len(b) == 16 && idEncoding.EncodeToString(b) == string(id)
}
