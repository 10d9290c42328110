package inbound

import (
	"strconv"
	"time"

	"anechoic/mail"
	"anechoic/relay/inbound/echo"
	"anechoic/standard/arc"
	"anechoic/standard/authres"
	"anechoic/standard/dkim"
	"anechoic/standard/dmarc"
)

// maxReported is how many signatures are reported: the others are counted by nobody.
const maxReported = 10

// dkim is the status that speaks for all signatures: the best there is.
func (r *Results) dkim() dkim.Status {
	rank := [...]dkim.Status{dkim.Pass, dkim.TempError, dkim.Fail, dkim.Policy, dkim.PermError, dkim.Neutral}
	for _, want := range rank {
		for _, s := range r.DKIM {
			if s.Status == want {
				return want
			}
		}
	}
	return dkim.None
}

// SPFAligned says that SPF passed, for a domain that is aligned with From.
func (r *Results) SPFAligned() bool {
	return r.DMARC.SPF.Aligned && r.DMARC.SPF.Outcome == dmarc.Authenticated
}

// Authres is the Authentication-Results of a message, in the name of id (RFC 8601).
// utf8 allows addresses outside ASCII.
func (r *Results) Authres(id string, q *Question, f Found, utf8 bool) authres.Results {
	list := authres.Results{ID: id, UTF8: utf8}
	if q.Peer.IsValid() {
		list.Methods = append(list.Methods, r.SPF.AuthResult(q.request(id, time.Time{})))
	}
	list.Methods = append(list.Methods, r.signatures()...)
	list.Methods = append(list.Methods, r.dmarc(q, f), r.chain())
	if f.Echo.Echo != "" && f.Echo.Echo != echo.None {
		list.Methods = append(list.Methods, authres.Result{Method: "echo", Value: string(f.Echo.Echo), Reason: f.Echo.Codes()}.
			With("policy", "score", strconv.Itoa(f.Echo.Score)))
	}
	return list
}

func (r *Results) signatures() (list []authres.Result) {
	if len(r.DKIM) == 0 {
		return []authres.Result{{Method: "dkim", Value: dkim.None.String(), Comment: "message not signed"}}
	}
	for _, s := range r.DKIM[:min(len(r.DKIM), maxReported)] {
		one := authres.Result{Method: "dkim", Value: s.Status.String(), Reason: reason(s.Err)}
		if s.Testing {
			one.Comment = "the key is for tests"
		}
		if !s.Domain.IsZero() {
			one = one.With("header", "d", s.Domain.String()).With("header", "s", s.Selector)
		}
		list = append(list, one)
	}
	return list
}

func (r *Results) dmarc(q *Question, f Found) authres.Result {
	result := authres.Result{Method: "dmarc", Value: r.DMARC.Status.String(), Reason: reason(r.DMARC.Err)}
	if r.DMARC.Status == dmarc.Fail {
		result.Comment = "policy " + r.DMARC.Policy.String()
		if !f.Vouched.IsZero() {
			result.Comment += ", vouched for by the seal of " + f.Vouched.String()
		}
	}
	return result.With("header", "from", q.From.String())
}

func (r *Results) chain() authres.Result {
	result := authres.Result{Method: "arc", Value: r.ARC.Status.String(), Reason: reason(r.ARC.Err)}
	if n := len(r.ARC.Instances); r.ARC.Status == arc.Pass && n > 0 {
		return result.With("header", "oldest-pass", strconv.Itoa(r.ARC.OldestPass))
	}
	return result
}

func reason(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Mark gives the header that goes to the organisation's server: fields that claim to
// be results of ours are gone, and ours is on top.
func Mark(h mail.Header, results authres.Results) mail.Header {
	return h.Without(func(f mail.Field) bool { return authres.Ours(f, results.ID) }).Prepend(results.Field())
}
