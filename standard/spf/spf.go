// Package spf asks whether a host may send mail in the name of a domain: Sender
// Policy Framework (RFC 7208, with RFC 8616 for addresses outside ASCII).
//
// Check goes through these steps:
//
//  1. the identity is chosen: MAIL FROM, or for the null sender postmaster at HELO
//     (section 2.4);
//  2. the domain's record is looked up and read whole: an error anywhere in it is a
//     permerror, before anything is evaluated (section 4.6);
//  3. its mechanisms are tried in order, over the Resolver; the first that matches
//     decides, otherwise redirect=, otherwise neutral;
//  4. on fail the explanation of the domain is fetched and made safe.
//
// What is promised: a Pass means that the owner of Result.Domain listed the
// address. One check does at most MaxLookups terms with look-ups, of which at most
// MaxVoid find nothing, MaxNames names of an MX or PTR, in MaxTime. What cannot be
// looked up is a temperror, what cannot be read or takes too much a permerror;
// neither is ever a pass.
//
// What it is not for: an address that many share (a provider's) is listed by all
// who use it. A Pass then says nothing about who of them wrote the message, so no
// organisation is ever proven by SPF.
//
// The evaluator is our own: the library for Go leaves out part of the standard and of
// the suites (docs/adr/0006-spf-is-evaluated-by-our-own-code.md).
package spf

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"anechoic/mail"
)

// Limits of RFC 7208 section 4.6.4.
const (
	MaxLookups = 10               // terms that look something up
	MaxVoid    = 2                // of these, terms that find nothing
	MaxNames   = 10               // exchangers of one mx, names of one ptr
	MaxTime    = 20 * time.Second // for a whole check; "SHOULD allow at least 20 seconds"
)

// Bounds of our own.
const (
	MaxRecord      = 16 << 10 // octets of a record; the advice is to stay below 450 (RFC 7208 section 3.4)
	MaxExplanation = 400      // octets of an explanation; a reply line has 512 (RFC 5321 section 4.5.3.1.5)
)

// Status is the result in the words of RFC 7208 section 2.6. The zero Status is
// None.
type Status uint8

// The statuses.
const (
	None      Status = iota // no record, or no domain that could have one
	Neutral                 // the domain says nothing about the host
	Pass                    // the host may send
	Fail                    // the host may not send
	SoftFail                // the host probably may not send
	TempError               // something could not be looked up now
	PermError               // the record cannot be read or asks for too much
)

var statusNames = [...]string{"none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"}

// String is the word for Authentication-Results and Received-SPF.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return "permerror"
}

// Request is what is known of a session.
type Request struct {
	IP   netip.Addr // the connecting host
	HELO string     // as it said it
	// MailFrom is the reverse-path without its angle brackets; empty for the null
	// sender. mail.Address.String gives it.
	MailFrom string
	// Receiver is the name of this server and Now the time, which an explanation may
	// mention (macros r and t); both may be left out.
	Receiver string
	Now      time.Time
}

// identity is who is checked: the whole sender and its domain, which may be no
// domain at all. An empty local part is postmaster (RFC 7208 section 4.3). Domains
// become A-labels (RFC 8616 section 4).
func (r Request) identity() (sender, domain string) {
	local, domain := "", r.HELO
	if r.MailFrom != "" {
		at := strings.LastIndexByte(r.MailFrom, '@')
		local, domain = r.MailFrom[:max(at, 0)], r.MailFrom[at+1:]
	}
	if local == "" {
		local = "postmaster"
	}
	domain = asciiName(domain)
	return local + "@" + domain, domain
}

// asciiName gives the A-labels of a name in U-labels, and any other name as it is.
func asciiName(name string) string {
	if isASCII(name) {
		return name
	}
	if d, err := mail.ParseDomain(name); err == nil {
		return d.String()
	}
	return name
}

// Result is the outcome of a check.
type Result struct {
	Status Status
	Domain string // whose record was asked: of MAIL FROM, or HELO
	ByHELO bool   // the sender was null

	// Mechanism is the term that decided, as it stands in the record, "default" if
	// none did, and empty if there was no evaluation.
	Mechanism string

	// Explanation is what the domain says to the sender of refused mail, on Fail
	// only: printable ASCII, at most MaxExplanation octets, without line ends. It is
	// a stranger's text. Whoever shows it says so (RFC 7208 section 8.4).
	Explanation string

	Lookups int // terms that looked something up

	// Dependent says that the record asked for the local part or for HELO, which
	// the sender chooses: another message of the same host may get another result.
	Dependent bool

	Err error // why there is no or no usable result
}

// Check evaluates SPF for one session.
func Check(ctx context.Context, r mail.Resolver, q Request) Result {
	return check(ctx, r, q, limits{lookups: MaxLookups, void: MaxVoid})
}

func check(ctx context.Context, r mail.Resolver, q Request, most limits) Result {
	sender, domain := q.identity()
	result := Result{Domain: domain, ByHELO: q.MailFrom == ""}
	if !q.IP.IsValid() {
		result.Err = errors.New("the address of the host is not known")
		return result
	}
	ctx, cancel := context.WithTimeout(ctx, MaxTime)
	defer cancel()
	e := &evaluation{
		resolver: r, ip: q.IP.Unmap().WithZone(""), sender: sender, helo: asciiName(q.HELO),
		receiver: q.Receiver, now: q.Now, most: most,
	}
	o := e.checkHost(ctx, domain)
	result.Status, result.Err, result.Mechanism, result.Lookups = o.status, o.err, o.mechanism, e.lookups
	result.Dependent = e.dependent
	if o.status == Fail {
		result.Explanation = e.explanation(ctx, o)
	}
	return result
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] > 0x7e {
			return false
		}
	}
	return true
}
