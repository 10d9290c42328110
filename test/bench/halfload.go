package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// acceptConnections and acceptKiB are the load of -accept.
const (
	acceptConnections = 200
	acceptKiB         = 4
)

// Half is a relay at full load, and then at half of what it took there.
type Half struct {
	Relay string  `json:"relay"`
	Terms Terms   `json:"terms"`
	Load  Load    `json:"load"`
	Full  float64 `json:"accepted_per_s"` // closed loop
	CPU   float64 `json:"cpu_ms_per_message"`

	Half   float64 `json:"half_per_s"` // what it was handed in the second run
	Taken  float64 `json:"half_accepted_per_s"`
	AckP50 float64 `json:"half_ack_p50_ms"`
	AckP99 float64 `json:"half_ack_p99_ms"`
	EndP50 float64 `json:"half_end_to_end_p50_ms,omitempty"` // from its due time to the sink's having it
	EndP99 float64 `json:"half_end_to_end_p99_ms,omitempty"`
	Lost   float64 `json:"lost"`
	Failed float64 `json:"refused_or_failed"`
}

// accept measures how fast mail is taken while none is given: the next hop is
// suspended before the relay starts.
func accept(ctx context.Context, g *ground, o options, out io.Writer) error {
	l := Load{KiB: acceptKiB, Connections: acceptConnections, Seconds: o.seconds}
	var all []Half
	for _, edwards := range []bool{false, true} {
		n := o.node()
		n.ed25519, n.prepare = edwards, suspendNextHop(ctx, g)
		if err := g.use(n); err != nil {
			return err
		}
		for _, c := range acceptors(g) {
			h, err := halfOf(ctx, g, c, l, acceptOnly)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			all = append(all, h)
		}
	}
	if o.asJSON {
		return json.NewEncoder(out).Encode(all)
	}
	return writeHalves(out, "Accept only: the next hop is suspended", all, false)
}

// acceptors are the relays of -accept, with the key the node has.
func acceptors(g *ground) (all []contender) {
	makers := []contender{withLibcrypto(g), withoutTLS(withLibcrypto(g)), withoutTLS(pureGo(g))}
	if g.node.ed25519 { // libcrypto makes RSA signatures only
		makers = []contender{pureGo(g), withoutTLS(pureGo(g))}
	}
	for _, c := range makers {
		if g.node.ed25519 {
			c.name, c.terms.DKIM, c.terms.Signer = c.name+", Ed25519", "ed25519-sha256, relaxed/relaxed", "Go crypto/ed25519, no cgo"
		}
		c.terms.TLSOut = "nothing is delivered"
		all = append(all, c)
	}
	return all
}

// latency measures how long a message takes through each relay at half of what it
// can do.
func latency(ctx context.Context, g *ground, o options, out io.Writer) error {
	contenders, left, err := lineUp(g, o)
	if err != nil {
		return err
	}
	var all []Half
	for _, l := range loads(o) {
		for _, c := range contenders {
			h, err := halfOf(ctx, g, c, l, measure)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", c.name, l, err)
			}
			all = append(all, h)
		}
	}
	if o.asJSON {
		return json.NewEncoder(out).Encode(all)
	}
	title := "From submission to delivery, at half load"
	if left != "" {
		title += ". " + left
	}
	return writeHalves(out, title, all, true)
}

// halfOf runs a relay in a closed loop, and a fresh one at half of the rate that
// came of it.
func halfOf(ctx context.Context, g *ground, c contender, l Load, run func(context.Context, *ground, contender, Load) (Measurement, error)) (h Half, err error) {
	full, err := run(ctx, g, c, l)
	if err != nil {
		return h, err
	}
	g.say("%s, %s: %.0f/s at full load", c.name, l, full.Accepted)
	l.Rate = full.Accepted / 2
	half, err := run(ctx, g, c, l)
	if err != nil {
		return h, err
	}
	g.say("%s, %s: p99 at half load %.1f ms to the 250, %.0f ms to the sink", c.name, l, half.AckP99, half.EndP99)
	return Half{
		Relay: c.name, Terms: c.terms, Load: l, Full: full.Accepted, CPU: full.CPU, Half: l.Rate, Taken: half.Accepted,
		AckP50: half.AckP50, AckP99: half.AckP99, EndP50: half.EndP50, EndP99: half.EndP99,
		Lost: full.Lost + half.Lost, Failed: full.Failed + half.Failed,
	}, nil
}

// acceptOnly is measure without a sink.
func acceptOnly(ctx context.Context, g *ground, c contender, l Load) (m Measurement, err error) {
	err = whileRunning(ctx, c, func(r running) error {
		report, err := submit(ctx, g, c, r, l)
		m = report.measurement()
		m.CPU = 1000 * report.CPU.Relay / max(1, m.Messages)
		return err
	})
	return m, err
}

// writeHalves prints the conditions and one table.
func writeHalves(out io.Writer, title string, all []Half, delivered bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s. %s. Generator on the same cores; half load is handed over at a steady rate, whatever the relay takes.\n\n", title, machine())
	for _, h := range all {
		writeTerms(&b, h.Relay, h.Terms)
	}
	b.WriteString("\n| KiB | connections | relay | accepted/s at full load | CPU ms a message | half load/s | accepted/s | ack p50/p99 ms |")
	rule := "\n|--:|--:|---|--:|--:|--:|--:|--:|"
	if delivered {
		b.WriteString(" end to end p50/p99 ms | lost |")
		rule += "--:|--:|"
	}
	b.WriteString(" refused or failed |" + rule + "--:|\n")
	for _, h := range all {
		fmt.Fprintf(&b, "| %d | %d | %s | %.0f | %.2f | %.0f | %.0f | %.1f / %.1f |", h.Load.KiB, h.Load.Connections, h.Relay, h.Full, h.CPU, h.Half, h.Taken, h.AckP50, h.AckP99)
		if delivered {
			fmt.Fprintf(&b, " %.0f / %.0f | %.0f |", h.EndP50, h.EndP99, h.Lost)
		}
		fmt.Fprintf(&b, " %.0f |\n", h.Failed)
	}
	_, err := io.WriteString(out, b.String())
	return err
}
