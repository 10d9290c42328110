package alert

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestAnIncidentIsToldWhenItOpensDoublesWorsensAndEnds(t *testing.T) {
	var i Incident
	for step, s := range []struct {
		count    int
		severity string
		ended    bool
		want     Change
	}{
		{0, Warning, true, Nothing}, // the end of nothing
		{10, Warning, false, Opened},
		{15, Warning, false, Nothing},
		{20, Warning, false, Updated},
		{39, Info, false, Nothing},
		{39, Critical, false, Updated},
		{77, Critical, false, Nothing},
		{78, Critical, false, Updated},
		{78, Warning, true, Ended},
		{78, Warning, true, Nothing},
		{1, Warning, false, Opened}, // it comes back
	} {
		a := Alert{Key: "k", Kind: "campaign", Severity: s.severity, Title: "t", Count: s.count, Ended: s.ended}.clean(noon.Add(time.Duration(step) * time.Minute))
		var got Change
		if i, got = i.After(a); got != s.want {
			t.Errorf("step %d: %q, not %q", step, got, s.want)
		}
	}
	if i.Severity != Warning || i.Count != 1 {
		t.Errorf("what came back knows of the old one: %+v", i)
	}
}

func TestAFloodOfAlertsIsToldALogarithmOfTimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5000).Draw(t, "alerts")
		var i Incident
		told := 0
		for range n {
			var c Change
			if i, c = i.After(Alert{Key: "k", Severity: Warning}.clean(noon)); c != Nothing {
				told++
			}
		}
		most := 1
		for k := 1; k < n; k *= 2 {
			most++
		}
		if told > most || told != i.Told || i.Count != n {
			t.Fatalf("%d alerts were told %d times, at most %d are right", n, told, most)
		}
	})
}

func TestHostileTextsAreBoundedAndPrintable(t *testing.T) {
	long := strings.Repeat("\u202e\x1b[31mä\r\n", 10000)
	a := Alert{Key: long, Org: long, Kind: long, Severity: long, Title: long, Text: long, Campaign: long, Finding: long, Fields: make([][2]string, 1000)}
	for k := range a.Fields {
		a.Fields[k] = [2]string{long, long}
	}
	c := a.clean(noon)
	i, _ := Incident{}.After(c)
	if n := len(payload(EventOpened, &i, "relay.test")); n > 20_000+1000 {
		t.Errorf("a payload of %d octets", n)
	}
	for _, s := range []string{c.Key, c.Org, c.Kind, c.Title, c.Text, c.Campaign, c.Fields[0][0], c.Fields[29][1]} {
		for _, r := range s {
			if r != '\n' && !unicode.IsPrint(r) || r == utf8.RuneError {
				t.Fatalf("%q is in %q", r, s)
			}
		}
	}
	if c.Severity != Warning || strings.Contains(c.Title, "\n") || len(c.Fields) != maxFields {
		t.Errorf("%q, %d fields", c.Severity, len(c.Fields))
	}
}

func TestNothingInAMailIsALink(t *testing.T) {
	for text, want := range map[string]string{
		"See http://bad.example/x.":      "See hxxp[:]//bad[.]example/x.",
		"HTTPS://Bad.Example":            "HxxPS[:]//Bad[.]Example",
		"eve@bad.example, 3.5 of 192.0":  "eve[at]bad[.]example, 3.5 of 192.0",
		"bücher.example":                 "b?cher[.]example",
		"Nothing was signed. Look there": "Nothing was signed. Look there",
	} {
		if got := Defanged(text); got != want {
			t.Errorf("%q became %q, not %q", text, got, want)
		}
	}
}

func FuzzDefanged(f *testing.F) {
	f.Add("http://bad.example/ eve@bad.example hhttttpp www.bad.example")
	f.Add("\x00\xff\r\n.a.b..c. 1.2.3 a.\u202eb")
	f.Fuzz(func(t *testing.T, text string) {
		got := Defanged(text)
		for k, c := range []byte(got) {
			if c > '~' || c < ' ' && c != '\n' {
				t.Fatalf("octet %x at %d of %q", c, k, got)
			}
			letter := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
			if c == '.' && k > 0 && k+1 < len(got) && letter(got[k-1]) && letter(got[k+1]) {
				t.Fatalf("a name in %q", got)
			}
		}
		lower := strings.ToLower(got)
		if strings.Contains(lower, "http") || strings.Contains(lower, "@") || strings.Contains(lower, "://") {
			t.Fatalf("a link in %q", got)
		}
	})
}
