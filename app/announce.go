package app

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"anechoic/watch/alert"
	"anechoic/watch/campaign"
	"anechoic/watch/detect"
	"anechoic/watch/response"
)

// Kinds of alerts, as docs/alerts.md lists them.
const (
	alertFinding  = "finding"
	alertCampaign = "campaign"
	alertResponse = "response"
)

// tellWithin is how old what is told may be: after a rebuild from the ledger nobody is
// told of last week.
const tellWithin = 24 * time.Hour

// organisationsTold bounds how many organisations one campaign is told to: those most
// abused.
const organisationsTold = 50

// tellWatched tells people of findings and campaigns. A finding that belongs to a
// campaign is told with it.
func (a *App) tellWatched(ctx context.Context, news told) {
	now := time.Now()
	for _, f := range news.findings {
		if f.IsAlarm() && !news.grouped[f.ID] && now.Sub(f.Last) < tellWithin {
			a.tellPeople(ctx, findingAlert(f))
		}
	}
	for _, u := range news.campaigns {
		if u.Change == campaign.Merged || now.Sub(u.Campaign.Last) >= tellWithin {
			continue
		}
		a.tellPeople(ctx, campaignAlert(u))
		for _, victim := range u.Campaign.Organisations[:min(len(u.Campaign.Organisations), organisationsTold)] {
			a.tellPeople(ctx, victimAlert(u, victim))
		}
	}
}

func findingAlert(f detect.Finding) alert.Alert {
	told := alert.Alert{
		Key: "finding " + f.ID, Org: f.Scope.Org, Kind: alertFinding, Severity: alert.Warning, Title: f.Sentence, Text: f.Sentence + "\n\nanechoic finding list shows it.",
		Time: f.Last, Finding: f.ID, Count: f.Messages, Ended: f.Ended, Fields: [][2]string{{"kind", string(f.Kind)}, {"source", f.Scope.Source}, {"domain", f.Scope.Domain}, {"got through", strconv.Itoa(f.Left)}},
	}
	for _, e := range f.Evidence {
		told.Fields = append(told.Fields, [2]string{e.Name, e.Seen + usually(e.Usual)})
	}
	return told
}

func usually(usual string) string {
	if usual == "" {
		return ""
	}
	return " (usual: " + usual + ")"
}

// campaignAlert is for the operator, who sees all of it.
func campaignAlert(u campaign.Update) alert.Alert {
	c := &u.Campaign
	return alert.Alert{
		Key: "campaign " + c.ID, Kind: alertCampaign, Severity: severityOf(c.Left), Title: c.Title, Text: c.Text(), Time: c.Last, Campaign: c.ID, Count: c.Messages, Ended: u.Change == campaign.Ended,
		Fields: [][2]string{{"refused", strconv.Itoa(c.Refused)}, {"got through", strconv.Itoa(c.Left)}},
	}
}

// victimAlert is for one organisation: nothing in it is of another.
func victimAlert(u campaign.Update, victim campaign.Count) alert.Alert {
	c := &u.Campaign
	return alert.Alert{
		Key: "campaign " + c.ID + " " + victim.Name, Org: victim.Name, Kind: alertCampaign, Severity: severityOf(c.Left), Title: fmt.Sprintf("Mail in the name of %s is part of a campaign", victim.Name),
		Text: fmt.Sprintf("%d messages since %s had a domain of %s in From. Whoever runs this relay sees all of the campaign with: anechoic campaign show %s",
			victim.Messages, c.Start.UTC().Format(time.RFC3339), victim.Name, c.ID),
		Time: c.Last, Campaign: c.ID, Count: victim.Messages, Ended: u.Change == campaign.Ended,
	}
}

func severityOf(left int) string {
	if left > 0 {
		return alert.Critical
	}
	return alert.Warning
}

// tellResponses tells people of steps that were taken, changed, proposed or ended.
func (a *App) tellResponses(ctx context.Context, changes []response.Change) {
	for _, c := range changes {
		if !c.Told() {
			continue
		}
		severity := alert.Warning
		if c.Order.Step >= response.Suspend && !c.Order.Over() {
			severity = alert.Critical
		}
		a.tellPeople(ctx, alert.Alert{
			Key: "response " + c.Order.ID, Org: c.Order.Scope.Org, Kind: alertResponse, Severity: severity, Title: c.Sentence(), Time: time.Now().UTC(), News: true, Ended: c.Order.Over(),
			Text:   c.Sentence() + a.recordsToDo(c) + "\n\nanechoic response show " + c.Order.ID + " tells more; anechoic response end " + c.Order.ID + " takes it back.",
			Fields: [][2]string{{"step", c.Order.Step.String()}, {"scope", response.ScopeText(c.Order.Scope)}},
		})
	}
}

func (a *App) tellPeople(ctx context.Context, told alert.Alert) {
	if err := a.alerts.Tell(ctx, told); err != nil && ctx.Err() == nil {
		a.log.Error("an alert could not be taken", "kind", told.Kind, "key", told.Key, "error", err)
	}
}
