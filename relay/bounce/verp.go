package bounce

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"anechoic/mail"
)

// ErrNotOurs says that an address is no return address of this relay for this
// organisation, or not any more.
var ErrNotOurs = errors.New("not a return address of ours")

// Complaints is the local part at an organisation's return path that takes
// complaints (RFC 5965): providers of feedback loops want one address for all.
const Complaints = "complaints"

// ReturnDays is how long a return address takes reports: longer than any server
// tries (RFC 5321 section 4.5.4.1 speaks of 4 to 5 days), with room for those that
// hold mail back.
const ReturnDays = 30

// A return address is b+TOKEN@RETURN-PATH. The token is base32, in lower case
// because some servers change the case, of
//
//	message (16) | NOTIFY (1) | day (2) | recipient (3) | HMAC-SHA256, cut (14)
//
// day is counted from 1970. recipient is a mark of the address, or zero where the
// transaction had several. The HMAC binds all of it to the organisation. 58
// characters: with the prefix within the 64 of RFC 5321 section 4.5.3.1.1.
const (
	returnPrefix = "b+"
	idOctets     = 16
	markOctets   = 3
	tokenHead    = idOctets + 1 + 2 + markOctets
	tokenOctets  = tokenHead + 14
)

var tokenEncoding = base32.NewEncoding("234567abcdefghijklmnopqrstuvwxyz").WithPadding(base32.NoPadding)

// Returns makes return addresses, and knows them again.
type Returns struct {
	key []byte // derived for this use alone
}

// NewReturns derives the key of return addresses from a secret of the relay.
func NewReturns(secret []byte) Returns {
	return Returns{key: sign(secret, "anechoic return address 1")}
}

// Return is what a return address says: whose reports come to it.
type Return struct {
	Message mail.ID
	Notify  mail.Notify // what the sender wants to hear of
	Sent    time.Time   // the day
	mark    [markOctets]byte
}

// Address is the return address of a message of an organisation to recipients that
// share a transaction.
func (r Returns) Address(org string, id mail.ID, recipients []mail.Recipient, at mail.Domain, now time.Time) (mail.Address, error) {
	octets, ok := id.Octets()
	if !ok || len(recipients) == 0 || at.IsZero() {
		return mail.Address{}, fmt.Errorf("bounce: no return address for %q", id)
	}
	b := make([]byte, 0, tokenOctets)
	b = append(b, octets[:]...)
	b = append(b, byte(wanted(recipients)))
	b = binary.BigEndian.AppendUint16(b, uint16(now.Unix()/secondsOfDay))
	mark := [markOctets]byte{}
	if len(recipients) == 1 {
		mark = r.mark(id, recipients[0].Address.String())
	}
	b = append(b, mark[:]...)
	b = append(b, r.mac(org, b)...)
	return mail.ParseAddress(returnPrefix + tokenEncoding.EncodeToString(b) + "@" + at.String())
}

const secondsOfDay = 24 * 60 * 60

// wanted is what at least one of several recipients is to be told of.
func wanted(recipients []mail.Recipient) mail.Notify {
	var all mail.Notify
	for _, r := range recipients {
		if r.Notify == 0 {
			all |= mail.NotifyFailure
		} else if r.Notify != mail.NotifyNever {
			all |= r.Notify
		}
	}
	if all == 0 {
		return mail.NotifyNever
	}
	return all
}

// Open reads the local part of a return address of an organisation. ErrNotOurs: it
// is none, of another organisation, or too old.
func (r Returns) Open(org, local string, now time.Time) (Return, error) {
	local = strings.ToLower(local)
	coded, ok := strings.CutPrefix(local, returnPrefix)
	b, err := tokenEncoding.DecodeString(coded)
	if !ok || err != nil || len(b) != tokenOctets || tokenEncoding.EncodeToString(b) != coded {
		return Return{}, fmt.Errorf("%w: it has not their form", ErrNotOurs)
	}
	if !hmac.Equal(b[tokenHead:], r.mac(org, b[:tokenHead])) {
		return Return{}, fmt.Errorf("%w: it was not made here for %s", ErrNotOurs, org)
	}
	back := Return{Message: mail.IDOf([idOctets]byte(b[:idOctets])), Notify: mail.Notify(b[idOctets])}
	back.Sent = time.Unix(int64(binary.BigEndian.Uint16(b[idOctets+1:]))*secondsOfDay, 0).UTC()
	copy(back.mark[:], b[idOctets+3:])
	if age := now.Sub(back.Sent); age > (ReturnDays+1)*secondsOfDay*time.Second || age < -secondsOfDay*time.Second {
		return Return{}, fmt.Errorf("%w: it is of %s", ErrNotOurs, back.Sent.Format(time.DateOnly))
	}
	return back, nil
}

// Concerns says that reports at this return address can be about a recipient of
// its message.
func (r Returns) Concerns(back Return, recipient string) bool {
	return back.mark == [markOctets]byte{} || back.mark == r.mark(back.Message, recipient)
}

// Name is a name for a recipient of a message that does not tell the address.
func (r Returns) Name(id mail.ID, recipient string) string {
	return hex.EncodeToString(sign(r.key, "recipient\x00"+string(id)+"\x00"+strings.ToLower(recipient))[:8])
}

// mark shortens a recipient's address; it is part of what the HMAC covers.
func (r Returns) mark(id mail.ID, recipient string) (m [markOctets]byte) {
	copy(m[:], sign(r.key, "recipient\x00"+string(id)+"\x00"+strings.ToLower(recipient)))
	return m
}

func (r Returns) mac(org string, head []byte) []byte {
	return sign(r.key, "token\x00"+org+"\x00"+string(head))[:tokenOctets-tokenHead]
}

func sign(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}
