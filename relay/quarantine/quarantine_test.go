package quarantine_test

import (
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"anechoic/mail"
	"anechoic/relay/custody"
	"anechoic/relay/quarantine"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// held is a message of acme's server.
func held(t testing.TB) *custody.Detained {
	t.Helper()
	d := &custody.Detained{
		ID: mail.NewID(noon), Organisation: "acme", Source: "server", Reason: mail.ReasonForwardedMail, From: address(t, "Friend@Freemail.test"),
		Subject: "=?utf-8?q?Your_=C3=84rger?=", Kept: noon, Expires: noon.Add(time.Hour), Size: 10,
	}
	d.Envelope = mail.Envelope{From: address(t, "box@acme.test"), Recipients: []mail.Recipient{{Address: address(t, "bob@example.org")}, {Address: address(t, "eve@other.test")}}}
	return d
}

func TestAFilterSelectsWhatAllItsFieldsSay(t *testing.T) {
	d := held(t)
	inbound := held(t)
	inbound.Source, inbound.Verdicts, inbound.Envelope.From = "", custody.Verdicts{SPF: "pass"}, mail.Address{}
	for name, c := range map[string]struct {
		filter  quarantine.Filter
		message *custody.Detained
		want    bool
	}{
		"nothing selects all":            {quarantine.Filter{}, d, true},
		"the organisation":               {quarantine.Filter{Org: "acme"}, d, true},
		"another organisation":           {quarantine.Filter{Org: "globex"}, d, false},
		"the reason":                     {quarantine.Filter{Reason: mail.ReasonForwardedMail}, d, true},
		"another reason":                 {quarantine.Filter{Reason: mail.ReasonHeld}, d, false},
		"outbound":                       {quarantine.Filter{Direction: quarantine.Outbound}, d, true},
		"outbound, but it came in":       {quarantine.Filter{Direction: quarantine.Outbound}, inbound, false},
		"inbound":                        {quarantine.Filter{Direction: quarantine.Inbound}, inbound, true},
		"the source":                     {quarantine.Filter{Source: "server"}, d, true},
		"another source":                 {quarantine.Filter{Source: "serve"}, d, false},
		"From in any case":               {quarantine.Filter{From: "FRIEND@freemail.TEST"}, d, true},
		"the domain of From":             {quarantine.Filter{From: "freemail.test"}, d, true},
		"a domain below is another":      {quarantine.Filter{From: "mail.test"}, d, false},
		"MAIL FROM":                      {quarantine.Filter{Sender: "box@acme.test"}, d, true},
		"MAIL FROM is not From":          {quarantine.Filter{Sender: "freemail.test"}, d, false},
		"the null sender":                {quarantine.Filter{Sender: "<>"}, inbound, true},
		"the null sender, but it is not": {quarantine.Filter{Sender: "<>"}, d, false},
		"any recipient":                  {quarantine.Filter{Recipient: "other.test"}, d, true},
		"no recipient":                   {quarantine.Filter{Recipient: "acme.test"}, d, false},
		"a domain anywhere":              {quarantine.Filter{Domain: "Other.test"}, d, true},
		"a domain nowhere":               {quarantine.Filter{Domain: "example.test"}, d, false},
		"how the id begins":              {quarantine.Filter{ID: strings.ToUpper(string(d.ID[:8]))}, d, true},
		"how another begins":             {quarantine.Filter{ID: "zzz"}, d, false},
		"since then":                     {quarantine.Filter{Since: noon}, d, true},
		"later":                          {quarantine.Filter{Since: noon.Add(1)}, d, false},
		"until then is before":           {quarantine.Filter{Until: noon}, d, false},
		"words of the subject":           {quarantine.Filter{Text: "ÄRGER your"}, d, true},
		"words here and there":           {quarantine.Filter{Text: "bob@ ärger"}, d, true},
		"one word that is not there":     {quarantine.Filter{Text: "ärger invoice"}, d, false},
		"all hold but one":               {quarantine.Filter{Org: "acme", From: "freemail.test", Recipient: "nobody.test"}, d, false},
	} {
		if got := c.filter.Selects(c.message); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	if f := (quarantine.Filter{Org: "acme", Text: "a\x1bb", Since: noon}); f.String() != "org=acme text=a␛b since=2026-11-22T12:00:00Z" || f.IsZero() {
		t.Errorf("it is told as %q", f)
	}
}

func TestWhatATerminalWouldObeyIsWrittenOut(t *testing.T) {
	for in, want := range map[string]string{
		"plain, Grüße, 漢字, שלום":           "plain, Grüße, 漢字, שלום",
		"\x1b]0;owned\x07":                 "␛]0;owned␇",
		"a\r\nb":                           "a␍␊b",
		"pay\u202etxt.exe":                 "pay[U+202E]txt.exe",
		"zero\u200bwidth\ufeff":            "zero[U+200B]width[U+FEFF]",
		"\u0085\u009b31m\x7f":              "[U+0085][U+009B]31m␡",
		"\xff\xfe":                         "\uFFFD\uFFFD",
		"a\u00a0b\u3000c":                  "a b c",
		"\u2028\u2029":                     "[U+2028][U+2029]",
		"\U000E0041":                       "[U+E0041]",
		"e" + strings.Repeat("\u0301", 40): "e\u0301\u0301\u0301",
	} {
		if got := quarantine.Visible(in); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
	if got := quarantine.VisibleText("a\r\nb\rc\n\td\x00"); got != "a\nb␍c\n    d␀" {
		t.Errorf("lines are shown as %q", got)
	}
	if got := quarantine.Visible(strings.Repeat("x", 10_000)); len(got) > 500 || !strings.HasSuffix(got, "[…]") {
		t.Errorf("a long line has %d octets", len(got))
	}
	if got := quarantine.Defanged(" HTTPS://bad.example/eve@x "); got != "hxxpS://bad[.]example/eve[at]x" {
		t.Errorf("a link is written as %q", got)
	}
}

func TestHTMLIsReducedToWhatAReaderWouldSee(t *testing.T) {
	for in, want := range map[string]string{
		`<p>Pay <b>now</b>!<p>Yours`:                                   "Pay now!\nYours",
		`<a href="https://bad.example/login">https://bank.example</a>`: "https://bank.example [link: hxxps://bad[.]example/login]",
		`a<script>evil()</script><style>p{}</style><!-- c -->b`:        "ab",
		`<img src="http://track.example/1" alt="Invoice">`:             "[picture: Invoice]",
		`<table><tr><td>a</td><td>b</td></tr><tr><td>c</table>`:        "a b\n\nc",
		`<div>a &lt;b&gt; &#27;[31m</div>`:                             "a <b> \x1b[31m",
		`<a href=javascript:x()>go`:                                    "go [link: javascript:x()]",
		`<script><script></script>still hidden?`:                       "still hidden?",
		`<title>t</title>x`:                                            "x",
		`<svg/>shown`:                                                  "shown",
	} {
		if got := quarantine.HTMLText(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestAPreviewIsBoundedAndNothingInItActs(t *testing.T) {
	header, err := mail.ParseHeader([]byte("From: \"ceo\x1b[2J\" <ceo@bank.test>\r\nSubject: =?utf-8?b?4oCuZ25wLmV4ZQ==?=\r\nX-Secret: s\r\nTo: a@b.test\r\n\r\n"), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	files := make([]quarantine.Attachment, 300)
	files[0] = quarantine.Attachment{Place: "part 2", Name: "a\u202efdp.exe", Type: "x/\x07", Size: 5}
	p := quarantine.Show(header, []quarantine.Part{{Place: "part 1", Text: strings.Repeat("line\n", 100_000)}, {Place: "part 2", HTML: true, Text: "<b>x</b>"}}, files, false)
	if p.Subject != "[U+202E]gnp.exe" || !p.Cut || len(p.Attachments) > 100 || len(p.Texts) != 1 || strings.Count(p.Texts[0].Text, "\n") > 500 || p.Attachments[0].Name != "a[U+202E]fdp.exe" {
		t.Errorf("the preview is %+v", p)
	}
	if got := strings.Join(p.Fields, "|"); got != "From: \"ceo␛[2J\" <ceo@bank.test>|To: a@b.test|Subject: [U+202E]gnp.exe" {
		t.Errorf("the fields are %q", got)
	}
}

func TestACopyWarnsFirst(t *testing.T) {
	header, err := mail.ParseHeader([]byte("X-Anechoic-Quarantine: harmless\r\nFrom: <a@b.test>\r\n\r\n"), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	got := string(quarantine.Copy(header, held(t)).Bytes())
	if !strings.HasPrefix(got, "X-Anechoic-Quarantine: HELD: nobody proved") || strings.Contains(got, "harmless") || !strings.Contains(got, "\r\nFrom: <a@b.test>\r\n\r\n") || !strings.Contains(got, "reason=FORWARDED_MAIL") {
		t.Errorf("the copy begins %q", got)
	}
}

// acts says what of a text a terminal would do more with than show it.
func acts(s string, lines bool) bool {
	for _, r := range s {
		if r == '\n' && lines {
			continue
		}
		if !unicode.IsPrint(r) {
			return true
		}
	}
	return !utf8.ValidString(s)
}

func FuzzVisible(f *testing.F) {
	for _, s := range []string{"plain", "\x1b[31m\r\n", "\u202e\u200b\ufeff", "\xff\xc0\xaf", strings.Repeat("a", 999), "<a href='x'>y</a><script>", "=?utf-8?b?4oCu?= =?koi8-r?q?=C1?="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := quarantine.Visible(s); acts(got, false) || len(got) > 10_000 {
			t.Errorf("%q is shown as %q", s, got)
		}
		if got := quarantine.VisibleText(s); acts(got, true) {
			t.Errorf("%q is shown as %q", s, got)
		}
		if got := quarantine.Visible(quarantine.Words(s)); acts(got, false) {
			t.Errorf("the words of %q are shown as %q", s, got)
		}
		if got := quarantine.Defanged(s); acts(got, false) || strings.ContainsAny(got, "@") || strings.HasPrefix(strings.ToLower(got), "http") {
			t.Errorf("%q is written as %q", s, got)
		}
	})
}

func FuzzHTMLText(f *testing.F) {
	for _, s := range []string{"<p>a<b>c</p>", "<script>x</script>y", "<a href=\"http://b.example/\">z", "<a href='\u202e'>", "<!--", "<svg><style></svg>", "<table><tr><td>1<td>2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := quarantine.HTMLText(s)
		if !utf8.ValidString(quarantine.VisibleText(text)) || len(text) > 4*len(s)+(1<<20) {
			t.Errorf("%q becomes %d octets", s, len(text))
		}
		p := quarantine.Show(mail.Header{}, []quarantine.Part{{HTML: true, Text: s}, {Text: s}}, nil, false)
		octets := 0
		for _, shown := range p.Texts {
			octets += len(shown.Text)
			if acts(shown.Text, true) {
				t.Errorf("%q is shown as %q", s, shown.Text)
			}
		}
		if octets > 34<<10 {
			t.Errorf("%d octets are shown", octets)
		}
	})
}
