package spf

import (
	"anechoic/standard/authres"
)

// AuthResult is the result for Authentication-Results (RFC 8601 section 2.7.2). It
// names the identity that was checked, and the host in a comment, as no property is
// registered for it. The explanation, which is a stranger's text, stays out.
func (r Result) AuthResult(q Request) authres.Result {
	a := authres.Result{Method: "spf", Value: r.Status.String()}
	if r.Err != nil {
		a.Reason = r.Err.Error()
	}
	if r.ByHELO {
		a = a.With("smtp", "helo", q.HELO)
	} else {
		a = a.With("smtp", "mailfrom", q.MailFrom)
	}
	if q.IP.IsValid() {
		a.Comment = "sender ip is " + q.IP.Unmap().String()
	}
	return a
}

// Received is the result for a Received-SPF field (RFC 7208 section 9.1).
func (r Result) Received(q Request) authres.ReceivedSPF {
	f := authres.ReceivedSPF{
		Result: r.Status.String(), Receiver: q.Receiver, EnvelopeFrom: q.MailFrom, HELO: q.HELO,
		Identity: "mailfrom", Mechanism: r.Mechanism,
	}
	if q.IP.IsValid() {
		f.ClientIP = q.IP.Unmap().WithZone("").String()
	}
	if r.ByHELO {
		f.Identity = "helo"
	}
	if r.Err != nil {
		f.Problem = r.Err.Error()
	}
	f.Comment = f.Receiver + ": " + comments[r.Status]
	return f
}

// comments say to people what each status means.
var comments = [...]string{
	None:      "the domain publishes nothing about who may send for it",
	Neutral:   "the domain says nothing about this host",
	Pass:      "the domain permits this host",
	Fail:      "the domain does not permit this host",
	SoftFail:  "the domain probably does not permit this host",
	TempError: "the domain could not be asked",
	PermError: "what the domain publishes cannot be used",
}
