package app

import (
	"log/slog"
	"testing"
	"time"

	"anechoic/control/api"
	"anechoic/org"
)

// A risk that a probe found is told until the same look finds it no longer, or the
// source is gone.
func TestARiskOfAProbeGoesAtTheNextLookThatDoesNotFindIt(t *testing.T) {
	reg, problems := org.ParseRegistry("registry.toml", []byte(`[[organisation]]
id = "acme"
  [[organisation.domain]]
  name = "acme.example"
  [[organisation.source]]
  id = "mx"
  kind = "address"
  addresses = ["203.0.113.10/32"]
  from = ["*@acme.example"]
`))
	dir, more, _ := org.Build(reg, org.Providers{}, nil, 1, time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
	if dir == nil {
		t.Fatal(problems, more)
	}
	p := newProbes(&App{log: slog.New(slog.DiscardHandler)})
	one := &pendingProbe{told: api.Probe{Organisation: "acme", Source: "mx"}}
	taken := []api.Spoof{{Way: "from elsewhere"}, {Way: "without TLS"}}
	refused := []api.Spoof{{Way: "from elsewhere", Refused: true}, {Way: "without TLS", Refused: true}}
	for _, step := range []struct {
		name    string
		session bool
		spoofs  []api.Spoof
		whole   bool
		want    int
	}{
		{"two are taken", false, taken, true, 2},
		{"one is taken in a session", true, taken[:1], true, 3},
		{"the same again", false, taken, true, 3},
		{"refused, but not all could be tried", false, refused, false, 3},
		{"one of the two is refused now", false, []api.Spoof{refused[0], taken[1]}, true, 2},
		{"both are", false, refused, true, 1},
		{"in sessions too", true, refused, true, 0},
		{"taken once more", true, taken, true, 2},
	} {
		p.tellSpoofs(one, step.session, step.spoofs, step.whole)
		if got := p.findings(dir); len(got) != step.want {
			t.Errorf("%s: %d findings, want %d: %v", step.name, len(got), step.want, got)
		}
	}
	if got := p.findings(new(org.Directory)); len(got) > 0 {
		t.Errorf("of a source that is gone it tells %v", got)
	}
}
