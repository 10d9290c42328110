// Package srs rewrites the sender of forwarded mail so that reports about it find
// their way back: the Sender Rewriting Scheme.
//
//	ann@first.example            forwarded here becomes  SRS0=hash=tt=first.example=ann@here.example
//	SRS0=…@first.example         forwarded here becomes  SRS1=hash=first.example==…@here.example
//	SRS1=…=first.example==…@x    forwarded here becomes  SRS1=hash=first.example==…@here.example
//
// Forward makes such an address, Reverse tells where a report that comes to one is
// to go. There is no standard of it, only the paper of 2003 and what programs do: the
// form is theirs, what the hash is stays everyone's own affair. Here it is an HMAC
// over all of the address, the forwarding domain and the day; in an SRS1 address the
// day stands behind the hash, as part of it, since the form has no other place for it.
//
// It guarantees: Reverse opens only what Forward made with the same secret for the
// same domain, in any letter case, and not later than ValidDays after. What Forward
// makes is an address that mail can be sent to: a local part that is too long is an
// error, not cut. The comparison of the hash tells nothing by its time.
//
// It is not for deciding who may be told anything: it proves that mail with this
// sender was forwarded from here, not who wrote it.
package srs

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"

	"anechoic/mail"
)

// Why an address is not rewritten, or not opened.
var (
	ErrNullSender = errors.New("the null sender is never rewritten")
	ErrTooLong    = errors.New("the rewritten address would be too long")
	ErrForm       = errors.New("not a rewritten address of this relay")
	ErrForged     = errors.New("the rewritten address was not made here")
	ErrExpired    = errors.New("the rewritten address has expired")
)

// ValidDays is how long a rewritten address takes reports: longer than any server
// tries (RFC 5321 section 4.5.4.1 speaks of 4 to 5 days), as the scheme's own
// programs have it.
const ValidDays = 21

// Parts of a rewritten address.
const (
	first     = "SRS0"
	further   = "SRS1"
	separator = "="

	// separators may stand after SRS0 and SRS1 of others.
	separators = "=+-"

	hashLength = 6 // characters of base32: 30 bits, each guess at them is a refused RCPT
	dayLength  = 2
	days       = 1 << (5 * dayLength) // then they begin again
)

// digits are those of base32, in lower case (RFC 4648 section 6).
const digits = "abcdefghijklmnopqrstuvwxyz234567"

var encoding = base32.NewEncoding(digits).WithPadding(base32.NoPadding)

// Rewriter rewrites to one domain.
type Rewriter struct {
	key    []byte // derived for this use and this domain alone
	domain mail.Domain
}

// New derives the key of a forwarding domain from a secret of the relay.
func New(secret []byte, domain mail.Domain) Rewriter {
	return Rewriter{key: sign(secret, "anechoic sender rewriting 1", domain.String()), domain: domain}
}

// Domain is where rewritten addresses are.
func (r Rewriter) Domain() mail.Domain { return r.domain }

// Forward gives the sender that forwarded mail leaves with. A valid address of our own
// stays as it is: the way back from it is known.
func (r Rewriter) Forward(sender mail.Address, now time.Time) (mail.Address, error) {
	switch {
	case sender.IsZero() || r.domain.IsZero():
		return mail.Address{}, ErrNullSender
	case sender.Domain() == r.domain:
		if _, err := r.Reverse(sender.Local(), now); err != nil {
			return mail.Address{}, err
		}
		return sender, nil
	}
	day := dayOf(now)
	if at, rest, ok := chained(sender); ok {
		return r.address(join(further, r.hash(further, day, at.String(), rest)+day, at.String(), rest))
	}
	at, local := sender.Domain().String(), sender.Local()
	return r.address(join(first, r.hash(first, day, at, local), day, at, local))
}

// chained reads the address of another forwarder: which was the first, and what that
// one wrote behind SRS0.
func chained(sender mail.Address) (at mail.Domain, rest string, ok bool) {
	if rest, ok := cutTag(sender.Local(), first); ok && len(rest) > 1 {
		return sender.Domain(), rest, true
	}
	rest, ok = cutTag(sender.Local(), further)
	if !ok {
		return at, "", false
	}
	parts := strings.SplitN(rest[1:], separator, 3)
	if len(parts) < 3 || len(parts[2]) < 2 || !strings.ContainsRune(separators, rune(parts[2][0])) {
		return at, "", false
	}
	at, err := mail.ParseDomain(parts[1])
	return at, parts[2], err == nil
}

// cutTag takes SRS0 or SRS1 off, in any case, and leaves the separator.
func cutTag(local, tag string) (rest string, ok bool) {
	if len(local) <= len(tag) || !strings.EqualFold(local[:len(tag)], tag) || !strings.ContainsRune(separators, rune(local[len(tag)])) {
		return "", false
	}
	return local[len(tag):], true
}

// Reverse gives the address that reports to a rewritten address are for. local is its
// local part.
func (r Rewriter) Reverse(local string, now time.Time) (mail.Address, error) {
	if len(local) > mail.MaxLocalPart {
		return mail.Address{}, ErrForm
	}
	if rest, ok := cutTag(local, first); ok {
		return r.reverseFirst(rest, now)
	}
	if rest, ok := cutTag(local, further); ok {
		return r.reverseFurther(rest, now)
	}
	return mail.Address{}, ErrForm
}

// reverseFirst reads "=hash=tt=domain=local".
func (r Rewriter) reverseFirst(rest string, now time.Time) (mail.Address, error) {
	parts := strings.SplitN(rest, separator, 5)
	if len(parts) < 5 || parts[0] != "" || parts[3] == "" || parts[4] == "" {
		return mail.Address{}, ErrForm
	}
	if err := r.check(first, parts[1], parts[2], parts[3], parts[4], now); err != nil {
		return mail.Address{}, err
	}
	return address(parts[4], parts[3])
}

// reverseFurther reads "=hash+tt=domain=rest", where rest begins with the separator
// that the first forwarder wrote.
func (r Rewriter) reverseFurther(rest string, now time.Time) (mail.Address, error) {
	parts := strings.SplitN(rest, separator, 4)
	if len(parts) < 4 || parts[0] != "" || len(parts[1]) != hashLength+dayLength || parts[2] == "" || len(parts[3]) < 2 {
		return mail.Address{}, ErrForm
	}
	if err := r.check(further, parts[1][:hashLength], parts[1][hashLength:], parts[2], parts[3], now); err != nil {
		return mail.Address{}, err
	}
	return address(first+parts[3], parts[2])
}

// check wants the hash right, then the day not too long ago. A clock that is a day
// ahead is no reason to refuse.
func (r Rewriter) check(tag, hash, day, at, local string, now time.Time) error {
	want := r.hash(tag, day, at, local)
	if subtle.ConstantTimeCompare([]byte(strings.ToLower(hash)), []byte(want)) != 1 {
		return ErrForged
	}
	made, ok := readDay(day)
	age := (dayNumber(now) - made + days) % days
	if !ok || age > ValidDays && age != days-1 {
		return ErrExpired
	}
	return nil
}

// hash is over everything, without regard to letter case: some servers change it.
func (r Rewriter) hash(tag, day, at, local string) string {
	sum := sign(r.key, tag, strings.ToLower(day), strings.ToLower(at), strings.ToLower(local))
	return encoding.EncodeToString(sum)[:hashLength]
}

// sign is an HMAC over texts that cannot run into each other.
func sign(key []byte, texts ...string) []byte {
	m := hmac.New(sha256.New, key)
	for _, text := range texts {
		fmt.Fprintf(m, "%d:%s,", len(text), text)
	}
	return m.Sum(nil)
}

func join(parts ...string) string { return strings.Join(parts, separator) }

// address is a rewritten address of ours.
func (r Rewriter) address(local string) (mail.Address, error) {
	if len(local) > mail.MaxLocalPart {
		return mail.Address{}, fmt.Errorf("%w: %d octets before the @, %d are allowed (RFC 5321 section 4.5.3.1.1)", ErrTooLong, len(local), mail.MaxLocalPart)
	}
	return address(local, r.domain.String())
}

// address puts an address together. In quotes every local part can be read.
func address(local, at string) (mail.Address, error) {
	a, err := mail.ParseAddressUTF8(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"@` + at)
	if err != nil {
		return mail.Address{}, fmt.Errorf("%w: %w", ErrForm, err)
	}
	return a, nil
}

// dayNumber counts days, and begins again after 1024.
func dayNumber(t time.Time) int { return int(t.Unix()/(24*60*60)) % days }

func dayOf(t time.Time) string {
	n := dayNumber(t)
	return string([]byte{digits[n>>5], digits[n&31]})
}

func readDay(s string) (n int, ok bool) {
	if len(s) != dayLength {
		return 0, false
	}
	for _, c := range []byte(strings.ToLower(s)) {
		i := strings.IndexByte(digits, c)
		if i < 0 {
			return 0, false
		}
		n = n<<5 | i
	}
	return n, true
}
