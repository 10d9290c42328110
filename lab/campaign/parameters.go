package campaign

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

//go:embed parameters/*.json
var presets embed.FS

// Parameters say what a world is like. They are data: the sets of the project are
// in parameters/*.json.
type Parameters struct {
	Name  string `json:"name"`
	About string `json:"about"` // what is different in this set, for the report

	Start         time.Time `json:"start"`         // midnight UTC
	Days          int       `json:"days"`          // whole days of traffic
	Quiet         int       `json:"quiet"`         // of them at the beginning without attacks and stresses
	Organisations int       `json:"organisations"` // attacks and stresses take one each where there are enough

	Smallest float64 `json:"smallest"` // messages on a working day of the smallest organisation
	Largest  float64 `json:"largest"`  // and of the largest there can be
	Tail     float64 `json:"tail"`     // exponent of the Pareto distribution between them: smaller is heavier

	Free      float64 `json:"free"`      // mean share of usual recipients at free-mail providers
	Novelty   float64 `json:"novelty"`   // mean share of recipients who were never written to
	Noise     float64 `json:"noise"`     // standard deviation of the logarithm of a day's volume
	Bounce    float64 `json:"bounce"`    // share of usual recipients that fail for good
	Complaint float64 `json:"complaint"` // share of newsletter recipients who complain

	Speed    float64  `json:"speed"`    // of attacks: 1 is as the kind's own number says
	Attacks  []string `json:"attacks"`  // kinds, one of each; absent: all
	Stresses []string `json:"stresses"` // kinds, one of each; absent: all
}

// The bounds of Parameters: more does not model anything.
const (
	maxDays          = 3660
	maxOrganisations = 100_000
)

// ReadParameters reads a set strictly: unknown keys are errors, and so are values that
// mean nothing.
func ReadParameters(text []byte) (Parameters, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var p Parameters
	if err := d.Decode(&p); err != nil {
		return Parameters{}, fmt.Errorf("campaign: parameters: %w", err)
	}
	if d.More() {
		return Parameters{}, errors.New("campaign: parameters: there is something after the first object; write one set a file")
	}
	if p.Attacks == nil {
		p.Attacks = AttackKinds()
	}
	if p.Stresses == nil {
		p.Stresses = StressKinds()
	}
	return p, p.Validate()
}

// Preset is a set of the project by name.
func Preset(name string) (Parameters, error) {
	text, err := presets.ReadFile("parameters/" + name + ".json")
	if err != nil {
		return Parameters{}, fmt.Errorf("campaign: there is no set of parameters %q, but: %s", name, strings.Join(Presets(), ", "))
	}
	return ReadParameters(text)
}

// Presets are the names of the project's sets; "standard" is the first.
func Presets() []string {
	files, err := presets.ReadDir("parameters")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	names := []string{"standard"}
	for _, f := range files {
		if name := strings.TrimSuffix(f.Name(), ".json"); name != names[0] {
			names = append(names, name)
		}
	}
	return names
}

// Validate gives every problem there is.
func (p Parameters) Validate() error {
	var problems []error
	check := func(ok bool, key, want string) {
		if !ok {
			problems = append(problems, fmt.Errorf("campaign: parameters: %s must be %s", key, want))
		}
	}
	check(!p.Start.IsZero() && p.Start.Equal(p.Start.Truncate(day)), "start", "midnight UTC, as 2026-01-05T00:00:00Z")
	check(p.Days >= 1 && p.Days <= maxDays, "days", fmt.Sprintf("1 to %d", maxDays))
	check(p.Quiet >= 0 && p.Quiet <= p.Days, "quiet", "0 to days")
	check(p.Organisations >= 1 && p.Organisations <= maxOrganisations, "organisations", fmt.Sprintf("1 to %d", maxOrganisations))
	check(p.Smallest >= 1 && p.Largest >= p.Smallest && p.Largest <= 1e6, "smallest, largest", "1 to 1,000,000, in this order")
	check(p.Tail > 0 && p.Tail <= 10, "tail", "above 0 and at most 10")
	for key, share := range map[string]float64{"free": p.Free, "novelty": p.Novelty, "bounce": p.Bounce, "complaint": p.Complaint} {
		check(share >= 0 && share <= 0.9, key, "a share from 0 to 0.9")
	}
	check(p.Noise >= 0 && p.Noise <= 2, "noise", "0 to 2")
	check(p.Speed > 0 && p.Speed <= 100, "speed", "above 0 and at most 100")
	for _, kind := range p.Attacks {
		check(slices.Contains(AttackKinds(), kind), fmt.Sprintf("attack %q", kind), "one of "+strings.Join(AttackKinds(), ", "))
	}
	for _, kind := range p.Stresses {
		check(slices.Contains(StressKinds(), kind), fmt.Sprintf("stress %q", kind), "one of "+strings.Join(StressKinds(), ", "))
	}
	return errors.Join(problems...)
}

const day = 24 * time.Hour

// End is when the traffic ends.
func (p Parameters) End() time.Time { return p.Start.Add(time.Duration(p.Days) * day) }

// Calm is when attacks and stresses may begin.
func (p Parameters) Calm() time.Time { return p.Start.Add(time.Duration(p.Quiet) * day) }
