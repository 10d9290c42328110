package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// Incidents lists incidents, of one organisation unless org is empty, newest first.
func (d *Dispatcher) Incidents(org string, openOnly bool) []Incident {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := []Incident{}
	for _, i := range d.incidents {
		if (org == "" || i.Org == org) && (!openOnly || i.Ended.IsZero()) {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(x, y Incident) int { return y.Updated.Compare(x.Updated) })
	return list
}

// Request gives one webhook request; ErrNoRequest: there is none.
func (d *Dispatcher) Request(ctx context.Context, id string) (r Request, err error) {
	if d.headOf(id).endpoint == "" {
		return r, fmt.Errorf("%q: %w", id, ErrNoRequest)
	}
	value, err := d.o.Store.Get(ctx, requestPrefix+id)
	if errors.Is(err, custody.ErrNotFound) {
		return r, fmt.Errorf("%q: %w", id, ErrNoRequest)
	}
	if err == nil {
		err = json.Unmarshal(value, &r)
	}
	return r, err
}

// History lists requests newest first: of an organisation, of one of its webhooks,
// or all.
func (d *Dispatcher) History(ctx context.Context, org, webhook string, limit int) ([]Request, error) {
	d.mu.Lock()
	var ids []string
	for id, h := range d.requests {
		e := endpointNamed(h.endpoint)
		if (org == "" || e.Org == org) && (webhook == "" || e.ID == webhook) {
			ids = append(ids, id)
		}
	}
	d.mu.Unlock()
	slices.Sort(ids)
	slices.Reverse(ids)
	list := []Request{}
	for _, id := range ids[:min(len(ids), limit)] {
		r, err := d.Request(ctx, id)
		if errors.Is(err, ErrNoRequest) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}

// endpointNamed takes a name apart.
func endpointNamed(name string) (e Endpoint) {
	for k := range len(name) {
		if name[k] == '/' {
			return Endpoint{Org: name[:k], ID: name[k+1:]}
		}
	}
	return e
}

// Replay sends a request again, with the webhook-id it had: a receiver that has it
// already knows it by that.
func (d *Dispatcher) Replay(ctx context.Context, id string) (Request, error) {
	r, err := d.Request(ctx, id)
	if err != nil {
		return r, err
	}
	if _, err := d.endpoint(r.Endpoint); err != nil {
		return r, err
	}
	r.State, r.Next, r.Tries, r.Note = Pending, time.Now().UTC(), 0, ""
	if err := d.store(ctx, &custody.Batch{}, r); err != nil {
		return r, err
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return r, nil
}

func (d *Dispatcher) endpoint(name string) (Endpoint, error) {
	for _, e := range d.o.Endpoints() {
		if e.Name() == name {
			return e, nil
		}
	}
	return Endpoint{}, fmt.Errorf("%q: %w", name, ErrNoEndpoint)
}

// Try sends a test event to one endpoint and gives what came of it. One that said
// 410 is used again if it takes the test.
func (d *Dispatcher) Try(ctx context.Context, name string) (Request, error) {
	e, err := d.endpoint(name)
	if err != nil {
		return Request{}, err
	}
	now := time.Now().UTC()
	incident, _ := Incident{}.After(TestAlert(e.Org, now).clean(now))
	r := newRequest(e, &incident, EventTest, d.o.Hostname, now)
	r.Next = now.Add(callTime + time.Minute) // by then this call is over
	if err := d.store(ctx, &custody.Batch{Lazy: true}, r); err != nil {
		return r, err
	}
	return d.attempt(ctx, e, r.ID)
}

// TestAlert is an alert that says nothing but that alerts arrive.
func TestAlert(org string, now time.Time) Alert {
	return Alert{
		Key: "test/" + string(mail.NewID(now)), Org: org, Kind: KindTest, Severity: Info, Title: "Test of alerts", Time: now,
		Text: "Somebody asked the relay for this. Nothing happened, and there is nothing to do.",
	}
}

// Counts is what was done since the start, for the metrics.
func (d *Dispatcher) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.counts
	c.Told, c.Requests = maps.Clone(c.Told), maps.Clone(c.Requests)
	for _, i := range d.incidents {
		if i.Ended.IsZero() && i.Kind != KindTest {
			c.Open++
		}
	}
	for _, h := range d.requests {
		if h.state == Pending {
			c.Waiting++
		}
	}
	for _, f := range d.feeds {
		c.SyslogLines += f.sent.Load()
		c.SyslogDropped += f.dropped.Load()
	}
	return c
}
