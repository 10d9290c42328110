package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
)

// followEvery is how often a followed log looks for new facts.
const followEvery = 500 * time.Millisecond

// firstWindow is how many of the latest facts are looked through first when
// only the last few matches are wanted.
const firstWindow = 4096

// flushEvery is how many lines of a stream are sent at a time at most.
const flushEvery = 256

// LogLine is one line of GET /api/v1/log (application/x-ndjson): a fact, or as
// the last line what stopped the stream.
type LogLine struct {
	ledger.Fact
	Problem *Problem `json:"problem,omitempty"`
}

// Message is GET /api/v1/messages/{id}: what happened to one message, told and
// as facts.
type Message struct {
	ID      mail.ID       `json:"id"`
	Verdict Verdict       `json:"verdict"`
	Story   []string      `json:"story"`
	Facts   []ledger.Fact `json:"facts"`
}

// logQuery is what GET /api/v1/log asks for.
type logQuery struct {
	filter  ledger.Filter
	limited bool // only the last `limit` matches
	limit   int
	follow  bool
}

// log is GET /api/v1/log: the facts a filter selects, in order, one a line. With
// limit only the last ones; with follow it goes on with new ones until the peer
// goes away.
func (s *Server) log(w http.ResponseWriter, r *http.Request) {
	query, err := readLogQuery(r)
	if err != nil {
		write(w, problemOf(err))
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := &lines{to: json.NewEncoder(w), control: http.NewResponseController(w)}
	if err := s.stream(r.Context(), query, out); err != nil && r.Context().Err() == nil {
		s.Log.Error("log could not be read", "error", err)
		out.send(LogLine{Problem: problemOf(err)})
	}
	out.flush()
}

// lines writes a stream and gives each piece the time of an answer.
type lines struct {
	to      *json.Encoder
	control *http.ResponseController
	unsent  int
}

// send writes one line and says whether the peer is still there.
func (l *lines) send(line LogLine) bool {
	_ = l.control.SetWriteDeadline(time.Now().Add(answerTimeout)) // a recorder in a test has none
	var value any = line.Fact
	if line.Problem != nil {
		value = struct {
			Problem *Problem `json:"problem"`
		}{line.Problem}
	}
	if l.to.Encode(value) != nil {
		return false
	}
	if l.unsent++; l.unsent >= flushEvery {
		l.flush()
	}
	return true
}

func (l *lines) flush() {
	_ = l.control.Flush() // an error here is a peer that went away: the next write says so
	l.unsent = 0
}

// stream sends what is there, and what comes if that is wanted.
func (s *Server) stream(ctx context.Context, query logQuery, out *lines) error {
	next, err := s.past(ctx, query, out)
	if err != nil || !query.follow {
		return err
	}
	out.flush() // the header at least: the peer knows that it is heard
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if next, err = s.from(ctx, next, query.filter, out); err != nil {
			return err
		}
		out.flush()
	}
}

// past sends the facts that are there and gives the offset after the last.
func (s *Server) past(ctx context.Context, query logQuery, out *lines) (next uint64, err error) {
	if !query.limited {
		return s.from(ctx, 0, query.filter, out)
	}
	extent, err := extentOf(ctx, s.Ledger)
	if err != nil {
		return 0, err
	}
	last, err := lastMatches(ctx, s.Ledger, query.filter, query.limit, extent.Facts)
	if err != nil {
		return 0, err
	}
	for _, f := range last {
		if !out.send(LogLine{Fact: f}) {
			break
		}
	}
	return extent.Facts, nil
}

// from sends the matching facts from an offset on and gives the offset after the
// last that was read.
func (s *Server) from(ctx context.Context, offset uint64, filter ledger.Filter, out *lines) (next uint64, err error) {
	next = offset
	err = ledger.Read(ctx, s.Ledger, offset, func(f ledger.Fact) bool {
		next = f.Offset + 1
		return !filter.Match(f) || out.send(LogLine{Fact: f})
	})
	return next, err
}

// lastMatches gives the last n facts below end that match, in order. It looks
// through the latest facts first, and through more only while it has not enough.
func lastMatches(ctx context.Context, source ledger.Scanner, filter ledger.Filter, n int, end uint64) ([]ledger.Fact, error) {
	for window := uint64(firstWindow); n > 0; window *= 4 {
		first := end - min(window, end)
		var found []ledger.Fact
		err := ledger.Read(ctx, source, first, func(f ledger.Fact) bool {
			if f.Offset < end && filter.Match(f) {
				found = append(found, f)
			}
			if len(found) > 2*n { // keep the memory to what is wanted
				found = slices.Delete(found, 0, len(found)-n)
			}
			return f.Offset < end
		})
		if err != nil {
			return nil, err
		}
		if len(found) >= n || first == 0 {
			return found[max(0, len(found)-n):], nil
		}
	}
	return nil, nil
}

// message is GET /api/v1/messages/{id}.
func (s *Server) message(ctx context.Context, r *http.Request) (any, error) {
	id, err := validID(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	v, err := parameters(r, "org")
	if err != nil {
		return nil, err
	}
	if v.Get("org") != "" {
		return s.messageOf(ctx, id, org.ID(v.Get("org")))
	}
	facts, err := s.factsOf(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.tellMessage(id, facts)
}

func readLogQuery(r *http.Request) (query logQuery, err error) {
	q, err := parameters(r, "id", "org", "event", "reason", "domain", "address", "since", "until", "limit", "follow")
	if err != nil {
		return query, err
	}
	if query.filter, err = readLogFilter(q); err != nil {
		return query, err
	}
	query.limited = q.Has("limit")
	if query.limit, err = limitParameter(q.Get("limit"), 0); err != nil {
		return query, err
	}
	if q.Has("follow") {
		if query.follow, err = strconv.ParseBool(q.Get("follow")); err != nil {
			return query, badRequest(fmt.Sprintf("follow %q is none", q.Get("follow")), "true or false")
		}
	}
	return query, nil
}

func readLogFilter(q url.Values) (f ledger.Filter, err error) {
	f = ledger.Filter{Org: q.Get("org"), Address: q.Get("address"), Event: ledger.Event(q.Get("event")), Reason: mail.Reason(strings.ToUpper(q.Get("reason")))}
	if q.Get("id") != "" {
		if f.ID, err = validID(q.Get("id")); err != nil {
			return f, err
		}
	}
	if f.Event != "" && !slices.Contains(Events(), f.Event) {
		return f, badRequest(fmt.Sprintf("event %q is none", f.Event), "one of "+join(Events()))
	}
	if f.Reason != "" && !slices.Contains(mail.Reasons(), f.Reason) {
		return f, badRequest(fmt.Sprintf("reason %q is none", f.Reason), "a reason as replies show it, for example "+string(mail.ReasonTenantNotAuthorized))
	}
	if f.Domain, err = domainParameter("domain", q.Get("domain")); err != nil {
		return f, err
	}
	if f.Since, err = timeParameter("since", q.Get("since")); err != nil {
		return f, err
	}
	f.Until, err = timeParameter("until", q.Get("until"))
	return f, err
}

func timeParameter(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, badRequest(fmt.Sprintf("%s %q is no time", name, text), "as in 2026-11-22T09:00:00Z (RFC 3339)")
	}
	return t, nil
}

// Events lists the events of facts.
func Events() []ledger.Event {
	return []ledger.Event{
		ledger.Accepted, ledger.Refused, ledger.Leased, ledger.Delivered, ledger.Deferred, ledger.Bounced, ledger.Held,
		ledger.Released, ledger.Dropped, ledger.SetAside, ledger.BounceReceived, ledger.ComplaintReceived, ledger.SuppressionChanged, ledger.Suspended, ledger.Resumed, ledger.Rerouted, ledger.Ended, ledger.Started, ledger.Restored, ledger.Stopped, ledger.Reloaded, ledger.KeyChanged, ledger.EgressListed, ledger.EgressUnlisted, ledger.EchoForgotten, ledger.LimitChanged, ledger.WouldRefuse, ledger.Exported, ledger.ApprovalChanged, ledger.Finding, ledger.Campaign, ledger.ResponseChanged, ledger.ContentAlarm,
	}
}

func join[T ~string](words []T) string {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = string(w)
	}
	return strings.Join(texts, ", ")
}
