package docs

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var monitoring = filepath.Join(root, "packaging", "monitoring")

// relayMetric finds the names of our metrics in an expression.
var relayMetric = regexp.MustCompile(`\banechoic_[a-z_]+`)

// documentedMetrics are those that docs/operations.md tells of, which the walkthrough
// holds against /metrics.
func documentedMetrics(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	for _, name := range relayMetric.FindAllString(read(t, "docs/operations.md").text, -1) {
		known[name] = true
		if strings.HasSuffix(name, "_seconds") {
			known[name+"_bucket"] = true
		}
	}
	return known
}

func TestTheRulesAreRightAndEachFiresWhereItShouldAndNotElsewhere(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is missing: apt-get install prometheus")
	}
	for _, arguments := range [][]string{{"check", "rules", "rules.yml"}, {"test", "rules", "rules_test.yml"}} {
		c := exec.Command(promtool, arguments...)
		c.Dir = monitoring
		if text, err := c.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(arguments, " "), err, text)
		}
	}
}

func TestEveryRuleHasTestsARunbookAndMetricsThatExist(t *testing.T) {
	rules, tests, page := monitoringFile(t, "rules.yml"), monitoringFile(t, "rules_test.yml"), read(t, "docs/alerts.md").text
	known := documentedMetrics(t)
	for _, name := range relayMetric.FindAllString(rules+tests, -1) {
		if !known[name] {
			t.Errorf("the rules ask for %s, of which docs/operations.md does not tell", name)
		}
	}
	alerts := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(rules, -1)
	if len(alerts) < 10 {
		t.Fatalf("%d alerts: the test reads the wrong file", len(alerts))
	}
	for _, m := range alerts {
		name := m[1]
		for _, want := range []string{"name: " + name + " fires\n", "name: " + name + " does not fire\n"} {
			if !strings.Contains(tests, want) {
				t.Errorf("rules_test.yml has no test %q", strings.TrimSpace(want))
			}
		}
		if !strings.Contains(page, "\n### "+name+"\n") || !strings.Contains(rules, "runbook_url: docs/alerts.md#"+strings.ToLower(name)+"\n") {
			t.Errorf("%s has no section in docs/alerts.md, or does not name it", name)
		}
	}
}

// Everything that docs/operations.md wants an alert for has a rule.
func TestWhatTheManualWantsAnAlertForHasOne(t *testing.T) {
	rules := monitoringFile(t, "rules.yml")
	for _, row := range cells(read(t, "docs/operations.md").text) {
		if len(row) < 3 || !strings.Contains(row[2], "**Alert") {
			continue
		}
		for _, name := range relayMetric.FindAllString(row[0], -1) {
			if !strings.Contains(rules, name) {
				t.Errorf("docs/operations.md wants an alert for %s, and rules.yml has none", name)
			}
		}
	}
}

func monitoringFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(monitoring, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// dashboard is what the test reads of one.
type dashboard struct {
	Templating struct {
		List []struct{ Name, Type string }
	}
	Panels []struct {
		ID         int
		Type       string
		Title      string
		Datasource struct{ Type, UID string }
		GridPos    struct{ H, W, X, Y int }
		Targets    []struct {
			Expr       string
			Datasource struct{ Type, UID string }
		}
	}
}

func TestTheDashboardAsksForMetricsThatExistInPanelsThatDoNotOverlap(t *testing.T) {
	var d dashboard
	if err := json.Unmarshal([]byte(monitoringFile(t, "dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	known, taken, ids := documentedMetrics(t), map[[2]int]string{}, []int{}
	if len(d.Panels) < 10 || len(d.Templating.List) == 0 || d.Templating.List[0].Name != "datasource" || d.Templating.List[0].Type != "datasource" {
		t.Fatalf("%d panels, %+v", len(d.Panels), d.Templating)
	}
	for _, p := range d.Panels {
		if slices.Contains(ids, p.ID) || p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q: the id is taken, or it has no title or no question", p.ID, p.Title)
		}
		ids = append(ids, p.ID)
		if p.Datasource.Type != "prometheus" || p.Datasource.UID != "${datasource}" {
			t.Errorf("%s asks %+v", p.Title, p.Datasource)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies on %q, or beside the page", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		for _, question := range p.Targets {
			names := relayMetric.FindAllString(question.Expr, -1)
			if question.Datasource != p.Datasource || len(names) == 0 {
				t.Errorf("%s asks %q of %+v", p.Title, question.Expr, question.Datasource)
			}
			for _, name := range names {
				if !known[name] {
					t.Errorf("%s asks for %s, of which docs/operations.md does not tell", p.Title, name)
				}
			}
		}
	}
}

// Grafana itself is no part of the tests: what it would make of the file is held against
// the fields that its dashboards have, and each question against Prometheus' own parser.
func TestTheDashboardHasTheFieldsOfOneAndPrometheusReadsItsQuestions(t *testing.T) {
	var d struct {
		UID, Title    string
		SchemaVersion int
		Refresh       string
		Time          struct{ From, To string }
		Panels        []struct {
			Type, Title string
			FieldConfig struct {
				Defaults struct{ Unit string }
			}
			Options map[string]any
			Targets []struct{ RefID, Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal([]byte(monitoringFile(t, "dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	if d.UID == "" || d.Title == "" || d.SchemaVersion < 36 || d.Refresh == "" || d.Time.From == "" || d.Time.To == "" {
		t.Errorf("%+v lacks what a dashboard has", d)
	}
	var rules strings.Builder
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for i, p := range d.Panels {
		if p.Type != "stat" && p.Type != "timeseries" || p.FieldConfig.Defaults.Unit == "" || len(p.Options) == 0 {
			t.Errorf("%s: type %q, unit %q, %d options", p.Title, p.Type, p.FieldConfig.Defaults.Unit, len(p.Options))
		}
		seen := map[string]bool{}
		for k, target := range p.Targets {
			if target.RefID == "" || seen[target.RefID] {
				t.Errorf("%s: the refId %q is empty or taken", p.Title, target.RefID)
			}
			seen[target.RefID] = true
			for _, label := range legendLabel.FindAllStringSubmatch(target.LegendFormat, -1) {
				if !regexp.MustCompile(`\bby \([^)]*\b` + label[1] + `\b`).MatchString(target.Expr) {
					t.Errorf("%s: the legend names %s, which %s drops", p.Title, label[1], target.Expr)
				}
			}
			expression, err := json.Marshal(strings.ReplaceAll(target.Expr, "$instance", ".*"))
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&rules, "      - record: panel_%d_%d\n        expr: %s\n", i, k, expression)
		}
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is missing: apt-get install prometheus")
	}
	file := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, text)
	}
}

var legendLabel = regexp.MustCompile(`\{\{\s*([a-z_]+)\s*\}\}`)
