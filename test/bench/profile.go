package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"anechoic/relay/signing"
)

// costs are what a sample of the profile is counted under: the first whose frame
// is in its stack. What the signature calls is the signature's, what collects
// garbage is the collector's, whoever made it necessary.
var costs = []struct {
	name   string
	frames []string // prefixes of function names
}{
	{"RSA signature", []string{"crypto/rsa.", "crypto/internal/fips140/rsa.", "github.com/ebitengine/purego."}},
	{"password check (argon2id)", []string{"golang.org/x/crypto/argon2."}},
	{"garbage collector", []string{"runtime.gcBgMarkWorker", "runtime.bgsweep", "runtime.bgscavenge", "runtime.gcAssistAlloc", "runtime.gcStart", "runtime.gcMarkTermination", "runtime.gcMarkDone", "runtime.(*gcWork)"}},
	{"store (Pebble)", []string{"github.com/cockroachdb/pebble"}},
	{"socket: write", []string{"net.(*conn).Write", "net.(*Buffers).WriteTo", "net.(*netFD).Write"}},
	{"socket: read", []string{"net.(*conn).Read", "net.(*netFD).Read"}},
	{"socket: open, close, deadline", []string{"net."}},
	{"TLS", []string{"crypto/tls.", "crypto/internal/fips140/aes."}},
	{"hashing (SHA-256)", []string{"crypto/sha256.", "crypto/internal/fips140/sha256."}},
	{"ours: content checks", []string{"anechoic/relay/screen"}},
	{"JSON", []string{"encoding/json"}},
	{"metrics", []string{"github.com/prometheus"}},
	{"memory: allocate", []string{"runtime.mallocgc", "runtime.growslice", "runtime.makeslice"}},
	{"ours: DKIM but the hash", []string{"anechoic/standard/dkim.", "anechoic/relay/signing."}},
	{"ours: attribution and policy", []string{"anechoic/relay/attribution.", "anechoic/relay/policy."}},
	{"ours: custody, engine, ledger", []string{"anechoic/relay/custody.", "anechoic/engine/", "anechoic/ledger."}},
	{"ours: delivery", []string{"anechoic/relay/delivery."}},
	{"ours: header and addresses", []string{"anechoic/mail."}},
	{"ours: intake", []string{"anechoic/app."}},
	{"ours: reception", []string{"anechoic/relay/smtpd."}},
	{"ours: the rest", []string{"anechoic/"}},
	{"scheduler", []string{"runtime.schedule", "runtime.mcall", "runtime.park_m", "runtime.findRunnable", "runtime.mstart", "runtime.sysmon", "runtime.goexit0"}},
}

// sample is one stack of a profile, innermost function first.
type sample struct {
	took  time.Duration
	stack []string
}

// profile puts the first load on a profiled relay and prints where its CPU time
// went.
func profile(ctx context.Context, g *ground, o options, out io.Writer) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "anechoic-profile-") // stays, for `go tool pprof`
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "cpu.pprof")
	c := pureGo(g)
	c.start = func(ctx context.Context) (running, error) { return startRelay(ctx, g, self, "relay", file) }
	if name, _ := signing.RSA(); name != "Go" {
		c.terms.Signer = name + ", no cgo" // this program is the relay
	}
	load := loads(o)[0]
	m, err := measure(ctx, g, c, load)
	if err != nil {
		return err
	}
	text, err := command(ctx, g.root, "go", "tool", "pprof", "-traces", "-unit=ns", file).output()
	if err != nil {
		return err
	}
	samples, err := readTraces(bytes.NewReader(text))
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s. %s, %s, %.0f/s delivered while submitting under the profiler. %s, %s.\nKept: %s and, of allocations, %[7]s.allocs\n",
		machine(), c.name, load, m.Delivered, c.terms.Source, c.terms.Signer, file)
	return errors.Join(
		writeShares(out, "single costs, each sample counted once", byCost(samples), int(m.Messages)),
		writeShares(out, "packages with all they call", byPackage(samples), int(m.Messages)))
}

// readTraces reads what `go tool pprof -traces -unit=ns` prints.
func readTraces(r io.Reader) (samples []sample, err error) {
	var s sample
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "-----------+") {
			if s.took > 0 {
				samples = append(samples, s)
			}
			s = sample{}
			continue
		}
		fields := strings.Fields(line)
		if took, ok := sampleTime(fields); ok && len(fields) > 1 && s.stack == nil {
			s.took, fields = took, fields[1:]
		}
		if s.took > 0 && len(fields) > 0 {
			s.stack = append(s.stack, fields[0])
		}
	}
	if s.took > 0 {
		samples = append(samples, s)
	}
	if len(samples) == 0 && lines.Err() == nil {
		return nil, errors.New("no samples in the profile")
	}
	return samples, lines.Err()
}

// sampleTime reads the time before a stack's first function.
func sampleTime(fields []string) (time.Duration, bool) {
	if len(fields) == 0 || !strings.HasSuffix(fields[0], "ns") {
		return 0, false
	}
	took, err := time.ParseDuration(fields[0])
	return took, err == nil && took > 0
}

// byCost gives every sample to one cost.
func byCost(samples []sample) map[string]time.Duration {
	total := map[string]time.Duration{}
	for _, s := range samples {
		total[costOf(s.stack)] += s.took
	}
	return total
}

func costOf(stack []string) string {
	for _, cost := range costs {
		for _, frame := range stack {
			for _, prefix := range cost.frames {
				if strings.HasPrefix(frame, prefix) {
					return cost.name
				}
			}
		}
	}
	return "runtime and kernel, the rest"
}

// byPackage gives every sample to each package in its stack.
func byPackage(samples []sample) map[string]time.Duration {
	total := map[string]time.Duration{}
	for _, s := range samples {
		seen := map[string]bool{}
		for _, frame := range s.stack {
			if p := packageOf(frame); !seen[p] {
				seen[p] = true
				total[p] += s.took
			}
		}
		total[allSamples] += s.took
	}
	return total
}

const allSamples = "all"

// packageOf is the import path in a function's name.
func packageOf(function string) string {
	slash := strings.LastIndexByte(function, '/') + 1
	name, _, _ := strings.Cut(function[slash:], ".")
	return function[:slash] + name
}

// shownShares is how many rows a table has.
const shownShares = 15

func writeShares(out io.Writer, title string, shares map[string]time.Duration, messages int) error {
	sum := shares[allSamples]
	delete(shares, allSamples)
	if sum == 0 {
		for _, took := range shares {
			sum += took
		}
	}
	names := slices.SortedFunc(maps.Keys(shares), func(a, b string) int {
		return cmp.Or(cmp.Compare(shares[b], shares[a]), cmp.Compare(a, b))
	})
	var b strings.Builder
	fmt.Fprintf(&b, "\n| %s | share | µs a message |\n|---|--:|--:|\n", title)
	for _, name := range names[:min(len(names), shownShares)] {
		fmt.Fprintf(&b, "| %s | %.1f %% | %.0f |\n", name, 100*float64(shares[name])/float64(sum), float64(shares[name].Microseconds())/float64(max(messages, 1)))
	}
	_, err := io.WriteString(out, b.String())
	return err
}
