package mail

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	netmail "net/mail"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode"

	"pgregory.net/rapid"
)

// Identity rests on the From field, and whoever shows it to a person may read it
// with another parser. So the rule is: where ours reads a mailbox, the others read
// the same one, or none; where they read differently from each other, ours refuses.
// TestParsersDisagree lists where they differ, and what was decided.

// pythonReader answers one line of base64, the value of a From field, with one
// line of JSON: the addresses that Python's email package reads.
const pythonReader = `
import base64, email, email.policy, json, sys
for line in sys.stdin:
    try:
        m = email.message_from_bytes(b"From:" + base64.b64decode(line) + b"\r\n\r\n", policy=email.policy.default)
        answer = [[a.username, a.domain] for a in m["From"].addresses]
    except Exception as e:
        answer = None
    print(json.dumps(answer), flush=True)
`

// peer is a program that reads values.
type peer struct {
	mu     sync.Mutex // guards the dialogue
	in     io.Writer
	out    *bufio.Reader
	broken error
}

// python is Python's reader, started once and ended with the test; broken without
// Python.
var python = sync.OnceValue(func() *peer {
	cmd := exec.Command("python3", "-c", pythonReader)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	return &peer{in: in, out: bufio.NewReader(out), broken: errors.Join(err1, err2, cmd.Start())}
})

// read gives local part and domain of each address, and whether it read the value.
func (p *peer) read(value string) (addresses [][2]string, ok bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return nil, false, p.broken
	}
	if _, err := fmt.Fprintln(p.in, base64.StdEncoding.EncodeToString([]byte(value))); err != nil {
		return nil, false, err
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return nil, false, err
	}
	err = json.Unmarshal(line, &addresses)
	return addresses, addresses != nil, err
}

func needPython(t *testing.T) {
	t.Helper()
	if _, _, err := python().read("a@b.example"); err != nil {
		t.Skipf("python3 cannot be started (Debian: apt install python3): %v", err)
	}
}

// byNetMail and byPython say in one word what the others make of a value: the
// addresses, or "refused".
func byNetMail(value string) string {
	list, err := netmail.ParseAddressList(strings.ReplaceAll(value, "\r\n", "")) // it takes unfolded values
	if err != nil {
		return "refused"
	}
	var addresses []string
	for _, a := range list {
		at := strings.LastIndexByte(a.Address, '@')
		addresses = append(addresses, written(a.Address[:at], a.Address[at+1:]))
	}
	return strings.Join(addresses, " and ")
}

func byPython(value string) string {
	list, ok, err := python().read(value)
	if err != nil {
		return "lost: " + err.Error()
	}
	if !ok || len(list) == 0 {
		return "refused"
	}
	var addresses []string
	for _, a := range list {
		addresses = append(addresses, written(a[0], a[1]))
	}
	return strings.Join(addresses, " and ")
}

// written is an address as we write it, or as it stands if it is none.
func written(local, domain string) string {
	d, err := ParseDomain(domain)
	if err != nil || local == "" {
		return local + "@" + domain + "?"
	}
	return Address{local: local, domain: d}.String()
}

func byUs(value string) string {
	m, err := ParseMailbox([]byte(value))
	if err != nil {
		return "refused"
	}
	return m.Address.String()
}

// agree: ours refuses, or each of the others refuses or reads the same.
func agree(value string) error {
	ours := byUs(value)
	if ours == "refused" {
		return nil
	}
	if other := byNetMail(value); other != ours && other != "refused" {
		return fmt.Errorf("%q is %s here and %s for net/mail", value, ours, other)
	}
	if other := byPython(value); other != ours && other != "refused" && !strings.HasPrefix(other, "lost: ") {
		return fmt.Errorf("%q is %s here and %s for Python", value, ours, other)
	}
	return nil
}

var mailboxSeeds = []string{
	"A. Person <user@host.example>", "user@host.example (A (B) C)", `"A \"B\"" <"a b"@h.example>`, "<@a,@b:c@d>", "a@b,<c@d>", "g:a@t;", "=?utf-8?B?PGE=?=@x",
	"A\r\n B\r\n <a@b.example> (c\r\n d)", `<"a@b> "@c.example>`, `(a) "b" <c@d.example> (e)`, `"=?utf-8?q?a=40b=2Eexample?=" <c@d.example>`, "=?utf-8?q?=3Ca=40b=2Eexample=3E=2C?= <c@d.example>",
	"a.b.@c.example", "a@b.example c@d.example", "a b@c.example", `"" <a@b.example>`, "a@b.example>", "<a@b.example", "a\t@b.example", "x <<a@b.example>>", `a\@b@c.example`, "J. <a@b.example>", "(<a@b.example>) <c@d.example>",
}

func FuzzFromAgainstOthers(f *testing.F) {
	for _, s := range mailboxSeeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if len(value) > 500 {
			return
		}
		if err := agree(value); err != nil {
			t.Error(err)
		}
	})
}

// Whatever is put together of what addresses are made of, the rule holds.
func TestParsersAgreeOnWhatPasses(t *testing.T) {
	needPython(t)
	token := rapid.SampledFrom([]string{
		"a@b.example", "<c@d.example>", "<a@b.example>", "a", "B.", "@", ".", ",", ";", ":", "<", ">", " ", "\t", "\r\n ", `"`, `\`, "(", ")", "(x)", "g:", "[192.0.2.1]",
		`"q r"`, `"e@f.example"`, `"s"@t.example`, "=?utf-8?q?u=40v=2Eexample?=", "=?utf-8?b?PGVAZi5leGFtcGxlPg==?=", "'", "%", "!", "host.example", "<@x.example:", "A Person", "()", `\"`, "\x01", "ü",
	})
	rapid.Check(t, func(t *rapid.T) {
		if err := agree(strings.Join(rapid.SliceOfN(token, 1, 7).Draw(t, "tokens"), "")); err != nil {
			t.Fatal(err)
		}
	})
}

// A value means the same however it is folded (RFC 5322 section 2.2.3).
func TestEveryFoldingIsTheSameMailbox(t *testing.T) {
	before := rapid.SampledFrom([]string{"", "A Person ", `"Person, A. (x)" `, "(a (b) c) ", "J. R. =?utf-8?q?x=40y?= ", " \t ", `"a \" b"  `})
	after := rapid.SampledFrom([]string{"", " ", " (a comment)", "\t(a (b c)) "})
	rapid.Check(t, func(t *rapid.T) {
		value := " " + before.Draw(t, "before") + "<user@host.example>" + after.Draw(t, "after")
		if rapid.Bool().Draw(t, "list") {
			value = "x" + value + ", <a@b.example>"
		}
		folded := fold(t, value)
		m, err := ParseMailbox([]byte(value))
		again, err2 := ParseMailbox([]byte(folded))
		if again != m || fmt.Sprint(err) != fmt.Sprint(err2) && (err == nil) != (err2 == nil) || errors.Is(err, ErrNotOneMailbox) != errors.Is(err2, ErrNotOneMailbox) {
			t.Fatalf("%q is %v, %v; %q is %v, %v", value, m, err, folded, again, err2)
		}
		if err != nil {
			return
		}
		h, err := ParseHeader([]byte("From:"+folded+"\r\nSender:"+folded+"\r\nResent-From:"+folded+"\r\n\r\n"), HeaderLimits{})
		if err != nil {
			return // a line of white space alone
		}
		o, refusal := ReadOriginators(h)
		if refusal != nil || o.From != m || o.Sender[0] != m.Address || o.ResentFrom[0] != m.Address {
			t.Fatalf("%q: %+v, %v", folded, o, refusal)
		}
	})
}

// fold breaks lines before some of the white space that follows no backslash.
func fold(t *rapid.T, value string) string {
	var b strings.Builder
	for i := range len(value) {
		if (value[i] == ' ' || value[i] == '\t') && (i == 0 || value[i-1] != '\\') && rapid.Bool().Draw(t, "fold") {
			b.WriteString("\r\n")
		}
		b.WriteByte(value[i])
	}
	return b.String()
}

// disagreements lists the kinds of values about which the three differ, and what
// was decided. The columns of the others are what they said when this was written;
// a change in them is worth a look. docs/from-field.md shows the list to people.
var disagreements = func() []disagreement {
	const a, refused = "a@b.example", "refused"
	return []disagreement{
		{`(a) "b" <a@b.example> (e)`, refused, a, a, "comments beside the address are RFC 5322, and hide nothing: taken"},
		{"J. R. <a@b.example> (x)", a, a, a, "dots in a name are obsolete syntax that real mail is full of: taken"},

		{"admin@legitimate.com,<a@b.example>", "admin@legitimate.com and " + a, "admin@legitimate.com and " + a, refused, "a list: one mailbox, always"},
		{"a@b.example, ", a, a, refused, "an empty element may be read as a second, empty author"},
		{"g:a@b.example;", a, a, refused, "a group is shown by some and hidden by others"},
		{"=?utf-8?B?PGFkbWluQGxlZ2l0aW1hdGUuY29tPg==?=,<a@b.example>", refused, "<admin@legitimate.com>@? and " + a, refused, "encoded-words that hold an address are decoded before parsing by some"},
		{"=?utf-8?Q?admin?=@legitimate.com", "=?utf-8?Q?admin?=@legitimate.com", "admin@legitimate.com", refused, "an encoded-word is no local part (RFC 2047 section 5); two readings are two senders"},
		{"<@attack.com,@any.com:a@b.example>", refused, a, refused, "source routes are obsolete, and name a domain that is not the author's"},
		{`<a@b.example>\,<second@attack.com>`, refused, a + " and second@attack.com", refused, "a backslash outside quotes escapes nothing"},
		{"<any@attack.com>a@b.example", refused, "any@attack.com", refused, "text behind the brackets: some show it"},
		{"a@b.example <any@attack.com>", refused, a, refused, "an address before the brackets: Python takes it, others the one in brackets"},
		{"a@b.example c@d.example", refused, a, refused, "two addresses without a comma"},
		{`<"admin@legitimate.com"@attack.com>`, `"admin@legitimate.com"@attack.com`, `"admin@legitimate.com"@attack.com`, refused, "a quoted local part that looks like an address is cut at the wrong @ by some"},
		{`<"a@b> "@c.example>`, `"a@b> "@c.example`, `"a@b> "@c.example`, refused, "a bracket in quotes ends the address for some"},
		{"a@b.example (c@d.example)", a, a, refused, "an address in a comment is shown as the name, and taken for the address by some"},
		{"<a@b.example> (<c@d.example>)", a, a, refused, "the same with brackets"},
		{"a(x)@b.example", refused, a, refused, "comments in the address are obsolete"},
		{"a . b@c.example", refused, "a.b@c.example", refused, "space in the address is obsolete"},
		{"a b@c.example", refused, `"a b"@c.example`, refused, "Python invents quotes"},
		{"<a..b@c.example>", refused, `"a..b"@c.example`, refused, "and here"},
		{`"a"."b"@c.example`, refused, "a.b@c.example", refused, "a local part of several words is obsolete"},
		{"<a@b.example", refused, a, refused, "a bracket that does not close"},
		{"a@b.example>", refused, a, refused, "or does not open"},
		{"a@b.example;c@d.example", refused, a, refused, "a semicolon separates for some"},
		{"a@b.example (c", refused, a, refused, "a comment that does not end"},
		{"<a@[192.0.2.1]>", "a@[192.0.2.1]?", "a@[192.0.2.1]?", refused, "no organisation owns an address literal"},
		{"Gr\xfc\xdfe <a@b.example>", refused, a, refused, "8 bits need SMTPUTF8"},
		{"Grüße <a@b.example>", a, a, refused, "so does UTF-8"},
		{"A\x01 <a@b.example>", refused, a, refused, "control characters are shown by nobody"},
	}
}()

type disagreement struct {
	value                 string
	netmail, python, ours string
	decision              string
}

func TestParsersDisagree(t *testing.T) {
	needPython(t)
	for _, tt := range disagreements {
		if got := byNetMail(tt.value); got != tt.netmail {
			t.Logf("%q is %s for net/mail, was %s (%s)", tt.value, got, tt.netmail, tt.decision)
		}
		if got := byPython(tt.value); got != tt.python {
			t.Logf("%q is %s for Python, was %s (%s)", tt.value, got, tt.python, tt.decision)
		}
		if got := byUs(tt.value); got != tt.ours {
			t.Errorf("%q is %s here, decided was %s: %s", tt.value, got, tt.ours, tt.decision)
		}
	}
}

// The manual shows the list as it is decided here; -update writes it anew.
func TestTheManualShowsWhereParsersDisagree(t *testing.T) {
	const page, begin = "../docs/from-field.md", "| From field | Go net/mail | Python email | here | why |\n|---|---|---|---|---|\n"
	code := func(s string) string {
		if s == "refused" {
			return s
		}
		if quoted := strconv.Quote(s); !isASCII(s) || strings.ContainsFunc(s, unicode.IsControl) {
			s = strings.Trim(quoted, `"`)
		}
		return "`" + s + "`"
	}
	table := begin
	for _, d := range disagreements {
		table += fmt.Sprintf("| %s | %s | %s | %s | %s |\n", code(d.value), code(d.netmail), code(d.python), code(d.ours), d.decision)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	if !found {
		t.Fatalf("%s has no table that begins with %q", page, begin)
	}
	_, after, _ := strings.Cut(rest, "\n\n")
	want := before + table
	if after != "" {
		want += "\n" + after
	}
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(text) {
		t.Errorf("%s shows another list than the one decided; -update writes it anew", page)
	}
}
