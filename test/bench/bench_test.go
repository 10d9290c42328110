package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/control/config"
	"anechoic/standard/dkim"
)

func TestMedians(t *testing.T) {
	for _, tt := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{7}, 7},
		{[]float64{9, 1, 4}, 4},
		{[]float64{1, 2, 3, 100}, 2.5},
	} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("median of %v is %v, want %v", tt.values, got, tt.want)
		}
	}
}

// TestALossIsNeverHiddenByAMedian: rates are medians, what must not happen is
// added up.
func TestALossIsNeverHiddenByAMedian(t *testing.T) {
	m := medians([]Measurement{{Delivered: 100}, {Delivered: 300, Lost: 1, Failed: 2}, {Delivered: 200, Duplicates: 3}})
	if want := (Measurement{Delivered: 200, Lost: 1, Failed: 2, Duplicates: 3}); m != want {
		t.Errorf("%+v, want %+v", m, want)
	}
}

// TestRatiosAreOfTheSameRound: a round in which the machine was slow for both
// changes no ratio.
func TestRatiosAreOfTheSameRound(t *testing.T) {
	ours := []Measurement{{Delivered: 900, CPU: 2}, {Delivered: 300, CPU: 4}, {Delivered: 910, CPU: 2}}
	theirs := []Measurement{{Delivered: 300, CPU: 6}, {Delivered: 100, CPU: 12}, {Delivered: 300, CPU: 6}}
	q := ratios("ours", ours, theirs)
	if q.Delivered != 3 || q.CPU != 1.0/3 {
		t.Errorf("%+v", q)
	}
}

func TestTheReportOfTheGeneratorIsRead(t *testing.T) {
	const text = `{"source": {"accepted": 10, "per_s": 5.5, "ack_ms": {"p50": 1, "p99": 2}, "tempfail": 1, "permfail": 2, "errors": 3},
	 "sink": {"per_s_while_submitting": 4.5, "e2e_ms": {"p50": 3, "p99": 4}, "lost": 1, "duplicates": 2, "dkim": {"sampled": 7, "valid": 6}},
	 "cpu": {"relay_cpu_s_per_1000": 2.25, "relay_peak_pss_mib": 99, "relay_cpu_s": 1, "mailbench_cpu_s": 1, "system_busy_s": 2, "wall_s": 10}}`
	var r generated
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	want := Measurement{Accepted: 5.5, Delivered: 4.5, AckP50: 1, AckP99: 2, EndP50: 3, EndP99: 4, CPU: 2.25, Memory: 99,
		Messages: 10, Lost: 1, Duplicates: 2, Failed: 6, Sampled: 7, Valid: 6}
	if d := cmp.Diff(want, r.measurement()); d != "" {
		t.Error(d)
	}
}

// TestEveryFigureHasItsConditions: both relays, every column, the ratios and what
// was left out are in the page.
func TestEveryFigureHasItsConditions(t *testing.T) {
	g := &ground{}
	r := Report{Date: time.Unix(0, 0).UTC(), Machine: "a machine", Rounds: 1, Seconds: 12, Left: "something was left out",
		Loads: []Comparison{{Load: Load{KiB: 20, Connections: 100}}}}
	r.Loads[0].add(pureGo(g), Measurement{Delivered: 900, CPU: 2, Valid: 9, Sampled: 9})
	r.Loads[0].add(postfix(g), Measurement{Delivered: 300, CPU: 6})
	r.settle()
	var b bytes.Buffer
	if err := r.writeMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"a machine", "something was left out.", "source: credential, over TLS", "source: address, without TLS", "fsync: yes", "signer: Go crypto/rsa",
		"signer: OpenDKIM", "rsa-sha256, 2048 bits", "organisations: 1; domains: 1", "| 20 | 100 | Anechoic |", "| 20 | 100 | Postfix + OpenDKIM |", "9 of 9",
		"**3.0 ×** delivered", "**1/3.0** of the CPU",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	columns := -1
	for line := range strings.Lines(b.String()) {
		if n := strings.Count(line, "|"); strings.HasPrefix(line, "|") && columns >= 0 && n != columns {
			t.Errorf("a row of %d cells among such of %d: %s", n, columns, line)
		} else if strings.HasPrefix(line, "|") {
			columns = n
		}
	}
}

const traces = `File: bench
Type: cpu
Duration: 8s, Total samples = 8s
-----------+-------------------------------------------------------
  30000000ns   crypto/internal/fips140/bigmod.addMulVVW1024
             crypto/internal/fips140/rsa.decrypt (inline)
             crypto/rsa.SignPKCS1v15
             anechoic/relay/signing.(*Signer).Sign
             anechoic/app.(*intake).take
-----------+-------------------------------------------------------
     bytes:  16kB
  10000000ns   runtime.memmove
             anechoic/relay/smtpd.(*message).take
             anechoic/relay/smtpd.(*conn).data
-----------+-------------------------------------------------------
`

func TestAProfileIsReadAndEverySampleCountedOnce(t *testing.T) {
	samples, err := readTraces(strings.NewReader(traces))
	if err != nil || len(samples) != 2 {
		t.Fatalf("%v, %v", samples, err)
	}
	if d := cmp.Diff(map[string]time.Duration{"RSA signature": 30 * time.Millisecond, "ours: reception": 10 * time.Millisecond}, byCost(samples)); d != "" {
		t.Error(d)
	}
	packages := byPackage(samples)
	for name, want := range map[string]time.Duration{
		"crypto/internal/fips140/bigmod": 30 * time.Millisecond, "anechoic/relay/signing": 30 * time.Millisecond,
		"anechoic/relay/smtpd": 10 * time.Millisecond, "runtime": 10 * time.Millisecond, allSamples: 40 * time.Millisecond,
	} {
		if packages[name] != want {
			t.Errorf("%s has %s, want %s", name, packages[name], want)
		}
	}
	if _, err := readTraces(strings.NewReader("File: x\n")); err == nil {
		t.Error("a profile without samples was read")
	}
}

func TestFlagsThatMakeNoSense(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-sizes", "20,"}, {"-connections", "-1"}, {"-profile", "-memory"}, {"-memory", "-directory"}, {"-organisations", "0"}, {"-domains", "1,2"}, {"-queued", "-1"}, {"-queued", "5", "-goodput"}, {"-accept", "-latency"}, {"-goodput", "-rate", "0"}, {"more"}, {"-nonsense"}} {
		if _, err := readOptions(args, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("%v: %v", args, err)
		}
	}
	if o, err := readOptions(nil, io.Discard); err != nil || o.organisations != 1 || o.domains != 1 {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := readOptions([]string{"-queued", "1000", "-domains", "7"}, io.Discard); err != nil || o.organisations != 1000 || o.domains != 7 {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := readOptions([]string{"-directory"}, io.Discard); err != nil || o.organisations != 100_000 {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := readOptions([]string{"-sizes", "4, 100"}, io.Discard); err != nil || !cmp.Equal(o.sizes, []int{4, 100}) {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestALargeRegistryIsMeasured goes through every step with a small one: each step's
// answer is checked by the bench itself.
func TestALargeRegistryIsMeasured(t *testing.T) {
	var out bytes.Buffer
	if err := directory(t.Context(), options{organisations: 8}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "| 8 | 80 |") {
		t.Errorf("the table is\n%s", out.String())
	}
}

// TestTheNodeOfTheBenchIsValid: configuration and registry load without a
// problem.
func TestTheNodeOfTheBenchIsValid(t *testing.T) {
	g := testGround(t)
	for _, n := range []node{{}, {organisations: 12, domains: 3}, {ed25519: true}, {delivery: "port = 2600\nretry_after = " + ourRetries + "\n"}} {
		if err := g.use(n); err != nil {
			t.Fatal(err)
		}
		file, err := writeNode(g, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		_, dir, problems, _ := config.Validate(file)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		if got := len(slices.Collect(dir.Organisations())); got != n.countOrganisations() {
			t.Errorf("%d organisations, want %d", got, n.countOrganisations())
		}
	}
}

// testGround is a ground without binaries: keys and DNS.
func testGround(t *testing.T) *ground {
	t.Helper()
	g := &ground{work: t.TempDir(), sinkPort: 2526}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		os.WriteFile(g.path("dkim.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600),
		os.WriteFile(g.path("dkim.txt"), []byte(dkim.RecordValue(key.Public())), 0o600),
	)
	if err == nil {
		err = g.serveDNS()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.dns.Close() })
	return g
}
