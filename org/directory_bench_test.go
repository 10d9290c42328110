package org_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"anechoic/org"
	"anechoic/org/orgtest"
)

// benchOrganisations is the size of the benchmarks' registry; ANECHOIC_BENCH_ORGS
// sets another.
func benchOrganisations(b *testing.B) int {
	b.Helper()
	if text := os.Getenv("ANECHOIC_BENCH_ORGS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	return 10_000
}

var benchDay = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// reportCPU adds the processors' time: what else runs on the machine does not change
// it much.
func reportCPU(b *testing.B) (stop func()) {
	var before, after syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	return func() {
		_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
		spent := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
		b.ReportMetric(float64(spent)/1e6/float64(b.N), "cpu-ms/op")
	}
}

// BenchmarkDirectoryRead is from the file to the checked Registry.
func BenchmarkDirectoryRead(b *testing.B) {
	text := orgtest.Registry(benchOrganisations(b))
	file := filepath.Join(b.TempDir(), "registry.toml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	defer reportCPU(b)()
	for b.Loop() {
		if _, problems := org.ReadRegistry(file); len(problems) > 0 {
			b.Fatal(problems[0])
		}
	}
}

// BenchmarkDirectoryBuild is from the Registry to the Directory.
func BenchmarkDirectoryBuild(b *testing.B) {
	reg, problems := org.ParseRegistry("registry.toml", orgtest.Registry(benchOrganisations(b)))
	if len(problems) > 0 {
		b.Fatal(problems[0])
	}
	runtime.GC()
	b.ReportAllocs()
	defer reportCPU(b)()
	for b.Loop() {
		if _, problems, _ := org.Build(reg, orgtest.Providers(), nil, 1, benchDay); len(problems) > 0 {
			b.Fatal(problems[0])
		}
	}
}
