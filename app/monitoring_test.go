package app

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Metrics that are there only while there is something to show, with their labels as
// docs/operations.md has them.
var metricsOfSomething = map[string][]string{
	"anechoic_detained_messages":        {"org", "reason"},
	"anechoic_scanner_answers_total":    {"scanner", "action"},
	"anechoic_scanner_resting":          {"scanner"},
	"anechoic_queue_recipients_by_site": {"site", "state"},
}

// What a query says: names of metrics with their selectors, and the labels it groups by.
var (
	queriedMetric = regexp.MustCompile(`\b(anechoic_[a-z_]+)(?:\{([^}]*)\})?`)
	queriedLabel  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
	queriedBy     = regexp.MustCompile(`\bby \(([^)]*)\)`)
	shownSeries   = regexp.MustCompile(`(?m)^(anechoic_[a-z_]+)(?:\{([^}]*)\})? `)
)

// TestTheDashboardAndTheRulesAskForWhatTheProgramShows: each name is a metric of a relay
// that runs, and each label one of that metric's.
func TestTheDashboardAndTheRulesAskForWhatTheProgramShows(t *testing.T) {
	w := newWatched(t, "")
	w.flows(t, "for the metrics")
	shown := map[string][]string{}
	for name, labels := range metricsOfSomething {
		shown[name] = labels
	}
	for _, m := range shownSeries.FindAllStringSubmatch(w.metricsPage(t), -1) {
		for _, l := range queriedLabel.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(shown[m[1]], l[1]) {
				shown[m[1]] = append(shown[m[1]], l[1])
			}
		}
		shown[m[1]] = append(shown[m[1]], "instance", "job") // of the scrape
	}
	queries := queriesThatShip(t)
	if len(queries) < 40 || len(shown) < 30 {
		t.Fatalf("%d queries, %d metrics", len(queries), len(shown))
	}
	for _, q := range queries {
		var labels []string
		for _, m := range queriedMetric.FindAllStringSubmatch(q, -1) {
			known, ok := shown[m[1]]
			if !ok {
				t.Errorf("%s asks for %s, which no relay shows", q, m[1])
			}
			for _, l := range queriedLabel.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(known, l[1]) && l[1] != "instance" {
					t.Errorf("%s asks for the label %s, which %s does not have", q, l[1], m[1])
				}
			}
			labels = append(labels, known...)
		}
		for _, by := range queriedBy.FindAllStringSubmatch(q, -1) {
			for _, l := range strings.Split(by[1], ",") {
				if !slices.Contains(labels, strings.TrimSpace(l)) {
					t.Errorf("%s groups by %s, which none of its metrics has", q, l)
				}
			}
		}
	}
}

// queriesThatShip are those of the dashboard and of the rules, but those of other
// programs' metrics.
func queriesThatShip(t *testing.T) (queries []string) {
	t.Helper()
	var d struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	text, err := os.ReadFile("../packaging/monitoring/dashboard.json")
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			queries = append(queries, target.Expr)
		}
	}
	rules, err := os.ReadFile("../packaging/monitoring/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^ +expr: '(.*)'$`).FindAllStringSubmatch(string(rules), -1) {
		queries = append(queries, m[1])
	}
	return queries
}
