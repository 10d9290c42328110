package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	stdmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/mail"
)

func domain(t testing.TB, s string) mail.Domain {
	t.Helper()
	d, err := mail.ParseDomain(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestRecords(t *testing.T) {
	for _, c := range []struct {
		about string
		texts []string
		mail  string
		web   string
		err   error
	}{
		{"mailto", []string{"v=TLSRPTv1;rua=mailto:reports@example.com"}, "[reports@example.com]", "[]", nil},
		{"https", []string{"v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt"}, "[]", "[https://reporting.example.com/v1/tlsrpt]", nil},
		{"both, in space", []string{"v=TLSRPTv1; rua= mailto:a@example.com , https://example.com/x ; x=y;"}, "[a@example.com]", "[https://example.com/x]", nil},
		{"percent", []string{"v=TLSRPTv1; rua=mailto:a%2Cb@example.com"}, "", "", ErrRecord}, // a comma needs quotes in an address
		{"percent of a plus sign", []string{"v=TLSRPTv1; rua=mailto:a%2Bb@example.com"}, "[a+b@example.com]", "[]", nil},
		{"among others", []string{"v=spf1 -all", "v=TLSRPTv1;rua=mailto:a@example.com"}, "[a@example.com]", "[]", nil},
		{"a scheme nobody knows", []string{"v=TLSRPTv1;rua=gopher:x,mailto:a@example.com"}, "[a@example.com]", "[]", nil},
		{"nothing", nil, "", "", ErrNoRecord},
		{"two are none", []string{"v=TLSRPTv1;rua=mailto:a@example.com", "v=TLSRPTv1;rua=mailto:b@example.com"}, "", "", ErrNoRecord},
		{"another version", []string{"v=TLSRPTv2;rua=mailto:a@example.com"}, "", "", ErrNoRecord},
		{"no rua", []string{"v=TLSRPTv1;"}, "", "", ErrRecord},
		{"two rua", []string{"v=TLSRPTv1;rua=mailto:a@example.com;rua=mailto:b@example.com"}, "", "", ErrRecord},
		{"only plain http", []string{"v=TLSRPTv1;rua=http://example.com/"}, "", "", ErrRecord},
		{"https with a password", []string{"v=TLSRPTv1;rua=https://u:p@example.com/"}, "", "", ErrRecord},
		{"no host", []string{"v=TLSRPTv1;rua=https:///x"}, "", "", ErrRecord},
		{"no address", []string{"v=TLSRPTv1;rua=mailto:"}, "", "", ErrRecord},
		{"a line end in an address", []string{"v=TLSRPTv1;rua=mailto:a%0d%0aBcc:b@example.com"}, "", "", ErrRecord},
	} {
		r, err := Find(c.texts)
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %v", c.about, err)
			continue
		}
		if got := fmt.Sprint(r.Mail, r.Web); err == nil && got != c.mail+" "+c.web {
			t.Errorf("%s: %s", c.about, got)
		}
	}
	many := "v=TLSRPTv1;rua=" + strings.Repeat("mailto:a@example.com,", 50)
	if r, err := Parse(many); err != nil || len(r.Mail) != maxAddresses {
		t.Errorf("of many addresses %d are used: %v", len(r.Mail), err)
	}
}

var day = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

// example is a day with a domain whose second host has a certificate that is over.
func example(t testing.TB) Tally {
	tally := Tally{Day: day, Domain: domain(t, "mailbox.example")}
	sts := Policy{Type: PolicySTS, Text: []string{"version: STSv1", "mode: testing"}, Domain: tally.Domain, MX: []string{"*.mailbox.example"}}
	for range 7 {
		tally.Count(sts, Failure{})
	}
	for range 2 {
		tally.Count(sts, Failure{Type: STARTTLSNotSupported, Host: "mx3.mailbox.example", Server: "192.0.2.3", From: "198.51.100.1"})
	}
	for range 3 {
		tally.Count(sts, Failure{Type: Expired, Host: "mx2.mailbox.example", Server: "192.0.2.2", From: "198.51.100.1", Reason: "certificate has expired"})
	}
	tally.Count(Policy{Type: PolicyDANE, Text: []string{"3 1 1 aa"}, Domain: domain(t, "mx1.mailbox.example")}, Failure{})
	return tally
}

var sender = Sender{Organisation: "Example Relay"}

func reporter(t testing.TB) Sender {
	s := sender
	s.Contact, s.Domain = address(t, "postmaster@relay.example"), domain(t, "relay.example")
	return s
}

func TestAReportSaysWhatWasCounted(t *testing.T) {
	compressed, err := Compose(example(t), reporter(t)).Compressed()
	if err != nil {
		t.Fatal(err)
	}
	got, err := read(compressed)
	if err != nil {
		t.Fatal(err)
	}
	want := Report{
		Organization: "Example Relay", Contact: "postmaster@relay.example", ID: "2026-11-21T00:00:00Z!mailbox.example!relay.example",
		Range: DateRange{day, day.Add(24*time.Hour - time.Second)},
		Policies: []PolicyResult{
			{
				Policy:  PolicyDescription{PolicySTS, []string{"version: STSv1", "mode: testing"}, "mailbox.example", []string{"*.mailbox.example"}},
				Summary: Summary{7, 5},
				Details: []FailureDetails{
					{Expired, "198.51.100.1", "mx2.mailbox.example", "192.0.2.2", 3, "certificate has expired"},
					{STARTTLSNotSupported, "198.51.100.1", "mx3.mailbox.example", "192.0.2.3", 2, ""},
				},
			},
			{Policy: PolicyDescription{PolicyDANE, []string{"3 1 1 aa"}, "mx1.mailbox.example", nil}, Summary: Summary{1, 0}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAReportByMail(t *testing.T) {
	tally, by := example(t), reporter(t)
	report := Compose(tally, by)
	header, body, err := Mail(tally, report, by, address(t, "tls-reports@relay.example"), address(t, "reports@mailbox.example"), "1ABC", day.Add(30*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	for _, f := range header.Fields {
		text.Write(f.Raw())
	}
	m, err := stdmail.ReadMessage(io.MultiReader(&text, strings.NewReader("\r\n"), bytes.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Subject":           "Report Domain: mailbox.example Submitter: relay.example Report-ID: <1ABC@relay.example>",
		"Tls-Report-Domain": "mailbox.example", "Tls-Report-Submitter": "relay.example", "Tls-Required": "No", "Auto-Submitted": "auto-generated",
	} {
		if got := m.Header.Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	if got := attached(t, m); cmp.Diff(report, got) != "" {
		t.Errorf("attached is %+v", got)
	}
}

// attached is the report of a message that is one, or has one in a part.
func attached(t *testing.T, m *stdmail.Message) Report {
	t.Helper()
	media, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || media != "multipart/report" || params["report-type"] != "tlsrpt" {
		t.Fatalf("%s %v: %v", media, params, err)
	}
	for parts := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := parts.NextPart()
		if err != nil {
			t.Fatalf("there is no report: %v", err)
		}
		if media, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type")); media != MediaType {
			continue
		}
		data, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, p))
		if err != nil {
			t.Fatal(err)
		}
		r, err := read(data)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

// suites is where data of others is.
func suites(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("ANECHOIC_SUITES")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "suites")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the test data of others is not there: set ANECHOIC_SUITES to the folder that has it (%v)", err)
	}
	return dir
}

func TestReportsOfOthersAreReadWithTheSameWords(t *testing.T) {
	m := open(t, filepath.Join(suites(t), "reports/mox/testdata/tlsreports/example.eml"))
	r := attached(t, m)
	if r.Organization != "Google Inc." || len(r.Policies) == 0 || r.Policies[0].Summary.Success == 0 || r.Policies[0].Policy.Type == "" {
		t.Errorf("%+v", r)
	}
}

func open(t *testing.T, name string) *stdmail.Message {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stdmail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestATallyIsBounded(t *testing.T) {
	tally := Tally{Day: day, Domain: domain(t, "mailbox.example")}
	for i := range 2 * maxPolicies {
		for j := range 2 * maxFailures {
			tally.Count(Policy{Type: PolicyDANE, Text: []string{fmt.Sprint(i)}}, Failure{Type: Expired, Host: fmt.Sprint(j), Reason: strings.Repeat("ü", maxText)})
		}
	}
	if len(tally.Policies) != maxPolicies || len(tally.Policies[0].Failures) != maxFailures || tally.Policies[0].Failure != 2*maxFailures {
		t.Errorf("%d policies, %d kinds of failure, %d failures", len(tally.Policies), len(tally.Policies[0].Failures), tally.Policies[0].Failure)
	}
	if got := tally.Policies[0].Failures[0].Reason; got != strings.Repeat("ü", maxText/2) {
		t.Errorf("a reason of %d octets", len(got))
	}
}

func TestEverySessionIsCountedOnce(t *testing.T) {
	types := []ResultType{"", Expired, NotTrusted, HostMismatch}
	rapid.Check(t, func(t *rapid.T) {
		var tally Tally
		kinds := rapid.SliceOf(rapid.SampledFrom(types)).Draw(t, "sessions")
		for _, k := range kinds {
			tally.Count(Policy{Type: PolicyNone}, Failure{Type: k})
		}
		var sum, details int64
		for _, p := range Compose(tally, sender).Policies {
			sum += p.Summary.Success + p.Summary.Failure
			details += p.Summary.Success
			for _, f := range p.Details {
				details += f.Count
			}
		}
		if n := int64(len(kinds)); sum != n || details != n {
			t.Fatalf("%d sessions, %d in summaries, %d in details", n, sum, details)
		}
	})
}

func FuzzRecord(f *testing.F) {
	f.Add("v=TLSRPTv1; rua=mailto:a@example.com,https://example.com/x;")
	f.Add("v=TLSRPTv1;rua=mailto:%00@x")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if n := len(r.Mail) + len(r.Web); (err == nil) != (n > 0) || n > maxAddresses {
			t.Errorf("%q: %d addresses, %v", s, n, err)
		}
		for _, w := range r.Web {
			if !strings.HasPrefix(w, "https://") || strings.ContainsAny(w, "\r\n ") {
				t.Errorf("%q gives %q", s, w)
			}
		}
	})
}

// read is the way back from Report.Compressed.
func read(compressed []byte) (r Report, err error) {
	in, err := gzip.NewReader(bytes.NewReader(compressed))
	if err == nil {
		err = json.NewDecoder(in).Decode(&r)
	}
	return r, err
}
