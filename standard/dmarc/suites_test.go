package dmarc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"anechoic/mail"
	"anechoic/mail/dns"
)

// suiteCase is one test of mailauth, recorded: calls and what was asserted of
// what they returned.
type suiteCase struct {
	Suite, Name string
	Calls       []struct {
		Fn   string
		Args []json.RawMessage
	}
	Asserts []struct {
		On, Op, Literal string
		Call            int
		Value           any
	}
}

func (c suiteCase) id() string { return c.Suite[strings.LastIndex(c.Suite, "/")+2:] + " / " + c.Name }

// suiteDiffers is what mailauth asserts and we do not hold to; see
// docs/standards.md.
var suiteDiffers = map[string]string{
	"Record parsing / Should parse all standard tags pct":                           "pct= is gone (RFC 9989 appendix C.5.2)",
	"Record parsing / Should parse all standard tags ri":                            "ri= is gone",
	"Record parsing / Should handle whitespace around values pct":                   "pct= is gone",
	"Record parsing / Should handle split TXT records pct":                          "pct= is gone",
	"Record parsing / Should convert pct to integer pct":                            "pct= is gone",
	"Record parsing / Should convert ri to integer ri":                              "ri= is gone",
	"Record parsing / Should handle invalid pct value as 0 pct":                     "pct= is gone",
	"DMARC record parsing / Should parse all common tags pct":                       "pct= is gone",
	"DMARC record parsing / Should handle split TXT records pct":                    "pct= is gone",
	"Edge cases / Should return false for headerFrom array with multiple elements ": "several From domains are each evaluated (RFC 9989 section 11.5)",
}

// notOurs are facts of mailauth's return value that are no result of DMARC: the
// form of its objects, its text for Authentication-Results, its DKIM verifier's
// finding about short bodies.
var notOurs = map[string]bool{
	"(literal)": true, "info": true, "status.comment": true, "alignment.dkim.underSized": true, "error": true, "tagonly": true, "false": true,
}

func suite(t *testing.T, file string, want int) []suiteCase {
	t.Helper()
	var cases []suiteCase
	name := filepath.Join(shared(t, "ANECHOIC_SUITES", "suites"), "dmarc", "mailauth", file)
	if err := json.Unmarshal(read(t, name), &cases); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if len(cases) != want {
		t.Fatalf("%s has %d cases, %d were expected", name, len(cases), want)
	}
	return cases
}

// answer is what one recorded call gives with us.
type answer struct {
	result Result
	found  Discovery
	err    error
	asked  []string
}

// isFalse says that mailauth would have returned false: no record.
func (a answer) isFalse(fn string) bool {
	if fn == "getDmarcRecord" {
		return a.found.Domain.IsZero()
	}
	return a.result.Status == PermError
}

func TestMailauthRecords(t *testing.T) { runSuite(t, suite(t, "get-dmarc-record-test.json", 25)) }

func TestMailauthMessages(t *testing.T) { runSuite(t, suite(t, "dmarc-verify-test.json", 34)) }

func TestMailauthRFC9989(t *testing.T) { runSuite(t, suite(t, "rfc9989-compliance-test.json", 29)) }

func runSuite(t *testing.T, cases []suiteCase) {
	for _, c := range cases {
		t.Run(c.id(), func(t *testing.T) {
			var answers []answer
			for _, call := range c.Calls {
				answers = append(answers, ask(t, call.Fn, call.Args))
			}
			for _, a := range c.Asserts {
				key := c.id() + " " + strings.TrimPrefix(a.On, "result")
				if _, differs := suiteDiffers[key]; differs || notOurs[a.On] {
					continue
				}
				if strings.HasPrefix(a.On, "dns.calls") {
					checkQueries(t, c, answers, a.Value)
					continue
				}
				check(t, c.Calls[a.Call].Fn, answers[a.Call], a.On, a.Op, a.Value)
			}
		})
	}
}

// ask calls what the case calls.
func ask(t *testing.T, fn string, args []json.RawMessage) answer {
	var zone struct{ Zone json.RawMessage }
	if fn == "getDmarcRecord" {
		var name string
		decode(t, args[0], &name)
		decode(t, args[1], &zone)
		author, err := mail.ParseDomain(name)
		if err != nil {
			return answer{} // 192.0.2.1: we have no such domains, so no one asks
		}
		resolver := &listening{Resolver: suiteZone(t, zone.Zone)}
		found, err := Discover(context.Background(), resolver, TreeWalk, author)
		return answer{found: found, err: err, asked: resolver.asked}
	}
	var in struct {
		HeaderFrom  any
		DKIMDomains []any
		SPFDomains  []any
		Resolver    json.RawMessage
	}
	decode(t, args[0], &in)
	decode(t, in.Resolver, &zone)
	resolver := &listening{Resolver: suiteZone(t, zone.Zone)}
	m := Message{DKIM: passes(t, in.DKIMDomains)}
	if list, ok := in.HeaderFrom.([]any); ok {
		for _, from := range list {
			m.From = append(m.From, fromDomain(t, from.(string)))
		}
	} else {
		m.From = append(m.From, fromDomain(t, in.HeaderFrom.(string)))
	}
	if spf := passes(t, in.SPFDomains); len(spf) > 0 {
		m.SPF = spf[0]
	}
	r := Evaluate(context.Background(), resolver, TreeWalk, m)
	return answer{result: r, asked: resolver.asked}
}

func decode(t *testing.T, b []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
}

// suiteZone reads a zone of the suite. A few cases write other records than
// those that matter in JavaScript's form: only that the name exists is kept of
// them. FAULT with a type is there for all types that we ask for.
func suiteZone(t *testing.T, b json.RawMessage) *dns.Zone {
	var names map[string]map[string]json.RawMessage
	decode(t, b, &names)
	for _, records := range names {
		for kind := range records {
			switch kind {
			case "TXT":
			case "FAULT":
				records[kind] = json.RawMessage("true")
			default:
				delete(records, kind)
			}
		}
	}
	out, err := json.Marshal(names)
	if err != nil {
		t.Fatal(err)
	}
	zone, err := dns.ParseZone(out)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func passes(t *testing.T, list []any) []Identifier {
	var ids []Identifier
	for _, v := range list {
		name, ok := v.(string)
		if !ok {
			name = v.(map[string]any)["domain"].(string)
		}
		ids = append(ids, Identifier{domain(t, name), Authenticated})
	}
	return ids
}

func fromDomain(t *testing.T, address string) mail.Domain {
	return domain(t, address[strings.LastIndexByte(address, '@')+1:])
}

// checkQueries compares the names that the case says were asked for.
func checkQueries(t *testing.T, c suiteCase, answers []answer, want any) {
	t.Helper()
	var asked []string
	for _, a := range answers {
		asked = append(asked, a.asked...)
	}
	var expected []string
	for _, name := range want.([]any) {
		if name != "_dmarc.192.0.2.1" { // no domain here
			expected = append(expected, name.(string))
		}
	}
	if fmt.Sprint(asked) != fmt.Sprint(expected) {
		t.Errorf("asked for %q, want %q", asked, expected)
	}
}

// check holds an answer to one assertion.
func check(t *testing.T, fn string, a answer, on, op string, want any) {
	t.Helper()
	got, known := fact(fn, a, on)
	text := fmt.Sprint(want)
	ok := known
	switch op {
	case "equal":
		ok = ok && got == text
	case "contain", "include":
		ok = ok && strings.Contains(got, text)
	case "false", "not ok", "undefined":
		ok = ok && (got == "" || got == "false")
	case "true":
		ok = ok && got == "true"
	case "an":
		ok = ok && got == "true"
	case "not property":
		ok = ok && (text == "pct" || got == "")
	default:
		ok = false
	}
	if !ok {
		t.Errorf("%s %s %v: %q (known: %v; %s %v)", on, op, want, got, known, a.result.Status, a.result.Err)
	}
}

// fact is a property of mailauth's return value as we would give it.
func fact(fn string, a answer, on string) (string, bool) {
	r := a.result
	record, author, from := r.Record, r.Author, r.Domain
	if fn == "getDmarcRecord" {
		record, author, from = a.found.Record, a.found.Author, a.found.Domain
	}
	alignment := func(list ...Alignment) string {
		for _, x := range list {
			if x.counts() {
				return r.OrganisationalDomain.String()
			}
		}
		return ""
	}
	mode := map[bool]string{true: "s", false: "r"}
	facts := map[string]string{
		"status.result": r.Status.String(), "policy": r.Policy.String(), "domain": from.String(),
		"p": record.Policy.String(), "sp": record.SubdomainPolicy.String(), "rr": record.Text, "v": "DMARC1",
		"adkim": mode[record.StrictDKIM], "aspf": mode[record.StrictSPF],
		"rua": strings.Join(record.AggregateURIs, ","), "ruf": strings.Join(record.FailureURIs, ","),
		"fo":                    map[FailureOptions]string{FailureAll: "0", FailureAny: "1"}[record.FailureOptions],
		"isOrgRecord":           fmt.Sprint(from != author),
		"status.header.from":    author.String(),
		"status.header.d":       from.String(),
		"alignment.dkim.strict": fmt.Sprint(record.StrictDKIM),
		"alignment.spf.strict":  fmt.Sprint(record.StrictSPF),
		"alignment.dkim.result": alignment(r.DKIM...),
		"alignment.spf.result":  alignment(r.SPF),
		"result":                fmt.Sprint(!a.isFalse(fn)),
	}
	if on == "result" && fn == "verifyDmarc" {
		return r.Policy.String(), true // asked for only as "has no property policy"
	}
	got, ok := facts[on]
	return got, ok
}

// TestMailauthFaults are the assertions of errors, which mailauth throws.
func TestMailauthFaults(t *testing.T) {
	n := 0
	for _, c := range suite(t, "get-dmarc-record-test.json", 25) {
		if !strings.Contains(c.Name, "Should throw") {
			continue
		}
		n++
		if a := ask(t, c.Calls[0].Fn, c.Calls[0].Args); a.err == nil {
			t.Errorf("%s: no error", c.Name)
		}
	}
	if n != 1 {
		t.Errorf("%d cases", n)
	}
}

// TestPublicSuffixes runs the tests of publicsuffix.org over its list, and over
// the list the program has built in.
func TestPublicSuffixes(t *testing.T) {
	dir := filepath.Join(shared(t, "ANECHOIC_SUITES", "suites"), "psl")
	list, err := ParseSuffixList(bytes.NewReader(read(t, filepath.Join(dir, "public_suffix_list.dat"))))
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for line := range strings.Lines(string(read(t, filepath.Join(dir, "tests", "tests.txt")))) {
		name, want, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(name, "//") {
			continue
		}
		cases++
		for about, method := range map[string]Method{"the suite's list": list.Method(), "the built-in list": PublicSuffix} {
			if got := registrable(method, name); got != canonical(want) {
				t.Errorf("%s: %s: %q, want %q", about, name, got, want)
			}
		}
	}
	if cases < 70 {
		t.Errorf("only %d cases", cases)
	}
}

// registrable is the organisational domain, or null as the tests write it.
func registrable(m Method, name string) string {
	d, err := mail.ParseDomain(name)
	if err != nil || m.list.PublicSuffix(d.String()) == d.String() {
		return "null"
	}
	return m.registered(d).String()
}

func canonical(name string) string {
	d, err := mail.ParseDomain(name)
	if err != nil {
		return name
	}
	return d.String()
}

// TestBothListsAgree asks the two implementations about every rule of the list
// that both have, and names below it.
func TestBothListsAgree(t *testing.T) {
	dir := filepath.Join(shared(t, "ANECHOIC_SUITES", "suites"), "psl")
	list, err := ParseSuffixList(bytes.NewReader(read(t, filepath.Join(dir, "public_suffix_list.dat"))))
	if err != nil {
		t.Fatal(err)
	}
	differ, asked := 0, 0
	for name := range list.rules {
		for _, below := range []string{"", "a.", "a.b.", "a.b.c."} {
			asked++
			if list.PublicSuffix(below+name) != PublicSuffix.list.PublicSuffix(below+name) {
				differ++
			}
		}
	}
	if differ*20 > asked { // the lists are of different days
		t.Errorf("%d of %d names differ", differ, asked)
	}
	t.Logf("%d of %d names differ", differ, asked)
}

func TestWrongSuffixListsAreRefusedWithTheLine(t *testing.T) {
	for list, want := range map[string]string{
		"com\nbad..name\n":                  "line 2",
		"// x\n\n*.\n":                      "line 3",
		"com\n" + strings.Repeat("a", 5000): "token too long",
	} {
		if _, err := ParseSuffixList(strings.NewReader(list)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v", list, err)
		}
	}
}
