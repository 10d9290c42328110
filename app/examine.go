package app

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"anechoic/control/config"
	"anechoic/control/probe"
)

// examine is what only the running relay can say of itself, for doctor.
func (a *App) examine(ctx context.Context) []probe.Check {
	checks := []probe.Check{a.examineReady(ctx), a.examineFiles(ctx), a.examineDNSSEC()}
	for _, s := range a.intake.scanners.health.ask(ctx) {
		c := probe.Check{Name: "scanner", About: s.Name, State: probe.OK, Expected: "it answers", Seen: "it answers"}
		switch {
		case !s.Answers:
			c.State, c.Seen = probe.Problem, "no answer: "+s.Detail
			c.Fix = "start it, or take it out of [screening]: mail waits or is held until it answers"
		case s.Circuit == "open":
			c.State, c.Seen, c.Fix = probe.Warning, "it answers, and was lost several times in a row lately", "see its own log"
		}
		checks = append(checks, c)
	}
	return checks
}

func (a *App) examineReady(ctx context.Context) probe.Check {
	c := probe.Check{Name: "ready", About: "the relay", Expected: "it takes mail", State: probe.OK, Seen: "it takes mail"}
	r := a.checks.Ready(ctx)
	var why []string
	for _, f := range r.Failed {
		why = append(why, f.Check+": "+f.Error)
	}
	switch {
	case r.Draining:
		c.State, c.Seen, c.Fix = probe.Warning, "it is stopping", "wait until it has, and start it again"
	case !r.Ready:
		c.State, c.Seen, c.Fix = probe.Problem, strings.Join(why, "; "), "its log has the cause"
	}
	return c
}

// examineFiles says whether what the files hold now is what is in force.
func (a *App) examineFiles(ctx context.Context) probe.Check {
	c := probe.Check{Name: "in force", About: a.options.ConfigFile, Expected: "the files as they are now", State: probe.OK}
	last, err := a.lastGeneration(ctx)
	if err != nil {
		c.State, c.Seen = probe.Warning, err.Error()
		return c
	}
	same := false
	number := func(files string) uint64 { same = files == last.Files; return last.after(files).Number }
	loaded, problems := config.Reload(a.options.ConfigFile, a.newFeeds().within(ctx), number, time.Now())
	switch {
	case len(problems) > 0:
		c.State, c.Seen = probe.Problem, fmt.Sprintf("the files do not load (%s); generation %d stays in force", problems[0], last.Number)
		c.Fix = "anechoic config validate lists all problems: a restart would fail"
	case restartNeeded(a.config, loaded.Config) != "":
		c.State, c.Seen = probe.Warning, restartNeeded(a.config, loaded.Config)+" of the configuration changed since the start"
		c.Fix = "restart the relay: this is not changed by a reload"
	case !same:
		c.State, c.Seen, c.Fix = probe.Warning, "the files changed since they were read", "anechoic apply"
	default:
		c.Seen = fmt.Sprintf("generation %d is what the files hold", last.Number)
	}
	return c
}

func restartNeeded(before, now config.Config) string {
	if err := sameNode(before, now); err == nil {
		return ""
	}
	before.Providers, now.Providers = config.Providers{}, config.Providers{}
	x, y := reflect.ValueOf(before), reflect.ValueOf(now)
	for i := range x.NumField() {
		if !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
			return settingName(x.Type().Field(i).Name)
		}
	}
	return ""
}

func (a *App) examineDNSSEC() probe.Check {
	c := probe.Check{Name: "dnssec", About: "the name servers", Expected: "they validate, and nobody stands between", State: probe.OK}
	state := a.security.dnssec.Load()
	c.Seen = state.why
	if !state.on && a.config.DNS.DNSSEC != config.DNSSECOff {
		c.State, c.Fix = probe.Warning, "DANE is off: run a validating resolver on this machine, as unbound, and name it in dns.servers; or set dns.dnssec = \"off\" to say that this is wanted"
	}
	return c
}
