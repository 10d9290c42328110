package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Report is what a comparison found.
type Report struct {
	Date    time.Time    `json:"date"`
	Machine string       `json:"machine"`
	Rounds  int          `json:"rounds"`
	Seconds int          `json:"seconds"`
	Left    string       `json:"left_out,omitempty"`
	Loads   []Comparison `json:"loads"`
}

// Terms say under which conditions a relay ran.
type Terms struct {
	Source        string `json:"source"`
	Fsync         string `json:"fsync"`
	DKIM          string `json:"dkim"`
	Signer        string `json:"signer"`
	TLSOut        string `json:"tls_out"`
	Organisations int    `json:"organisations"`
	Domains       int    `json:"domains"`
}

// Comparison is one load through every contender, ourselves first.
type Comparison struct {
	Load   Load      `json:"load"`
	Relays []Figures `json:"relays"`
	Ratios []Ratios  `json:"ratios,omitempty"` // only with a peer: each of ours to it
}

// Figures are a relay's, round by round and as medians.
type Figures struct {
	Relay  string        `json:"relay"`
	Terms  Terms         `json:"terms"`
	Median Measurement   `json:"median"`
	Rounds []Measurement `json:"rounds"`
}

// Ratios are ours to the peer's, the median of the rounds' ratios: what else ran
// on the machine in a round, slowed both.
type Ratios struct {
	Relay     string  `json:"relay"`
	Delivered float64 `json:"delivered"`
	Accepted  float64 `json:"accepted"`
	CPU       float64 `json:"cpu"`
	EndP50    float64 `json:"end_to_end_p50"`
	Memory    float64 `json:"memory"`
}

// add takes one measurement in.
func (c *Comparison) add(from contender, m Measurement) {
	i := slices.IndexFunc(c.Relays, func(f Figures) bool { return f.Relay == from.name })
	if i < 0 {
		i = len(c.Relays)
		c.Relays = append(c.Relays, Figures{Relay: from.name, Terms: from.terms})
	}
	c.Relays[i].Rounds = append(c.Relays[i].Rounds, m)
}

// settle computes medians and ratios.
func (r *Report) settle() {
	for i := range r.Loads {
		c := &r.Loads[i]
		for j := range c.Relays {
			c.Relays[j].Median = medians(c.Relays[j].Rounds)
		}
		if peer := slices.IndexFunc(c.Relays, func(f Figures) bool { return f.Relay == peerName }); peer >= 0 {
			for j, f := range c.Relays {
				if j != peer {
					c.Ratios = append(c.Ratios, ratios(f.Relay, f.Rounds, c.Relays[peer].Rounds))
				}
			}
		}
	}
}

// medians takes the median of every figure by itself, but the sums and the worst
// where a median would hide a loss.
func medians(rounds []Measurement) Measurement {
	of := func(figure func(Measurement) float64) float64 { return median(each(rounds, figure)) }
	sum := func(figure func(Measurement) float64) (total float64) {
		for _, v := range each(rounds, figure) {
			total += v
		}
		return total
	}
	return Measurement{
		Accepted:   of(func(m Measurement) float64 { return m.Accepted }),
		Delivered:  of(func(m Measurement) float64 { return m.Delivered }),
		AckP50:     of(func(m Measurement) float64 { return m.AckP50 }),
		AckP99:     of(func(m Measurement) float64 { return m.AckP99 }),
		EndP50:     of(func(m Measurement) float64 { return m.EndP50 }),
		EndP99:     of(func(m Measurement) float64 { return m.EndP99 }),
		CPU:        of(func(m Measurement) float64 { return m.CPU }),
		Memory:     of(func(m Measurement) float64 { return m.Memory }),
		Others:     of(func(m Measurement) float64 { return m.Others }),
		Messages:   sum(func(m Measurement) float64 { return m.Messages }),
		Lost:       sum(func(m Measurement) float64 { return m.Lost }),
		Duplicates: sum(func(m Measurement) float64 { return m.Duplicates }),
		Failed:     sum(func(m Measurement) float64 { return m.Failed }),
		Sampled:    sum(func(m Measurement) float64 { return m.Sampled }),
		Valid:      sum(func(m Measurement) float64 { return m.Valid }),
	}
}

func each[T any](rounds []T, figure func(T) float64) (all []float64) {
	for _, round := range rounds {
		all = append(all, figure(round))
	}
	return all
}

// median is the middle value; of an even number of values the mean of the two.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func ratios(relay string, ours, theirs []Measurement) Ratios {
	of := func(figure func(Measurement) float64) float64 {
		var all []float64
		for i := range min(len(ours), len(theirs)) {
			if d := figure(theirs[i]); d > 0 {
				all = append(all, figure(ours[i])/d)
			}
		}
		return median(all)
	}
	return Ratios{
		Relay:     relay,
		Delivered: of(func(m Measurement) float64 { return m.Delivered }),
		Accepted:  of(func(m Measurement) float64 { return m.Accepted }),
		CPU:       of(func(m Measurement) float64 { return m.CPU }),
		EndP50:    of(func(m Measurement) float64 { return m.EndP50 }),
		Memory:    of(func(m Measurement) float64 { return m.Memory }),
	}
}

func (r *Report) writeJSON(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// writeMarkdown prints the conditions, one table, and the ratios.
func (r *Report) writeMarkdown(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s. Closed loop, %d s a run, medians of %d rounds in turn; counts are sums over the rounds. Generator and sink share the cores.\n",
		r.Date.Format("2 January 2006"), r.Machine, r.Seconds, r.Rounds)
	if r.Left != "" {
		fmt.Fprintf(&b, "\n%s.\n", r.Left)
	}
	b.WriteByte('\n')
	for _, f := range r.relays() {
		writeTerms(&b, f.Relay, f.Terms)
	}
	b.WriteString("\n| KiB | connections | relay | accepted/s | delivered/s while submitting | ack p50/p99 ms | end to end p50/p99 ms | CPU ms a message | peak PSS MiB | others' CPU | messages | lost | twice | refused or failed | signatures valid |\n")
	b.WriteString("|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, c := range r.Loads {
		for _, f := range c.Relays {
			m := f.Median
			fmt.Fprintf(&b, "| %d | %d | %s | %.0f | %.0f | %.1f / %.1f | %.0f / %.0f | %.2f | %.0f | %.0f %% | %.0f | %.0f | %.0f | %.0f | %.0f of %.0f |\n",
				c.Load.KiB, c.Load.Connections, f.Relay, m.Accepted, m.Delivered, m.AckP50, m.AckP99, m.EndP50, m.EndP99, m.CPU, m.Memory, 100*m.Others,
				m.Messages, m.Lost, m.Duplicates, m.Failed, m.Valid, m.Sampled)
		}
	}
	b.WriteString("\n\"Others' CPU\" is the share of the machine that neither relay nor generator used: kernel threads, and what else ran. Where it is more than a few per cent, the run was disturbed.\n")
	for _, c := range r.Loads {
		for _, q := range c.Ratios {
			fmt.Fprintf(&b, "\n%s, %s to the peer: **%.1f ×** delivered, %.1f × accepted, **1/%.1f** of the CPU a message, %.2f × the end-to-end p50, %.2f × the memory.\n",
				c.Load, q.Relay, q.Delivered, q.Accepted, inverse(q.CPU), q.EndP50, q.Memory)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// writeTerms prints under which conditions a relay ran.
func writeTerms(b *strings.Builder, relay string, t Terms) {
	fmt.Fprintf(b, "- **%s**: source: %s; fsync: %s; DKIM: %s; signer: %s; TLS to the next hop: %s; organisations: %d; domains: %d.\n",
		relay, t.Source, t.Fsync, t.DKIM, t.Signer, t.TLSOut, t.Organisations, t.Domains)
}

// relays gives each relay once, for its terms.
func (r *Report) relays() []Figures {
	if len(r.Loads) == 0 {
		return nil
	}
	return r.Loads[0].Relays
}

func inverse(f float64) float64 {
	if f == 0 {
		return 0
	}
	return 1 / f
}
