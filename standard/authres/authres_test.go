package authres

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/mail"
)

func one(method, value string) Result { return Result{Method: method, Value: value} }

func TestFieldsAreReadAsTheyAreMeant(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want Results
	}{
		"nothing was checked":  {"mx.example 1; none", Results{ID: "mx.example", Version: 1}},
		"none after a comment": {"mx.example;(why) NONE (so)", Results{ID: "mx.example"}},
		"RFC 8601 B.5, in our words": {
			"example.com;\r\n dkim=pass (good signature) header.d=example.com;\r\n\tspf=fail smtp.mailfrom=hq@example.com",
			Results{ID: "example.com", Methods: []Result{
				{Method: "dkim", Value: "pass", Comment: "good signature", Properties: []Property{{"header", "d", "example.com"}}},
				one("spf", "fail").With("smtp", "mailfrom", "hq@example.com"),
			}},
		},
		"comments and space wherever they may stand": {
			"(a(b)c) \"mx.example\" (;) 1 (x) ; (y) SPF (z) / 1 = (w) Pass (\\)first) (second) reason = \"be\\\"cause\" smtp . MailFrom = \"a;b\"@x.example (v) policy.x=\"q ;(\" ;",
			Results{ID: "mx.example", Version: 1, Methods: []Result{{
				Method: "spf", Version: 1, Value: "pass", Comment: ")first", Reason: "be\"cause",
				Properties: []Property{{"smtp", "mailfrom", `"a;b"@x.example`}, {"policy", "x", "q ;("}},
			}}},
		},
		"what Microsoft writes in ARC": {
			" mx.microsoft.com 1; spf=pass (sender ip is 192.0.2.84) smtp.rcpttodomain=r.example smtp.mailfrom=d.example; dmarc=pass (p=quarantine sp=quarantine pct=100) action=none header.from=d.example; arc=none (0)",
			Results{ID: "mx.microsoft.com", Version: 1, Methods: []Result{
				{Method: "spf", Value: "pass", Comment: "sender ip is 192.0.2.84", Properties: []Property{{"smtp", "rcpttodomain", "r.example"}, {"smtp", "mailfrom", "d.example"}}},
				{Method: "dmarc", Value: "pass", Comment: "p=quarantine sp=quarantine pct=100", Properties: []Property{{"", "action", "none"}, {"header", "from", "d.example"}}},
				{Method: "arc", Value: "none", Comment: "0"},
			}},
		},
		"base64 without quotes": {
			"mx.example; dkim=pass header.b=Ab/c+d=; spf=none smtp.mailfrom= ; iprev=pass policy.iprev=2001:db8::1",
			Results{ID: "mx.example", Methods: []Result{
				one("dkim", "pass").With("header", "b", "Ab/c+d="),
				one("spf", "none").With("smtp", "mailfrom", ""),
				one("iprev", "pass").With("policy", "iprev", "2001:db8::1"),
			}},
		},
		"addresses outside ASCII": {
			"mx.example; spf=pass smtp.mailfrom=jörg@bücher.example",
			Results{ID: "mx.example", UTF8: true, Methods: []Result{one("spf", "pass").With("smtp", "mailfrom", "jörg@bücher.example")}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse([]byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatIsNoFieldIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":                       "",
		"no name":                       "; spf=pass",
		"no name but results":           "spf=pass smtp.mailfrom=a.example",
		"no result":                     "mx.example",
		"an empty list":                 "mx.example;",
		"an empty element":              "mx.example; ; spf=pass",
		"none and more":                 "mx.example; none; spf=pass",
		"more and none":                 "mx.example; spf=pass; none",
		"text behind the name":          "mx.example x; spf=pass",
		"version 0":                     "mx.example 0; spf=pass",
		"a result without a value":      "mx.example; spf=",
		"a value that is no keyword":    "mx.example; spf=\"pass\"",
		"a property without a value":    "mx.example; spf=pass smtp.mailfrom",
		"two reasons":                   "mx.example; spf=pass reason=a reason=b",
		"a quote that does not end":     "mx.example; spf=pass reason=\"a",
		"a quote that ends in a slash":  "mx.example; spf=pass reason=\"a\\",
		"a comment that does not end":   "mx.example; spf=pass smtp.mailfrom=any@legitimate.example(a.attack.example",
		"a comment that was never open": "mx.example; spf=pass smtp.mailfrom=a) ; dkim=pass",
		"quotes inside a word":          "mx.example; spf=pass smtp.mailfrom=a\"b\"c",
		"properties without space":      "mx.example; spf=pass reason=a;smtp.mailfrom",
		"NUL":                           "mx.example; spf=pass smtp.mailfrom=a\x00b",
		"a bare line end":               "mx.example;\n spf=pass",
		"a line end without folding":    "mx.example;\r\nspf=pass",
		"broken UTF-8":                  "mx.example; spf=pass smtp.mailfrom=a\xff",
		"too many results":              "mx.example" + strings.Repeat("; a=b", MaxResults+1),
		"too many properties":           "mx.example; a=b" + strings.Repeat(" c.d=e", MaxProperties+1),
		"too much":                      "mx.example; a=b " + strings.Repeat(" ", MaxLength),
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := Parse([]byte(text)); err == nil {
				t.Errorf("read as %+v", r)
			}
		})
	}
}

func TestWrittenFieldsKeepToTheGrammar(t *testing.T) {
	for name, c := range map[string]struct {
		r    Results
		want string
	}{
		"nothing checked": {Results{ID: "mx.example"}, "mx.example; none"},
		"everything": {
			Results{ID: "mx.example", Version: 1, Methods: []Result{
				{Method: "SPF", Version: 1, Value: "Fail", Reason: "not listed", Comment: "see (1)", Properties: []Property{{"SMTP", "mailfrom", "ada@t.example"}, {"", "action", "none"}}},
				one("dkim", "pass").With("header", "d", "t.example").With("header", "b", "Ab/c+d="),
			}},
			"mx.example 1; spf/1=fail (see \\(1\\))\r\n reason=\"not listed\" smtp.mailfrom=ada@t.example action=none; dkim=pass\r\n header.d=t.example header.b=\"Ab/c+d=\"",
		},
		"names that are no keywords": {
			Results{ID: "mx.example", Methods: []Result{one("spf;dkim", "pass"), one("none", "pass"), one("spf", "pass=1"), one("dkim", "pass").With("a b", "c", "d").With("", "reason", "e").With("f", "", "g")}},
			"mx.example; dkim=pass",
		},
		"a name for nobody": {Results{}, "unknown; none"},
		"text outside ASCII": {
			Results{ID: "mx.example", Methods: []Result{one("spf", "pass").With("smtp", "mailfrom", "jörg@t.example")}},
			"mx.example; spf=pass smtp.mailfrom=\"j?rg@t.example\"",
		},
		"text outside ASCII where it is allowed": {
			Results{ID: "mx.example", UTF8: true, Methods: []Result{one("spf", "pass").With("smtp", "mailfrom", "jörg\u200b@t.example")}},
			"mx.example; spf=pass smtp.mailfrom=\"jörg?@t.example\"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, c.r.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// hostile are pieces of values that have fooled writers or readers of the field:
// espoofer's cases A3 to A7 and what is of their kind.
var hostile = []string{
	"any@legitimate.example(a.attack.example", "any@legitimate.example'@any.attack.example", "legitimate.example'a.attack.example",
	"selector._domainkey.attack.example.\x00.any", "@legitimate.example,@any.example:'any@attack.example",
	`"`, `\`, `\"`, "(", ")", ";", " ; dkim=pass header.d=victim.example", "\r\n", "\r\n\r\nbody", "\r\nX-Injected: yes", "\n", "\x00", "\x7f",
	"=?utf-8?q?=22?=", "=?", "?=", "ü", "\u202e", "\u2028", "\xff", "\xc0\xaf", "'", "none", "reason=", "smtp.mailfrom=", "<>", "@", "..", "%", "\t", " ",
}

func hostileText() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		pieces := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(hostile), rapid.String(), rapid.StringMatching(`[a-z0-9.]{1,12}`)), 0, 6).Draw(t, "pieces")
		return strings.Join(pieces, "")
	})
}

func hostileResults() *rapid.Generator[Results] {
	name := rapid.OneOf(rapid.StringMatching(`[a-z][a-z0-9-]{0,8}[a-z]`), rapid.SampledFrom([]string{"spf", "dkim", "none", "reason", ""}), hostileText())
	property := rapid.Custom(func(t *rapid.T) Property {
		return Property{name.Draw(t, "ptype"), name.Draw(t, "property"), hostileText().Draw(t, "value")}
	})
	result := rapid.Custom(func(t *rapid.T) Result {
		return Result{
			Method: name.Draw(t, "method"), Version: rapid.IntRange(-1, 20000).Draw(t, "version"), Value: name.Draw(t, "result"),
			Reason: hostileText().Draw(t, "reason"), Comment: hostileText().Draw(t, "comment"),
			Properties: rapid.SliceOfN(property, 0, 4).Draw(t, "properties"),
		}
	})
	return rapid.Custom(func(t *rapid.T) Results {
		return Results{
			ID: hostileText().Draw(t, "id"), Version: rapid.IntRange(-1, 3).Draw(t, "version"),
			Methods: rapid.SliceOfN(result, 0, 5).Draw(t, "methods"), UTF8: rapid.Bool().Draw(t, "utf8"),
		}
	})
}

// TestWhatIsWrittenReadsBackTheSame: whatever the values hold, there is one field,
// and in it what was cleaned, no more and no less.
func TestWhatIsWrittenReadsBackTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := hostileResults().Draw(t, "results")
		checkRoundTrip(t, r)
	})
}

func checkRoundTrip(t rapid.TB, r Results) {
	text := r.String()
	got, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	want := r.clean()
	got.UTF8 = want.UTF8
	if diff := cmp.Diff(empty(want), empty(got)); diff != "" {
		t.Fatalf("%q\n%s", text, diff)
	}
	if diff := cmp.Diff(empty(want), empty(want.clean())); diff != "" {
		t.Fatalf("cleaned twice: %s", diff)
	}
	if len(text) > MaxLength {
		t.Fatalf("%d octets", len(text))
	}
	header, err := mail.ParseHeader(r.Field().Raw(), mail.HeaderLimits{})
	if err != nil || len(header.Fields) != 1 {
		t.Fatalf("%q: %d fields, %v", text, len(header.Fields), err)
	}
	for line := range strings.SplitSeq(text, "\r\n") {
		if strings.ContainsAny(line, "\r\n\x00") || strings.Contains(line, encodedWord) {
			t.Fatalf("line %q", line)
		}
	}
}

// empty makes lists without elements alike.
func empty(r Results) Results {
	r.Methods = slices.Clone(r.Methods)
	if len(r.Methods) == 0 {
		r.Methods = nil
	}
	for i := range r.Methods {
		if len(r.Methods[i].Properties) == 0 {
			r.Methods[i].Properties = nil
		}
	}
	return r
}

// TestFieldsAreBounded: results that do not fit are left out whole.
func TestFieldsAreBounded(t *testing.T) {
	long := one("dkim", "fail")
	long.Reason, long.Comment = strings.Repeat(`"`, 1000), strings.Repeat("(", 1000)
	for range MaxProperties + 5 {
		long = long.With("header", "d", strings.Repeat(`\`, 1000))
	}
	r := Results{ID: strings.Repeat("x", 1000), Methods: slices.Repeat([]Result{long}, 200)}
	text := r.String()
	got, err := Parse([]byte(text))
	if err != nil || len(text) > MaxLength || len(got.Methods) == 0 {
		t.Fatalf("%d octets, %d results, %v", len(text), len(got.Methods), err)
	}
	for _, m := range got.Methods {
		if len(m.Properties) != MaxProperties {
			t.Errorf("%d properties", len(m.Properties))
		}
	}
	r.Field()
}

// TestEspooferInjectsNothing writes the addresses and domains of espoofer's cases
// into a field, as if SMTP and DKIM had let them through.
func TestEspooferInjectsNothing(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(shared(t, "ANECHOIC_SUITES", "suites"), "attacks", "espoofer-cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		ID       string
		HELO     string `json:"helo"`
		MailFrom string `json:"mail_from"`
		DKIM     *struct{ D, S string }
	}
	if err := json.Unmarshal(b, &cases); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, c := range cases {
		if !slices.Contains([]string{"server_a3", "server_a4", "server_a5", "server_a6", "server_a7"}, c.ID) {
			continue
		}
		seen++
		r := Results{ID: "mx.example", Methods: []Result{one("spf", "fail").With("smtp", "helo", c.HELO).With("smtp", "mailfrom", strings.Trim(c.MailFrom, "<>"))}}
		if c.DKIM != nil {
			r.Methods = append(r.Methods, one("dkim", "fail").With("header", "d", c.DKIM.D).With("header", "s", c.DKIM.S))
		}
		checkRoundTrip(t, r)
		if text := r.String(); strings.ContainsAny(withoutQuotes(text), "'()\x00") {
			t.Errorf("%s: %q", c.ID, text)
		}
	}
	if seen != 5 {
		t.Errorf("%d of 5 cases found", seen)
	}
}

// withoutQuotes takes quoted strings out; those of the test have no backslash.
func withoutQuotes(s string) string {
	var b strings.Builder
	for i, part := range strings.Split(s, `"`) {
		if i%2 == 0 {
			b.WriteString(part)
		}
	}
	return b.String()
}

func TestDisguisesOfOurNameAreSeen(t *testing.T) {
	for name, c := range map[string]struct {
		value string
		ours  bool
	}{
		"plain":                           {"mx.ours.example; spf=pass", true},
		"another case":                    {"MX.Ours.Example; spf=pass", true},
		"a version":                       {"mx.ours.example 1; spf=pass", true},
		"an unknown version":              {"mx.ours.example 77777; spf=pass", true},
		"a trailing dot":                  {"mx.ours.example.; spf=pass", true},
		"quoted":                          {"\"mx.ours.example\"; spf=pass", true},
		"quoted with backslashes":         {"\"mx\\.ours.ex\\ample\"; spf=pass", true},
		"a comment before":                {"(;) mx.ours.example; spf=pass", true},
		"a comment behind":                {"mx.ours.example(x); spf=pass", true},
		"a comment inside":                {"mx(x).ours.(y)example; spf=pass", true},
		"a comment that does not end":     {"(mx.ours.example; spf=pass", true},
		"folded":                          {"\r\n mx.ours.example;\r\n spf=pass", true},
		"folded around its dots":          {"mx.\r\n ours .example; spf=pass", true},
		"no semicolon":                    {"mx.ours.example spf=pass", true},
		"nonsense behind":                 {"mx.ours.example;;;=", true},
		"a result behind a broken one":    {"mx.ours.example; x y; spf=pass", true},
		"a control character":             {"mx.ours\x01.example; spf=pass", true},
		"an invisible character":          {"mx.ours\u200b.example; spf=pass", true},
		"wide letters":                    {"ｍx.ours.example; spf=pass", true},
		"an encoded word":                 {"=?utf-8?q?mx.ours.example?=; spf=pass", true},
		"a quoted encoded word":           {"\"=?utf-8?b?bXgub3Vycy5leGFtcGxl?=\"; spf=pass", true},
		"quotes that do not end":          {"\"mx.ours.example; spf=pass", true},
		"octets that are no UTF-8":        {"mx.ours.example\xff; spf=pass", true},
		"nobody's name":                   {"spf=pass smtp.mailfrom=victim.example; dkim=pass", true},
		"empty":                           {"", true},
		"somebody else":                   {"mx.other.example; spf=pass", false},
		"a name that ends as ours does":   {"evil-mx.ours.example; spf=pass", false},
		"a host below ours":               {"a.mx.ours.example; spf=pass", false},
		"a name that begins as ours does": {"mx.ours.example.evil.test; spf=pass", false},
		"ours as the HELO of another":     {"mx.other.example; spf=pass smtp.helo=mx.ours.example", false},
		"another's broken field":          {"mx.other.example; x y", false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, id := range []string{"mx.ours.example", "MX.ours.example."} {
				if got := Ours(mail.NewField("authentication-RESULTS", c.value), id); got != c.ours {
					t.Errorf("%t, want %t", got, c.ours)
				}
			}
		})
	}
	if Ours(mail.NewField("ARC-Authentication-Results", "i=1; mx.ours.example; spf=pass"), "mx.ours.example") {
		t.Error("a chain's field is taken for ours")
	}
	if !Ours(mail.NewField(FieldName, "bücher.example; none"), "xn--bcher-kva.example") {
		t.Error("U-labels hide the name")
	}
}

// TestWhatWeWriteIsOurs holds Ours against String.
func TestWhatWeWriteIsOurs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := hostileResults().Draw(t, "results")
		r.ID = "mx.ours.example"
		if !Ours(r.Field(), r.ID) {
			t.Fatal(r.String())
		}
	})
}

// shared finds a folder beside the project, or where env says.
func shared(t testing.TB, env, name string) string {
	t.Helper()
	dir := os.Getenv(env)
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", name)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("%s is not there: set %s to the folder of %s", dir, env, name)
	}
	return dir
}
