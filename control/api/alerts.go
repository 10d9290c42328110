package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"anechoic/org"
	"anechoic/watch/alert"
)

// Incident is what people were told of, as it stands.
type Incident struct {
	ID       string               `json:"id"`
	Org      string               `json:"org"`
	Kind     string               `json:"kind"`
	Severity string               `json:"severity"`
	Title    string               `json:"title"`
	Text     string               `json:"text"`
	Campaign string               `json:"campaign,omitempty"`
	Finding  string               `json:"finding,omitempty"`
	Fields   []alert.PayloadField `json:"fields"`
	Count    int                  `json:"count"`
	Told     int                  `json:"told"` // how often it was worth telling
	Opened   time.Time            `json:"opened"`
	Updated  time.Time            `json:"updated"`
	Ended    time.Time            `json:"ended,omitzero"`
}

// IncidentList is GET /api/v1/alerts.
type IncidentList struct {
	Incidents []Incident `json:"incidents"`
	Truncated bool       `json:"truncated"`
}

// RequestList is GET /api/v1/alerts/requests.
type RequestList struct {
	Requests []alert.Request `json:"requests"`
}

// AlertTest is the body of POST /api/v1/alerts/test. With a webhook, that one alone
// is called; else an alert goes every way that the organisation's alerts go.
type AlertTest struct {
	Org     string `json:"org"`
	Webhook string `json:"webhook,omitempty"`
}

// AlertTested is what came of it.
type AlertTested struct {
	Org     string         `json:"org"`
	Request *alert.Request `json:"request,omitempty"` // of the webhook
}

// incidents is GET /api/v1/alerts.
func (s *Server) incidents(_ context.Context, r *http.Request) (any, error) {
	q, err := parameters(r, "org", "open", "limit")
	if err != nil {
		return nil, err
	}
	limit, err := limitParameter(q.Get("limit"), 100)
	if err != nil {
		return nil, err
	}
	list := IncidentList{Incidents: []Incident{}}
	for _, i := range s.Alerts.Incidents(q.Get("org"), q.Get("open") == "true") {
		if len(list.Incidents) == limit {
			list.Truncated = true
			break
		}
		one := Incident{
			ID: i.ID, Org: i.Org, Kind: i.Kind, Severity: i.Severity, Title: i.Title, Text: i.Text, Campaign: i.Campaign, Finding: i.Finding,
			Fields: []alert.PayloadField{}, Count: i.Count, Told: i.Told, Opened: i.Opened, Updated: i.Updated, Ended: i.Ended,
		}
		for _, f := range i.Fields {
			one.Fields = append(one.Fields, alert.PayloadField{Name: f[0], Value: f[1]})
		}
		list.Incidents = append(list.Incidents, one)
	}
	return list, nil
}

// alertRequests is GET /api/v1/alerts/requests.
func (s *Server) alertRequests(ctx context.Context, r *http.Request) (any, error) {
	q, err := parameters(r, "org", "webhook", "limit")
	if err != nil {
		return nil, err
	}
	limit, err := limitParameter(q.Get("limit"), 50)
	if err != nil {
		return nil, err
	}
	list, err := s.Alerts.History(ctx, q.Get("org"), q.Get("webhook"), limit)
	return RequestList{Requests: list}, err
}

// testAlerts is POST /api/v1/alerts/test.
func (s *Server) testAlerts(ctx context.Context, r *http.Request) (any, error) {
	var wish AlertTest
	if err := readJSON(r, &wish); err != nil {
		return nil, err
	}
	dir, _ := s.Directory()
	if _, ok := dir.Organisation(org.ID(wish.Org)); !ok && wish.Org != "" {
		return nil, notFound(fmt.Sprintf("there is no organisation %q", wish.Org), "org list names them all")
	}
	s.Log.Info("a test of alerts is asked for", "org", wish.Org, "webhook", wish.Webhook, "by", asker(r, ""))
	if wish.Webhook == "" {
		return AlertTested{Org: wish.Org}, s.Alerts.Tell(ctx, alert.TestAlert(wish.Org, time.Now().UTC()))
	}
	request, err := s.Alerts.Try(ctx, wish.Org+"/"+wish.Webhook)
	if err != nil {
		return nil, alertProblem(err)
	}
	return AlertTested{Org: wish.Org, Request: &request}, nil
}

// replayAlert is POST /api/v1/alerts/requests/{id}/replay.
func (s *Server) replayAlert(ctx context.Context, r *http.Request) (any, error) {
	s.Log.Info("a webhook request is sent again", "request", r.PathValue("id"), "by", asker(r, ""))
	request, err := s.Alerts.Replay(ctx, r.PathValue("id"))
	if err != nil {
		return nil, alertProblem(err)
	}
	return request, nil
}

func alertProblem(err error) error {
	switch {
	case errors.Is(err, alert.ErrNoEndpoint):
		return notFound(err.Error(), "webhooks are in the registry, and the operator's in relay.toml")
	case errors.Is(err, alert.ErrNoRequest):
		return notFound(err.Error(), "alert history lists those that are kept")
	}
	return err
}

// Incidents lists what people were told of.
func (c *Client) Incidents(ctx context.Context, query url.Values) (IncidentList, error) {
	return get[IncidentList](ctx, c, "/api/v1/alerts", query)
}

// AlertRequests lists webhook requests, newest first.
func (c *Client) AlertRequests(ctx context.Context, query url.Values) ([]alert.Request, error) {
	list, err := get[RequestList](ctx, c, "/api/v1/alerts/requests", query)
	return list.Requests, err
}

// TestAlerts sends a test.
func (c *Client) TestAlerts(ctx context.Context, wish AlertTest) (AlertTested, error) {
	return ask[AlertTested](ctx, c, http.MethodPost, "/api/v1/alerts/test", nil, wish)
}

// ReplayAlert sends a webhook request again.
func (c *Client) ReplayAlert(ctx context.Context, id string) (alert.Request, error) {
	return ask[alert.Request](ctx, c, http.MethodPost, "/api/v1/alerts/requests/"+url.PathEscape(id)+"/replay", nil, struct{}{})
}
