package alert

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"anechoic/mail"
	"anechoic/mail/background"
	"anechoic/relay/custody"
)

// Errors that callers tell apart.
var (
	ErrNoEndpoint = errors.New("there is no such webhook")
	ErrNoRequest  = errors.New("there is no such webhook request")
)

// Bounds of what is kept.
const (
	maxIncidents  = 5000
	keepIncidents = 30 * 24 * time.Hour // after their last alert
	maxPending    = 500                 // requests that wait, of one endpoint
	maxHistory    = 200                 // requests that are over, of one endpoint
	maxCalls      = 8                   // at a time, one of each endpoint
	mailGap       = 5 * time.Minute     // between two mails to one reader
	mailWithin    = 72 * time.Hour      // what is older is mailed no more
	lookEvery     = time.Second         // while something is under way
	lookIdle      = time.Minute
	sweepEvery    = time.Hour
)

// Keys of the records.
const (
	incidentPrefix = "alert/incident/" // by Incident.ID
	requestPrefix  = "alert/request/"  // by Request.ID
	gonePrefix     = "alert/gone/"     // by Endpoint.Name: the URL that answered 410
)

// Options says whom a Dispatcher tells, and by what.
type Options struct {
	Store     custody.Engine
	Hostname  string
	Version   string
	Contact   func(org string) (to mail.Address, ok bool) // false: there is no such organisation any more; zero: it has none
	Operator  mail.Address                                // zero: nobody
	Mail      func(context.Context, Mailing) error        // takes a mail into custody
	Endpoints func() []Endpoint                           // those of now
	Guard     *Guard
	Roots     *x509.CertPool // who vouches for endpoints; nil: whom the system trusts
	Syslog    []Target
	Log       *slog.Logger
}

// Counts is what was done since the start.
type Counts struct {
	Told          map[string]uint64 // alerts worth telling, by severity
	Mails         uint64
	Requests      map[State]uint64 // webhook requests that are over
	Calls         uint64           // of webhooks that failed
	SyslogLines   uint64
	SyslogDropped uint64
	Open          int // incidents that are not over
	Waiting       int // webhook requests
}

// Dispatcher tells of alerts. Open makes one.
type Dispatcher struct {
	o       Options
	caller  *caller
	feeds   []*feed
	writing chan struct{} // whoever's turn it is to change what is stored holds it
	wake    chan struct{}

	mu        sync.Mutex // guards all below
	incidents map[string]Incident
	unmailed  map[string]bool // incidents that may be due by mail
	requests  map[string]head
	gone      map[string]string // endpoint to the URL that wants no more
	calling   map[string]bool   // endpoints
	mailed    map[string]time.Time
	counts    Counts
	swept     time.Time
}

// head is what of a request is in memory.
type head struct {
	endpoint string
	state    State
	next     time.Time
}

// Open reads back what was stored. What cannot be read is left out and logged.
func Open(ctx context.Context, o Options) (*Dispatcher, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &Dispatcher{
		o: o, caller: newCaller(o.Guard, o.Roots, o.Version), writing: make(chan struct{}, 1), wake: make(chan struct{}, 1),
		incidents: map[string]Incident{}, unmailed: map[string]bool{}, requests: map[string]head{}, gone: map[string]string{},
		calling: map[string]bool{}, mailed: map[string]time.Time{}, counts: Counts{Told: map[string]uint64{}, Requests: map[State]uint64{}},
	}
	for _, t := range o.Syslog {
		d.feeds = append(d.feeds, newFeed(t, o.Hostname, o.Version, o.Log))
	}
	return d, d.load(ctx)
}

func (d *Dispatcher) load(ctx context.Context) error {
	bad := 0
	err := d.o.Store.Scan(ctx, incidentPrefix, "", func(key string, value []byte) bool {
		var i Incident
		if json.Unmarshal(value, &i) != nil || incidentPrefix+i.ID != key {
			bad++
			return true
		}
		d.put(i)
		return true
	})
	err = errors.Join(err, d.o.Store.Scan(ctx, requestPrefix, "", func(key string, value []byte) bool {
		var r Request
		if json.Unmarshal(value, &r) != nil || requestPrefix+r.ID != key {
			bad++
			return true
		}
		d.requests[r.ID] = r.head()
		return true
	}))
	err = errors.Join(err, d.o.Store.Scan(ctx, gonePrefix, "", func(key string, value []byte) bool {
		d.gone[key[len(gonePrefix):]] = string(value)
		return true
	}))
	if bad > 0 {
		d.o.Log.Error("stored alerts could not be read and are left out", "count", bad)
	}
	return err
}

func (r *Request) head() head { return head{r.Endpoint, r.State, r.Next} }

// put takes an incident into memory; mu is held, or nobody else is there.
func (d *Dispatcher) put(i Incident) {
	d.incidents[i.ID] = i
	if i.Told > min(i.Mailed[toContact], i.Mailed[toOperator]) {
		d.unmailed[i.ID] = true
	}
}

// Tell takes an alert. When it returns nil, whatever is to be said because of it is
// durable and will be said.
func (d *Dispatcher) Tell(ctx context.Context, a Alert) error {
	now := time.Now().UTC()
	if a.Key == "" {
		return fmt.Errorf("alert of kind %q has no key", a.Kind)
	}
	a = a.clean(now)
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.end()
	incident, change := d.lookup(idOf(a.Key)).After(a)
	if incident.ID == "" {
		return nil // the end of something that was never told of
	}
	var made []Request
	b := &custody.Batch{Lazy: change == Nothing}
	putJSON(b, incidentPrefix+incident.ID, incident)
	if change != Nothing {
		made = d.requestsFor(&incident, eventOf(&incident, change), now)
		for i := range made {
			putJSON(b, requestPrefix+made[i].ID, made[i])
		}
	}
	if err := d.o.Store.Commit(ctx, b); err != nil {
		return fmt.Errorf("alert %s: %w", incident.ID, err)
	}
	d.took(incident, change, made)
	return nil
}

// eventOf is the event type of a change; a test is one whatever changed.
func eventOf(i *Incident, change Change) EventType {
	if i.Kind == KindTest {
		return EventTest
	}
	return change.event()
}

// took brings a told alert into memory and to those who wait for it.
func (d *Dispatcher) took(i Incident, change Change, made []Request) {
	d.mu.Lock()
	d.put(i)
	for k := range made {
		d.requests[made[k].ID] = made[k].head()
	}
	if change != Nothing {
		d.counts.Told[i.Severity]++
	}
	d.mu.Unlock()
	if change == Nothing {
		return
	}
	for _, f := range d.feeds {
		f.offer(&i, eventOf(&i, change))
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// begin waits for the turn to change what is stored.
func (d *Dispatcher) begin(ctx context.Context) error {
	select {
	case d.writing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Dispatcher) end() { <-d.writing }

func (d *Dispatcher) lookup(id string) Incident {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.incidents[id]
}

// requestsFor makes the requests of an event: one for each endpoint that wants it.
func (d *Dispatcher) requestsFor(i *Incident, event EventType, now time.Time) (made []Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.o.Endpoints() {
		if e.wants(i, event) && d.gone[e.Name()] != e.URL {
			made = append(made, newRequest(e, i, event, d.o.Hostname, now))
		}
	}
	return made
}

func newRequest(e Endpoint, i *Incident, event EventType, hostname string, now time.Time) Request {
	return Request{
		ID: "msg_" + string(mail.NewID(now)), Endpoint: e.Name(), Event: event, Incident: i.ID, Created: now, State: Pending, Next: now, Attempts: []Attempt{},
		Body: string(payload(event, i, hostname)),
	}
}

func putJSON(b *custody.Batch, key string, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // every field has a JSON form
	}
	b.Put = append(b.Put, custody.Record{Key: key, Value: text})
}

// Run delivers until ctx ends; then it waits for calls under way to be broken off.
func (d *Dispatcher) Run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for _, f := range d.feeds {
		background.Loop(&all, d.o.Log, "syslog "+f.target.Address, ctx.Done(), func() { f.run(ctx) })
	}
	for ctx.Err() == nil {
		now := time.Now().UTC()
		d.sweep(ctx, now)
		d.mail(ctx, now)
		d.callDue(ctx, &all, now)
		pause := time.NewTimer(d.pause())
		select {
		case <-ctx.Done():
		case <-d.wake:
		case <-pause.C:
		}
		pause.Stop()
	}
}

// pause is how long nothing has to be looked at.
func (d *Dispatcher) pause() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.unmailed) > 0 {
		return lookEvery
	}
	for _, h := range d.requests {
		if h.state == Pending {
			return lookEvery
		}
	}
	return lookIdle
}

// callDue starts calls of endpoints that have a request due, and none under way.
func (d *Dispatcher) callDue(ctx context.Context, all *sync.WaitGroup, now time.Time) {
	endpoints := map[string]Endpoint{}
	for _, e := range d.o.Endpoints() {
		endpoints[e.Name()] = e
	}
	for _, id := range d.due(now) {
		name := d.headOf(id).endpoint
		e, ok := endpoints[name]
		if !ok {
			d.drop(ctx, id, "the webhook is not in the configuration any more")
			continue
		}
		if !d.claim(name) {
			continue
		}
		background.Go(all, d.o.Log, "webhook", func() {
			defer d.unclaim(name)
			if _, err := d.attempt(ctx, e, id); err != nil && ctx.Err() == nil {
				d.o.Log.Error("what came of a webhook could not be written down", "webhook", name, "error", err)
			}
		})
	}
}

// due gives the requests whose time has come, longest due first.
func (d *Dispatcher) due(now time.Time) (ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, h := range d.requests {
		if h.state == Pending && !h.next.After(now) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(x, y string) int {
		return cmp.Or(d.requests[x].next.Compare(d.requests[y].next), cmp.Compare(x, y))
	})
	return ids
}

func (d *Dispatcher) headOf(id string) head {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.requests[id]
}

func (d *Dispatcher) claim(endpoint string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.calling[endpoint] || len(d.calling) >= maxCalls {
		return false
	}
	d.calling[endpoint] = true
	return true
}

func (d *Dispatcher) unclaim(endpoint string) {
	d.mu.Lock()
	delete(d.calling, endpoint)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// attempt calls an endpoint with a request, and writes down what came of it. A call
// that the stop of the relay breaks off does not count.
func (d *Dispatcher) attempt(ctx context.Context, e Endpoint, id string) (Request, error) {
	r, err := d.Request(ctx, id)
	if err != nil {
		return r, err
	}
	v := d.caller.call(ctx, e, &r, time.Now().UTC())
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	r = r.After(v, jitter())
	return r, d.settle(ctx, e, r)
}

// settle stores a request after an attempt, and what that means for its endpoint.
func (d *Dispatcher) settle(ctx context.Context, e Endpoint, r Request) error {
	b, status := &custody.Batch{}, r.Attempts[len(r.Attempts)-1].Status
	d.mu.Lock()
	switch {
	case status == 410:
		d.gone[e.Name()] = e.URL
		b.Put = append(b.Put, custody.Record{Key: gonePrefix + e.Name(), Value: []byte(e.URL)})
	case r.State == Delivered && d.gone[e.Name()] != "":
		delete(d.gone, e.Name())
		b.Delete = append(b.Delete, gonePrefix+e.Name())
	}
	if r.State != Delivered {
		d.counts.Calls++
	}
	d.mu.Unlock()
	if err := d.store(ctx, b, r); err != nil {
		return err
	}
	if status == 410 {
		d.dropAll(ctx, e.Name(), r.Note)
	}
	told := failure(e, r)
	switch known := d.lookup(idOf(told.Key)); {
	case r.State == Delivered && known.ID != "" && known.Ended.IsZero():
		told.Ended, told.Title, told.Text = true, "Webhook "+e.Name()+" takes events again", ""
	case r.State == Pending, r.State == Delivered, r.Event == EventTest && status != 410:
		return nil
	}
	return d.Tell(ctx, told)
}

// failure is the alert that a webhook got nowhere.
func failure(e Endpoint, r Request) Alert {
	last := r.Attempts[len(r.Attempts)-1]
	text := "Events for it were given up; what it missed can be sent again: anechoic alert replay " + r.ID
	if last.Status == 410 {
		text = "It answered 410, that it wants no more, and gets no more events until its URL changes or this succeeds: anechoic alert test " + e.Name()
	}
	return Alert{
		Key: "webhook/" + e.Name(), Org: e.Org, Kind: KindWebhook, Severity: Warning, Title: "Webhook " + e.Name() + " cannot be reached", Text: text,
		Fields: [][2]string{{"webhook", e.Name()}, {"request", r.ID}, {"status", fmt.Sprint(last.Status)}, {"error", last.Error}},
	}
}

// store writes a request, with whatever else is in the batch.
func (d *Dispatcher) store(ctx context.Context, b *custody.Batch, r Request) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.end()
	putJSON(b, requestPrefix+r.ID, r)
	if err := d.o.Store.Commit(ctx, b); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.requests[r.ID] = r.head()
	if r.State != Pending {
		d.counts.Requests[r.State]++
	}
	return nil
}

// drop gives a request up.
func (d *Dispatcher) drop(ctx context.Context, id, why string) {
	r, err := d.Request(ctx, id)
	if err == nil {
		r.State, r.Next, r.Note = Dropped, time.Time{}, why
		err = d.store(ctx, &custody.Batch{Lazy: true}, r)
	} else if errors.Is(err, ErrNoRequest) {
		d.mu.Lock()
		delete(d.requests, id)
		d.mu.Unlock()
		return
	}
	if err != nil && ctx.Err() == nil {
		d.o.Log.Error("a webhook request could not be dropped", "request", id, "error", err)
	}
}

func (d *Dispatcher) dropAll(ctx context.Context, endpoint, why string) {
	for _, id := range d.idsOf(endpoint, true) {
		d.drop(ctx, id, why)
	}
}

// idsOf gives an endpoint's requests that wait, or those that are over, oldest
// first.
func (d *Dispatcher) idsOf(endpoint string, waiting bool) (ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, h := range d.requests {
		if h.endpoint == endpoint && (h.state == Pending) == waiting {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids) // they begin with their time
	return ids
}

// sweep forgets what is old, now and then, and keeps the rest within its bounds.
func (d *Dispatcher) sweep(ctx context.Context, now time.Time) {
	if now.Sub(d.swept) < sweepEvery {
		return
	}
	d.swept = now
	b := &custody.Batch{Lazy: true}
	old := d.oldIncidents(now)
	for _, id := range old {
		b.Delete = append(b.Delete, incidentPrefix+id)
	}
	var over []string
	for _, name := range d.endpointsKnown() {
		ids := d.idsOf(name, false)
		over = append(over, ids[:max(0, len(ids)-maxHistory)]...)
		waiting := d.idsOf(name, true)
		for _, id := range waiting[:max(0, len(waiting)-maxPending)] {
			d.drop(ctx, id, "too many events waited")
		}
	}
	for _, id := range over {
		b.Delete = append(b.Delete, requestPrefix+id)
	}
	if len(b.Delete) == 0 || d.begin(ctx) != nil {
		return
	}
	defer d.end()
	if err := d.o.Store.Commit(ctx, b); err != nil {
		d.o.Log.Error("old alerts could not be removed", "error", err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range old {
		delete(d.incidents, id)
		delete(d.unmailed, id)
	}
	for _, id := range over {
		delete(d.requests, id)
	}
}

// oldIncidents are those nobody asks for any more, and beyond the bound those that
// are quiet longest.
func (d *Dispatcher) oldIncidents(now time.Time) (ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := slices.SortedFunc(maps.Values(d.incidents), func(x, y Incident) int { return x.Updated.Compare(y.Updated) })
	for k, i := range all {
		if len(all)-k > maxIncidents || now.Sub(i.Updated) > keepIncidents {
			ids = append(ids, i.ID)
		}
	}
	return ids
}

func (d *Dispatcher) endpointsKnown() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := map[string]bool{}
	for _, h := range d.requests {
		names[h.endpoint] = true
	}
	return slices.Sorted(maps.Keys(names))
}
