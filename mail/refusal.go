package mail

import "fmt"

// Refusal is a reply that does not take what the peer offered: 4yz or 5yz, with
// an enhanced code (RFC 3463) and a reason. Refusals come from the catalogue in
// replies.go only; the zero Refusal reads as Internal, so that it can never be
// taken for a 2yz.
type Refusal struct {
	code     int
	enhanced string
	reason   Reason
	text     string
	detail   string
}

// refuse is used by the catalogue alone.
func refuse(code int, enhanced string, reason Reason, text string) *Refusal {
	if code < 400 || code > 599 || enhanced[0] != byte('0'+code/100) {
		panic(fmt.Sprintf("mail: %d %s is no refusal", code, enhanced))
	}
	return &Refusal{code: code, enhanced: enhanced, reason: reason, text: text}
}

// Because gives the same refusal with what only the log and the ledger may say:
// what was expected, what was seen. It must hold no secret.
func (r *Refusal) Because(format string, args ...any) *Refusal {
	c := *r.orInternal()
	c.detail = fmt.Sprintf(format, args...)
	return &c
}

func (r *Refusal) orInternal() *Refusal {
	if r == nil || r.code == 0 {
		return Internal
	}
	return r
}

// Code is the three-digit reply code, 400 to 599.
func (r *Refusal) Code() int { return r.orInternal().code }

// Enhanced is the enhanced status code, for example "5.7.1".
func (r *Refusal) Enhanced() string { return r.orInternal().enhanced }

// Reason is why.
func (r *Refusal) Reason() Reason { return r.orInternal().reason }

// Text is what the peer is told beside codes and reason.
func (r *Refusal) Text() string { return r.orInternal().text }

// Detail is for log and ledger, never for the peer.
func (r *Refusal) Detail() string { return r.orInternal().detail }

// Temporary says that the peer may try again.
func (r *Refusal) Temporary() bool { return r.Code() < 500 }

// Closes says that the connection ends after this reply: 421 and 521.
func (r *Refusal) Closes() bool { return r.Code()%100 == 21 }

// Line is the reply as it goes on the wire, without CRLF.
func (r *Refusal) Line(id ID) string {
	r = r.orInternal()
	return fmt.Sprintf("%d %s %s [%s id=%s]", r.code, r.enhanced, r.text, r.reason, id)
}

// String is for logs: the reply without id, and the detail.
func (r *Refusal) String() string {
	r = r.orInternal()
	s := fmt.Sprintf("%d %s %s [%s]", r.code, r.enhanced, r.text, r.reason)
	if r.detail != "" {
		s += ": " + r.detail
	}
	return s
}
