package delivery

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/mail"
)

var update = flag.Bool("update", false, "write golden files")

func readShaping(t testing.TB, name string) (*Shaping, string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	s, problems := ParseShaping(filepath.Base(name), text)
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.String() + "\n")
	}
	return s, b.String()
}

func TestFaultyShapingFilesAreRefusedWithEveryProblem(t *testing.T) {
	files, _ := filepath.Glob("testdata/shaping/bad/*.toml")
	if len(files) == 0 {
		t.Fatal("no files")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			s, problems := readShaping(t, file)
			if s != nil || problems == "" {
				t.Fatal("it was taken")
			}
			golden := strings.TrimSuffix(file, ".toml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(problems), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), problems); diff != "" {
				t.Errorf("-golden +got:\n%s", diff)
			}
		})
	}
}

func TestTheOperatorsFileIsAskedFirst(t *testing.T) {
	s, problems := readShaping(t, "testdata/shaping/good/extends.toml")
	if problems != "" {
		t.Fatal(problems)
	}
	for _, c := range []struct {
		site, domain string
		want         SiteLimits
	}{
		{"elsewhere.example", "elsewhere.example", SiteLimits{Connections: 12, MessagesPerConnection: 200, RecipientsPerTransaction: 100}},
		{"l.google.com", "gmail.com", SiteLimits{Connections: 40, MessagesPerConnection: 100, RecipientsPerTransaction: 100}},
		{"google.com", "acme.example", SiteLimits{Connections: 40, MessagesPerConnection: 100, RecipientsPerTransaction: 100}},
		{"notgoogle.com", "acme.example", SiteLimits{Connections: 12, MessagesPerConnection: 200, RecipientsPerTransaction: 100}},
		{"gmx.net", "gmx.de", SiteLimits{Connections: 5, MessagesPerConnection: 5, RecipientsPerTransaction: 50, Messages: 100, Span: time.Minute}},
		{"eu.mx.globex.example", "other.example", SiteLimits{Connections: 12, MessagesPerConnection: 5, RecipientsPerTransaction: 100, Messages: 100, Span: time.Minute}},
		{"elsewhere.example", "globex.example", SiteLimits{Connections: 12, MessagesPerConnection: 5, RecipientsPerTransaction: 100, Messages: 100, Span: time.Minute}},
		{"mx.globex.example", "big.globex.example", SiteLimits{Connections: 12, MessagesPerConnection: 9, RecipientsPerTransaction: 1, Messages: 100, Span: time.Minute}},
		{"mx.globex.example:2525", "x.example", SiteLimits{Connections: 12, MessagesPerConnection: 5, RecipientsPerTransaction: 100, Messages: 100, Span: time.Minute}},
	} {
		if diff := cmp.Diff(c.want, s.For(c.site, domain(t, c.domain))); diff != "" {
			t.Errorf("%s at %s: -want +got:\n%s", c.domain, c.site, diff)
		}
	}
}

func TestWithoutTheBuiltinFileNothingElseIsKnown(t *testing.T) {
	s, problems := readShaping(t, "testdata/shaping/good/alone.toml")
	if problems != "" {
		t.Fatal(problems)
	}
	if got := s.For("l.google.com", domain(t, "gmail.com")); got != (SiteLimits{Connections: 3}) {
		t.Errorf("%+v", got)
	}
	s, _ = readShaping(t, "testdata/shaping/good/empty.toml")
	if got, want := s.For("l.google.com", domain(t, "gmail.com")), BuiltinShaping().For("l.google.com", domain(t, "gmail.com")); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := (*Shaping)(nil).For("l.google.com", mail.Domain{}); got != (SiteLimits{}) {
		t.Errorf("%+v", got)
	}
}

func TestAnswersMeanWhatTheFirstRuleThatFitsSays(t *testing.T) {
	s, _ := readShaping(t, "testdata/shaping/good/extends.toml")
	said := func(enhanced, reply string) Result {
		return Result{Status: Deferred, Said: true, Enhanced: enhanced, Reply: reply}
	}
	for _, c := range []struct {
		site   string
		result Result
		want   Advice
	}{
		{"mx.globex.example", said("4.7.1", "450 4.7.1 Please SLOW down"), Advice{Slow: 3, For: time.Hour}},
		{"mx.globex.example", said("4.7.1", "451 4.7.1 Please slow down"), Advice{}},
		{"mx.globex.example", said("4.70.1", "450 4.70.1 Please slow down"), Advice{}},
		{"mx.globex.example", said("4.7.28", "421 4.7.28 no"), Advice{Pause: 2 * time.Hour}},
		{"mx.globex.example", said("4.7.28", "450 4.7.28 slow down"), Advice{Slow: 3, For: time.Hour}},
		{"l.google.com", said("4.7.28", "421 4.7.28 Gmail has detected an unusual rate"), Advice{Pause: 15 * time.Minute}},
		{"elsewhere.example", said("4.7.28", "421 4.7.28 Gmail has detected an unusual rate"), Advice{}},
		{"elsewhere.example", said("4.7.0", "421 4.7.0 Too many connections from you"), Advice{Slow: 2, For: 30 * time.Minute}},
		{"l.google.com", Result{Status: Deferred, Enhanced: "4.7.28", Reply: "421 4.7.28 we say so ourselves"}, Advice{}},
		{"l.google.com", Result{Status: Delivered, Said: true, Enhanced: "4.7.28", Reply: "421 4.7.28"}, Advice{}},
	} {
		if got := s.Advise(c.site, mail.Domain{}, c.result); got != c.want {
			t.Errorf("%s, %q: %+v, want %+v", c.site, c.result.Reply, got, c.want)
		}
	}
}

// TestTheBuiltinFileIsSensible: every number that is there is between what every
// server takes and what would hurt us.
func TestTheBuiltinFileIsSensible(t *testing.T) {
	rules, problems := parseShaping("shaping.toml", builtinShaping)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if l := rules.standard.limits; l.Connections != DefaultPerSite || l.MessagesPerConnection != DefaultMaxMessages {
		t.Errorf("[default] %+v differs from the program's own defaults", l)
	}
	s := BuiltinShaping()
	for pattern, entry := range rules.below {
		l := s.For(pattern, mail.Domain{})
		if l.Connections < 1 || l.Connections > 20 || l.MessagesPerConnection < 10 || l.RecipientsPerTransaction < 10 {
			t.Errorf("%s: %+v", pattern, l)
		}
		for _, r := range entry.replies {
			if r.advice.Pause > 2*time.Hour || r.advice.Slow > 10 {
				t.Errorf("%s: %+v", pattern, r.advice)
			}
		}
	}
	for _, site := range []string{"l.google.com", "mail.protection.outlook.com", "n-v1.mx.microsoft", "olc.protection.outlook.com", "am0.yahoodns.net", "mail.icloud.com", "gmx.net", "t-online.de", "pphosted.com", "mimecast.com"} {
		found := false
		rules.each(site, mail.Domain{}, func(*shapingEntry) bool { found = true; return false })
		if !found {
			t.Errorf("nothing is known of %s", site)
		}
	}
}

// TestLimitsOfTheShapingFileAreNeverPassedOnAConnection: whatever the file says
// of messages and recipients, a server never sees more.
func TestLimitsOfTheShapingFileAreNeverPassedOnAConnection(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limits := SiteLimits{
			MessagesPerConnection: rapid.IntRange(0, 5).Draw(rt, "messages"), RecipientsPerTransaction: rapid.IntRange(0, 7).Draw(rt, "recipients"),
		}
		server := &countingServer{mailMax: rapid.IntRange(0, 4).Draw(rt, "MAILMAX"), rcptMax: rapid.IntRange(0, 6).Draw(rt, "RCPTMAX"), takes: rapid.IntRange(1, 9).Draw(rt, "takes")}
		transport := server.transport()
		transport.Limits = func(string, mail.Domain) SiteLimits { return limits }
		delivered := 0
		for range rapid.IntRange(1, 6).Draw(rt, "attempts") {
			a := testAttempt(t, server.route(), plainContent)
			for n := range rapid.IntRange(1, 20).Draw(rt, "of each") {
				a.Envelope.Recipients = append(a.Envelope.Recipients, mail.Recipient{Address: address(t, "r"+string(rune('a'+n))+"@globex.example")})
			}
			for i, r := range transport.Deliver(t.Context(), a) {
				if r.Status != Delivered {
					rt.Fatalf("recipient %d: %+v", i, r)
				}
				delivered++
			}
		}
		transport.Close()
		server.sessions.Wait()
		if server.delivered != delivered {
			rt.Errorf("%d were delivered, the server has %d", delivered, server.delivered)
		}
		for _, c := range []struct {
			what               string
			most, limit, offer int
		}{{"messages", server.mostMails, limits.MessagesPerConnection, server.mailMax}, {"recipients", server.mostRcpts, limits.RecipientsPerTransaction, server.rcptMax}} {
			if limit := atMost(c.limit, c.offer); limit > 0 && c.most > limit {
				rt.Errorf("%d %s, the limits are %d and %d", c.most, c.what, c.limit, c.offer)
			}
		}
	})
}

func FuzzShaping(f *testing.F) {
	f.Add(builtinShaping)
	f.Add([]byte("[[Site]]\n[SITE.x]\nsite = [{MX = []}]\n"))
	files, _ := filepath.Glob("testdata/shaping/*/*.toml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, problems := ParseShaping("fuzz.toml", text)
		if (s == nil) != (len(problems) > 0) {
			t.Fatalf("%d problems and %v", len(problems), s)
		}
		for _, p := range problems {
			if p.Line < 1 && len(text) > 0 && p.Where != "" {
				t.Errorf("no place: %s", p)
			}
		}
		l := s.For("mx.globex.example", mail.Domain{})
		if l.Connections < 0 || l.Connections > maxShapingConnections || (l.Messages > 0) != (l.Span > 0) {
			t.Errorf("%+v", l)
		}
		s.Advise("mx.globex.example", mail.Domain{}, Result{Status: Deferred, Said: true, Reply: "421 4.7.0 rate"})
	})
}
