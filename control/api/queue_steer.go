package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"anechoic/mail"
	"anechoic/relay/custody"
	"anechoic/relay/delivery"
)

// Verb is what may be done to messages in custody.
type Verb string

// The verbs.
const (
	Retry   Verb = "retry"   // what is queued is due now
	Hold    Verb = "hold"    // what is queued is not sent until released
	Release Verb = "release" // what is held is due now
	Drop    Verb = "drop"    // given up: never sent, no bounce
	Reroute Verb = "reroute" // sent to another next hop
	Bounce  Verb = "bounce"  // given up: the sender is told
)

// Selection names messages in custody: by id, by a filter, or All. Nothing named
// is an error, so that an empty request never reaches everything.
type Selection struct {
	IDs    []mail.ID     `json:"ids,omitempty"`
	Org    string        `json:"org,omitempty"`
	Source string        `json:"source,omitempty"` // its id
	Sender string        `json:"sender,omitempty"` // domain of MAIL FROM
	Domain string        `json:"domain,omitempty"` // of recipients
	Site   string        `json:"site,omitempty"`   // where recipients' domains led lately
	State  custody.State `json:"state,omitempty"`
	Before time.Time     `json:"before,omitzero"` // kept before
	Reply  string        `json:"reply,omitempty"` // part of the last one
	All    bool          `json:"all,omitempty"`
	DryRun bool          `json:"dry_run,omitempty"` // count only, and show the first

	Via string `json:"via,omitempty"` // of reroute: "host:port", or "dns" for where the domain leads
	By  string `json:"by,omitempty"`  // for whom, as the one who asks says; the ledger has it beside who the socket says that is
	Why string `json:"why,omitempty"` // of reroute and bounce, for the ledger; senders are told why of a bounce
}

// filtered says that something selects beside ids.
func (c *Selection) filtered() bool {
	return c.Org != "" || c.Source != "" || c.Sender != "" || c.Domain != "" || c.Site != "" || c.State != "" || !c.Before.IsZero() || c.Reply != ""
}

// ViaDNS is the Via that takes a reroute back.
const ViaDNS = "dns"

// MaxSample is how many messages a dry run shows.
const MaxSample = 20

// Steered is what a verb reached, or would have.
type Steered struct {
	Verb       Verb     `json:"verb"`
	DryRun     bool     `json:"dry_run,omitempty"`
	Messages   int      `json:"messages"`
	Recipients int      `json:"recipients"`
	Later      int      `json:"later"`            // of those: an attempt is in flight, and it takes effect if that fails
	Sample     []Queued `json:"sample,omitempty"` // of a dry run: the first messages

	SiteUnknown *SiteUnknown `json:"site_unknown,omitempty"` // what else could belong to the site that was asked for
}

// SteerLine is one line of a steering that tells how far it came: what was reached so
// far, and Done in the last, or the problem that ended it.
type SteerLine struct {
	Steered
	Done    bool     `json:"done,omitempty"`
	Problem *Problem `json:"problem,omitempty"`
}

// applied does what a verb does to what a filter selects.
type applied func(context.Context, custody.Filter, time.Time) (custody.Steered, error)

// steering is POST /api/v1/queue/{verb}: one answer when it is over, or with
// ?progress=true a line whenever something was written.
func (s *Server) steering(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("progress") == "true" {
		s.steerTelling(w, r)
		return
	}
	s.within(verifyTimeout, func(ctx context.Context, r *http.Request) (any, error) {
		return s.steerQueue(ctx, r, nil)
	})(w, r)
}

func (s *Server) steerTelling(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), verifyTimeout)
	defer cancel()
	w.Header().Set("Content-Type", "application/x-ndjson")
	control := http.NewResponseController(w)
	send := func(line SteerLine) {
		_ = control.SetWriteDeadline(time.Now().Add(answerTimeout)) // a recorder in a test has none
		_ = json.NewEncoder(w).Encode(line)                         // an error here is a peer that went away: ctx ends
		_ = control.Flush()
	}
	_ = control.SetWriteDeadline(time.Now().Add(verifyTimeout))
	done, err := s.steerQueue(ctx, r, func(reached Steered) { send(SteerLine{Steered: reached}) })
	if err != nil {
		send(SteerLine{Steered: done, Problem: problemOf(err)})
		return
	}
	send(SteerLine{Steered: done, Done: true})
}

// steerQueue does what a request asks for. progress may be nil.
func (s *Server) steerQueue(ctx context.Context, r *http.Request, progress func(Steered)) (done Steered, err error) {
	verb := Verb(r.PathValue("verb"))
	done.Verb = verb
	var chosen Selection
	if err := readJSON(r, &chosen); err != nil {
		return done, err
	}
	chosen.By = asker(r, chosen.By)
	apply, err := s.verb(verb, chosen)
	if err != nil {
		return done, err
	}
	filters, err := s.filters(ctx, chosen)
	if err != nil {
		return done, err
	}
	unknown, err := s.siteUnknown(ctx, chosen, reaching(verb, filters)...)
	if err != nil {
		return done, err
	}
	defer func() { done.SiteUnknown = unknown }()
	if chosen.DryRun {
		return s.rehearse(ctx, verb, filters)
	}
	for _, f := range filters {
		f.By = chosen.By
		before := done
		f.Progress = func(reached custody.Steered) {
			if progress != nil {
				so := before
				so.add(reached)
				progress(so)
			}
		}
		reached, err := apply(ctx, f, time.Now())
		done.add(reached)
		if err != nil {
			return done, fmt.Errorf("%s: %d messages were reached: %w", verb, done.Messages, err)
		}
	}
	s.Log.Info("queue steered", "verb", verb, "by", chosen.By, "messages", done.Messages, "recipients", done.Recipients)
	return done, nil
}

func (d *Steered) add(reached custody.Steered) {
	d.Messages += reached.Messages
	d.Recipients += reached.Recipients
	d.Later += reached.Later
}

// verb is what a verb does, with what it needs of the request.
func (s *Server) verb(verb Verb, chosen Selection) (applied, error) {
	course, err := courseOf(verb, chosen)
	if err != nil {
		return nil, err
	}
	switch verb {
	case Retry:
		return s.Queue.Retry, nil
	case Release:
		return s.Queue.Release, nil
	case Drop:
		return s.Queue.Drop, nil
	case Hold:
		return func(ctx context.Context, f custody.Filter, now time.Time) (custody.Steered, error) {
			return s.Queue.Hold(ctx, f, mail.ReasonHeld, now)
		}, nil
	case Reroute:
		return func(ctx context.Context, f custody.Filter, now time.Time) (custody.Steered, error) {
			return s.Queue.Reroute(ctx, f, course, now)
		}, nil
	case Bounce:
		return func(ctx context.Context, f custody.Filter, now time.Time) (custody.Steered, error) {
			return s.Queue.Bounce(ctx, f, course, now)
		}, nil
	}
	return nil, notFound(fmt.Sprintf("%q is nothing that can be done to the queue", verb), "retry, hold, release, drop, reroute or bounce")
}

// courseOf reads what reroute and bounce need.
func courseOf(verb Verb, chosen Selection) (c custody.Course, err error) {
	c = custody.Course{By: chosen.By, Why: chosen.Why}
	switch {
	case verb != Reroute && chosen.Via != "":
		return c, badRequest("via is for reroute alone", "leave it out")
	case verb != Reroute && verb != Bounce && chosen.Why != "":
		return c, badRequest("why is for reroute and bounce alone", "leave it out")
	case verb != Reroute || chosen.Via == ViaDNS:
		return c, nil
	}
	hop, err := delivery.ParseSmartHost(chosen.Via)
	if err != nil || hop == (delivery.SmartHost{}) {
		return c, badRequest(fmt.Sprintf("via %q is no next hop", chosen.Via), "host:port, for example mx.example:25 or [2001:db8::1]:25, or dns for where the domain leads")
	}
	c.Via = hop.String()
	return c, nil
}

// touches are the states of recipients a verb reaches.
var touches = map[Verb][]custody.State{
	Retry:   {custody.StateQueued},
	Hold:    {custody.StateQueued, custody.StateLeased},
	Release: {custody.StateHeld},
	Drop:    {custody.StateQueued, custody.StateLeased, custody.StateHeld},
	Reroute: {custody.StateQueued, custody.StateLeased, custody.StateHeld},
	Bounce:  {custody.StateQueued, custody.StateLeased, custody.StateHeld},
}

// reaching are filters of what a verb can reach, where that is of one state.
func reaching(verb Verb, filters []custody.Filter) []custody.Filter {
	filters = slices.Clone(filters)
	for i := range filters {
		if states := touches[verb]; len(states) == 1 && filters[i].State == "" {
			filters[i].State = states[0]
		}
	}
	return filters
}

// rehearse counts what a verb would reach, and shows the first messages of that.
func (s *Server) rehearse(ctx context.Context, verb Verb, filters []custody.Filter) (Steered, error) {
	would := Steered{Verb: verb, DryRun: true}
	for _, f := range filters {
		for more := true; more; more = f.After != "" {
			entries, next, err := s.Queue.List(ctx, f)
			if err != nil {
				return would, err
			}
			for _, e := range entries {
				reached := reachedBy(verb, e)
				would.add(reached)
				if reached.Messages > 0 && len(would.Sample) < MaxSample {
					would.Sample = append(would.Sample, s.queuedOf(e))
				}
			}
			f.After = next
		}
	}
	return would, nil
}

func reachedBy(verb Verb, e custody.Entry) (reached custody.Steered) {
	if verb == Reroute && e.Kind != custody.KindProven {
		return reached
	}
	for _, r := range e.Recipients {
		if !slices.Contains(touches[verb], r.State) || verb == Bounce && r.State != custody.StateHeld && r.Course != nil && r.Course.End {
			continue
		}
		reached.Messages = 1
		reached.Recipients++
		if r.State == custody.StateLeased {
			reached.Later++
		}
	}
	return reached
}

// filters makes one filter of a selection, or one an id. Every id must be in
// custody before anything is done.
func (s *Server) filters(ctx context.Context, chosen Selection) ([]custody.Filter, error) {
	filter, err := s.queueFilter(ctx, chosen)
	if err != nil {
		return nil, err
	}
	switch {
	case chosen.All && (chosen.filtered() || len(chosen.IDs) > 0):
		return nil, badRequest("all stands beside ids or a filter", "name one of them")
	case !chosen.All && !chosen.filtered() && len(chosen.IDs) == 0:
		return nil, badRequest("nothing is selected", "name ids, or select by org, source, sender, domain, site, state, age or reply, or say all")
	case len(chosen.IDs) == 0:
		return []custody.Filter{filter}, nil
	}
	filters := make([]custody.Filter, len(chosen.IDs))
	for i, text := range chosen.IDs {
		id, err := validID(string(text))
		if err != nil {
			return nil, err
		}
		if _, err := s.Queue.Show(ctx, id); errors.Is(err, custody.ErrNotFound) {
			return nil, notInCustody(id)
		} else if err != nil {
			return nil, err
		}
		filters[i] = filter
		filters[i].ID = id
	}
	return filters, nil
}
