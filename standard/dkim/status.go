package dkim

import (
	"time"

	"anechoic/mail"
)

// Status is the result of one signature in the words of RFC 8601 section 2.7.1.
// The zero Status is None.
type Status uint8

// The statuses. RFC 6376 section 6.1 knows only SUCCESS, TEMPFAIL and PERMFAIL:
// its PERMFAIL is Fail, Policy or PermError here.
const (
	None      Status = iota // there is no signature; never in a Result of Verify
	Pass                    // the signature verifies and is acceptable
	Fail                    // body, header or key differ from what was signed
	Policy                  // well formed, but not acceptable here: l=, a weak key, too many signatures
	Neutral                 // not processed; Verify does not give it, received Authentication-Results may
	TempError               // the key could not be looked up now
	PermError               // broken syntax, no usable key, expired: trying again does not help
)

var statusNames = [...]string{"none", "pass", "fail", "policy", "neutral", "temperror", "permerror"}

// String is the word for Authentication-Results.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "permerror"
}

// Result is what one DKIM-Signature field is worth. Everything but Status,
// Testing, KeyBits and Err is what the signature claims: it is proven only if
// Status is Pass. Fields that could not be read are zero.
type Result struct {
	Status       Status
	Err          error // why Status is not Pass; lower case, no secrets
	Domain       mail.Domain
	Selector     string
	KeyName      string // where the key is: "s._domainkey.d"
	Algorithm    Algorithm
	Identity     string    // i=, "@d" if it is absent
	Signed       time.Time // t=, zero if absent
	Expires      time.Time // x=, zero if absent
	SignedFields []string  // h=, in lower case
	BodyHash     []byte    // bh=
	Signature    []byte    // b=
	KeyBits      int       // length of the key that was tried, 0 if there was none

	// Testing says that the key has t=y. RFC 6376 section 3.6.1 wants such mail
	// treated like unsigned mail; Status still says what the check gave, and
	// whoever relies on a Pass asks for Testing too.
	Testing bool
}

func (r Result) with(s Status, err error) Result {
	r.Status, r.Err = s, err
	return r
}
