package dmarc

// Status is the result of the check in the words of RFC 8601 section 2.7.1 and
// RFC 7489 section 11.2. The zero Status is None.
type Status uint8

// The statuses.
const (
	None      Status = iota // no policy record applies to the From domain
	Pass                    // an authenticated identifier is aligned
	Fail                    // none is
	TempError               // a look-up that the result depends on failed for now
	PermError               // there is no From domain, or there are too many
)

var statusNames = [...]string{"none", "pass", "fail", "temperror", "permerror"}

// String is the word for Authentication-Results.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "permerror"
}

// Policy is what the owner of a domain asks for mail that fails (RFC 9989
// section 4.7). A greater Policy is a stricter one. The zero Policy is none
// published.
type Policy uint8

// The policies.
const (
	NoPolicy         Policy = iota // not published
	PolicyNone                     // no preference
	PolicyQuarantine               // such mail is suspicious
	PolicyReject                   // such mail is not from the domain
)

var policyNames = [...]string{"", "none", "quarantine", "reject"}

// String is the word of the record; empty for NoPolicy.
func (p Policy) String() string {
	if int(p) < len(policyNames) {
		return policyNames[p]
	}
	return ""
}

// lowered is the policy one step below, which t=y asks for (RFC 9989 section
// 4.7): none stays none.
func (p Policy) lowered() Policy {
	if p > PolicyNone {
		return p - 1
	}
	return p
}

// Outcome is what SPF or DKIM said of an identifier. The zero Outcome is
// Unauthenticated.
type Outcome uint8

// The outcomes.
const (
	Unauthenticated Outcome = iota // every result but those below
	Authenticated                  // pass
	Undetermined                   // temperror: it may pass at the next attempt
)

var outcomeNames = [...]string{"unauthenticated", "authenticated", "undetermined"}

// String is the outcome in a word, for logs.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return outcomeNames[Unauthenticated]
}
