package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"anechoic/control/api"
	"anechoic/org/document"
)

func TestExitCodesTellErrorsApart(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, exitOK},
		{errors.New("port in use"), exitError},
		{api.ErrNotRunning, exitError},
		{usagef("no"), exitUsage},
		{errFindings, exitFindings},
		{document.Problem{Message: "bad"}, exitFindings},
		{context.DeadlineExceeded, exitTimeout},
		{&api.Problem{Code: api.CodeBadRequest}, exitUsage},
		{&api.Problem{Code: api.CodeNotFound}, exitNotFound},
		{&api.Problem{Code: api.CodeConflict}, exitConflict},
		{&api.Problem{Code: api.CodeInvalid}, exitFindings},
		{&api.Problem{Code: api.CodeTimeout}, exitTimeout},
		{api.ErrNotAllowed, exitNotAllowed},
		{errWouldRefuse, exitWouldRefuse},
		{&api.Problem{Code: api.CodeUnavailable}, exitError},
	} {
		err := c.err
		if err != nil {
			err = fmt.Errorf("status: %w", err)
		}
		if got := (&shell{begun: true}).codeOf(err); got != c.want {
			t.Errorf("%v leaves with %d, want %d", c.err, got, c.want)
		}
	}
	if got := new(shell).codeOf(errors.New("unknown flag")); got != exitUsage {
		t.Errorf("before anything began an error leaves with %d", got)
	}
}

func TestEveryCommandIsExplained(t *testing.T) {
	sh := &shell{}
	root := sh.root()
	commands := root.Commands()
	for len(commands) > 0 {
		c := commands[0]
		commands = append(commands[1:], c.Commands()...)
		if c.Name() == "help" || c.Name() == "completion" || c.Parent().Name() == "completion" || c.IsAdditionalHelpTopicCommand() {
			continue
		}
		if c.Short == "" || c.Long == "" || strings.Count(c.Example, "anechoic ") < 2 || strings.Count(c.Example, "\n") > 3 {
			t.Errorf("%s needs a short and a long text, and two to four examples", c.CommandPath())
		}
	}
}

func TestTimesAreReadAsPeopleWriteThem(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"":                          "",
		"90m":                       "2026-11-22T07:30:00Z",
		"24h":                       "2026-11-21T09:00:00Z",
		"7d":                        "2026-11-15T09:00:00Z",
		"0d":                        "2026-11-22T09:00:00Z",
		"2026-11-01":                "2026-11-01T00:00:00Z",
		"2026-11-01 08:30":          "2026-11-01T08:30:00Z",
		"2026-11-01T08:30:00+02:00": "2026-11-01T06:30:00Z",
	} {
		if got, err := moment("--since", text, now); got != want || err != nil {
			t.Errorf("%q is %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "-1h", "-2d", "24", "d", "2026-13-01"} {
		if got, err := moment("--since", text, now); err == nil {
			t.Errorf("%q is taken for %s", text, got)
		}
	}
}

func FuzzMoment(f *testing.F) {
	for _, seed := range []string{"24h", "7d", "2026-11-01", "2026-11-01T08:30:00+02:00", "999999999999d"} {
		f.Add(seed)
	}
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := moment("--since", text, now)
		if err != nil || text == "" {
			return
		}
		if _, err := time.Parse(time.RFC3339Nano, got); err != nil {
			t.Errorf("%q gives %q, which the relay cannot read: %v", text, got, err)
		}
	})
}

func TestWhatStrangersWroteCannotSteerATerminal(t *testing.T) {
	if got, want := printable("a\x1b[2J\u202eb\r\nc\x07"), "a\uFFFD[2J\uFFFDb\uFFFD\nc\uFFFD"; got != want {
		t.Errorf("it is %q, want %q", got, want)
	}
}

func TestSpansAreShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		400 * time.Millisecond:        "0 s",
		59 * time.Second:              "59 s",
		61 * time.Second:              "1 min 1 s",
		time.Hour:                     "1 h 0 min",
		50*time.Hour + 59*time.Minute: "2 d 2 h",
	} {
		if got := span(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
