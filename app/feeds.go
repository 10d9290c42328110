package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"anechoic/control/config"
	"anechoic/relay/custody"
)

// feedInterval is how often a feed's file is looked at.
const feedInterval = time.Minute

// goodFeed is the last list of a provider that could be believed, as it is stored
// over restarts.
type goodFeed struct {
	File   string         `json:"file"` // another file is another feed: it has no last list
	Since  time.Time      `json:"since"`
	Ranges []netip.Prefix `json:"ranges"`
}

// feeds reads the feeds for one load of the configuration. What is new and good
// is stored only when that load takes effect.
type feeds struct {
	app  *App
	news map[string]goodFeed
}

func (a *App) newFeeds() *feeds { return &feeds{app: a, news: map[string]goodFeed{}} }

// feedFiles names the feeds that are configured.
func feedFiles(c config.Config) (files []string) {
	for _, p := range []config.Provider{c.Providers.Microsoft365, c.Providers.Google} {
		if p.Feed != "" {
			files = append(files, p.Feed)
		}
	}
	return files
}

// within gives config.Feeds for one load.
func (f *feeds) within(ctx context.Context) config.Feeds {
	return func(provider string, p config.Provider) ([]netip.Prefix, error) { return f.ranges(ctx, provider, p) }
}

// ranges is the feed, if it can be read and believed, else the last list that
// could, else what relay.toml says.
func (f *feeds) ranges(ctx context.Context, provider string, p config.Provider) ([]netip.Prefix, error) {
	last, err := f.last(ctx, provider, p)
	if err != nil {
		return last.Ranges, err
	}
	next, err := config.ReadFeed(p.Feed)
	if err == nil {
		err = config.JudgeFeed(last.Ranges, next)
	}
	if err != nil {
		f.app.log.Error("a provider's feed is not used, the last good list stays", "provider", provider, "since", last.Since, "error", err)
		return last.Ranges, err
	}
	f.news[provider] = goodFeed{File: p.Feed, Since: time.Now().UTC(), Ranges: next}
	return next, nil
}

// last is the stored list, or that of relay.toml if there is none of this file.
func (f *feeds) last(ctx context.Context, provider string, p config.Provider) (goodFeed, error) {
	otherwise := goodFeed{File: p.Feed, Ranges: p.Ranges}
	text, err := f.app.engine.Get(ctx, feedPrefix+provider)
	if errors.Is(err, custody.ErrNotFound) {
		return otherwise, nil
	}
	var stored goodFeed
	if err == nil {
		err = json.Unmarshal(text, &stored)
	}
	if err != nil {
		return otherwise, fmt.Errorf("read the last list of %s: %w", provider, err)
	}
	if stored.File != p.Feed {
		return otherwise, nil
	}
	return stored, nil
}

// save stores what is new, unless a step before failed.
func (f *feeds) save(ctx context.Context, before error) error {
	if before != nil || len(f.news) == 0 {
		return before
	}
	batch := &custody.Batch{}
	for provider, feed := range f.news {
		text, err := json.Marshal(feed)
		if err != nil {
			return err
		}
		batch.Put = append(batch.Put, custody.Record{Key: feedPrefix + provider, Value: text})
	}
	return f.app.store.Commit(ctx, batch)
}

// watchFeeds reloads when a feed's file changed. A bad feed changes nothing but
// the findings.
func (a *App) watchFeeds(ctx context.Context) {
	tick := time.NewTicker(feedInterval)
	defer tick.Stop()
	seen := feedTimes(feedFiles(a.config))
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := feedTimes(feedFiles(a.config)); now != seen {
			seen = now
			_ = a.Reload(ctx) // it logs, and what was in force stays
		}
	}
}

// feedTimes is a text that changes when one of the files does.
func feedTimes(files []string) (times string) {
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			times += file + " cannot be read\n"
			continue
		}
		times += fmt.Sprintf("%s %d %s\n", file, info.Size(), info.ModTime().Format(time.RFC3339Nano))
	}
	return times
}
