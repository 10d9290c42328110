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
	"anechoic/relay/delivery"
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
	Why          string            `json:"why,omitempty"` // it is still here, in one sentence; of one message that is asked for
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
	Site      string        `json:"site,omitempty"` // where its domain led lately, or the next hop a person chose
	Suspended custody.Scope `json:"suspended,omitempty"`
	Via       string        `json:"via,omitempty"` // the next hop a person chose
	Ended     bool          `json:"ended,omitempty"`
	Why       string        `json:"why,omitempty"`
}

// QueuePage is GET /api/v1/queue.
type QueuePage struct {
	Messages      []Queued `json:"messages"`
	NextPageToken string   `json:"next_page_token,omitempty"`

	// SiteUnknown is what else could belong to the site that was asked for; of the first page.
	SiteUnknown *SiteUnknown `json:"site_unknown,omitempty"`
}

// SiteUnknown counts what a selection by site leaves out because it is not known yet where its
// domains lead: nothing was sent there lately. It was selected by all else that was asked for,
// but for sender and reply.
type SiteUnknown struct {
	Messages   int `json:"messages,omitempty"` // not counted of suspensions
	Recipients int `json:"recipients"`
	Domains    int `json:"domains"`
}

// queue is GET /api/v1/queue.
func (s *Server) queue(ctx context.Context, r *http.Request) (any, error) {
	q, err := parameters(r, "org", "source", "sender", "domain", "site", "state", "before", "reply", "page_token", "limit")
	if err != nil {
		return nil, err
	}
	chosen := Selection{
		Org: q.Get("org"), Source: q.Get("source"), Sender: q.Get("sender"), Domain: q.Get("domain"),
		Site: q.Get("site"), State: custody.State(q.Get("state")), Reply: q.Get("reply"),
	}
	if chosen.Before, err = timeParameter("before", q.Get("before")); err != nil {
		return nil, err
	}
	filter, err := s.queueFilter(ctx, chosen)
	if err != nil {
		return nil, err
	}
	if filter.After, filter.Limit, err = pageParameters(q); err != nil {
		return nil, err
	}
	entries, next, err := s.Queue.List(ctx, filter)
	if err != nil {
		return nil, err
	}
	page := QueuePage{Messages: []Queued{}, NextPageToken: string(next)}
	for _, e := range entries {
		page.Messages = append(page.Messages, s.queuedOf(e))
	}
	if filter.After == "" {
		page.SiteUnknown, err = s.siteUnknown(ctx, chosen, filter)
	}
	return page, err
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
	if err != nil {
		return nil, err
	}
	told := s.queuedOf(entry)
	s.explain(entry, &told, time.Now())
	return told, nil
}

func notInCustody(id mail.ID) *Problem {
	return notFound(fmt.Sprintf("no message %s is in custody", id), "log show says what became of a message that left")
}

// queueFilter reads the filter part of a selection.
func (s *Server) queueFilter(ctx context.Context, chosen Selection) (f custody.Filter, err error) {
	f = custody.Filter{Org: chosen.Org, Source: chosen.Source, State: chosen.State, Before: chosen.Before, Reply: chosen.Reply}
	if f.Domain, err = domainParameter("domain", chosen.Domain); err != nil {
		return f, err
	}
	if f.Sender, err = domainParameter("sender", chosen.Sender); err != nil {
		return f, err
	}
	if chosen.Site != "" {
		if err := s.Delivery.SitesRead(ctx); err != nil {
			return f, err
		}
		f.Leads = s.leadsTo(strings.ToLower(chosen.Site))
	}
	switch chosen.State {
	case "", custody.StateQueued, custody.StateLeased, custody.StateHeld:
		return f, nil
	}
	return f, badRequest(fmt.Sprintf("state %q is none", chosen.State), "queued, leased or held")
}

// siteUnknown counts what filters made of a selection by site leave out; nil: nothing.
func (s *Server) siteUnknown(ctx context.Context, chosen Selection, filters ...custody.Filter) (*SiteUnknown, error) {
	if chosen.Site == "" {
		return nil, nil
	}
	for i := range filters {
		filters[i].Leads = s.leadsNowhere
		filters[i].Limit = 0
	}
	n, err := s.Queue.Reach(ctx, filters...)
	if err != nil || n.Recipients == 0 {
		return nil, err
	}
	return &SiteUnknown{Messages: n.Messages, Recipients: n.Recipients, Domains: n.Domains}, nil
}

// leadsNowhere selects what goes to a domain whose site is not known.
func (s *Server) leadsNowhere(d mail.Domain, via string) bool { return s.siteOf(d, via) == "" }

// leadsTo selects what goes to a site, as far as is known: domains that nothing was
// sent to lately lead nowhere yet.
func (s *Server) leadsTo(site string) func(mail.Domain, string) bool {
	known := map[mail.Domain]bool{}
	return func(d mail.Domain, via string) bool {
		if via != "" {
			return via == site
		}
		leads, ok := known[d]
		if !ok {
			leads = s.siteOf(d, "") == site
			known[d] = leads
		}
		return leads
	}
}

// siteOf is where a domain led lately, or the next hop a person chose; empty if that
// is not known.
func (s *Server) siteOf(d mail.Domain, via string) string {
	if via != "" {
		return via
	}
	site, _ := s.Delivery.LeadsTo(d)
	return site
}

// SiteOf names for views by site where a domain led lately, or the next hop a person
// chose; the domain itself if that is not known.
func SiteOf(d *delivery.Dispatcher, domain mail.Domain, via string) string {
	if via != "" {
		return via
	}
	if site, ok := d.LeadsTo(domain); ok {
		return site
	}
	return domain.String()
}

func (s *Server) queuedOf(e custody.Entry) Queued {
	told := Queued{
		ID: e.ID, Kind: string(e.Kind), Organisation: e.Organisation, Source: e.Source, MailFrom: e.Envelope.From.String(),
		Size: e.Size, Kept: e.Kept.UTC(), Expires: e.Expires.UTC(), Recipients: make([]QueuedRecipient, len(e.Recipients)),
	}
	for i, r := range e.Recipients {
		told.Recipients[i] = QueuedRecipient{
			Address: r.Address.String(), State: r.State, Due: timeOrNil(r.Due),
			Attempts: r.Attempts, LastReply: r.LastReply, Reason: r.Reason, Suspended: r.Suspended,
		}
		if r.Course != nil {
			told.Recipients[i].Via, told.Recipients[i].Ended = r.Course.Via, r.Course.End
		}
		one := &told.Recipients[i]
		one.Site = s.siteOf(r.Address.Domain(), one.Via)
		if one.Suspended == "" && !one.Ended && s.Queue.SuspendedSite(one.Site) {
			one.Suspended = custody.ScopeSite
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

// pageParameters reads where a page of messages begins and how many it has.
func pageParameters(q url.Values) (after mail.ID, limit int, err error) {
	if after = mail.ID(q.Get("page_token")); after != "" && !after.Valid() {
		return "", 0, badRequest("page_token is none this list gave", "begin again without it")
	}
	limit, err = limitParameter(q.Get("limit"), 100)
	return after, limit, err
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
