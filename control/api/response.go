package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"anechoic/watch/campaign"
	"anechoic/watch/detect"
	"anechoic/watch/response"
)

// Watched is what detection sees. It must not be changed.
type Watched struct {
	Findings  []detect.Finding    // the latest first
	Campaigns []campaign.Campaign // likewise
}

// Responding is the parts of a relay that act on findings.
type Responding struct {
	Watched func() *Watched
	Orders  func(context.Context) ([]response.Order, error)
	Apply   func(context.Context, response.Wish) (response.Change, error)
	End     func(ctx context.Context, id, by, why string) (response.Change, error)
	Records func(domain string, what response.InDNS) string // which DKIM records of a domain that is to be done with
}

// FindingList is GET /api/v1/findings.
type FindingList struct {
	Findings []detect.Finding `json:"findings"`
}

// CampaignList is GET /api/v1/campaigns.
type CampaignList struct {
	Campaigns []campaign.Campaign `json:"campaigns"`
}

// CampaignPage is GET /api/v1/campaigns/{id}.
type CampaignPage struct {
	campaign.Campaign
	Text string `json:"text"`
}

// Response is one order as the API tells it.
type Response struct {
	response.Order
	State   string `json:"state"`             // in force, proposed, ended
	Records string `json:"records,omitempty"` // of kill: what is to be withdrawn from DNS, or published there again
}

// ResponseList is GET /api/v1/responses.
type ResponseList struct {
	Responses []Response `json:"responses"`
}

// ResponseWish is the body of POST /api/v1/responses and of
// POST /api/v1/responses/{id}/{verb}.
type ResponseWish struct {
	Scope detect.Scope  `json:"scope,omitzero"`
	Step  response.Step `json:"step,omitempty"`
	Rate  int           `json:"rate,omitempty"`
	For   string        `json:"for,omitempty"` // as "4h"; empty: until somebody ends it
	Why   string        `json:"why"`
	By    string        `json:"by,omitempty"`
}

// findings is GET /api/v1/findings?org=&since=.
func (s *Server) findings(_ context.Context, r *http.Request) (any, error) {
	q, err := parameters(r, "org")
	if err != nil {
		return nil, err
	}
	list := []detect.Finding{}
	for _, f := range s.Responding.Watched().Findings {
		if org := q.Get("org"); org == "" || f.Scope.Org == org {
			list = append(list, f)
		}
	}
	return FindingList{list}, nil
}

// campaigns is GET /api/v1/campaigns?org=.
func (s *Server) campaigns(_ context.Context, r *http.Request) (any, error) {
	q, err := parameters(r, "org")
	if err != nil {
		return nil, err
	}
	list := []campaign.Campaign{}
	for _, c := range s.Responding.Watched().Campaigns {
		if org := q.Get("org"); org == "" || slices.ContainsFunc(c.Organisations, func(n campaign.Count) bool { return n.Name == org }) {
			list = append(list, c)
		}
	}
	return CampaignList{list}, nil
}

// campaign is GET /api/v1/campaigns/{id}.
func (s *Server) campaign(_ context.Context, r *http.Request) (any, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	id := r.PathValue("id")
	for _, c := range s.Responding.Watched().Campaigns {
		if c.ID == id || slices.ContainsFunc(c.Merged, func(m campaign.Merge) bool { return m.ID == id }) {
			return CampaignPage{c, c.Text()}, nil
		}
	}
	return nil, notFound(fmt.Sprintf("there is no campaign %.40q", id), "anechoic campaign list")
}

// responses is GET /api/v1/responses?org=.
func (s *Server) responses(ctx context.Context, r *http.Request) (any, error) {
	q, err := parameters(r, "org")
	if err != nil {
		return nil, err
	}
	orders, err := s.Responding.Orders(ctx)
	if err != nil {
		return nil, err
	}
	list := []Response{}
	for _, o := range orders {
		if org := q.Get("org"); org == "" || o.Scope.Org == org {
			list = append(list, s.responseOf(o))
		}
	}
	return ResponseList{list}, nil
}

// response is GET /api/v1/responses/{id}.
func (s *Server) response(ctx context.Context, r *http.Request) (any, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	orders, err := s.Responding.Orders(ctx)
	if err != nil {
		return nil, err
	}
	for _, o := range orders {
		if o.ID == r.PathValue("id") {
			return s.responseOf(o), nil
		}
	}
	return nil, noResponse(r.PathValue("id"))
}

func (s *Server) responseOf(o response.Order) Response {
	return s.toldWith(o, o.DNS())
}

func (s *Server) toldWith(o response.Order, what response.InDNS) Response {
	told := Response{Order: o, State: o.State()}
	if what != response.NothingInDNS {
		told.Records = s.Responding.Records(o.Scope.Domain, what)
	}
	return told
}

// applyResponse is POST /api/v1/responses, for a scope, and
// POST /api/v1/responses/{id}/apply, for one that is known.
func (s *Server) applyResponse(ctx context.Context, r *http.Request) (any, error) {
	var wish ResponseWish
	if err := readJSON(r, &wish); err != nil {
		return nil, err
	}
	w := response.Wish{ID: r.PathValue("id"), Scope: wish.Scope, Step: wish.Step, Rate: wish.Rate, By: asker(r, wish.By), Why: wish.Why}
	if wish.For != "" {
		span, err := time.ParseDuration(wish.For)
		if err != nil || span <= 0 {
			return nil, badRequest(fmt.Sprintf("for %.20q is no time", wish.For), `as "4h" or "30m"`)
		}
		w.For = span
	}
	c, err := s.Responding.Apply(ctx, w)
	if err != nil {
		return nil, badResponse(err)
	}
	return s.toldWith(c.Order, c.DNS()), nil
}

// endResponse is POST /api/v1/responses/{id}/end.
func (s *Server) endResponse(ctx context.Context, r *http.Request) (any, error) {
	var wish ResponseWish
	if err := readJSON(r, &wish); err != nil {
		return nil, err
	}
	c, err := s.Responding.End(ctx, r.PathValue("id"), asker(r, wish.By), wish.Why)
	if err != nil {
		return nil, badResponse(err)
	}
	return s.toldWith(c.Order, c.DNS()), nil
}

func badResponse(err error) error {
	switch {
	case errors.Is(err, response.ErrBadWish):
		return badRequest(err.Error(), "anechoic response apply --help shows how it is written")
	case errors.Is(err, response.ErrNotFound):
		return notFound(err.Error(), "anechoic response list shows those that are not over")
	}
	return err
}

func noResponse(id string) error {
	return notFound(fmt.Sprintf("there is no response %.40q", id), "anechoic response list")
}

// Findings asks what detection found, of one organisation or of all.
func (c *Client) Findings(ctx context.Context, org string) (FindingList, error) {
	return get[FindingList](ctx, c, "/api/v1/findings", ofOrg(org))
}

// Campaigns asks for the campaigns, those against one organisation or all.
func (c *Client) Campaigns(ctx context.Context, org string) (CampaignList, error) {
	return get[CampaignList](ctx, c, "/api/v1/campaigns", ofOrg(org))
}

// Campaign asks for one.
func (c *Client) Campaign(ctx context.Context, id string) (CampaignPage, error) {
	return get[CampaignPage](ctx, c, "/api/v1/campaigns/"+url.PathEscape(id), nil)
}

// Responses asks what is in force, proposed and over.
func (c *Client) Responses(ctx context.Context, org string) (ResponseList, error) {
	return get[ResponseList](ctx, c, "/api/v1/responses", ofOrg(org))
}

// Response asks for one.
func (c *Client) Response(ctx context.Context, id string) (Response, error) {
	return get[Response](ctx, c, "/api/v1/responses/"+url.PathEscape(id), nil)
}

// ApplyResponse puts a step in force: of the order of an id, or, without one, of a scope.
func (c *Client) ApplyResponse(ctx context.Context, id string, wish ResponseWish) (Response, error) {
	path := "/api/v1/responses"
	if id != "" {
		path += "/" + url.PathEscape(id) + "/apply"
	}
	return ask[Response](ctx, c, http.MethodPost, path, nil, wish)
}

// EndResponse ends an order.
func (c *Client) EndResponse(ctx context.Context, id, why string) (Response, error) {
	return ask[Response](ctx, c, http.MethodPost, "/api/v1/responses/"+url.PathEscape(id)+"/end", nil, ResponseWish{Why: why})
}

func ofOrg(org string) url.Values {
	if org == "" {
		return nil
	}
	return url.Values{"org": {org}}
}
