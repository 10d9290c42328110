package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gomsgauth "github.com/emersion/go-msgauth/dkim"
	"go.uber.org/goleak"
	"golang.org/x/net/publicsuffix"

	"anechoic/mail"
)

// small is a run of few messages.
func small(scenario string) DemoOptions {
	return DemoOptions{Scenario: scenario, Legit: 12, Spoofs: 24}
}

// TestEveryScenarioHoldsWhatItExpects runs all of them: each reaches its own
// expectations, its figures are the same each time, and the same attack gets
// through at the permissive relay.
func TestEveryScenarioHoldsWhatItExpects(t *testing.T) {
	want := map[string][4]int{ // spoofs refused and signed here, in the permissive relay's inbox; legitimate in the inbox
		"echospoof":            {24, 0, 24, 12},
		"stolen-secret":        {24, 0, 16, 12},
		"replay":               {24, 0, 18, 12},
		"new-tenant-flood":     {24, 0, 24, 12},
		"misconfigured-source": {20, 4, 24, 14},
	}
	for _, s := range Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			result, err := Demo(t.Context(), small(s.Name))
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range result.Checks {
				if !c.OK {
					t.Error(c)
				}
			}
			if !result.OK || len(result.Checks) < 8 || len(result.Failures) > 0 {
				t.Errorf("ok %t, %d checks, failures %q", result.OK, len(result.Checks), result.Failures)
			}
			got := [4]int{result.Anechoic.SpoofsRefused, result.Anechoic.SpoofsSigned, result.Permissive.SpoofsInbox, result.Anechoic.LegitInbox}
			if got != want[s.Name] {
				t.Errorf("refused, signed, permissive inbox, legitimate inbox: %v, want %v", got, want[s.Name])
			}
			if result.Comparison == nil || !slices.ContainsFunc(result.Comparison.Path, func(h Hop) bool { return h.Failed }) {
				t.Errorf("no hop failed in %+v", result.Comparison)
			}
		})
	}
}

// shownRun is one run that shows all it can: the result as JSON, a picture, and
// explanations at a readable pace.
type shownRun struct {
	json, progress bytes.Buffer
	picture        []byte
	pauses         int
	err            error
}

var shown = sync.OnceValue(func() *shownRun {
	run := &shownRun{}
	dir, err := os.MkdirTemp("", "anechoic-shown-")
	if err != nil {
		return &shownRun{err: err}
	}
	defer os.RemoveAll(dir)
	o := small("")
	o.JSON, o.Out, o.Slow, o.Progress, o.Picture = true, &run.json, true, &run.progress, filepath.Join(dir, "demo.svg")
	o.pause = func(context.Context, time.Duration) error { run.pauses++; return nil }
	if _, run.err = Demo(context.Background(), o); run.err == nil {
		run.picture, run.err = os.ReadFile(o.Picture)
	}
	return run
})

// TestTheResultKeepsItsFields: others read them.
func TestTheResultKeepsItsFields(t *testing.T) {
	run := shown()
	if run.err != nil {
		t.Fatal(run.err)
	}
	var result map[string]any
	if err := json.Unmarshal(run.json.Bytes(), &result); err != nil {
		t.Fatalf("%v in %s", err, run.json.Bytes())
	}
	for _, field := range []string{"ok", "scenario", "seconds", "permissive_relay", "anechoic", "kinds", "checks", "refusals", "comparison", "example"} {
		if _, ok := result[field]; !ok {
			t.Errorf("no field %q", field)
		}
	}
	door := result["anechoic"].(map[string]any)
	for _, field := range []string{
		"legit_sent", "legit_delivered", "legit_dmarc_pass", "spoofs_sent", "spoofs_refused", "spoofs_signed",
		"spoofs_delivered", "spoofs_dmarc_pass", "evidence_leaked", "repeated", "spoofs_in_inbox", "spoofs_in_spam", "spoofs_rejected_by_receiver",
	} {
		if _, ok := door[field]; !ok {
			t.Errorf("no field anechoic.%s", field)
		}
	}
}

// TestAFailedCheckIsToldAndCounts: what is expected is not taken for granted.
func TestAFailedCheckIsToldAndCounts(t *testing.T) {
	d := &demo{result: DemoResult{Anechoic: DoorResult{LegitSent: 12, LegitDelivered: 12, LegitAligned: 11, LegitInbox: 11, SpoofsSent: 24, SpoofsRefused: 23, SpoofsSigned: 1, SpoofsArrived: 1}}}
	d.result.conclude(slices.Concat(served(d), silent(d)))
	want := []string{
		"of them signed, so that DMARC passes: 11 of 12 (wanted: all)",
		"of them in the inbox: 11 of 12 (wanted: all)",
		"spoofs that anechoic refused: 23 of 24 (wanted: all)",
		"spoofs that anechoic signed: 1 of 24 (wanted: none)",
		"spoofs that anechoic delivered: 1 of 24 (wanted: none)",
		"the ledger explains a refusal: 0 of 1 (wanted: one)",
	}
	if d.result.OK || !slices.Equal(d.result.Failures, want) {
		t.Errorf("ok %t, failures %q", d.result.OK, d.result.Failures)
	}
	if s := d.result.sentence(); !strings.HasPrefix(s, "FAILED: 6 of 9 checks did not hold. Spoofs signed: 1 of 24.") {
		t.Error(s)
	}
}

// TestReceiversAgreeWithAnIndependentCheck verifies all that arrived with other
// code than the relay's own, and compares.
func TestReceiversAgreeWithAnIndependentCheck(t *testing.T) {
	d, err := newDemo(small("replay"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if err := d.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	lookup := func(name string) ([]string, error) {
		answer, err := d.internet.Zone.TXT(context.Background(), name)
		return answer.Records, err
	}
	seen := map[Place]int{}
	for _, at := range []*side{d.permissive, d.anechoic} {
		for _, j := range at.receiver.Judgements() {
			pass, err := alignedSignature(j, lookup)
			if err != nil {
				t.Fatal(err)
			}
			pass = pass || alignedSPF(j, lookup)
			if pass != j.Passes() || pass != (j.Place == Inbox) {
				t.Errorf("%s at %s: independently %t, DMARC %s, %s", j.Recipients, at.name, pass, j.DMARC.Status, j.Place)
			}
			seen[j.Place]++
		}
	}
	if seen[Inbox] == 0 || seen[Rejected] == 0 {
		t.Errorf("the run had not both: %v", seen)
	}
}

// alignedSignature asks an independent library.
func alignedSignature(j Judgement, lookup func(string) ([]string, error)) (bool, error) {
	results, err := gomsgauth.VerifyWithOptions(bytes.NewReader(j.Data), &gomsgauth.VerifyOptions{LookupTXT: lookup})
	if err != nil {
		return false, fmt.Errorf("%s: %w", j.Recipients, err)
	}
	for _, r := range results {
		if r.Err == nil && sameOrganisation(r.Domain, j.From.String()) {
			return true, nil
		}
	}
	return false, nil
}

// alignedSPF reads the only form of record that the range publishes: one address
// is listed, and it is both relays'. Mail of the range comes from there, or from
// the attacker.
func alignedSPF(j Judgement, lookup func(string) ([]string, error)) bool {
	_, domain, _ := strings.Cut(j.MailFrom, "@")
	records, err := lookup(domain)
	fromRelay := !strings.HasPrefix(j.Recipients[0], "other")
	return err == nil && slices.Contains(records, "v=spf1 ip4:127.0.0.1 -all") && fromRelay && sameOrganisation(domain, j.From.String())
}

func sameOrganisation(a, b string) bool {
	x, errX := publicsuffix.EffectiveTLDPlusOne(a)
	y, errY := publicsuffix.EffectiveTLDPlusOne(b)
	return errX == nil && errY == nil && x == y
}

// TestAnInterruptedDemoLeavesNothing: no folder, no goroutine.
func TestAnInterruptedDemoLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	ctx, cancel := context.WithCancel(t.Context())
	o := DemoOptions{Legit: 12, Spoofs: 20_000, Progress: writerFunc(func(p []byte) {
		if bytes.Contains(p, []byte("Spoofs")) {
			cancel() // as Ctrl-C does, in the middle of the campaign
		}
	})}
	_, err := Demo(ctx, o)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "nothing of it is left") {
		t.Errorf("the demo ended with %v", err)
	}
	left, err := os.ReadDir(temporary)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	goleak.VerifyNone(t, before)
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

func TestASlowDemoExplainsAndCanBeInterrupted(t *testing.T) {
	run := shown()
	if run.err != nil {
		t.Fatal(run.err)
	}
	text := strings.Join(strings.Fields(run.progress.String()), " ")
	for _, s := range []string{"The attacker rents tenants of Microsoft 365", "The organisations send invoices", "Now the same number of spoofs goes to both doors"} {
		if !strings.Contains(text, s) {
			t.Errorf("not said: %q", s)
		}
	}
	if run.pauses != 3 {
		t.Errorf("%d pauses", run.pauses)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := pause(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("a pause ended with %v", err)
	}
}

func TestAFolderToKeepIsNewOrEmpty(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "letter.txt"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := small("")
	o.Keep = dir
	_, err := Demo(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "is not empty (letter.txt is in it): name a new one or an empty one") {
		t.Errorf("in a folder that is not empty: %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "letter.txt")); err != nil || string(text) != "mine" {
		t.Errorf("what was there is %q, %v", text, err)
	}
}

func TestBadOptionsAreRefusedBeforeAnythingStarts(t *testing.T) {
	for name, c := range map[string]struct {
		options DemoOptions
		want    string
	}{
		"an unknown scenario": {DemoOptions{Scenario: "echo"}, `no scenario "echo", but echospoof, stolen-secret, replay, new-tenant-flood, misconfigured-source`},
		"less than nothing":   {DemoOptions{Legit: -1}, "-1 legitimate messages and 2000 spoofs make no demo: say 4 to 100000 of each"},
		"too few":             {DemoOptions{Spoofs: 1}, "200 legitimate messages and 1 spoofs make no demo"},
		"a picture nowhere":   {DemoOptions{Picture: "/nowhere/at/all/demo.svg"}, "there is no folder /nowhere/at/all"},
		"a picture as folder": {DemoOptions{Picture: "testdata"}, "that is a folder"},
		"far too many":        {DemoOptions{Spoofs: 1_000_000_000}, "make no demo"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Demo(t.Context(), c.options); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestALackOfLoopbackAddressesIsToldWithTheCommand(t *testing.T) {
	missing := []string{"127.40.1.2", "127.50.0.1"}
	for system, want := range map[string]string{
		"darwin":  "lacks 2 loopback addresses, as 127.40.1.2; until the next start of the machine they come with:\n  for a in 127.40.1.2 127.50.0.1; do sudo ifconfig lo0 alias $a up; done",
		"linux":   "ip address show lo",
		"windows": "give it these addresses and try again: 127.40.1.2 127.50.0.1",
	} {
		if got := loopbackHint(system, missing); !strings.Contains(got, want) {
			t.Errorf("%s: %s", system, got)
		}
	}
	if err := checkLoopback(); err != nil {
		t.Error(err)
	}
}

func TestOwnMailIsSpreadEvenlyAmongAFlood(t *testing.T) {
	var list []parcel
	for i := range 10 {
		list = append(list, parcel{"legit", Letter{To: fmt.Sprint("a", i)}})
	}
	for i := range 100 {
		list = append(list, parcel{"spoof", Letter{To: fmt.Sprint("b", i)}})
	}
	out := mixed(slices.Clone(list), 10)
	if len(out) != len(list) {
		t.Fatalf("%d of %d", len(out), len(list))
	}
	names := map[string]bool{}
	gap := 0
	for _, p := range out {
		names[p.To] = true
		if gap++; p.kind == "legit" {
			gap = 0
		}
		if gap > 11 {
			t.Errorf("%d spoofs in a row", gap)
		}
	}
	if len(names) != len(list) {
		t.Errorf("%d different letters", len(names))
	}
}

// TestARestampedCopyKeepsWhatWasSigned: a tenant adds its stamps and touches
// nothing else.
func TestARestampedCopyKeepsWhatWasSigned(t *testing.T) {
	theirs := Tenant{GUID: guid("customer", 1), Originator: "acme.example"}
	mine := Tenant{GUID: guid("rogue 0", 0), Originator: "rogue1.onmicrosoft.com"}
	original := theirs.Stamp(Cloud, Draft{From: "a@acme.example", To: "b@freemail.example", Subject: "x", MessageID: "<1@acme.example>", Body: "hello\r\n"}, vps)
	copied, err := mine.Restamp(BlindRelay, original, vps)
	if err != nil {
		t.Fatal(err)
	}
	head, body := split(copied)
	header, err := mail.ParseHeader(head, mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	var tenants []string
	for _, f := range header.Fields {
		if f.Is("X-MS-Exchange-CrossTenant-Id") {
			tenants = append(tenants, f.Value())
		}
	}
	if !slices.Equal(tenants, []string{mine.GUID}) || string(body) != "hello\r\n" || !bytes.Contains(head, []byte("\r\nSubject: x\r\n")) {
		t.Errorf("tenants %q in\n%s", tenants, copied)
	}
}
