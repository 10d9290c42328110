package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"anechoic/lab/sink"
	"anechoic/mail"
)

// provider is one next hop of -goodput: a domain, an address, a way to behave.
type provider struct {
	name      string
	does      string
	behaviour func(share float64) sink.Behaviour // share: messages a second it is handed
}

func (p provider) domain() string { return p.name + ".example" }

// providerAddress is the n-th provider's; all have the same port.
func providerAddress(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 70, 0, byte(1 + n)}) }

// What the providers do.
const (
	stormLasts     = 8 * time.Second
	greylistDelay  = 5 * time.Second
	closesAfter    = 5
	slowLeast      = 500 * time.Millisecond
	slowMost       = 1500 * time.Millisecond
	rateShare      = 0.7 // of what the provider is handed
	crowdedFor     = 2
	crowdedSlow    = 100 * time.Millisecond
	plainProvider  = "plain"
	goodputRun     = 1000 // number of the first provider's generator: it is in each message
	goodputPerConn = 5    // connections of one generator
)

// providers are those of one run, with fresh state.
var providers = []provider{
	{plainProvider, "takes everything at once", func(float64) sink.Behaviour { return sink.Plain{} }},
	{"storm", fmt.Sprintf("451 to all for the first %s", stormLasts), func(float64) sink.Behaviour { return &sink.Storm{Lasts: stormLasts} }},
	{"grey", fmt.Sprintf("greylists: the first attempt 451, taken %s later", greylistDelay), func(float64) sink.Behaviour { return &sink.Greylist{Delay: greylistDelay} }},
	{"closing", fmt.Sprintf("421 after %d messages on a connection", closesAfter), func(float64) sink.Behaviour { return sink.Closing{Messages: closesAfter} }},
	{"slow", fmt.Sprintf("answers the final dot after %s to %s", slowLeast, slowMost), func(float64) sink.Behaviour {
		return &sink.Slow{Least: slowLeast, Most: slowMost, Dice: sink.Seeded(1)}
	}},
	{"rate", fmt.Sprintf("421 4.7.0 or 451 4.7.1 past %.0f %% of what it is handed", 100*rateShare), func(share float64) sink.Behaviour {
		return &sink.Rate{PerSecond: rateShare * share, Burst: max(1, share), Dice: sink.Seeded(2)}
	}},
	{"crowded", fmt.Sprintf("421 to all but %d connections, %s for each message", crowdedFor, crowdedSlow), func(float64) sink.Behaviour {
		return sink.All{sink.Crowded{Connections: crowdedFor}, &sink.Slow{Most: crowdedSlow}}
	}},
}

// How both relays try again. Postfix waits as long as a message is old, within
// minimal_backoff_time and maximal_backoff_time: attempts at 5, 10, 20, 40 … seconds,
// looked for every queue_run_delay. These pauses lead to the same times.
const (
	ourRetries   = `["5s", "5s", "10s", "20s", "40s"]`
	theirRetries = "minimal_backoff_time = 5s, queue_run_delay = 5s: attempts at 5, 10, 20, 40 … s of a message's age"
)

// Goodput is one relay's way through one run.
type Goodput struct {
	Relay     string          `json:"relay"`
	Terms     Terms           `json:"terms"`
	Window    float64         `json:"delivered_per_s_while_submitting"` // different messages
	Whole     float64         `json:"delivered_per_s_until_all_were"`
	Seconds   float64         `json:"seconds_until_all_were"` // from the first submission; 0: not all were, in time
	Attempts  float64         `json:"attempts_per_delivery"`
	PlainP50  float64         `json:"plain_p50_ms"` // of the provider that takes everything
	PlainP99  float64         `json:"plain_p99_ms"`
	Submitted int             `json:"accepted_by_relay"`
	Missing   int             `json:"missing"`
	Twice     int             `json:"twice"`
	Providers []ProviderTally `json:"providers"`
}

// ProviderTally is what one provider saw.
type ProviderTally struct {
	Provider    string  `json:"provider"`
	Does        string  `json:"does"`
	Submitted   int     `json:"accepted_by_relay"`
	Unique      int     `json:"delivered"`
	Twice       int     `json:"twice"`
	Window      float64 `json:"delivered_per_s_while_submitting"`
	Attempts    float64 `json:"attempts_per_delivery"`
	P50         float64 `json:"p50_ms"`
	P99         float64 `json:"p99_ms"`
	Refused     int     `json:"refused"`
	Connections int     `json:"connections"`
	TurnedAway  int     `json:"turned_away"`
	Peak        int     `json:"most_connections_at_a_time"`
}

// goodput puts both relays before the same providers, in turn.
func goodput(ctx context.Context, g *ground, o options, out io.Writer) error {
	n := o.node()
	n.delivery = fmt.Sprintf("port = %d\nretry_after = %s\n", g.sinkPort, ourRetries)
	if err := g.use(n); err != nil {
		return err
	}
	g.publishProviders()
	contenders, left := []contender{withoutTLS(withLibcrypto(g))}, ""
	switch missing := postfixMissing(); {
	case o.alone:
	case missing != "":
		left = "Postfix with OpenDKIM was left out: " + missing
		g.say("%s", left)
	default:
		if err := postfixPortFree(); err != nil {
			return err
		}
		contenders = append(contenders, postfixToProviders(g))
	}
	var rounds [][]Goodput // by contender
	for round := range o.rounds {
		for i, c := range contenders {
			r, err := goodputOf(ctx, g, c, o)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			g.say("round %d: %s: %.1f/s delivered while submitting, %.0f s until all were, %.2f attempts a delivery", round+1, c.name, r.Window, r.Seconds, r.Attempts)
			if round == 0 {
				rounds = append(rounds, nil)
			}
			rounds[i] = append(rounds[i], r)
		}
	}
	if o.asJSON {
		return json.NewEncoder(out).Encode(rounds)
	}
	return writeGoodput(out, o, left, rounds)
}

// publishProviders gives each provider's domain a mail exchanger at its address.
func (g *ground) publishProviders() {
	for i, p := range providers {
		g.zone.SetMX(p.domain(), mail.MX{Preference: 10, Host: "mx." + p.domain()})
		g.zone.SetAddresses("mx."+p.domain(), providerAddress(i))
	}
}

// postfixToProviders is Postfix with a way to each provider instead of one next
// hop. Its processes and concurrency towards several destinations are what its
// default is, or more: the peer's own file is tuned for one.
func postfixToProviders(g *ground) contender {
	c := postfix(g)
	start := c.start
	c.start = func(ctx context.Context) (running, error) {
		r, err := start(ctx)
		if err != nil {
			return r, err
		}
		folder := g.path("postfix", "etc")
		for _, change := range [][]string{
			append([]string{"postconf", "-c", folder, "-e"}, providerSettings(g.sinkPort)...),
			{"postconf", "-c", folder, "-F", "smtp/unix/process_limit=200"},
			{"postfix", "-c", folder, "reload"},
		} {
			if err := command(ctx, g.work, change[0], change[1:]...).run(); err != nil {
				return running{}, errors.Join(err, r.stop())
			}
		}
		return r, nil
	}
	return c
}

// providerSettings are the settings of Postfix that lead to the providers.
func providerSettings(port int) []string {
	var ways, hops []string
	for i, p := range providers {
		hop := fmt.Sprintf("[%s]:%d", providerAddress(i), port)
		ways, hops = append(ways, p.domain()+"=smtp:"+hop), append(hops, hop)
	}
	return []string{
		"relayhost =", "transport_maps = inline:{" + strings.Join(ways, ", ") + "}",
		"smtp_connection_cache_destinations = " + strings.Join(hops, ", "),
		"initial_destination_concurrency = 5", "default_destination_concurrency_limit = 20", // its defaults
	}
}

// goodputOf is one relay's run.
func goodputOf(ctx context.Context, g *ground, c contender, o options) (result Goodput, err error) {
	sinks, err := g.openProviders(o.rate / float64(len(providers)))
	defer func() {
		for _, s := range sinks {
			err = errors.Join(err, s.Close())
		}
	}()
	if err != nil {
		return result, err
	}
	err = whileRunning(ctx, c, func(r running) error {
		start := time.Now()
		accepted, err := submitToAll(ctx, g, c, r, o)
		end := time.Now()
		if err != nil {
			return err
		}
		tallies := awaitAll(ctx, sinks, accepted, end.Add(o.drain))
		result = sumUp(c, tallies, accepted, start, end)
		return ctx.Err()
	})
	return result, err
}

// openProviders opens a sink for each.
func (g *ground) openProviders(share float64) (sinks []*sink.Sink, err error) {
	for i, p := range providers {
		s, err := sink.Open(sink.Options{
			Addr:   netip.AddrPortFrom(providerAddress(i), uint16(g.sinkPort)).String(),
			Domain: p.domain(), Behaviour: p.behaviour(share), Stamp: generatorStamp,
		})
		if err != nil {
			return sinks, err
		}
		sinks = append(sinks, s)
	}
	return sinks, nil
}

// generatorStamp reads "X-Bench: run.number.nanoseconds".
func generatorStamp(header []byte) (name string, sent time.Time, ok bool) {
	value, _ := sink.Field(header, "X-Bench")
	dot := strings.LastIndexByte(value, '.')
	if dot < 0 {
		return "", sent, false
	}
	nanoseconds, err := strconv.ParseInt(value[dot+1:], 10, 64)
	if err != nil {
		return "", sent, false
	}
	return value[:dot], time.Unix(0, nanoseconds), true
}

// submitToAll runs a generator for each provider at the same time, each at its
// share of the rate, and says how many messages of each the relay took.
func submitToAll(ctx context.Context, g *ground, c contender, r running, o options) (accepted []int, err error) {
	accepted = make([]int, len(providers))
	var mu sync.Mutex // guards err
	var all sync.WaitGroup
	l := Load{KiB: o.sizes[0], Connections: goodputPerConn, Seconds: o.seconds, Rate: o.rate / float64(len(providers))}
	for i, p := range providers {
		all.Go(func() {
			report, failed := submit(ctx, g, c, r, l, "-rcpt", "r%d@"+p.domain(), "-run", strconv.Itoa(goodputRun+i))
			accepted[i] = int(report.Source.Accepted)
			if failed != nil {
				mu.Lock()
				err = errors.Join(err, fmt.Errorf("mail for %s: %w", p.domain(), failed))
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return accepted, err
}

// awaitAll waits until every provider has what the relay took for it, or until a
// time.
func awaitAll(ctx context.Context, sinks []*sink.Sink, accepted []int, until time.Time) []sink.Tally {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	tallies := make([]sink.Tally, len(sinks))
	for {
		complete := true
		for i, s := range sinks {
			tallies[i] = s.Tally()
			complete = complete && tallies[i].Unique() >= accepted[i]
		}
		if complete || time.Now().After(until) {
			return tallies
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return tallies
		}
	}
}

// sumUp makes figures of what the providers saw.
func sumUp(c contender, tallies []sink.Tally, accepted []int, start, end time.Time) Goodput {
	r := Goodput{Relay: c.name, Terms: c.terms}
	window, attempts, delivered := end.Sub(start).Seconds(), 0, 0
	var last time.Time
	for i, t := range tallies {
		p := ProviderTally{
			Provider: providers[i].name, Does: providers[i].does, Submitted: accepted[i], Unique: t.Unique(), Twice: t.Duplicates,
			Window: float64(t.Until(end)) / window, Attempts: share(t.Attempts, t.Unique()),
			P50: milliseconds(t.Took(0.5)), P99: milliseconds(t.Took(0.99)),
			Refused: t.Refused, Connections: t.Connections, TurnedAway: t.TurnedAway, Peak: t.Peak,
		}
		if p.Provider == plainProvider {
			r.PlainP50, r.PlainP99 = p.P50, p.P99
		}
		r.Submitted, r.Twice, r.Window = r.Submitted+accepted[i], r.Twice+t.Duplicates, r.Window+p.Window
		r.Missing += max(0, accepted[i]-t.Unique())
		attempts, delivered = attempts+t.Attempts, delivered+t.Unique()
		if at := t.Last(); at.After(last) {
			last = at
		}
		r.Providers = append(r.Providers, p)
	}
	r.Attempts = share(attempts, delivered)
	if took := last.Sub(start).Seconds(); r.Missing == 0 && took > 0 {
		r.Seconds, r.Whole = took, float64(delivered)/took
	}
	return r
}

func share(part, whole int) float64 { return float64(part) / float64(max(1, whole)) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// medianGoodput takes the median of every figure by itself, and sums of counts.
func medianGoodput(rounds []Goodput) Goodput {
	of := func(figure func(Goodput) float64) float64 {
		var all []float64
		for _, r := range rounds {
			all = append(all, figure(r))
		}
		return median(all)
	}
	m := Goodput{
		Relay: rounds[0].Relay, Terms: rounds[0].Terms,
		Window:   of(func(g Goodput) float64 { return g.Window }),
		Whole:    of(func(g Goodput) float64 { return g.Whole }),
		Seconds:  of(func(g Goodput) float64 { return g.Seconds }),
		Attempts: of(func(g Goodput) float64 { return g.Attempts }),
		PlainP50: of(func(g Goodput) float64 { return g.PlainP50 }),
		PlainP99: of(func(g Goodput) float64 { return g.PlainP99 }),
	}
	for _, r := range rounds {
		m.Submitted, m.Missing, m.Twice = m.Submitted+r.Submitted, m.Missing+r.Missing, m.Twice+r.Twice
	}
	return m
}

// writeGoodput prints the conditions, the medians of all rounds, and what each
// provider saw in the last one.
func writeGoodput(out io.Writer, o options, left string, rounds [][]Goodput) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s. %d KiB, %.0f messages a second in all for %d s, in equal parts to %d providers; medians of %d rounds in turn, counts are sums. Relay, generators and providers share the cores.\n",
		machine(), o.sizes[0], o.rate, o.seconds, len(providers), o.rounds)
	fmt.Fprintf(&b, "\nAnechoic: retry_after = %s. Postfix: %s; 20 deliveries to a destination at a time, 200 in all.\n", ourRetries, theirRetries)
	if left != "" {
		fmt.Fprintf(&b, "\n%s.\n", left)
	}
	b.WriteByte('\n')
	for _, r := range rounds {
		writeTerms(&b, r[0].Relay, r[0].Terms)
	}
	b.WriteString("\n| relay | delivered/s while submitting | delivered/s until all were | seconds until all were | attempts a delivery | plain p50/p99 ms | messages | missing | twice |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, r := range rounds {
		m := medianGoodput(r)
		whole, seconds := "–", "–"
		if m.Missing == 0 {
			whole, seconds = fmt.Sprintf("%.1f", m.Whole), fmt.Sprintf("%.0f", m.Seconds)
		}
		fmt.Fprintf(&b, "| %s | %.1f | %s | %s | %.2f | %.0f / %.0f | %d | %d | %d |\n", m.Relay, m.Window, whole, seconds, m.Attempts, m.PlainP50, m.PlainP99, m.Submitted, m.Missing, m.Twice)
	}
	b.WriteString("\nWhat each provider saw in the last round:\n\n| provider | relay | delivered | of | delivered/s while submitting | attempts a delivery | p50/p99 s | refused | connections | turned away | most at a time | twice |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for i, p := range providers {
		for _, r := range rounds {
			t := r[len(r)-1].Providers[i]
			fmt.Fprintf(&b, "| %s: %s | %s | %d | %d | %.1f | %.2f | %.2f / %.2f | %d | %d | %d | %d | %d |\n", p.name, p.does, r[0].Relay, t.Unique, t.Submitted, t.Window, t.Attempts,
				t.P50/1000, t.P99/1000, t.Refused, t.Connections, t.TurnedAway, t.Peak, t.Twice)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}
