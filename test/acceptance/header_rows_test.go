package acceptance

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"anechoic/mail"
)

// headerRows: who is it from, as every reader of the header would say?
func headerRows() []row {
	app := func() letter { return mailFromUser("app@acme", "ann@acme.test") }
	from := func(value string) letter { return app().edited("From: ann@acme.test", "From: "+value) }
	field := func(lines string) letter { return app().edited("From: ann@acme.test", lines) }
	return []row{
		{id: "A28", scenario: "several From fields", variants: append([]variant{
			no("two", mail.FromNotSingle, field("From: ann@acme.test\r\nFrom: ceo@globex.test")),
			no("the same twice", mail.FromNotSingle, field("From: ann@acme.test\r\nFrom: ann@acme.test")),
			no("in other case", mail.FromNotSingle, field("From: ann@acme.test\r\nfROM: ceo@globex.test")),
			no("far apart", mail.FromNotSingle, app().ended("From: ceo@globex.test")),
			no("a space before the name", mail.HeaderSyntax, app().topped(" From: ceo@globex.test")),
			no("a tab before the name", mail.HeaderSyntax, app().topped("\tFrom: ceo@globex.test")),
			no("a space before the colon", mail.HeaderSyntax, app().topped("From : ceo@globex.test")),
			no("a tab before the colon", mail.HeaderSyntax, app().ended("From\t: ceo@globex.test")),
			no("folded before the colon", mail.HeaderSyntax, field("From: ann@acme.test\r\nFrom\r\n : ceo@globex.test")),
			no("only one, with a space before the colon", mail.HeaderSyntax, field("From : ann@acme.test")),
			no("no colon", mail.HeaderSyntax, app().topped("From ceo@globex.test")),
			no("a control character in the name", mail.HeaderSyntax, app().topped("Fr\x01om: ceo@globex.test")),
			no("eight bits in the name", mail.HeaderSyntax, app().topped("Fr\xc3\xb6m: ceo@globex.test")),
			no("a continuation line of space alone", mail.HeaderSyntax, field("From: ann@acme.test\r\n \r\nFrom: ceo@globex.test")),
			no("a header without an end", mail.HeaderSyntax, app().edited("Subject: your invoice", "Subject your invoice")),
		}, espoofer("server_a8", "server_a9", "server_a10", "server_a11", "client_a1")...)},
		{id: "A29", scenario: "several addresses, groups, encodings", variants: append([]variant{
			no("two", mail.FromNotSingle, from("<ann@acme.test>, <ceo@globex.test>")),
			no("two of one's own", mail.FromNotSingle, from("ann@acme.test, bob@acme.test")),
			no("a group", mail.FromNotSingle, from("g:ann@acme.test;")),
			no("an empty group", mail.FromNotSingle, from("undisclosed-senders:;")),
			no("an encoded address", mail.FromSyntax, from("=?utf-8?B?Y2VvQGdsb2JleC50ZXN0?=")),
			no("an encoded address before a comma", mail.FromNotSingle, from("=?utf-8?B?PGNlb0BnbG9iZXgudGVzdD4=?=, <ann@acme.test>")),
			no("a source route", mail.FromSyntax, from("<@globex.test,@x.test:ann@acme.test>")),
			no("a bare one and one in brackets", mail.FromNotSingle, from("ceo@globex.test,<ann@acme.test>")),
			no("one behind the brackets", mail.FromSyntax, from("<ann@acme.test>ceo@globex.test")),
			no("one before the brackets", mail.FromSyntax, from("ceo@globex.test <ann@acme.test>")),
			no("a quoted pair outside quotes", mail.FromSyntax, from(`<ceo@globex.test>\,<ann@acme.test>`)),
			no("a quoted local part with an at sign", mail.FromSyntax, from(`<"ceo@globex.test"@acme.test>`)),
			no("an address in a comment", mail.FromSyntax, from("ann@acme.test (<ceo@globex.test>)")),
			no("a comment in the address", mail.FromSyntax, from("<ann@(x)acme.test>")),
			no("folded in the address", mail.FromSyntax, from("<ann@\r\n acme.test>")),
			no("brackets in brackets", mail.FromSyntax, from("<<ann@acme.test>>")),
			no("a NUL", mail.BareNewline, from("<ann@acme.test\x00>")),
			no("nothing", mail.FromSyntax, from("")),
			no("the null address", mail.FromSyntax, from("<>")),
			no("an address literal", mail.FromSyntax, from("<ann@[192.0.2.1]>")),
			no("a thousand comments", mail.FromSyntax, from("ann@acme.test "+strings.Repeat("(", 900))),
			yes("a name in quotes with an address in it", from(`"ceo@globex.test, Inc." <ann@acme.test>`), acmeTest, acmeTest),
			yes("an encoded name", from("=?utf-8?B?PGNlb0BnbG9iZXgudGVzdD4=?= <ann@acme.test>"), acmeTest, acmeTest),
			yes("folded beside the address", from("Ann\r\n <ann@acme.test>"), acmeTest, acmeTest),
		}, espoofer("server_a12", "server_a13", "server_a14", "server_a15", "server_a16", "server_a17", "server_a18", "server_a19", "client_a2", "client_a3")...)},
		{id: "A53", scenario: "evidence in a nested message", variants: []variant{
			yes("an attachment with stamps and a foreign tenant", nested(app(), "X-OriginatorOrg: evil.test\r\nX-MS-Exchange-CrossTenant-Id: "+attacker.GUID), acmeTest, acmeTest),
			carrier(yes("an attachment with another organisation's secret", nested(app(), initech.SecretName+": "+initechSecret), acmeTest, acmeTest)),
			carrier(no("the secret in an attachment proves nothing", mail.SecondProofMissing, nested(mailFromMicrosoft(acme, "ann@acme.test").headless(acme.SecretName), acme.SecretName+": "+acmeSecret))),
			no("stamps in an attachment prove nothing", mail.AttributionMissing, nested(mailFromNobody(eop, "ann@acme.test"), "X-OriginatorOrg: acme.test\r\nX-MS-Exchange-CrossTenant-Id: "+acme.GUID)),
			yes("a foreign From in an attachment does no harm", nested(app(), "From: ceo@globex.test\r\nSender: x@other.com"), acmeTest, acmeTest),
		}},
	}
}

// nested puts a message with header lines into the body.
func nested(l letter, lines string) letter {
	return l.headless("Content-Type").ended("Content-Type: multipart/mixed; boundary=b").body(
		"--b\r\nContent-Type: message/rfc822\r\n\r\n" + lines + "\r\nSubject: inside\r\n\r\ntext\r\n--b--\r\n")
}

func carrier(v variant) variant {
	carriers[messageID(v.letter.data)] = true
	return v
}

// espoofer makes variants of the published cases of espoofer (the list is test
// data of others): each is sent by the customer whose domain is attack.com, and
// by a stranger. None may be accepted.
func espoofer(ids ...string) (variants []variant) {
	for _, id := range ids {
		variants = append(variants, does("espoofer "+id, func(t *testing.T, r *relay) {
			cases := espooferCases(t)
			i := slices.IndexFunc(cases, func(c espooferCase) bool { return c.ID == id })
			if i < 0 {
				t.Fatalf("the list has no %s among %d cases", id, len(cases))
			}
			r.espoof(t, cases[i])
		}))
	}
	return variants
}

// espooferCase is one case of espoofer-cases.json.
type espooferCase struct {
	ID       string `json:"id"`
	MailFrom string `json:"mail_from"`
	Message  string `json:"message"`
}

func espooferCases(t *testing.T) (cases []espooferCase) {
	t.Helper()
	if err := json.Unmarshal(suite(t, "attacks/espoofer-cases.json"), &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

// espoof sends a case and looks at what comes of it.
func (r *relay) espoof(t *testing.T, c espooferCase) {
	t.Helper()
	id := draft("x").MessageID
	data := messageIDForm.ReplaceAllString(c.Message, "Message-ID: "+id+"\r")
	l := letter{peer: office, user: "app@attacker", from: strings.Trim(c.MailFrom, "<>"), data: data}
	if stage, answer := r.send(t, l); answer.code < 400 {
		t.Errorf("%s: at %s: %s", c.ID, stage, answer)
	}
	l.from = "any@attack.com" // what the case wants of MAIL FROM is another row's matter
	if stage, answer := r.send(t, l); answer.code < 500 {
		t.Errorf("%s with an honest MAIL FROM: at %s: %s", c.ID, stage, answer)
	}
	if stage, answer := r.send(t, letter{peer: vps, from: l.from, data: data}); stage != atRcpt || answer.reason != mail.ReasonRelayDenied {
		t.Errorf("%s by a stranger: at %s: %s", c.ID, stage, answer)
	}
	if j, arrived := r.receiver.Judgement(id); arrived {
		t.Errorf("%s arrived, signed by %v", c.ID, j.SignedBy)
	}
}

// suite gives a file of the shared test data; without them the test is left out.
func suite(t *testing.T, name string) []byte {
	t.Helper()
	folder := os.Getenv("ANECHOIC_SUITES")
	if folder == "" {
		folder = filepath.Join(projectRoot(t), "..", "shared", "suites")
	}
	b, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Skipf("the shared test data are not there: set ANECHOIC_SUITES to their folder (%v)", err)
	}
	return b
}

func projectRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
	}
	t.Fatal("no go.mod above the test")
	return ""
}
