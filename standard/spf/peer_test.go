package spf

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// python is Debian's: the independent verifiers are installed for no other.
const python = "/usr/bin/python3"

type peerCase struct {
	name string
	Request
	zone zone
}

// MarshalJSON writes what testdata/pyspf.py reads.
func (c peerCase) MarshalJSON() ([]byte, error) {
	names := map[string][][2]any{}
	for name, list := range c.zone {
		for _, r := range list {
			pair := [2]any{r.rrtype, r.text}
			switch {
			case r.rrtype == "":
				pair = [2]any{"TIMEOUT", nil}
			case r.rrtype == "MX":
				pair[1] = []any{r.mx.Preference, r.mx.Host}
			}
			names[name] = append(names[name], pair)
		}
	}
	return json.Marshal(map[string]any{"Zone": names, "IP": c.IP.String(), "HELO": c.HELO, "MailFrom": c.MailFrom})
}

type peerAnswer struct{ Result, Explanation string }

// askPySPF evaluates cases with an independent implementation.
func askPySPF(t *testing.T, cases []peerCase) []peerAnswer {
	t.Helper()
	if err := exec.Command(python, "-c", "import spf").Run(); err != nil {
		t.Skip("python3-spf is missing: apt-get install python3-spf")
	}
	input, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, filepath.Join("testdata", "pyspf.py"))
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var answers []peerAnswer
	if err := json.Unmarshal(out, &answers); err != nil || len(answers) != len(cases) {
		t.Fatalf("%d answers to %d cases, %v", len(answers), len(cases), err)
	}
	return answers
}

// disagreements are the cases of the suites where pyspf and we differ, with why.
// docs/standards.md tells them too.
var disagreements = map[string]string{}

// TestPySPFAgreesOnTheSuites: where a suite allows several results, both still give
// the same one, or the difference is listed.
func TestPySPFAgreesOnTheSuites(t *testing.T) {
	var cases []peerCase
	for _, name := range slices.Sorted(maps.Keys(suites)) {
		for _, s := range readSuite(t, name) {
			for _, id := range slices.Sorted(maps.Keys(s.Tests)) {
				cases = append(cases, peerCase{name: filepath.Base(name) + ": " + s.Description + ": " + id, Request: s.Tests[id].request(), zone: s.Zone})
			}
		}
	}
	listed := map[string]bool{}
	for i, peer := range askPySPF(t, cases) {
		c := cases[i]
		got := Check(context.Background(), c.zone, c.Request)
		if peer.Result != "fail" || peer.Explanation == "SPF fail - not authorized" {
			peer.Explanation = ""
		}
		if got.Status.String() == peer.Result && got.Explanation == peer.Explanation {
			continue
		}
		listed[c.name] = true
		if disagreements[c.name] == "" {
			t.Errorf("%s: %s %q (%v), pyspf says %s %q", c.name, got.Status, got.Explanation, got.Err, peer.Result, peer.Explanation)
		}
	}
	for name := range disagreements {
		if !listed[name] {
			t.Errorf("%s: pyspf agrees now", name)
		}
	}
}

// generated gives records over a small zone: what stands in it refers to itself, to
// names that do not exist, and to some that cannot be looked up.
func generated() *rapid.Generator[peerCase] {
	hosts := []string{"a.example", "b.example", "c.example", "mx.a.example", "none.example", "fault.example", "x_y.example"}
	host := rapid.SampledFrom(hosts)
	target := rapid.OneOf(host, host, rapid.SampledFrom([]string{"%{d}", "%{o}", "%{h}", "mx.%{d2}", "%{ir}.%{v}.a.example", "%{l1r-}.example", "example", "a.example.", "b..example", "a.example-", "a.123", "%{c}.example", "%{z}", "%"}))
	cidr := rapid.SampledFrom([]string{"", "", "", "/24", "/0", "//64", "/24//64", "/33", "//129", "/08", "/", "//", "/24/64"})
	maybe := func(t *rapid.T, g *rapid.Generator[string]) string {
		if rapid.Bool().Draw(t, "with") {
			return ":" + g.Draw(t, "target")
		}
		return ""
	}
	term := rapid.Custom(func(t *rapid.T) string {
		q := rapid.SampledFrom([]string{"", "", "+", "-", "~", "?"}).Draw(t, "qualifier")
		switch rapid.IntRange(0, 11).Draw(t, "kind") {
		case 0, 1:
			return q + "a" + maybe(t, target) + cidr.Draw(t, "cidr")
		case 2:
			return q + "mx" + maybe(t, target) + cidr.Draw(t, "cidr")
		case 3, 4:
			return q + "include:" + target.Draw(t, "target")
		case 5:
			return q + "exists:" + target.Draw(t, "target")
		case 6:
			return q + "ptr" + maybe(t, target)
		case 7:
			return q + rapid.SampledFrom([]string{"ip4:192.0.2.1", "ip4:192.0.2.0/24", "ip4:198.51.100.7", "ip4:192.0.2.0/024", "ip4:192.0.2", "ip6:2001:db8::/32", "ip6:2001:db8::1", "ip6:::ffff:192.0.2.1", "IP4:192.0.2.1"}).Draw(t, "net")
		case 8:
			return q + "all"
		case 9:
			return "redirect=" + target.Draw(t, "target")
		case 10:
			return rapid.SampledFrom([]string{"exp=a.example", "exp=text.example", "exp=none.example", "x=y", "x=%{d}", "x=%", "v=spf1", "1x=y", "op=moo"}).Draw(t, "modifier")
		}
		return rapid.SampledFrom([]string{"all", "-all", "~all", "ALL", "all:x", "alll", "?", "a:", "include", ""}).Draw(t, "odd")
	})
	return rapid.Custom(func(t *rapid.T) peerCase {
		z := zone{
			"mx.a.example":                {{rrtype: "A", text: "192.0.2.1"}, {rrtype: "AAAA", text: "2001:db8::1"}},
			"text.example":                {{rrtype: "TXT", text: "%{i} may not send for %{d}, says %{r}"}},
			"1.2.0.192.in-addr.arpa":      {{rrtype: "PTR", text: "mx.a.example"}, {rrtype: "PTR", text: "b.example"}},
			"7.100.51.198.in-addr.arpa":   {{rrtype: "PTR", text: "b.example"}},
			"fault.example":               {{timeout: true}},
			"1.2.0.192.in-addr.a.example": {{rrtype: "A", text: "127.0.0.2"}},
		}
		for _, name := range hosts[:3] {
			terms := rapid.SliceOfN(term, 1, 6).Draw(t, "terms")
			z[name] = append(z[name], zoneRecord{rrtype: "TXT", text: "v=spf1 " + strings.Join(terms, " ")})
			for _, a := range rapid.SliceOfN(rapid.SampledFrom([]string{"192.0.2.1", "192.0.2.200", "198.51.100.7", "2001:db8::1"}), 0, 2).Draw(t, "addresses") {
				rrtype := "A"
				if strings.Contains(a, ":") {
					rrtype = "AAAA"
				}
				z[name] = append(z[name], zoneRecord{rrtype: rrtype, text: a})
			}
			for i, mx := range rapid.SliceOfN(host, 0, 2).Draw(t, "mx") {
				r := zoneRecord{rrtype: "MX"}
				r.mx.Preference, r.mx.Host = uint16(i), mx
				z[name] = append(z[name], r)
			}
		}
		ip := rapid.SampledFrom([]string{"192.0.2.1", "192.0.2.9", "198.51.100.7", "2001:db8::1", "2001:db8:1::1"}).Draw(t, "ip")
		return peerCase{zone: z, Request: Request{
			IP: netip.MustParseAddr(ip), Receiver: "unittest", HELO: rapid.SampledFrom([]string{"mx.a.example", "b.example", "[192.0.2.1]", "unknown"}).Draw(t, "helo"),
			MailFrom: rapid.SampledFrom([]string{"ada@a.example", "ada-b@a.example", "", "x@b.example", "x@none.example"}).Draw(t, "from"),
		}}
	})
}

// TestPySPFAgreesOnGeneratedRecords compares results over records that nobody would
// publish. Differences of kinds that are decided (docs/standards.md) are counted;
// any other is an error.
func TestPySPFAgreesOnGeneratedRecords(t *testing.T) {
	var cases []peerCase
	for i := range 1000 {
		cases = append(cases, generated().Example(i))
	}
	decided := 0
	for i, peer := range askPySPF(t, cases) {
		c := cases[i]
		got := Check(context.Background(), c.zone, c.Request)
		if got.Status.String() == peer.Result {
			continue
		}
		if decidedDifference(got, peer) {
			decided++
			continue
		}
		t.Errorf("%s: %s (%v), pyspf says %s %q", describe(c), got.Status, got.Err, peer.Result, peer.Explanation)
	}
	t.Logf("%d of %d differ in ways that are decided", decided, len(cases))
}

// decidedDifference knows the three ways in which pyspf differs by intent: an include
// of the domain itself is an error to it although it is never evaluated, it counts
// each look-up that finds nothing and not each term, and it asks for all exchangers
// before it compares the first.
func decidedDifference(got Result, peer peerAnswer) bool {
	switch peer.Result {
	case "permerror":
		return strings.Contains(peer.Explanation, "include has trivial recursion") || strings.Contains(peer.Explanation, "Void lookup limit")
	case "temperror":
		return strings.Contains(strings.ToLower(got.Mechanism), "mx")
	}
	return false
}

func describe(c peerCase) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s helo=%s from=%s", c.IP, c.HELO, c.MailFrom)
	for _, name := range []string{"a.example", "b.example", "c.example"} {
		for _, r := range c.zone[name] {
			fmt.Fprintf(&b, "\n  %s %s %s%s", name, r.rrtype, r.text, r.mx.Host)
		}
	}
	return b.String()
}
