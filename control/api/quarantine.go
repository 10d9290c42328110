package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
)

// Detained is one message that waits for a person because nobody proved it.
type Detained struct {
	ID           mail.ID     `json:"id"`
	Organisation string      `json:"org"`    // whose source handed it over
	Source       string      `json:"source"` // that source
	Reason       mail.Reason `json:"reason"`
	From         string      `json:"from"`
	MailFrom     string      `json:"mail_from"` // empty: the null sender
	Recipients   []string    `json:"recipients"`
	Size         int64       `json:"size"`
	Kept         time.Time   `json:"kept"`
	Expires      time.Time   `json:"expires"`
}

// DetainedPage is GET /api/v1/quarantine.
type DetainedPage struct {
	Messages      []Detained `json:"messages"`
	NextPageToken string     `json:"next_page_token,omitempty"`
}

// DetainedMessage is GET /api/v1/quarantine/{id}: what is known of one, in words,
// and what a release would say now. Of the header it has names only.
type DetainedMessage struct {
	Detained
	Evidence []string `json:"evidence"`
	Header   []string `json:"header"` // field names, in order
	Release  Judged   `json:"release"`
}

// Judged is what became of one message, or would.
type Judged struct {
	ID     mail.ID     `json:"id"`
	Done   bool        `json:"done"`             // released or dropped; on a dry run: it would be
	Reason mail.Reason `json:"reason,omitempty"` // why it stays
	Detail string      `json:"detail,omitempty"`
}

// DetainedSelection names detained messages: by id, by a filter, or All. Nothing
// named is an error.
type DetainedSelection struct {
	IDs    []mail.ID   `json:"ids,omitempty"`
	Org    string      `json:"org,omitempty"`
	Reason mail.Reason `json:"reason,omitempty"`
	All    bool        `json:"all,omitempty"`
	DryRun bool        `json:"dry_run,omitempty"`
}

// Judgement is what POST /api/v1/quarantine/{verb} did, or would do, message by
// message.
type Judgement struct {
	Verb     Verb     `json:"verb"` // release, drop
	DryRun   bool     `json:"dry_run,omitempty"`
	Messages []Judged `json:"messages"`
	Done     int      `json:"done"`
	Stay     int      `json:"stay"`
}

// quarantine is GET /api/v1/quarantine.
func (s *Server) quarantine(ctx context.Context, r *http.Request) (any, error) {
	q, err := parameters(r, "org", "reason", "page_token", "limit")
	if err != nil {
		return nil, err
	}
	filter, err := detainedFilter(DetainedSelection{Org: q.Get("org"), Reason: mail.Reason(q.Get("reason"))})
	if err != nil {
		return nil, err
	}
	if filter.After, filter.Limit, err = pageParameters(q); err != nil {
		return nil, err
	}
	list, next, err := s.Queue.ListDetained(ctx, filter)
	if err != nil {
		return nil, err
	}
	page := DetainedPage{Messages: []Detained{}, NextPageToken: string(next)}
	for _, d := range list {
		page.Messages = append(page.Messages, detainedOf(d))
	}
	return page, nil
}

// detained is GET /api/v1/quarantine/{id}.
func (s *Server) detained(ctx context.Context, r *http.Request) (any, error) {
	id, err := validID(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	d, content, err := s.Queue.LoadDetained(ctx, id)
	if err != nil {
		return nil, detentionProblem(id, err)
	}
	told := DetainedMessage{Detained: detainedOf(d), Evidence: evidenceInWords(&d.Evidence), Header: []string{}}
	header, err := mail.ParseHeader(content.Header(), mail.HeaderLimits{})
	if err != nil {
		return nil, fmt.Errorf("detained %s: its header: %w", id, err)
	}
	for _, f := range header.Fields {
		told.Header = append(told.Header, f.Name())
	}
	told.Release, err = s.release(ctx, id, true)
	return told, err
}

// judge is POST /api/v1/quarantine/{verb}.
func (s *Server) judge(ctx context.Context, r *http.Request) (any, error) {
	verb := Verb(r.PathValue("verb"))
	apply, ok := map[Verb]func(context.Context, mail.ID, bool) (Judged, error){Release: s.release, Drop: s.drop}[verb]
	if !ok {
		return nil, notFound(fmt.Sprintf("%q is nothing that can be done to detained mail", verb), "release or drop")
	}
	var chosen DetainedSelection
	if err := readJSON(r, &chosen); err != nil {
		return nil, err
	}
	ids, err := s.chooseDetained(ctx, chosen)
	if err != nil {
		return nil, err
	}
	told := Judgement{Verb: verb, DryRun: chosen.DryRun, Messages: []Judged{}}
	for _, id := range ids {
		judged, err := apply(ctx, id, chosen.DryRun)
		if err != nil {
			return nil, fmt.Errorf("%s: after %d messages: %w", verb, len(told.Messages), err)
		}
		told.add(judged)
	}
	s.Log.Info("detained mail judged", "verb", verb, "by", asker(r, ""), "dry_run", chosen.DryRun, "done", told.Done, "stay", told.Stay)
	return told, nil
}

func (j *Judgement) add(one Judged) {
	j.Messages = append(j.Messages, one)
	if one.Done {
		j.Done++
	} else {
		j.Stay++
	}
}

// release judges one message again.
func (s *Server) release(ctx context.Context, id mail.ID, dryRun bool) (Judged, error) {
	refusal, err := s.Release(ctx, id, anOperator, dryRun)
	switch {
	case err != nil:
		return Judged{}, detentionProblem(id, err)
	case refusal != nil:
		return Judged{ID: id, Reason: refusal.Reason(), Detail: strings.TrimSuffix(refusal.Text()+": "+refusal.Detail(), ": ")}, nil
	}
	return Judged{ID: id, Done: true}, nil
}

// drop gives one message up.
func (s *Server) drop(ctx context.Context, id mail.ID, dryRun bool) (Judged, error) {
	if !dryRun {
		if err := s.Queue.DropDetained(ctx, id, anOperator, time.Now()); err != nil {
			return Judged{}, detentionProblem(id, err)
		}
	}
	return Judged{ID: id, Done: true}, nil
}

func detentionProblem(id mail.ID, err error) error {
	switch {
	case errors.Is(err, custody.ErrNotFound):
		return notFound(fmt.Sprintf("no message %s is detained", id), "quarantine list names them; log show says what became of one that left")
	case errors.Is(err, custody.ErrDetentionBusy):
		return problem(http.StatusConflict, CodeConflict, err.Error(), "look again with quarantine list")
	}
	return err
}

// chooseDetained gives the ids of a selection. Every id that is named must be
// there before anything is done.
func (s *Server) chooseDetained(ctx context.Context, chosen DetainedSelection) (ids []mail.ID, err error) {
	filter, err := detainedFilter(chosen)
	if err != nil {
		return nil, err
	}
	filtered := chosen.Org != "" || chosen.Reason != ""
	switch {
	case len(chosen.IDs) > 0 && (chosen.All || filtered), chosen.All && filtered:
		return nil, badRequest("ids, a filter and all do not go together", "name one of them")
	case len(chosen.IDs) == 0 && !chosen.All && !filtered:
		return nil, badRequest("nothing is selected", "name ids, org or reason, or say all")
	case len(chosen.IDs) == 0:
		return s.detainedIDs(ctx, filter)
	}
	for _, text := range chosen.IDs {
		id, err := validID(string(text))
		if err != nil {
			return nil, err
		}
		if _, _, err := s.Queue.LoadDetained(ctx, id); err != nil {
			return nil, detentionProblem(id, err)
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (s *Server) detainedIDs(ctx context.Context, filter custody.DetainedFilter) (ids []mail.ID, err error) {
	filter.Limit = custody.MaxList
	for {
		list, next, err := s.Queue.ListDetained(ctx, filter)
		if err != nil {
			return nil, err
		}
		for _, d := range list {
			ids = append(ids, d.ID)
		}
		if filter.After = next; next == "" {
			return ids, nil
		}
	}
}

func detainedFilter(chosen DetainedSelection) (custody.DetainedFilter, error) {
	reason := mail.Reason(strings.ToUpper(string(chosen.Reason)))
	if reason != "" && !slices.Contains(mail.Reasons(), reason) {
		return custody.DetainedFilter{}, badRequest(fmt.Sprintf("reason %q is none", chosen.Reason), "a reason as FORWARDED_MAIL")
	}
	return custody.DetainedFilter{Org: org.ID(chosen.Org), Reason: reason}, nil
}

func detainedOf(d custody.Detained) Detained {
	told := Detained{
		ID: d.ID, Organisation: string(d.Organisation), Source: d.Source, Reason: d.Reason, From: d.From.String(), MailFrom: d.Envelope.From.String(),
		Recipients: []string{}, Size: d.Size, Kept: d.Kept.UTC(), Expires: d.Expires.UTC(),
	}
	for _, r := range d.Envelope.Recipients {
		told.Recipients = append(told.Recipients, r.Address.String())
	}
	return told
}
