package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"anechoic/app"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/org/orgtest"
	"anechoic/relay/attribution"
	"anechoic/relay/policy"
)

// directoryRounds is how often each step is measured; the medians are printed.
const directoryRounds = 3

// decisions is how many messages are decided in one measurement, each of another
// organisation.
const decisions = 20_000

// Step is what one step of a Directory's life takes.
type Step struct {
	Wall time.Duration
	CPU  time.Duration // user and system, the garbage collector's work included
}

// DirectoryFigures is what a registry of some size takes.
type DirectoryFigures struct {
	Organisations, Domains int
	File                   float64 // MiB
	Read                   Step    // file to Registry
	Build                  Step    // Registry to Directory
	Swap                   time.Duration
	Decide                 Step    // a message: attribution and policy
	Held                   float64 // MiB, of a Directory alone
	Peak                   float64 // MiB, of the process while a second Directory is read beside it
}

// directory measures a registry of many organisations: to read it, to build the
// Directory, to swap it, and to decide with it.
func directory(ctx context.Context, o options, out, errs io.Writer) (err error) {
	work, err := os.MkdirTemp("", "anechoic-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	f := DirectoryFigures{Organisations: o.organisations, Domains: o.organisations * orgtest.DomainsEach}
	text := orgtest.Registry(o.organisations)
	f.File = mebibytes(uint64(len(text)))
	file := filepath.Join(work, "registry.toml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	fmt.Fprintf(errs, "bench: %d organisations, %.0f MiB: read, build, decide\n", o.organisations, f.File)
	text = nil
	if err := f.measure(file); err != nil {
		return err
	}
	fmt.Fprintf(errs, "bench: swap\n")
	if f.Swap, err = swap(ctx, work, o.organisations); err != nil {
		return err
	}
	return f.writeMarkdown(out)
}

func mebibytes(n uint64) float64 { return float64(n) / (1 << 20) }

// step measures work once.
func step(work func() error) (s Step, err error) {
	began, before := time.Now(), spent()
	err = work()
	return Step{time.Since(began), spent() - before}, err
}

// spent is this process's processor time.
func spent() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func medianStep(steps []Step) (s Step) {
	s.Wall = time.Duration(median(each(steps, func(s Step) float64 { return float64(s.Wall) })))
	s.CPU = time.Duration(median(each(steps, func(s Step) float64 { return float64(s.CPU) })))
	return s
}

// measure reads and builds several times, as reloads do: the Directory before stays
// in force while the next is made.
func (f *DirectoryFigures) measure(file string) error {
	debug.FreeOSMemory()
	base := heap()
	var inForce *org.Directory
	var reads, builds, decides []Step
	for range directoryRounds {
		var reg org.Registry
		read, err := step(func() (err error) { reg, err = readRegistry(file); return err })
		if err != nil {
			return err
		}
		var made *org.Directory
		build, err := step(func() (err error) { made, err = buildDirectory(reg); return err })
		if err != nil {
			return err
		}
		inForce = made
		reads, builds = append(reads, read), append(builds, build)
	}
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	f.Peak = mebibytes(after.Sys - after.HeapReleased)
	f.Held = mebibytes(heap() - base)
	messages, err := evidence(inForce, f.Organisations)
	if err != nil {
		return err
	}
	for range directoryRounds {
		s, err := step(func() error { return decide(inForce, messages) })
		if err != nil {
			return err
		}
		decides = append(decides, Step{s.Wall / decisions, s.CPU / decisions})
	}
	f.Read, f.Build, f.Decide = medianStep(reads), medianStep(builds), medianStep(decides)
	return nil
}

// heap is what is alive.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func readRegistry(file string) (org.Registry, error) {
	reg, problems := org.ReadRegistry(file)
	if len(problems) > 0 {
		return reg, problems[0]
	}
	return reg, nil
}

func buildDirectory(reg org.Registry) (*org.Directory, error) {
	dir, problems, _ := org.Build(reg, orgtest.Providers(), nil, 1, time.Now())
	if len(problems) > 0 {
		return nil, problems[0]
	}
	return dir, nil
}

// message is one that is decided.
type message struct {
	evidence attribution.Evidence
	message  policy.Message
}

// evidence makes messages of tenants all over the registry.
func evidence(dir *org.Directory, organisations int) ([]message, error) {
	var messages []message
	for n := range decisions {
		i := n * 7919 % organisations // a prime: neighbours are far from each other
		for !orgtest.HasTenant(i) {
			i = (i + 1) % organisations
		}
		header, err := mail.ParseHeader(fmt.Appendf(nil, "X-MS-Exchange-CrossTenant-Id: %s\r\nX-OriginatorOrg: %s\r\n"+
			"X-MS-Exchange-CrossTenant-AuthAs: Internal\r\nX-MS-Exchange-CrossTenant-FromEntityHeader: Hosted\r\nSubject: hello\r\n\r\n",
			orgtest.Tenant(i), orgtest.Domain(i, 0)), mail.HeaderLimits{})
		if err != nil {
			return nil, err
		}
		from, err := mail.ParseAddress("ann@" + orgtest.Domain(i, n%orgtest.DomainsEach))
		if err != nil {
			return nil, err
		}
		m := message{evidence: attribution.Evidence{
			Peer: netip.MustParseAddr("40.107.1.2"), TLS: true, PeerName: attribution.PeerNameConfirmed, From: from.Domain(), Header: attribution.ReadHeader(dir, header),
		}}
		m.evidence.Header.Secrets = []attribution.Secret{{Name: strings.ToLower(orgtest.SecretName(i)), WellFormed: true, Digest: orgtest.SecretDigest(i)}}
		m.message.MailFrom, m.message.Originators.From.Address = from, from
		messages = append(messages, m)
	}
	return messages, nil
}

// decide asks attribution and policy about every message; all are permitted.
func decide(dir *org.Directory, messages []message) error {
	stands := func(*org.Domain, mail.Domain) org.Standing { return org.Verified }
	now := time.Now()
	for i := range messages {
		proof, refusal := attribution.Attribute(dir, &messages[i].evidence, now)
		if refusal == nil {
			_, refusal = policy.Permit(dir, proof, &messages[i].message, stands)
		}
		if refusal != nil {
			return fmt.Errorf("message %d of the bench: %v", i, refusal)
		}
	}
	return nil
}

// swap measures what the relay itself does between having a new Directory and
// every part of it using that, as its log tells. The domains have no keys: making a
// million is another matter.
func swap(ctx context.Context, work string, organisations int) (_ time.Duration, err error) {
	text := regexp.MustCompile(`(?m)^ *dkim = \[ \{ selector.*\n`).ReplaceAll(orgtest.Registry(organisations), nil)
	registry, config := filepath.Join(work, "swap.toml"), filepath.Join(work, "relay.toml")
	if err := errors.Join(os.WriteFile(registry, text, 0o600), os.WriteFile(config, []byte(swapConfig), 0o600)); err != nil {
		return 0, err
	}
	var log bytes.Buffer
	a, err := app.New(app.Options{ConfigFile: config, Log: slog.New(slog.NewJSONHandler(&log, nil)), Version: "bench"})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, a.Stop(ctx)) }()
	var swaps []time.Duration
	for round := range directoryRounds {
		if err := os.WriteFile(registry, fmt.Appendf(text, "# round %d\n", round), 0o600); err != nil {
			return 0, err
		}
		log.Reset()
		if err := a.Reload(ctx); err != nil {
			return 0, err
		}
		took, err := swapOf(log.Bytes())
		if err != nil {
			return 0, err
		}
		swaps = append(swaps, took)
	}
	return time.Duration(median(each(swaps, func(d time.Duration) float64 { return float64(d) }))), nil
}

const swapConfig = `hostname = "relay.example.org"
data_dir = "data"
registry = "swap.toml"
[smtp]
listen = ["127.0.0.1:0"]
client_certificates = "request"
[dns]
servers = ["127.0.0.1:9"]
[console]
listen = ""
[operations]
listen = ""
`

// swapOf reads how long the swap took from the relay's log.
func swapOf(log []byte) (time.Duration, error) {
	for line := range bytes.Lines(log) {
		var entry struct {
			Message string        `json:"msg"`
			Swap    time.Duration `json:"swap"`
		}
		if json.Unmarshal(line, &entry) == nil && entry.Swap > 0 {
			return entry.Swap, nil
		}
	}
	return 0, fmt.Errorf("the relay's log does not tell of the swap: %s", log)
}

func (f *DirectoryFigures) writeMarkdown(out io.Writer) error {
	seconds := func(s Step) string { return fmt.Sprintf("%.2f (%.2f)", s.Wall.Seconds(), s.CPU.Seconds()) }
	_, err := fmt.Fprintf(out, "%s. Medians of %d rounds; processor time in brackets. Sources: a credential each, and a tenant, a Workspace, a certificate or an address in turn; a key for each domain.\n\n"+
		"| organisations | domains | file MiB | read s | build s | swap ms | decide µs | Directory MiB | peak MiB |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"+
		"| %d | %d | %.0f | %s | %s | %.1f | %.2f (%.2f) | %.0f | %.0f |\n",
		machine(), directoryRounds, f.Organisations, f.Domains, f.File, seconds(f.Read), seconds(f.Build),
		float64(f.Swap.Microseconds())/1e3, float64(f.Decide.Wall.Nanoseconds())/1e3, float64(f.Decide.CPU.Nanoseconds())/1e3, f.Held, f.Peak)
	return err
}
