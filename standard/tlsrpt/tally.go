package tlsrpt

import (
	"cmp"
	"slices"
	"time"

	"anechoic/mail"
)

// PolicyType says what asked for security (RFC 8460 section 4.4).
type PolicyType string

// The policy types.
const (
	PolicyDANE PolicyType = "tlsa"
	PolicySTS  PolicyType = "sts"
	PolicyNone PolicyType = "no-policy-found"
)

// Policy is what was in force for a session.
type Policy struct {
	Type   PolicyType  `json:"type"`
	Text   []string    `json:"text,omitempty"` // lines of an MTA-STS policy, or TLSA records
	Domain mail.Domain `json:"domain"`
	MX     []string    `json:"mx,omitempty"` // patterns of an MTA-STS policy
}

// ResultType says what failed (RFC 8460 section 4.3). Empty: nothing.
type ResultType string

// The result types of sections 4.3.1 to 4.3.3.
const (
	STARTTLSNotSupported ResultType = "starttls-not-supported"
	HostMismatch         ResultType = "certificate-host-mismatch"
	Expired              ResultType = "certificate-expired"
	NotTrusted           ResultType = "certificate-not-trusted"
	ValidationFailure    ResultType = "validation-failure" // none of the others
	TLSAInvalid          ResultType = "tlsa-invalid"
	DNSSECInvalid        ResultType = "dnssec-invalid"
	DANERequired         ResultType = "dane-required"
	STSFetchError        ResultType = "sts-policy-fetch-error"
	STSInvalid           ResultType = "sts-policy-invalid"
	STSWebPKIInvalid     ResultType = "sts-webpki-invalid"
)

// Failure is one way in which sessions failed.
type Failure struct {
	Type   ResultType `json:"type"`
	From   string     `json:"from,omitempty"`   // our address
	Host   string     `json:"host,omitempty"`   // the MX as DNS has it
	Server string     `json:"server,omitempty"` // its address
	Reason string     `json:"reason,omitempty"` // a code of our own, for their administrators
}

// Bounds of one tally: whoever runs a thousand MX hosts gets a report of the
// first of them, and every session in the totals.
const (
	maxPolicies = 20
	maxFailures = 100 // kinds, of one policy
	maxText     = 255 // octets of a reason or name
)

// Tally counts the sessions with one policy domain in one day.
type Tally struct {
	Day      time.Time    `json:"day"` // its first moment, UTC
	Domain   mail.Domain  `json:"domain"`
	Policies []PolicyLine `json:"policies"`
}

// PolicyLine is what happened under one policy.
type PolicyLine struct {
	Policy   Policy        `json:"policy"`
	Success  int64         `json:"success"`
	Failure  int64         `json:"failure"`
	Failures []FailureLine `json:"failures,omitempty"`
}

// FailureLine is how often one Failure happened.
type FailureLine struct {
	Failure
	Count int64 `json:"count"`
}

// Day is the first moment of the day of now, in UTC (RFC 8460 section 4.1).
func Day(now time.Time) time.Time { return now.UTC().Truncate(24 * time.Hour) }

// Count adds one session. The zero Failure is success.
func (t *Tally) Count(p Policy, f Failure) {
	i := slices.IndexFunc(t.Policies, func(l PolicyLine) bool { return l.Policy.equal(p) })
	if i < 0 {
		if len(t.Policies) == maxPolicies {
			return
		}
		i = len(t.Policies)
		t.Policies = append(t.Policies, PolicyLine{Policy: p})
	}
	line := &t.Policies[i]
	if f.Type == "" {
		line.Success++
		return
	}
	line.Failure++
	f.Host, f.Reason = clip(f.Host), clip(f.Reason)
	for j := range line.Failures {
		if line.Failures[j].Failure == f {
			line.Failures[j].Count++
			return
		}
	}
	if len(line.Failures) < maxFailures {
		line.Failures = append(line.Failures, FailureLine{f, 1})
	}
}

func (p Policy) equal(other Policy) bool {
	return p.Type == other.Type && p.Domain == other.Domain && slices.Equal(p.Text, other.Text) && slices.Equal(p.MX, other.MX)
}

// clip bounds a text at a character.
func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	n := maxText
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

// sorted gives the failures, the most frequent first.
func sorted(lines []FailureLine) []FailureLine {
	lines = slices.Clone(lines)
	slices.SortStableFunc(lines, func(a, b FailureLine) int { return cmp.Compare(b.Count, a.Count) })
	return lines
}
