package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"anechoic/ledger"
)

// Verified is GET /api/v1/log/verify.
type Verified struct {
	OK       bool   `json:"ok"`
	Facts    uint64 `json:"facts"`
	Segments uint64 `json:"segments"`
	Unsealed uint64 `json:"unsealed"`
	Erased   uint64 `json:"erased"`
	Head     string `json:"head"` // hash of the last good segment; written down elsewhere, it shows a later cut
	Bad      string `json:"bad,omitempty"`
}

// VerifyLine is one line of GET /api/v1/log/verify?progress=true
// (application/x-ndjson): how many facts were read, of how many, and as the last line
// what was found or what went wrong.
type VerifyLine struct {
	Reached  uint64    `json:"reached"`
	Of       uint64    `json:"of"`
	Verified *Verified `json:"verified,omitempty"`
	Problem  *Problem  `json:"problem,omitempty"`
}

// VerifyLedger reads a whole ledger, as ledger.Verify does, and tells how many of its
// facts are read.
func VerifyLedger(ctx context.Context, source ledger.Scanner, reached func(facts, of uint64)) (Verified, error) {
	of, err := count(ctx, source, ledger.FactPrefix, ledger.FactKey, 0)
	if err != nil {
		return Verified{}, err
	}
	r, err := ledger.VerifyTelling(ctx, source, func(facts uint64) { reached(facts, max(facts, of)) })
	return Verified{OK: r.OK(), Facts: r.Facts, Segments: r.Segments, Unsealed: r.Unsealed, Erased: r.Erased, Head: r.Head.String(), Bad: r.Bad}, err
}

// tellVerified is how often a long verification says how far it came.
const tellVerified = 250 * time.Millisecond

// verify is GET /api/v1/log/verify: one answer when it is over, or with
// ?progress=true lines that tell how far it came.
func (s *Server) verify(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("progress") == "true" {
		s.verifyTelling(w, r)
		return
	}
	s.within(verifyTimeout, func(ctx context.Context, _ *http.Request) (any, error) {
		return VerifyLedger(ctx, s.Ledger, func(uint64, uint64) {})
	})(w, r)
}

func (s *Server) verifyTelling(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), verifyTimeout)
	defer cancel()
	w.Header().Set("Content-Type", "application/x-ndjson")
	control := http.NewResponseController(w)
	send := func(line VerifyLine) {
		_ = control.SetWriteDeadline(time.Now().Add(answerTimeout)) // a recorder in a test has none
		_ = json.NewEncoder(w).Encode(line)                         // an error here is a peer that went away: ctx ends
		_ = control.Flush()
	}
	var last time.Time
	found, err := VerifyLedger(ctx, s.Ledger, func(facts, of uint64) {
		if now := time.Now(); now.Sub(last) >= tellVerified {
			last = now
			send(VerifyLine{Reached: facts, Of: of})
		}
	})
	if err != nil {
		send(VerifyLine{Problem: problemOf(err)})
		return
	}
	send(VerifyLine{Reached: found.Facts, Of: found.Facts, Verified: &found})
}

// Verify has the relay check its ledger; progress, which may be nil, is told how many
// facts are read, of how many.
func (c *Client) Verify(ctx context.Context, progress func(reached, of uint64)) (found Verified, err error) {
	body, err := c.do(ctx, http.MethodGet, "/api/v1/log/verify", url.Values{"progress": {"true"}}, nil)
	if err != nil {
		return found, err
	}
	defer body.Close()
	for lines := json.NewDecoder(body); ; {
		var line VerifyLine
		if err := lines.Decode(&line); err != nil {
			return found, errors.Join(ctx.Err(), fmt.Errorf("log verify: the relay stopped in the middle: %w", err))
		}
		switch {
		case line.Problem != nil:
			return found, line.Problem
		case line.Verified != nil:
			return *line.Verified, nil
		}
		if progress != nil {
			progress(line.Reached, line.Of)
		}
	}
}
