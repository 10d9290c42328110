package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/quarantine"
)

// Detained is one message that waits for a person.
type Detained struct {
	ID           mail.ID     `json:"id"`
	Organisation string      `json:"org"`               // whose source handed it over, whom it is for, or whom it claims
	Source       string      `json:"source"`            // that source; empty: none
	Claimed      bool        `json:"claimed,omitempty"` // its From alone names the organisation, which is still learning
	Direction    string      `json:"direction"`
	Reason       mail.Reason `json:"reason"`
	From         string      `json:"from"`
	MailFrom     string      `json:"mail_from"` // empty: the null sender
	Recipients   []string    `json:"recipients"`
	Subject      string      `json:"subject,omitempty"` // safe to show; only where content is asked for
	Size         int64       `json:"size"`
	Kept         time.Time   `json:"kept"`
	Expires      time.Time   `json:"expires"`
}

// DetainedPage is GET /api/v1/quarantine. A page may be short, or empty, and still
// have a next one.
type DetainedPage struct {
	Messages      []Detained `json:"messages"`
	NextPageToken string     `json:"next_page_token,omitempty"`
}

// DetainedMessage is GET /api/v1/quarantine/{id}: what is known of one, in words,
// and what a release would say now. Of the header it has names only, unless content
// is asked for: then Content is the message as safe text.
type DetainedMessage struct {
	Detained
	Evidence []string            `json:"evidence"`
	Header   []string            `json:"header"` // field names, in order
	Release  Judged              `json:"release"`
	Content  *quarantine.Preview `json:"content,omitempty"`
}

// DetainedSelection names detained messages: by id, by a filter (all its fields
// must hold, see quarantine.Filter), or All. Nothing named is an error.
type DetainedSelection struct {
	IDs       []mail.ID   `json:"ids,omitempty"`
	Org       string      `json:"org,omitempty"`
	Reason    mail.Reason `json:"reason,omitempty"`
	Direction string      `json:"direction,omitempty"`
	Source    string      `json:"source,omitempty"`
	Sender    string      `json:"sender,omitempty"`
	From      string      `json:"from,omitempty"`
	Recipient string      `json:"recipient,omitempty"`
	Domain    string      `json:"domain,omitempty"`
	ID        string      `json:"id,omitempty"` // how the id begins
	Since     time.Time   `json:"since,omitzero"`
	Until     time.Time   `json:"until,omitzero"`
	Text      string      `json:"text,omitempty"`
	All       bool        `json:"all,omitempty"`
	DryRun    bool        `json:"dry_run,omitempty"`
	By        string      `json:"by,omitempty"` // for whom, as the one who asks says
}

// quarantineParameters are those of a list that select.
var quarantineParameters = []string{"org", "reason", "direction", "source", "sender", "from", "recipient", "domain", "id", "since", "until", "text"}

// quarantine is GET /api/v1/quarantine.
func (s *Server) quarantine(ctx context.Context, r *http.Request) (any, error) {
	q, err := parameters(r, append([]string{"content", "page_token", "limit"}, quarantineParameters...)...)
	if err != nil {
		return nil, err
	}
	chosen, err := selectionOf(q)
	if err != nil {
		return nil, err
	}
	selects, err := chosen.filter()
	if err != nil {
		return nil, err
	}
	filter := custodyFilter(selects)
	if filter.After, filter.Limit, err = pageParameters(q); err != nil {
		return nil, err
	}
	list, next, err := s.Queue.ListDetained(ctx, filter)
	if err != nil {
		return nil, err
	}
	content := q.Get("content") == "true"
	page := DetainedPage{Messages: []Detained{}, NextPageToken: string(next)}
	for i := range list {
		page.Messages = append(page.Messages, detainedOf(&list[i], content))
	}
	if content {
		s.Log.Info("subjects of detained mail listed", "by", asker(r, ""), "org", string(selects.Org), "messages", len(list))
	}
	return page, nil
}

// detained is GET /api/v1/quarantine/{id}.
func (s *Server) detained(ctx context.Context, r *http.Request) (any, error) {
	q, err := parameters(r, "content")
	if err != nil {
		return nil, err
	}
	id, err := validID(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	d, content, err := s.Queue.LoadDetained(ctx, id)
	if err != nil {
		return nil, detentionProblem(id, err)
	}
	shown := q.Get("content") == "true"
	told := DetainedMessage{Detained: detainedOf(&d, shown), Evidence: heldInWords(&d), Header: []string{}}
	header, err := mail.ParseHeader(content.Header(), mail.HeaderLimits{})
	if err != nil {
		return nil, fmt.Errorf("detained %s: its header: %w", id, err)
	}
	for _, f := range header.Fields {
		told.Header = append(told.Header, quarantine.Visible(f.Name()))
	}
	if shown {
		if told.Content, err = s.preview(header, content); err != nil {
			return nil, err
		}
		s.Log.Info("content of a detained message shown", "id", id, "org", string(d.Organisation), "by", asker(r, ""))
	}
	told.Release, err = s.release(ctx, id, asker(r, ""), true)
	return told, err
}

// heldInWords tells what was seen of a held message.
func heldInWords(d *custody.Detained) []string {
	if !d.Inbound() {
		return evidenceInWords(&d.Evidence)
	}
	v := d.Verdicts
	return []string{fmt.Sprintf("It came in: spf=%s dkim=%s dmarc=%s arc=%s echo=%s.", v.SPF, v.DKIM, v.DMARC, v.ARC, v.Echo)}
}

// selectionOf reads the filter of a list.
func selectionOf(q url.Values) (c DetainedSelection, err error) {
	c = DetainedSelection{
		Org: q.Get("org"), Reason: mail.Reason(q.Get("reason")), Direction: q.Get("direction"), Source: q.Get("source"), Sender: q.Get("sender"), From: q.Get("from"),
		Recipient: q.Get("recipient"), Domain: q.Get("domain"), ID: q.Get("id"), Text: q.Get("text"),
	}
	if c.Since, err = timeParameter("since", q.Get("since")); err != nil {
		return c, err
	}
	c.Until, err = timeParameter("until", q.Get("until"))
	return c, err
}

// maxSearch bounds the text of a filter.
const maxSearch = 256

// filter reads what a selection selects, beside ids.
func (c *DetainedSelection) filter() (f quarantine.Filter, err error) {
	f = quarantine.Filter{
		Org: org.ID(c.Org), Reason: mail.Reason(strings.ToUpper(string(c.Reason))), Direction: quarantine.Direction(c.Direction), Source: c.Source, Sender: c.Sender, From: c.From,
		Recipient: c.Recipient, Domain: c.Domain, ID: c.ID, Since: c.Since, Until: c.Until, Text: c.Text,
	}
	switch {
	case f.Reason != "" && !slices.Contains(mail.Reasons(), f.Reason):
		return f, badRequest(fmt.Sprintf("reason %q is none", c.Reason), "a reason as FORWARDED_MAIL")
	case f.Direction != "" && f.Direction != quarantine.Inbound && f.Direction != quarantine.Outbound:
		return f, badRequest(fmt.Sprintf("direction %q is none", c.Direction), "inbound or outbound")
	case !f.Until.IsZero() && !f.Since.Before(f.Until):
		return f, badRequest("until is not after since", "give a span that has something in it")
	}
	for _, text := range []string{f.Source, f.Sender, f.From, f.Recipient, f.Domain, f.ID, f.Text} {
		if len(text) > maxSearch {
			return f, badRequest(fmt.Sprintf("a filter has %d octets", len(text)), fmt.Sprintf("at most %d", maxSearch))
		}
	}
	return f, nil
}

func custodyFilter(f quarantine.Filter) custody.DetainedFilter {
	return custody.DetainedFilter{Org: f.Org, Reason: f.Reason, Where: f.Selects}
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

// detainedOf tells of one message; its Subject only where content is asked for.
func detainedOf(d *custody.Detained, content bool) Detained {
	told := Detained{
		ID: d.ID, Organisation: string(d.Organisation), Source: d.Source, Claimed: d.Claimed, Direction: string(quarantine.DirectionOf(d)), Reason: d.Reason, From: d.From.String(),
		MailFrom: d.Envelope.From.String(), Recipients: []string{}, Size: d.Size, Kept: d.Kept.UTC(), Expires: d.Expires.UTC(),
	}
	if content {
		told.Subject = quarantine.Visible(quarantine.Words(d.Subject))
	}
	for _, r := range d.Envelope.Recipients {
		told.Recipients = append(told.Recipients, r.Address.String())
	}
	return told
}
