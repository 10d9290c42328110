package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"time"
)

// Load is what the generator does.
type Load struct {
	KiB         int     `json:"kib"`
	Connections int     `json:"connections"`
	Seconds     int     `json:"seconds"`
	Rate        float64 `json:"per_s,omitempty"` // handed over at this rate in all, whatever the relay takes; 0: each connection after its 250
}

// String names the load.
func (l Load) String() string { return fmt.Sprintf("%d KiB, %d connections", l.KiB, l.Connections) }

// arguments are what the generator is told of it.
func (l Load) arguments() []string {
	return []string{"-size", strconv.Itoa(l.KiB << 10), "-conns", strconv.Itoa(l.Connections),
		"-duration", fmt.Sprintf("%ds", l.Seconds), "-rate", strconv.FormatFloat(l.Rate, 'f', 2, 64)}
}

// Measurement is what one run showed, or the medians of several.
type Measurement struct {
	Accepted   float64 `json:"accepted_per_s"`
	Delivered  float64 `json:"delivered_per_s_while_submitting"`
	AckP50     float64 `json:"ack_p50_ms"` // MAIL to the 250 of the message
	AckP99     float64 `json:"ack_p99_ms"`
	EndP50     float64 `json:"end_to_end_p50_ms"` // hand-over to the sink's having it
	EndP99     float64 `json:"end_to_end_p99_ms"`
	CPU        float64 `json:"cpu_ms_per_message"` // user and system, the relay's process tree
	Memory     float64 `json:"peak_pss_mib"`       // the relay's process tree
	Others     float64 `json:"others_cpu_share"`   // of the machine's CPU time: used by neither relay nor generator
	Messages   float64 `json:"messages"`           // acknowledged
	Lost       float64 `json:"lost"`               // acknowledged, but not at the sink in time
	Duplicates float64 `json:"duplicates"`
	Failed     float64 `json:"refused_or_failed"`
	Sampled    float64 `json:"signatures_sampled"`
	Valid      float64 `json:"signatures_valid"`
}

// generated is the generator's report, as far as it is used.
type generated struct {
	Source struct {
		Accepted   uint64             `json:"accepted"`
		PerSecond  float64            `json:"per_s"`
		Ack        map[string]float64 `json:"ack_ms"`
		Tempfail   uint64             `json:"tempfail"`
		Permfail   uint64             `json:"permfail"`
		Errors     uint64             `json:"errors"`
		FirstError string             `json:"first_error"`
	} `json:"source"`
	Sink struct {
		Submitting float64            `json:"per_s_while_submitting"`
		EndToEnd   map[string]float64 `json:"e2e_ms"`
		Lost       uint64             `json:"lost"`
		Duplicates uint64             `json:"duplicates"`
		DKIM       struct {
			Sampled uint64 `json:"sampled"`
			Valid   uint64 `json:"valid"`
		} `json:"dkim"`
	} `json:"sink"`
	CPU struct {
		PerThousand float64 `json:"relay_cpu_s_per_1000"`
		PeakPSS     float64 `json:"relay_peak_pss_mib"`
		Relay       float64 `json:"relay_cpu_s"`
		Generator   float64 `json:"mailbench_cpu_s"`
		Machine     float64 `json:"system_busy_s"`
		Wall        float64 `json:"wall_s"`
	} `json:"cpu"`
}

func (r *generated) measurement() Measurement {
	return Measurement{
		Accepted: r.Source.PerSecond, Delivered: r.Sink.Submitting,
		AckP50: r.Source.Ack["p50"], AckP99: r.Source.Ack["p99"], EndP50: r.Sink.EndToEnd["p50"], EndP99: r.Sink.EndToEnd["p99"],
		CPU: r.CPU.PerThousand, Memory: r.CPU.PeakPSS, Messages: float64(r.Source.Accepted),
		Lost: float64(r.Sink.Lost), Duplicates: float64(r.Sink.Duplicates),
		Failed:  float64(r.Source.Tempfail + r.Source.Permfail + r.Source.Errors),
		Sampled: float64(r.Sink.DKIM.Sampled), Valid: float64(r.Sink.DKIM.Valid),
		Others: (r.CPU.Machine - r.CPU.Relay - r.CPU.Generator) / (max(r.CPU.Wall, 1) * float64(runtime.NumCPU())),
	}
}

// drainTime is how long the sink waits for what is still queued after the last
// message was acknowledged.
const drainTime = 45 * time.Second

// measure starts a contender on an empty queue, puts the load on it and stops it.
func measure(ctx context.Context, g *ground, c contender, l Load) (m Measurement, err error) {
	err = whileRunning(ctx, c, func(r running) error {
		m, err = generate(ctx, g, c, r, l)
		return err
	})
	return m, err
}

// whileRunning starts a contender, does something with it and stops it.
func whileRunning(ctx context.Context, c contender, do func(running) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := c.start(ctx)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	return do(r)
}

// generate runs generator and sink around a running relay.
func generate(ctx context.Context, g *ground, c contender, r running, l Load) (m Measurement, err error) {
	report, err := g.mailbench(ctx, c, r, l, "run", "-listen", portText(g.sinkPort), "-drain", drainTime.String(), "-dkim-pub", g.path("dkim.pub"))
	return report.measurement(), err
}

// submit runs the generator alone: what becomes of the messages is not its matter.
func submit(ctx context.Context, g *ground, c contender, r running, l Load, args ...string) (generated, error) {
	return g.mailbench(ctx, c, r, l, "source", args...)
}

// mailbench runs the generator in one of its modes and reads its report.
func (g *ground) mailbench(ctx context.Context, c contender, r running, l Load, mode string, args ...string) (report generated, err error) {
	args = slices.Concat([]string{mode, "-label", c.name, "-pids", r.pids, "-to", r.addr, "-from", sender}, l.arguments(), c.load, args)
	out, err := raised(ctx, g.work, g.path("mailbench"), args...).output()
	if err != nil {
		return report, err
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return report, fmt.Errorf("the generator's report: %w", err)
	}
	if report.Source.FirstError != "" {
		g.say("%s: the first of %.0f refusals or failures: %s", c.name, report.measurement().Failed, report.Source.FirstError)
	}
	if report.Source.Accepted == 0 {
		return report, fmt.Errorf("not one message was accepted: %s", report.Source.FirstError)
	}
	return report, nil
}
