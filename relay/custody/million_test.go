package custody_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"anechoic/engine/local"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
)

// million is how many messages BenchmarkMillion queues. That takes some minutes; a
// folder named by ANECHOIC_MILLION is filled once and used again:
//
//	ANECHOIC_MILLION=/var/tmp/million go test -run '^$' -bench Million -benchtime 1x ./relay/custody
//
// ANECHOIC_MILLION_MESSAGES makes it fewer.
var million = func() int {
	if n, err := strconv.Atoi(os.Getenv("ANECHOIC_MILLION_MESSAGES")); err == nil && n > 0 {
		return n
	}
	return 1_000_000
}()

const coldStartEnv = "ANECHOIC_COLD_START"

// BenchmarkMillion opens a queue of a million small messages on disk, of 1,000
// organisations to 5,000 domains, in a process of its own, and reports how long it
// takes until mail is accepted, until one is leased, until all are indexed, and the
// memory of that process.
func BenchmarkMillion(b *testing.B) {
	if dir := os.Getenv(coldStartEnv); dir != "" {
		coldStart(b, dir)
		return
	}
	dir := os.Getenv("ANECHOIC_MILLION")
	if dir == "" {
		b.Skip("it queues a million messages, in minutes: name a folder for them in ANECHOIC_MILLION")
	}
	if _, err := os.Stat(filepath.Join(dir, "full")); err != nil {
		fill(b, dir)
		if err := os.WriteFile(filepath.Join(dir, "full"), nil, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	c := exec.Command(os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkMillion$", "-test.benchtime=1x", "-test.cpuprofile="+filepath.Join(dir, "cpu.pprof"))
	c.Env = append(os.Environ(), coldStartEnv+"="+dir)
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	if err := c.Run(); err != nil {
		b.Fatal(err)
	}
}

// fill writes a queue.
func fill(b *testing.B, dir string) {
	engine, err := local.Open(local.Options{Dir: dir, Reserve: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer engine.Close()
	q := open(b, engine)
	const batch = 500
	list := make([]custody.Submission, batch)
	for n := 0; n < million; n += batch {
		for i := range list {
			at := noon.Add(time.Duration(n+i) * time.Millisecond)
			list[i] = submission(fmt.Sprintf("r%d@d%d.test", n+i, (n+i)%5000))
			list[i].ID = mail.NewID(at)
			list[i].Warrant = warrantOf(fmt.Sprintf("org%d", (n+i)/7%1000))
		}
		if err := q.KeepMany(ctx, list, func(i int) time.Time { return noon.Add(time.Duration(n+i) * time.Millisecond) }); err != nil {
			b.Fatal(err)
		}
	}
	q.Close()
}

func warrantOf(name string) custody.Warrant {
	w, err := custody.NewNotice("about", org.ID(name))
	if err != nil {
		panic(err)
	}
	return w
}

// coldStart opens it.
func coldStart(b *testing.B, dir string) {
	start := time.Now()
	since := func(what string) { b.ReportMetric(time.Since(start).Seconds(), what) }
	engine, err := local.Open(local.Options{Dir: dir, Reserve: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer engine.Close()
	since("s-engine")
	q, err := custody.OpenQueue(ctx, engine, options)
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	later := noon.Add(20 * time.Minute)
	id := keep(b, q, submission("new@new.test"), later)
	since("s-accepting")
	for leased := false; !leased; {
		leases, err := q.Lease(ctx, later, 10, nil)
		if err != nil {
			b.Fatal(err)
		}
		for _, l := range leases {
			settle(b, q, l, custody.Outcome{}, later)
			leased = leased || l.ID != id
		}
	}
	since("s-leasing")
	if err := q.Read(ctx); err != nil {
		b.Fatal(err)
	}
	since("s-indexed")
	if n := q.Depth().Messages; n < million {
		b.Fatalf("%d messages", n)
	}
	b.ReportMetric(float64(processMemory("VmHWM:")), "peak-MB")
	b.ReportMetric(float64(processMemory("VmRSS:")), "MB")
	b.ReportMetric(float64(heap())/1e6, "heap-MB")
}

// processMemory reads a figure of the process, in megabytes.
func processMemory(name string) (mb int) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			_, _ = fmt.Sscan(rest, &mb)
			return mb >> 10
		}
	}
	return 0
}
