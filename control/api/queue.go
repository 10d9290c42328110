package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// Queued is one message in custody.
type Queued struct {
	ID           mail.ID           `json:"id"`
	Kind         string            `json:"kind"` // proven, notice
	Organisation string            `json:"org"`
	Source       string            `json:"source,omitempty"`
	MailFrom     string            `json:"mail_from"` // empty: the null sender
	Size         int64             `json:"size"`
	Kept         time.Time         `json:"kept"`
	Expires      time.Time         `json:"expires"`
	Recipients   []QueuedRecipient `json:"recipients"`
}

// QueuedRecipient is one recipient not yet done.
type QueuedRecipient struct {
	Address   string        `json:"address"`
	State     custody.State `json:"state"`
	Due       *time.Time    `json:"due,omitempty"`
	Attempts  int           `json:"attempts"`
	LastReply string        `json:"last_reply,omitempty"`
	Reason    mail.Reason   `json:"reason,omitempty"`
}

// QueuePage is GET /api/v1/queue.
type QueuePage struct {
	Messages      []Queued `json:"messages"`
	NextPageToken string   `json:"next_page_token,omitempty"`
}

// Verb is what may be done to messages in custody.
type Verb string

// The verbs.
const (
	Retry   Verb = "retry"   // what is queued is due now
	Hold    Verb = "hold"    // what is queued is not sent until released
	Release Verb = "release" // what is held is due now
	Drop    Verb = "drop"    // given up: never sent, no bounce
)

// Selection names messages in custody: by id, by a filter, or All. Nothing named
// is an error, so that an empty request never reaches everything.
type Selection struct {
	IDs    []mail.ID     `json:"ids,omitempty"`
	Org    string        `json:"org,omitempty"`
	Domain string        `json:"domain,omitempty"` // of recipients
	State  custody.State `json:"state,omitempty"`
	All    bool          `json:"all,omitempty"`
	DryRun bool          `json:"dry_run,omitempty"` // count only
}

// Steered is what a verb reached, or would have.
type Steered struct {
	Verb       Verb `json:"verb"`
	DryRun     bool `json:"dry_run,omitempty"`
	Messages   int  `json:"messages"`
	Recipients int  `json:"recipients"`
	Later      int  `json:"later"` // of those: an attempt is in flight, and it takes effect if that fails
}

// queue is GET /api/v1/queue.
func (s *Server) queue(ctx context.Context, r *http.Request) (any, error) {
	q, err := parameters(r, "org", "domain", "state", "page_token", "limit")
	if err != nil {
		return nil, err
	}
	filter, err := queueFilter(Selection{Org: q.Get("org"), Domain: q.Get("domain"), State: custody.State(q.Get("state"))})
	if err != nil {
		return nil, err
	}
	if filter.After = mail.ID(q.Get("page_token")); filter.After != "" && !filter.After.Valid() {
		return nil, badRequest("page_token is none this list gave", "begin again without it")
	}
	if filter.Limit, err = limitParameter(q.Get("limit"), 100); err != nil {
		return nil, err
	}
	entries, next, err := s.Queue.List(ctx, filter)
	if err != nil {
		return nil, err
	}
	page := QueuePage{Messages: []Queued{}, NextPageToken: string(next)}
	for _, e := range entries {
		page.Messages = append(page.Messages, queuedOf(e))
	}
	return page, nil
}

// queued is GET /api/v1/queue/{id}.
func (s *Server) queued(ctx context.Context, r *http.Request) (any, error) {
	id, err := validID(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	entry, err := s.Queue.Show(ctx, id)
	if errors.Is(err, custody.ErrNotFound) {
		return nil, notInCustody(id)
	}
	return queuedOf(entry), err
}

func notInCustody(id mail.ID) *Problem {
	return notFound(fmt.Sprintf("no message %s is in custody", id), "log show says what became of a message that left")
}

// steer is POST /api/v1/queue/{verb}.
func (s *Server) steer(ctx context.Context, r *http.Request) (any, error) {
	verb := Verb(r.PathValue("verb"))
	apply, ok := s.verbs()[verb]
	if !ok {
		return nil, notFound(fmt.Sprintf("%q is nothing that can be done to the queue", verb), "retry, hold, release or drop")
	}
	var chosen Selection
	if err := readJSON(r, &chosen); err != nil {
		return nil, err
	}
	filters, err := s.filters(ctx, chosen)
	if err != nil {
		return nil, err
	}
	if chosen.DryRun {
		return s.rehearse(ctx, verb, filters)
	}
	done := Steered{Verb: verb}
	for _, f := range filters {
		reached, err := apply(ctx, f, time.Now())
		if err != nil {
			return nil, fmt.Errorf("%s: after %d messages: %w", verb, done.Messages, err)
		}
		done.add(reached)
	}
	s.Log.Info("queue steered", "verb", verb, "messages", done.Messages, "recipients", done.Recipients)
	return done, nil
}

func (d *Steered) add(reached custody.Steered) {
	d.Messages += reached.Messages
	d.Recipients += reached.Recipients
	d.Later += reached.Later
}

// verbs is what each verb does to what a filter selects.
func (s *Server) verbs() map[Verb]func(context.Context, custody.Filter, time.Time) (custody.Steered, error) {
	return map[Verb]func(context.Context, custody.Filter, time.Time) (custody.Steered, error){
		Retry:   s.Queue.Retry,
		Release: s.Queue.Release,
		Drop:    s.Queue.Drop,
		Hold: func(ctx context.Context, f custody.Filter, now time.Time) (custody.Steered, error) {
			return s.Queue.Hold(ctx, f, mail.ReasonHeld, now)
		},
	}
}

// touches are the states of recipients a verb reaches.
var touches = map[Verb][]custody.State{
	Retry:   {custody.StateQueued},
	Hold:    {custody.StateQueued, custody.StateLeased},
	Release: {custody.StateHeld},
	Drop:    {custody.StateQueued, custody.StateLeased, custody.StateHeld},
}

// rehearse counts what a verb would reach.
func (s *Server) rehearse(ctx context.Context, verb Verb, filters []custody.Filter) (Steered, error) {
	would := Steered{Verb: verb, DryRun: true}
	for _, f := range filters {
		for more := true; more; more = f.After != "" {
			entries, next, err := s.Queue.List(ctx, f)
			if err != nil {
				return would, err
			}
			for _, e := range entries {
				would.add(reachedBy(verb, e))
			}
			f.After = next
		}
	}
	return would, nil
}

func reachedBy(verb Verb, e custody.Entry) (reached custody.Steered) {
	for _, r := range e.Recipients {
		if !slices.Contains(touches[verb], r.State) {
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
	filter, err := queueFilter(chosen)
	if err != nil {
		return nil, err
	}
	filtered := filter != custody.Filter{}
	switch {
	case chosen.All && (filtered || len(chosen.IDs) > 0):
		return nil, badRequest("all stands beside ids or a filter", "name one of them")
	case !chosen.All && !filtered && len(chosen.IDs) == 0:
		return nil, badRequest("nothing is selected", "name ids, org, domain or state, or say all")
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

// queueFilter reads the filter part of a selection.
func queueFilter(chosen Selection) (custody.Filter, error) {
	domain, err := domainParameter("domain", chosen.Domain)
	if err != nil {
		return custody.Filter{}, err
	}
	switch chosen.State {
	case "", custody.StateQueued, custody.StateLeased, custody.StateHeld:
	default:
		return custody.Filter{}, badRequest(fmt.Sprintf("state %q is none", chosen.State), "queued, leased or held")
	}
	return custody.Filter{Org: chosen.Org, Domain: domain, State: chosen.State}, nil
}

func queuedOf(e custody.Entry) Queued {
	told := Queued{
		ID: e.ID, Kind: string(e.Kind), Organisation: e.Organisation, Source: e.Source, MailFrom: e.Envelope.From.String(),
		Size: e.Size, Kept: e.Kept.UTC(), Expires: e.Expires.UTC(), Recipients: make([]QueuedRecipient, len(e.Recipients)),
	}
	for i, r := range e.Recipients {
		told.Recipients[i] = QueuedRecipient{
			Address: r.Address.String(), State: r.State, Due: timeOrNil(r.Due),
			Attempts: r.Attempts, LastReply: r.LastReply, Reason: r.Reason,
		}
	}
	return told
}

func validID(text string) (mail.ID, error) {
	id := mail.ID(strings.ToLower(text))
	if !id.Valid() {
		return "", badRequest(fmt.Sprintf("%q is no id of this relay", text), "an id has 26 characters a–z and 2–7, as replies show it")
	}
	return id, nil
}

// parameters gives the query; a name that is not known is an error, as is one
// given twice.
func parameters(r *http.Request, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("the query cannot be read: "+err.Error(), "encode it as a URL wants")
	}
	for name, values := range q {
		if !slices.Contains(known, name) {
			return nil, badRequest(fmt.Sprintf("parameter %q is not known here", name), "one of "+strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return nil, badRequest(fmt.Sprintf("parameter %q is given more than once", name), "give it once")
		}
	}
	return q, nil
}

// limitParameter reads how many entries are wanted at most.
func limitParameter(text string, otherwise int) (int, error) {
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > MaxPage {
		return 0, badRequest(fmt.Sprintf("limit %q is none", text), fmt.Sprintf("a number up to %d", MaxPage))
	}
	return n, nil
}
