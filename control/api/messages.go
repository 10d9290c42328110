package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/watch/tracking"
)

// exportTimeout is how long an export may take.
const exportTimeout = 6 * time.Hour

// SearchList is GET /api/v1/searches.
type SearchList struct {
	Searches []tracking.Saved `json:"searches"`
}

// SavedName names a saved search, for POST /api/v1/searches/delete.
type SavedName struct {
	Org  org.ID `json:"org"`
	Name string `json:"name"`
}

// searchParameters are those of every search; the later ones are those of GET /api/v1/log.
var searchParameters = []string{"q", "saved", "bound", "limit", "page_token", "order", "id", "org", "event", "reason", "domain", "address", "since", "until"}

// search is GET /api/v1/messages: a page of the facts of a query, newest first unless
// order=asc, with what it covers.
func (s *Server) search(ctx context.Context, r *http.Request) (any, error) {
	if s.Tracking == nil {
		return nil, noIndex()
	}
	q, page, err := s.readSearch(ctx, r)
	if err != nil {
		return nil, err
	}
	return answerOf(s.Tracking.Search(ctx, q, page))
}

// answerOf tells the caller's mistakes from ours.
func answerOf[T any](value T, err error) (any, error) {
	var mistake *tracking.ParseError
	switch {
	case errors.As(err, &mistake):
		return nil, badRequest(fmt.Sprintf("query, column %d: %s", mistake.Column, mistake.Text), mistake.Hint)
	case errors.Is(err, tracking.ErrNoSaved):
		return nil, notFound(err.Error(), "log saved lists those there are")
	case errors.Is(err, tracking.ErrBadSaved):
		return nil, badRequest(err.Error(), "choose another name, or delete one")
	case err != nil:
		return nil, err
	}
	return value, nil
}

func noIndex() *Problem {
	return problem(http.StatusServiceUnavailable, CodeUnavailable, "this relay keeps no index of its ledger", "set enabled = true in [tracking], or search the ledger itself: log search --ledger")
}

// readSearch reads the query and the page of a request.
func (s *Server) readSearch(ctx context.Context, r *http.Request) (q tracking.Query, page tracking.Page, err error) {
	v, err := parameters(r, append([]string{"format"}, searchParameters...)...)
	if err != nil {
		return q, page, err
	}
	now := time.Now()
	page.Org, page.After = org.ID(v.Get("bound")), v.Get("page_token")
	if page.Limit, err = limitParameter(v.Get("limit"), 100); err != nil {
		return q, page, err
	}
	switch v.Get("order") {
	case "", "desc":
	case "asc":
		page.Ascending = true
	default:
		return q, page, badRequest(fmt.Sprintf("order %q is none", v.Get("order")), "asc: oldest first; desc: newest first")
	}
	text := v.Get("q")
	if v.Get("saved") != "" {
		one, err := s.Searches.Get(ctx, page.Org, v.Get("saved"))
		if _, err := answerOf(one, err); err != nil {
			return q, page, err
		}
		text = one.Query + " " + text
	}
	if q, err = tracking.Parse(text, now); err == nil {
		q, err = alsoFlags(q, v, now)
	}
	_, err = answerOf(q, err)
	return q, page, err
}

// alsoFlags adds what GET /api/v1/log takes.
func alsoFlags(q tracking.Query, v url.Values, now time.Time) (tracking.Query, error) {
	f, err := readLogFilter(v)
	if err != nil {
		return q, err
	}
	for _, one := range []struct{ name, value string }{
		{"id", string(f.ID)}, {"org", f.Org}, {"event", string(f.Event)}, {"reason", string(f.Reason)}, {"domain", f.Domain.String()}, {"address", f.Address},
	} {
		if q, err = q.And(one.name, one.value, now); err != nil {
			return q, err
		}
	}
	if !f.Since.IsZero() {
		q.Since = f.Since
	}
	if !f.Until.IsZero() {
		q.Until = f.Until
	}
	return q, nil
}

// exportMessages is GET /api/v1/messages/export: all facts of a query as jsonl or csv. An
// error in the middle breaks the connection off, so that a file cut short is not taken
// for a whole one.
func (s *Server) exportMessages(w http.ResponseWriter, r *http.Request) {
	if s.Tracking == nil {
		write(w, noIndex())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), exportTimeout)
	defer cancel()
	q, page, err := s.readSearch(ctx, r)
	if err != nil {
		write(w, problemOf(err))
		return
	}
	format, kind := r.URL.Query().Get("format"), "application/x-ndjson"
	switch format {
	case "", tracking.JSONL:
		format = tracking.JSONL
	case tracking.CSV:
		kind = "text/csv; charset=utf-8"
	default:
		write(w, badRequest(fmt.Sprintf("format %q is none", format), "jsonl or csv"))
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", `attachment; filename="messages.`+format+`"`)
	control := http.NewResponseController(w)
	patience := func(tracking.Progress) { _ = control.SetWriteDeadline(time.Now().Add(answerTimeout)) }
	patience(tracking.Progress{})
	e, err := tracking.NewExporter(w, format)
	if err == nil {
		_, err = s.Tracking.Export(ctx, q, page, e, patience)
	}
	if err != nil {
		s.Log.Error("an export stopped in the middle", "error", err)
		panic(http.ErrAbortHandler)
	}
}

// tail is GET /api/v1/messages/tail: the last `limit` facts of a query, and new ones as
// they are written, until the peer goes away.
func (s *Server) tail(w http.ResponseWriter, r *http.Request) {
	if s.Tracking == nil {
		write(w, noIndex())
		return
	}
	q, page, err := s.readSearch(r.Context(), r)
	if err != nil {
		write(w, problemOf(err))
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := &lines{to: json.NewEncoder(w), control: http.NewResponseController(w)}
	if err := s.follow(r.Context(), q, page, r.URL.Query().Get("limit") != "0", out); err != nil && r.Context().Err() == nil {
		s.Log.Error("the index could not be followed", "error", err)
		out.send(LogLine{Problem: problemOf(err)})
		out.flush()
	}
}

// follow sends the last facts, then asks again and again for those after them.
func (s *Server) follow(ctx context.Context, q tracking.Query, page tracking.Page, past bool, out *lines) error {
	page.Ascending, page.After = false, ""
	last, err := s.Tracking.Search(ctx, q, page)
	if err != nil {
		return err
	}
	if !past {
		last.Facts = nil
	}
	slices.Reverse(last.Facts)
	next, facts := strconv.FormatUint(last.Statement.AsOf, 10), last.Facts
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	page.Ascending, page.Limit = true, MaxPage
	for {
		for _, f := range facts {
			if !out.send(LogLine{Fact: f}) {
				return nil
			}
		}
		out.flush()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		page.After = next
		news, err := s.Tracking.Search(ctx, q, page)
		if err != nil {
			return err
		}
		next, facts = strconv.FormatUint(news.Statement.To, 10), news.Facts
	}
}

// factsOf gives the facts of one message as the ledger has them. The index says where
// they are; without it, or where it knows none, the whole ledger is read.
func (s *Server) factsOf(ctx context.Context, id mail.ID) (facts []ledger.Fact, err error) {
	if s.Tracking != nil {
		q, err := tracking.Query{}.And("id", string(id), time.Now())
		if err != nil {
			return nil, err
		}
		found, err := s.Tracking.Search(ctx, q, tracking.Page{Ascending: true, Limit: MaxPage})
		if err != nil {
			return nil, err
		}
		if len(found.Facts) > 0 && !found.Statement.Behind && found.Next == "" {
			return s.whole(ctx, found.Facts)
		}
	}
	err = ledger.Read(ctx, s.Ledger, 0, func(f ledger.Fact) bool {
		if f.ID == id {
			facts = append(facts, f)
		}
		return len(facts) < MaxPage
	})
	return facts, err
}

// whole reads facts again, from the ledger.
func (s *Server) whole(ctx context.Context, found []ledger.Fact) (facts []ledger.Fact, err error) {
	for _, f := range found {
		err := ledger.Read(ctx, s.Ledger, f.Offset, func(as ledger.Fact) bool {
			if as.Offset == f.Offset {
				facts = append(facts, as)
			}
			return false
		})
		if err != nil {
			return nil, err
		}
	}
	return facts, nil
}

// messageOf is GET /api/v1/messages/{id}?org=…: the page of a message for one
// organisation, with its own facts alone and as its rules have them.
func (s *Server) messageOf(ctx context.Context, id mail.ID, bound org.ID) (any, error) {
	if s.Tracking == nil {
		return nil, noIndex()
	}
	q, err := tracking.Query{}.And("id", string(id), time.Now())
	if err != nil {
		return nil, err
	}
	found, err := s.Tracking.Search(ctx, q, tracking.Page{Org: bound, Ascending: true, Limit: MaxPage})
	if err != nil {
		return nil, err
	}
	return s.tellMessage(id, found.Facts)
}

// tellMessage makes a message's page of its facts.
func (s *Server) tellMessage(id mail.ID, facts []ledger.Fact) (any, error) {
	if len(facts) == 0 {
		return nil, notFound(fmt.Sprintf("the ledger has nothing of %s", id), "look for it by address: log search --address")
	}
	dir, _ := s.Directory()
	return Message{ID: id, Facts: facts, Story: Story(facts), Verdict: VerdictOf(facts, tenantsOf(dir))}, nil
}

// indexed is GET /api/v1/tracking.
func (s *Server) indexed(context.Context, *http.Request) (any, error) {
	if s.Tracking == nil {
		return nil, noIndex()
	}
	return s.Tracking.Status(), nil
}

// searches is GET /api/v1/searches.
func (s *Server) searches(ctx context.Context, r *http.Request) (any, error) {
	v, err := parameters(r, "org")
	if err != nil {
		return nil, err
	}
	list, err := s.Searches.List(ctx, org.ID(v.Get("org")))
	return SearchList{Searches: append([]tracking.Saved{}, list...)}, err
}

// steerSearches is POST /api/v1/searches/save and delete.
func (s *Server) steerSearches(ctx context.Context, r *http.Request) (any, error) {
	switch r.PathValue("verb") {
	case "save":
		var one tracking.Saved
		if err := readJSON(r, &one); err != nil {
			return nil, err
		}
		one.Time, one.By = time.Now().UTC(), asker(r, one.By)
		return answerOf(one, s.Searches.Save(ctx, one))
	case "delete":
		var name SavedName
		if err := readJSON(r, &name); err != nil {
			return nil, err
		}
		return answerOf(name, s.Searches.Delete(ctx, name.Org, name.Name))
	}
	return nil, notFound("searches can be saved and deleted", "POST /api/v1/searches/save or delete")
}
