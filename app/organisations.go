package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"anechoic/control/api"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
)

// orgPrefix begins the records of organisation ids: orgid/<id>.
const orgPrefix = "orgid/"

// orgRecord is what is remembered of an id for ever: mail, keys and facts are
// stored under it, so it never names another organisation.
//
//	never seen ─► open ─► (not in the registry) closed ─► (by command) reopening ─► (in the registry) open
//
// A registry that names a closed id does not load.
type orgRecord struct {
	ID         org.ID             `json:"id"`
	State      api.OrganisationIs `json:"state"`
	Generation uint64             `json:"generation"` // first Directory that knew it
	Since      time.Time          `json:"since"`
	Closed     time.Time          `json:"closed,omitzero"` // last time
}

func (r orgRecord) stored() (custody.Record, error) {
	text, err := json.Marshal(r)
	return custody.Record{Key: orgPrefix + string(r.ID), Value: text}, err
}

// orgRecords is every organisation id there ever was.
type orgRecords struct {
	mu    sync.Mutex // guards known
	known map[org.ID]orgRecord
}

// load reads them. A record that cannot be read is an error: its id could be used
// again unnoticed.
func (o *orgRecords) load(ctx context.Context, engine custody.Engine) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known = map[org.ID]orgRecord{}
	var bad error
	err := engine.Scan(ctx, orgPrefix, "", func(key string, value []byte) bool {
		r, err := readOrgRecord(key, value)
		bad = errors.Join(bad, err)
		o.known[r.ID] = r
		return true
	})
	if err = errors.Join(err, bad); err != nil {
		return fmt.Errorf("organisation ids: %w", err)
	}
	return nil
}

func readOrgRecord(key string, value []byte) (r orgRecord, err error) {
	err = json.Unmarshal(value, &r)
	if err == nil && orgPrefix+string(r.ID) != key {
		err = errors.New("it is another id's")
	}
	if err != nil {
		err = fmt.Errorf("the record %s is damaged: %w", key, err)
	}
	return r, err
}

// reused lists the organisations of a Directory whose ids are closed.
func (o *orgRecords) reused(dir *org.Directory, registry string) (problems []org.Problem) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for organisation := range dir.Organisations() {
		if r := o.known[organisation.ID]; r.State == api.OrganisationClosed {
			problems = append(problems, org.Problem{
				File: registry, Where: fmt.Sprintf("organisation %q", r.ID),
				Message: fmt.Sprintf("the id was closed on %s and is never used again for another organisation", r.Closed.Format(time.DateOnly)),
				Hint:    fmt.Sprintf("give the organisation another id; only if it is the same one: anechoic org reopen %s", r.ID),
			})
		}
	}
	return problems
}

// changes gives the records that a Directory changes: ids that are new, and those
// it does not have any more.
func (o *orgRecords) changes(dir *org.Directory, generation uint64, now time.Time) (changed []orgRecord) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for organisation := range dir.Organisations() {
		r, known := o.known[organisation.ID]
		switch {
		case !known:
			changed = append(changed, orgRecord{ID: organisation.ID, State: api.OrganisationOpen, Generation: generation, Since: now})
		case r.State != api.OrganisationOpen:
			r.State = api.OrganisationOpen
			changed = append(changed, r)
		}
	}
	for id, r := range o.known {
		if _, there := dir.Organisation(id); !there && r.State == api.OrganisationOpen {
			r.State, r.Closed = api.OrganisationClosed, now
			changed = append(changed, r)
		}
	}
	return changed
}

// since is when an organisation came to this relay; now for one that is not known.
func (o *orgRecords) since(id org.ID) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r, known := o.known[id]; known {
		return r.Since
	}
	return time.Now()
}

// note takes over what was committed.
func (o *orgRecords) note(changed []orgRecord) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range changed {
		o.known[r.ID] = r
	}
}

func (o *orgRecords) get(id org.ID) (orgRecord, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r, ok := o.known[id]
	return r, ok
}

func (o *orgRecords) all() (list []orgRecord) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.known {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b orgRecord) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return list
}

// commitOrganisations writes changed records, with a fact for each id that was
// closed, and more.
func commitOrganisations(ctx context.Context, engine custody.Engine, changed []orgRecord, generation uint64, now time.Time, more ...custody.Record) error {
	b := &custody.Batch{Put: more}
	for _, r := range changed {
		record, err := r.stored()
		if err != nil {
			return err
		}
		b.Put = append(b.Put, record)
		if detail := orgDetail[r.State]; detail != "" {
			b.Facts = append(b.Facts, ledger.Fact{Time: now, Event: ledger.Reloaded, Org: string(r.ID), Generation: generation, Detail: detail})
		}
	}
	return engine.Commit(ctx, b)
}

// orgDetail is what the ledger says of a change.
var orgDetail = map[api.OrganisationIs]string{
	api.OrganisationClosed:    "the organisation is no longer in the registry: its id is closed",
	api.OrganisationReopening: "a person allowed the closed id to be used again",
}

// organisations is what the control API asks of organisation ids.
type organisations struct{ *App }

// List gives every id there ever was, with what is still stored under it.
func (a organisations) List(context.Context) ([]api.OrganisationRecord, error) {
	queued := a.queue.MessagesOf()
	list := []api.OrganisationRecord{}
	for _, r := range a.orgs.all() {
		list = append(list, a.describe(r, queued[string(r.ID)]))
	}
	return list, nil
}

// Close tells what is still there of an organisation that left the registry, and
// holds what of it is queued. With dryRun nothing is held, and the organisation
// may still be in the registry.
func (a organisations) Close(ctx context.Context, id org.ID, dryRun bool) (api.OrganisationRecord, error) {
	r, known := a.orgs.get(id)
	if !known {
		return api.OrganisationRecord{}, fmt.Errorf("organisation %q: %w", id, custody.ErrNotFound)
	}
	if _, there := a.directory.Load().Organisation(id); there && !dryRun {
		return api.OrganisationRecord{}, fmt.Errorf("%w: organisation %s is in the registry: take it out and apply, then close it", api.ErrConflict, id)
	}
	if !dryRun {
		if _, err := a.queue.Hold(ctx, custody.Filter{Org: string(id)}, mail.ReasonTenantNotAuthorized, time.Now()); err != nil {
			return api.OrganisationRecord{}, err
		}
	}
	return a.describe(r, a.queue.MessagesOf()[string(id)]), nil
}

// Reopen lets a closed id stand in the registry again.
func (a organisations) Reopen(ctx context.Context, id org.ID) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	r, err := reopen(ctx, a.store, id)
	if err == nil {
		a.orgs.note([]orgRecord{r})
	}
	return err
}

// ReopenOrganisation is Reopen for a relay that does not run: it may not start
// because of the id.
func ReopenOrganisation(ctx context.Context, engine custody.Engine, id org.ID) error {
	_, err := reopen(ctx, engine, id)
	return err
}

func reopen(ctx context.Context, engine custody.Engine, id org.ID) (r orgRecord, err error) {
	key := orgPrefix + string(id)
	value, err := engine.Get(ctx, key)
	if err == nil {
		r, err = readOrgRecord(key, value)
	}
	switch {
	case err != nil:
		return r, fmt.Errorf("organisation %q: %w", id, err)
	case r.State != api.OrganisationClosed:
		return r, fmt.Errorf("%w: organisation %s is %s, not closed", api.ErrConflict, id, r.State)
	}
	r.State = api.OrganisationReopening
	return r, commitOrganisations(ctx, engine, []orgRecord{r}, 0, time.Now().UTC())
}

func (a organisations) describe(r orgRecord, queued int) api.OrganisationRecord {
	detained := a.queue.DetainedUse(r.ID)
	told := api.OrganisationRecord{
		ID: string(r.ID), State: r.State, Generation: r.Generation, Since: r.Since,
		Queued: queued, Detained: detained.Messages, Keys: a.sealedKeys(r.ID),
	}
	if r.State != api.OrganisationOpen {
		closed := r.Closed
		told.Closed = &closed
	}
	if o, there := a.directory.Load().Organisation(r.ID); there {
		told.Name, told.InRegistry = o.Name, true
	}
	return told
}

// sealedKeys counts the keys that lie sealed in the data directory.
func (a organisations) sealedKeys(id org.ID) int {
	files, _ := filepath.Glob(filepath.Join(a.config.DataDir, "keys", string(id), "*", "*.age")) // an id has none of Glob's signs
	return len(files)
}
