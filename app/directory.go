package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/ledger"
	"anechoic/org"
	"anechoic/relay/custody"
)

// Records of this package in the engine.
const (
	generationKey = "meta/generation"
	feedPrefix    = "feed/" // feed/<provider>
	proofPrefix   = "proof/"
)

// generation numbers Directories over restarts: the same files have the same
// number, others a higher one. What was proven under another number is judged
// again before it is sent.
type generation struct {
	Number uint64 `json:"number"`
	Files  string `json:"files"` // config.Reload's SHA-256 of what was read
}

// Reload reads configuration and registry again and puts them in force, all or
// nothing: every fallible step comes before the first change. Settings that only
// a restart can change are a conflict if they changed.
func (a *App) Reload(ctx context.Context) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	err := a.adopt(ctx)
	a.metrics.Reloaded(err)
	if err != nil {
		a.log.Error("reload refused, what was in force stays", "error", err)
		return err
	}
	dir := a.directory.Load()
	a.log.Info("reloaded", "generation", dir.Generation())
	return a.record(ledger.Fact{Event: ledger.Reloaded, Generation: dir.Generation()})
}

// adopt makes a Directory of the files and puts it in force, with its keys.
func (a *App) adopt(ctx context.Context) error {
	last, err := a.lastGeneration(ctx)
	if err != nil {
		return err
	}
	next := last
	number := func(files string) uint64 { next = last.after(files); return next.Number }
	feeds := a.newFeeds()
	loaded, problems := config.Reload(a.options.ConfigFile, feeds.within(ctx), number, time.Now())
	if len(problems) > 0 {
		return problemList(problems)
	}
	c, dir := loaded.Config, loaded.Directory
	if dir == nil {
		return errors.New("the configuration names no registry: set registry = \"registry.toml\"")
	}
	if err := sameNode(a.config, c); err != nil {
		return err
	}
	shaping, problems := c.Shaping()
	if len(problems) > 0 {
		return problemList(problems)
	}
	read := time.Now() // what follows is the swap
	if problems := a.orgs.reused(dir, a.config.Registry); len(problems) > 0 {
		return problemList(problems)
	}
	keys, problems := a.keys.Prepare(ctx, dir, loaded.KeyFiles)
	if len(problems) > 0 {
		return problemList(problems)
	}
	if err := a.tls.reload(); err != nil {
		return err
	}
	organisations, err := a.saveGeneration(ctx, next, dir)
	if err := feeds.save(ctx, err); err != nil {
		return err
	}
	a.orgs.note(organisations)
	a.keys.Use(keys)
	findings := loaded.Findings // alone: the rest of loaded, the key files among it, is not held
	a.findings.Store(&findings)
	a.shaping.Store(shaping)
	if a.dispatcher != nil { // it is made after the first Directory
		a.dispatcher.Reshape()
	}
	a.directory.Store(dir)
	a.limits.meet(dir, time.Now().UTC())
	a.domains.Refresh()
	a.egressSPF.refresh()
	a.log.Info("directory in force", "generation", dir.Generation(), "swap", time.Since(read))
	return nil
}

// sameNode says which settings of relay.toml differ and need a restart. The
// providers' ranges do not: they are part of the Directory.
func sameNode(old, new config.Config) error {
	old.Providers, new.Providers = config.Providers{}, config.Providers{}
	before, after := reflect.ValueOf(old), reflect.ValueOf(new)
	for i := range before.NumField() {
		if !reflect.DeepEqual(before.Field(i).Interface(), after.Field(i).Interface()) {
			return fmt.Errorf("%w: %s in relay.toml changed, which needs a restart", api.ErrConflict, settingName(before.Type().Field(i).Name))
		}
	}
	return nil
}

// settingName is how relay.toml writes the name of a field of config.Config.
func settingName(field string) string {
	switch field {
	case "DataDir":
		return "data_dir"
	case "Hostname", "Registry", "Postmaster":
		return strings.ToLower(field)
	}
	return "[" + strings.ToLower(field) + "]"
}

// after is the number for what the files hold now.
func (g generation) after(files string) generation {
	if files == g.Files {
		return g
	}
	return generation{Number: g.Number + 1, Files: files}
}

func (a *App) lastGeneration(ctx context.Context) (g generation, err error) {
	stored, err := a.engine.Get(ctx, generationKey)
	if errors.Is(err, custody.ErrNotFound) {
		return generation{}, nil
	}
	if err == nil {
		err = json.Unmarshal(stored, &g)
	}
	if err != nil {
		return generation{}, fmt.Errorf("read the last generation: %w", err)
	}
	return g, nil
}

// saveGeneration writes the generation, and the organisation ids that come or go
// with it.
func (a *App) saveGeneration(ctx context.Context, g generation, dir *org.Directory) ([]orgRecord, error) {
	text, err := json.Marshal(g)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC()
	changed := a.orgs.changes(dir, g.Number, now)
	return changed, commitOrganisations(ctx, a.store, changed, g.Number, now, custody.Record{Key: generationKey, Value: text})
}

// loadProofs and saveProofs keep the standing of domains over a restart, so that
// a relay that starts while DNS is away still knows what it last knew.
func (a *App) loadProofs() (saved []org.SavedProof, err error) {
	var bad error
	err = a.engine.Scan(context.Background(), proofPrefix, "", func(_ string, value []byte) bool {
		var p org.SavedProof
		if e := json.Unmarshal(value, &p); e != nil {
			bad = errors.Join(bad, e)
			return true
		}
		saved = append(saved, p)
		return true
	})
	if bad != nil { // a state that cannot be read is one that is asked for again
		a.log.Warn("stored domain proofs could not be read and are looked up again", "error", bad)
	}
	return saved, err
}

// proofKey is short whatever the names are: keys of the engine are bounded.
func proofKey(n org.ProofName) string {
	sum := sha256.Sum256([]byte(string(n.Organisation) + "/" + n.Name.String()))
	return proofPrefix + hex.EncodeToString(sum[:16])
}

func (a *App) saveProofs(states []org.SavedProof) error {
	batch := &custody.Batch{Lazy: true}
	for _, s := range states {
		text, err := json.Marshal(s)
		if err != nil {
			return err
		}
		batch.Put = append(batch.Put, custody.Record{Key: proofKey(s.ProofName), Value: text})
	}
	return a.store.Commit(context.Background(), batch)
}
