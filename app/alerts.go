package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"anechoic/control/api"
	"anechoic/control/config"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/watch/alert"
)

// openAlerts makes what tells people.
func (a *App) openAlerts() (err error) {
	targets, err := a.config.Alerts.Targets()
	if err != nil {
		return err
	}
	own := alert.MachineAddresses()
	a.alerts, err = alert.Open(context.Background(), alert.Options{
		Store: a.store, Hostname: a.config.Hostname.String(), Version: a.options.Version, Operator: a.config.Alerts.Contact, Mail: a.mailAlert, Endpoints: a.alertEndpoints, Roots: a.options.Roots, Syslog: targets, Log: a.log,
		Contact: func(id string) (mail.Address, bool) {
			o, ok := a.directory.Load().Organisation(org.ID(id))
			if !ok {
				return mail.Address{}, false
			}
			return o.SecurityContact, true
		},
		Guard: &alert.Guard{
			Loopback: a.config.Alerts.LoopbackWebhooks, Own: func() []netip.Addr { return own },
			Lookup: func(ctx context.Context, host string) ([]netip.Addr, error) {
				answer, err := a.resolver.Addresses(ctx, host)
				return answer.Records, err
			},
		},
	})
	return err
}

// alertEndpoints are the webhooks of now: the operator's, and those of the
// organisations.
func (a *App) alertEndpoints() (list []alert.Endpoint) {
	add := func(id, owner, url string, secrets, events []string) {
		e := alert.Endpoint{Org: owner, ID: id, URL: url, SecretFiles: secrets}
		for _, event := range events {
			e.Events = append(e.Events, alert.EventType(event))
		}
		list = append(list, e)
	}
	for _, w := range a.config.Alerts.Webhooks {
		add(w.ID, "", w.URL, w.SecretFiles, w.Events)
	}
	for o := range a.directory.Load().Organisations() {
		for _, w := range o.Webhooks {
			add(w.ID, string(o.ID), w.URL, w.SecretFiles, w.Events)
		}
	}
	return list
}

// mailAlert takes the mail of an alert into custody: from the null sender, so that
// nothing comes back, as a Notice, which no suppression list stops.
func (a *App) mailAlert(ctx context.Context, m alert.Mailing) error {
	about := org.ID(m.Org)
	if m.Org == "" {
		about = relayItself
	}
	return a.mailLetter(ctx, about, m.To, func(l alert.Letter) (mail.Header, []byte, error) { return alert.Compose(l, m) })
}

// mailLetter writes a mail of the relay's own and hands it to the queue.
func (a *App) mailLetter(ctx context.Context, about org.ID, to mail.Address, compose func(alert.Letter) (mail.Header, []byte, error)) error {
	hostname, now := a.config.Hostname, time.Now().UTC()
	if _, taken := a.directory.Load().Owner(hostname); taken {
		return fmt.Errorf("%w: the relay's host name %s is in a domain of an organisation, and what it writes itself must not be in that one's name", api.ErrConflict, hostname)
	}
	from, err := mail.ParseAddress("alerts@" + hostname.String())
	if err != nil {
		return err
	}
	letter := alert.Letter{ID: mail.NewID(now), Hostname: hostname.String(), From: from, To: to, Now: now}
	header, body, err := compose(letter)
	if err != nil {
		return err
	}
	if a.config.TLSReports.From.Domain() == hostname || a.config.TLSReports.From.IsZero() {
		if header, err = a.security.signReport(header, body, hostname, now); err != nil {
			return err
		}
	}
	notice, err := custody.NewNotice(letter.ID, about)
	if err != nil {
		return err
	}
	_, err = a.queue.Keep(ctx, custody.Submission{
		ID: letter.ID, Warrant: notice, Header: header, Body: mail.NewBody(body),
		Envelope: mail.Envelope{Recipients: []mail.Recipient{{Address: to, Notify: mail.NotifyNever}}},
	}, now)
	return err
}

// Weekly summaries leave on Monday mornings, UTC.
const (
	summaryAt     = 6 * time.Hour
	summaryEvery  = 10 * time.Minute // that it is looked whether they are due
	summaryPrefix = "alert/summary/" // by organisation: the end of the last week it was told of
)

// summaries sends each organisation its week.
func (a *App) summaries(ctx context.Context) {
	tick := time.NewTicker(summaryEvery)
	defer tick.Stop()
	for {
		if err := a.summariesDue(ctx, time.Now().UTC()); err != nil && ctx.Err() == nil {
			a.log.Error("weekly summaries were not sent, they are tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// weekEnd is the end of the last week that is over: a Monday morning.
func weekEnd(now time.Time) time.Time {
	day := now.UTC().Truncate(24 * time.Hour)
	monday := day.AddDate(0, 0, -(int(day.Weekday())+6)%7).Add(summaryAt)
	if now.Before(monday) {
		return monday.AddDate(0, 0, -7)
	}
	return monday
}

// summariesDue sends what was not sent yet of the week that is over. The mark is
// written after each mail: a summary is sent twice after a crash in between.
func (a *App) summariesDue(ctx context.Context, now time.Time) error {
	end := weekEnd(now)
	due, err := a.summaryReaders(ctx, end)
	if err != nil || len(due) == 0 {
		return err
	}
	weeks, err := alert.Weeks(ctx, a.engine, end.AddDate(0, 0, -7), end)
	if err != nil {
		return err
	}
	for _, o := range due {
		w := weeks[string(o.ID)]
		if w == nil {
			w = &alert.Week{Org: string(o.ID), From: end.AddDate(0, 0, -7), To: end}
		}
		for _, i := range a.alerts.Incidents(string(o.ID), false) {
			if i.Updated.After(w.From) && i.Opened.Before(end) && i.Kind != alert.KindTest {
				w.Incidents = append(w.Incidents, i)
			}
		}
		if !w.Happened() && a.config.Alerts.Summary != config.SummaryAlways {
			continue
		}
		err := a.mailLetter(ctx, o.ID, o.SecurityContact, func(l alert.Letter) (mail.Header, []byte, error) { return alert.ComposeWeek(l, *w) })
		if err == nil {
			err = a.putSummaryMark(ctx, o.ID, end)
		}
		if err != nil {
			return fmt.Errorf("organisation %s: %w", o.ID, err)
		}
	}
	return a.putSummaryMark(ctx, "", end)
}

// summaryReaders are the organisations that were not told of the week that ended:
// none once all were.
func (a *App) summaryReaders(ctx context.Context, end time.Time) (due []*org.Organisation, err error) {
	if a.config.Alerts.Summary == config.SummaryOff {
		return nil, nil
	}
	if all, err := a.summaryMark(ctx, ""); err != nil || !all.Before(end) {
		return nil, err
	}
	for o := range a.directory.Load().Organisations() {
		if o.SecurityContact.IsZero() {
			continue
		}
		last, err := a.summaryMark(ctx, o.ID)
		if err != nil {
			return nil, err
		}
		if last.Before(end) {
			due = append(due, o)
		}
	}
	return due, nil
}

func (a *App) summaryMark(ctx context.Context, id org.ID) (last time.Time, err error) {
	value, err := a.store.Get(ctx, summaryPrefix+string(id))
	if errors.Is(err, custody.ErrNotFound) {
		return last, nil
	}
	if err == nil {
		err = json.Unmarshal(value, &last)
	}
	return last, err
}

func (a *App) putSummaryMark(ctx context.Context, id org.ID, end time.Time) error {
	value, err := json.Marshal(end)
	if err != nil {
		return err
	}
	return a.store.Commit(ctx, &custody.Batch{Put: []custody.Record{{Key: summaryPrefix + string(id), Value: value}}})
}
