package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"anechoic/mail"
	"anechoic/org/document"
	"anechoic/relay/custody"
)

// Code is the stable word of an error.
type Code string

// The codes.
const (
	CodeBadRequest  Code = "bad_request"           // a parameter or body that is not understood: 400, 413
	CodeNotFound    Code = "not_found"             // 404
	CodeConflict    Code = "conflict"              // not now, or not together with something else: 409
	CodeInvalid     Code = "invalid_configuration" // 422, with the list of problems
	CodeInternal    Code = "internal"              // 500
	CodeUnavailable Code = "unavailable"           // a part of the relay cannot answer: 503
	CodeTimeout     Code = "timeout"               // 504
)

// ErrConflict is wrapped by what Server.Reload gives when the files are right
// but cannot take force now: a reload is under way, or a change needs a restart.
var ErrConflict = errors.New("cannot be done now")

// Problem is an error as RFC 9457 writes it (application/problem+json), with our
// fields: code, reason where one of the relay's own words applies, and fix.
type Problem struct {
	Type     string      `json:"type"` // always about:blank: Code is what to branch on
	Title    string      `json:"title"`
	Status   int         `json:"status"`
	Detail   string      `json:"detail"`
	Code     Code        `json:"code"`
	Reason   mail.Reason `json:"reason,omitempty"`
	Fix      string      `json:"fix,omitempty"`
	Problems []FileFault `json:"problems,omitempty"` // of configuration files, in file order
}

// FileFault is one thing wrong in a configuration file.
type FileFault struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Where   string `json:"where,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Also    string `json:"also,omitempty"`
}

// String is the fault on one line.
func (f FileFault) String() string { return document.Problem(f).String() }

// FileFaults gives problems their JSON form.
func FileFaults(problems []document.Problem) []FileFault {
	faults := make([]FileFault, len(problems))
	for i, p := range problems {
		faults[i] = FileFault(p.Discreet())
	}
	return faults
}

// Error is the problem for a person: what failed, and what to do.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Detail)
	for _, fault := range p.Problems {
		b.WriteString("\n" + fault.String())
	}
	if p.Fix != "" && len(p.Problems) == 0 {
		fmt.Fprintf(&b, " (%s)", p.Fix)
	}
	return b.String()
}

func problem(status int, code Code, detail, fix string) *Problem {
	return &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Code: code, Fix: fix}
}

func badRequest(detail, fix string) *Problem {
	p := problem(http.StatusBadRequest, CodeBadRequest, detail, fix)
	p.Reason = mail.ReasonSyntax
	return p
}

func notFound(detail, fix string) *Problem {
	return problem(http.StatusNotFound, CodeNotFound, detail, fix)
}

func (p *Problem) because(r mail.Reason) *Problem {
	p.Reason = r
	return p
}

// problemOf says what an error is to the caller.
func problemOf(err error) *Problem {
	var ready *Problem
	faults := ListProblems(err)
	switch {
	case errors.As(err, &ready):
		return ready
	case len(faults) > 0:
		p := problem(http.StatusUnprocessableEntity, CodeInvalid, "the configuration is not valid; what was in force stays so", "mend every place listed and try again")
		p.Problems = FileFaults(faults)
		return p
	case errors.Is(err, ErrConflict):
		return problem(http.StatusConflict, CodeConflict, err.Error(), "try again when it is over, or restart the relay")
	case errors.Is(err, custody.ErrReading):
		return problem(http.StatusServiceUnavailable, CodeUnavailable, err.Error(), "the relay started a moment ago: ask again").because(mail.ReasonTimeout)
	case errors.Is(err, custody.ErrNotFound):
		return notFound(err.Error(), "queue list shows what is in custody")
	case errors.Is(err, context.DeadlineExceeded):
		return problem(http.StatusGatewayTimeout, CodeTimeout, err.Error(), "ask for less at a time, or look at the server's load").because(mail.ReasonTimeout)
	case errors.Is(err, custody.ErrFull):
		return problem(http.StatusServiceUnavailable, CodeUnavailable, err.Error(), "make room on the data directory's disk").because(mail.ReasonDiskFull)
	case errors.Is(err, custody.ErrBroken):
		return problem(http.StatusServiceUnavailable, CodeUnavailable, err.Error(), "look at the disk, then restart the relay").because(mail.ReasonCustodyFailed)
	}
	return problem(http.StatusInternalServerError, CodeInternal, err.Error(), "the server's log has more").because(mail.ReasonInternal)
}

// ListProblems gives the problems of configuration files in an error: those it
// wraps, and those of an error in it with a method Problems.
func ListProblems(err error) (list []document.Problem) {
	switch e := err.(type) {
	case nil:
		return nil
	case document.Problem:
		return []document.Problem{e}
	case *document.Problem:
		return []document.Problem{*e}
	case interface{ Problems() []document.Problem }:
		return e.Problems()
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			list = append(list, ListProblems(inner)...)
		}
		return list
	case interface{ Unwrap() error }:
		return ListProblems(e.Unwrap())
	}
	return nil
}

// write sends a problem.
func write(w http.ResponseWriter, p *Problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // an error here is a peer that went away
}
