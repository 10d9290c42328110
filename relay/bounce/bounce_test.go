package bounce

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	netmail "net/mail"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	arrived = time.Date(2026, 11, 20, 9, 30, 0, 0, time.UTC)
	now     = time.Date(2026, 11, 25, 9, 31, 12, 0, time.UTC)
)

const originalHeader = "X-Acme-Relay-Secret: anx1_abcdefghijklmnopqrstuvwxyza\r\n" +
	"Received: from internal.acme.example (10.0.0.7) by relay.anechoic.test;\r\n\tFri, 20 Nov 2026 09:30:00 +0000\r\n" +
	"X-MS-Exchange-CrossTenant-Id: 11111111-2222-3333-4444-555555555555\r\n" +
	"DKIM-Signature: v=1; a=rsa-sha256; d=acme.example; s=an1; b=AAAA\r\n" +
	"From: Alice <alice@acme.example>\r\n" +
	"To: bob@globex.example,\r\n carol@globex.example\r\n" +
	"Bcc: mallory@acme.example\r\n" +
	"Subject: Quarterly figures\r\n" +
	"Date: Fri, 20 Nov 2026 09:29:58 +0000\r\n" +
	"Message-ID: <q3@acme.example>\r\n" +
	"MIME-Version: 1.0\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\n" +
	"Comments: gr\xc3\xbc\xc3\x9fe\r\n\r\n"

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func failedReport(t testing.TB, failures ...Failure) Report {
	t.Helper()
	h, err := mail.ParseHeader([]byte(originalHeader), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	return Report{
		ID: "nb2222222222222222222222222", Hostname: "relay.anechoic.test", About: "na2222222222222222222222222",
		Envelope: mail.Envelope{From: address(t, "alice@acme.example"), EnvID: "QQ314159+2B1"},
		Header:   h, Arrived: arrived, Now: now, Failures: failures,
	}
}

// What was to travel over verified TLS alone is not told of in the clear (RFC 8689
// section 5).
func TestABounceOfAMessageWithREQUIRETLSHasItToo(t *testing.T) {
	for _, required := range []bool{false, true} {
		r := failedReport(t, Failure{Recipient: mail.Recipient{Address: address(t, "bob@globex.example")}, Enhanced: "5.1.1"})
		r.Envelope.RequireTLS = required
		_, _, envelope, err := Compose(r)
		if err != nil || envelope.RequireTLS != required {
			t.Errorf("%t for %t, %v", envelope.RequireTLS, required, err)
		}
	}
}

// write gives the whole bounce with a boundary that does not change.
func write(t testing.TB, r Report) string {
	t.Helper()
	h, b, _, err := Compose(r)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(b.Reader())
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`report-[A-Z2-7]{26}`).ReplaceAllString(string(h.Bytes())+string(content), "BOUNDARY")
}

var cases = map[string]func(t testing.TB) Report{
	"unknown-mailbox": func(t testing.TB) Report {
		return failedReport(t, Failure{
			Recipient: mail.Recipient{Address: address(t, "bob@globex.example"), ORcpt: "rfc822;Bob+2Bold@globex.example"},
			Enhanced:  "5.1.1", Reply: "550 5.1.1 <bob@globex.example>: Recipient address rejected: User unknown in virtual mailbox table", Said: true, Host: "mx1.globex.example", Attempts: 1,
		})
	},
	"no-such-domain": func(t testing.TB) Report {
		return failedReport(t, Failure{Recipient: mail.Recipient{Address: address(t, "bob@glbex.example")}, Enhanced: "5.1.2", Reply: "the domain glbex.example does not exist", Attempts: 1})
	},
	"delayed": func(t testing.TB) Report {
		return told(t, Delayed, Failure{Recipient: mail.Recipient{Address: address(t, "bob@globex.example")}, Enhanced: "4.4.1", Reply: "192.0.2.1:25: connect: connection refused", Attempts: 9})
	},
	"relayed": func(t testing.TB) Report {
		return told(t, Relayed, Failure{Recipient: mail.Recipient{Address: address(t, "bob@globex.example"), ORcpt: "rfc822;bob@globex.example"}, Enhanced: "2.1.5", Reply: "250 2.1.5 taken", Said: true, Host: "mx1.globex.example", Attempts: 1})
	},
	"delivered": func(t testing.TB) Report {
		return told(t, Delivered, Failure{Recipient: mail.Recipient{Address: address(t, "bob@globex.example")}, Later: true})
	},
	"came-back": func(t testing.TB) Report {
		return failedReport(t, Failure{Recipient: mail.Recipient{Address: address(t, "bob@globex.example")}, Enhanced: "5.1.1", Reply: "user unknown", Later: true})
	},
	"came-back-no-why": func(t testing.TB) Report {
		r := failedReport(t, Failure{Recipient: mail.Recipient{Address: address(t, "bob@globex.example")}, Later: true})
		r.Header = mail.Header{}
		return r
	},
	"expired-and-refused": func(t testing.TB) Report {
		return failedReport(t,
			Failure{Recipient: mail.Recipient{Address: address(t, "bob@globex.example")}, Enhanced: "4.4.1", Reply: "192.0.2.1:25: connect: connection refused; 192.0.2.2:25: greeting: no answer in time", Expired: true, Attempts: 37},
			Failure{Recipient: mail.Recipient{Address: address(t, "carol@globex.example")}, Enhanced: "5.7.1", Reply: "554 5.7.1 blocked", Said: true, Host: "mx2.globex.example", Attempts: 3},
			Failure{Recipient: mail.Recipient{Address: address(t, `"d e"@globex.example`)}, Enhanced: "4.0.0", Reply: "450 later", Said: true, Host: "mx2.globex.example", Expired: true, Attempts: 37},
		)
	},
}

// told is a report that is no failure.
func told(t testing.TB, a Action, failures ...Failure) Report {
	r := failedReport(t, failures...)
	r.Action, r.Now, r.Expires = a, arrived.Add(4*time.Hour+time.Minute), arrived.Add(5*24*time.Hour)
	return r
}

func TestBouncesReadAsTheGoldenFilesSay(t *testing.T) {
	for name, make := range cases {
		t.Run(name, func(t *testing.T) {
			file, got := filepath.Join("testdata", name+".eml"), write(t, make(t))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got (go test -update writes it anew):\n%s", diff)
			}
		})
	}
}

// parts reads a bounce as a mail program does.
func parts(t testing.TB, content string) (header netmail.Header, text string, status []textproto.MIMEHeader, copied string) {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("Content-Type %q: %v", m.Header.Get("Content-Type"), err)
	}
	var found []string
	read := func(p *multipart.Part) string {
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, p.Header.Get("Content-Type"))
		return string(b)
	}
	for r := multipart.NewReader(m.Body, params["boundary"]); ; {
		p, err := r.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch content := read(p); len(found) {
		case 1:
			text = content
		case 2:
			for group := range strings.SplitSeq(strings.TrimSuffix(content, "\r\n"), "\r\n\r\n") {
				h, err := netmail.ReadMessage(strings.NewReader(group + "\r\n\r\n"))
				if err != nil {
					t.Fatalf("group %q: %v", group, err)
				}
				status = append(status, textproto.MIMEHeader(h.Header))
			}
		case 3:
			copied = content
		}
	}
	if diff := cmp.Diff([]string{"text/plain; charset=us-ascii", "message/delivery-status", "text/rfc822-headers"}, found); diff != "" {
		t.Errorf("parts: -want +got:\n%s", diff)
	}
	return m.Header, text, status, copied
}

func TestEveryActionIsSaidToPeopleAndPrograms(t *testing.T) {
	for name, want := range map[string]struct{ action, status, words string }{
		"delayed":          {"delayed", "4.4.1", "attempts go on"},
		"relayed":          {"relayed", "2.1.5", "gives no reports"},
		"delivered":        {"delivered", "2.0.0", "was delivered to"},
		"came-back":        {"failed", "5.1.1", "later a report came back"},
		"came-back-no-why": {"failed", "5.0.0", "later a report came back"},
	} {
		r := cases[name](t)
		_, text, status, _ := parts(t, write(t, r))
		if got := status[1].Get("Action"); got != want.action {
			t.Errorf("%s: action %q", name, got)
		}
		if got := status[1].Get("Status"); got != want.status {
			t.Errorf("%s: status %q", name, got)
		}
		if !strings.Contains(strings.Join(strings.Fields(text), " "), want.words) {
			t.Errorf("%s: %q is not said:\n%s", name, want.words, text)
		}
		if until := status[1].Get("Will-Retry-Until"); (until != "") != (want.action == "delayed") {
			t.Errorf("%s: Will-Retry-Until %q", name, until)
		}
	}
}

func TestProgramsReadEveryFailure(t *testing.T) {
	r := cases["expired-and-refused"](t)
	header, text, status, _ := parts(t, write(t, r))
	if got := header.Get("Auto-Submitted"); got != "auto-replied" {
		t.Errorf("Auto-Submitted: %q", got)
	}
	if len(status) != 1+len(r.Failures) {
		t.Fatalf("%d groups of status fields for %d failures", len(status), len(r.Failures))
	}
	if got := status[0].Get("Original-Envelope-Id"); got != "QQ314159+1" {
		t.Errorf("Original-Envelope-Id: %q", got)
	}
	for i, want := range []string{"5.4.1", "5.7.1", "5.4.7"} {
		if got := status[i+1].Get("Status"); got != want {
			t.Errorf("status %d: %s, want %s", i, got, want)
		}
		if got := status[i+1].Get("Action"); got != "failed" {
			t.Errorf("action %d: %s", i, got)
		}
		if name := r.Failures[i].Recipient.Address.String(); !strings.Contains(text, name) || !strings.HasSuffix(status[i+1].Get("Final-Recipient"), name) {
			t.Errorf("%s is not named", name)
		}
	}
	if got := status[1].Get("Diagnostic-Code"); got != "" {
		t.Errorf("our own words are given as the server's: %q", got)
	}
}

func TestSecretsAndStampsDoNotComeBack(t *testing.T) {
	for name, make := range cases {
		content := write(t, make(t))
		for _, secret := range []string{"anx1_", "10.0.0.7", "CrossTenant", "DKIM-Signature", "mallory", "Comments"} {
			if strings.Contains(content, secret) {
				t.Errorf("%s gives %q away", name, secret)
			}
		}
	}
	content := write(t, cases["unknown-mailbox"](t))
	_, _, _, copied := parts(t, content)
	for _, kept := range []string{"From: Alice", "To: bob@globex.example,\r\n carol@globex.example\r\n", "Subject: Quarterly"} {
		if !strings.Contains(copied, kept) {
			t.Errorf("%q is missing", kept)
		}
	}
}

func TestTheNullSenderIsNotAnswered(t *testing.T) {
	r := cases["unknown-mailbox"](t)
	r.Envelope.From = mail.Address{}
	if _, _, _, err := Compose(r); !errors.Is(err, ErrNullSender) {
		t.Errorf("got %v", err)
	}
}

func TestABounceGoesFromNobodyToTheSenderAndAsksForNoReport(t *testing.T) {
	_, _, env, err := Compose(cases["unknown-mailbox"](t))
	if err != nil {
		t.Fatal(err)
	}
	if !env.From.IsZero() || len(env.Recipients) != 1 || env.Recipients[0].Address.String() != "alice@acme.example" || env.Recipients[0].Notify != mail.NotifyNever {
		t.Errorf("envelope %+v", env)
	}
}

// A sender and a recipient outside ASCII: the bounce goes by SMTPUTF8, and
// programs read the recipient all the same (RFC 6533).
func TestABounceToAnAddressOutsideASCIINeedsSMTPUTF8(t *testing.T) {
	utf8 := func(s string) mail.Address {
		a, err := mail.ParseAddressUTF8(s)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	r := failedReport(t, Failure{Recipient: mail.Recipient{Address: utf8("用户@globex.example"), ORcpt: `utf-8;\x{7528}\x{6237}@globex.example`}, Enhanced: "5.6.7"})
	r.Envelope.From = utf8("jürgen@bücher.example")
	h, body, env, err := Compose(r)
	if err != nil || !env.UTF8 || env.Recipients[0].Address != r.Envelope.From {
		t.Fatalf("%+v, %v", env, err)
	}
	if f, _ := h.First("To"); f.Value() != "jürgen@xn--bcher-kva.example" {
		t.Errorf("To: %s", f.Value())
	}
	if _, refusal := env.ReadOriginators(h); refusal != nil {
		t.Error(refusal)
	}
	text, _ := body.InMemory()
	for _, want := range []string{`Final-Recipient: utf-8; \x{7528}\x{6237}@globex.example` + "\r\n", `Original-Recipient: utf-8; \x{7528}\x{6237}@globex.example` + "\r\n"} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	r = failedReport(t, Failure{Recipient: mail.Recipient{Address: utf8("b@例子.example")}, Enhanced: "5.6.7"})
	if _, _, env, err := Compose(r); err != nil || env.UTF8 {
		t.Errorf("%+v, %v", env, err)
	}
}

// FuzzCompose lets a server and a sender write what they like: the bounce stays
// ASCII in CRLF lines within limits, and its structure stays its own.
func FuzzCompose(f *testing.F) {
	f.Add("550 5.1.1 no", "mx.example", "5.1.1", "rfc822;a+40b", "id", []byte("Subject: x\r\n"))
	f.Add("x\r\n\r\n--report-", "a\r\nStatus: 2.0.0", "4", ";", "+", []byte("From: \xff\r\n"))
	f.Fuzz(func(t *testing.T, reply, host, enhanced, orcpt, envid string, header []byte) {
		h, err := mail.ParseHeader(header, mail.HeaderLimits{Bytes: 64 << 10})
		if err != nil {
			h = mail.Header{}
		}
		r := failedReport(t, Failure{Recipient: mail.Recipient{Address: address(t, "bob@globex.example"), ORcpt: orcpt}, Enhanced: enhanced, Reply: reply, Said: true, Host: host})
		r.Header, r.Envelope.EnvID = h, envid
		if len(envid) > 100 || len(orcpt) > 500 || !wellFormed(enhanced) {
			return // reception's and the reply parser's bounds
		}
		content := write(t, r)
		for line := range bytes.SplitSeq([]byte(content), []byte("\r\n")) {
			if len(line) > mail.MaxLine || bytes.ContainsAny(line, "\r\n\x00") || strings.IndexFunc(string(line), func(r rune) bool { return r > '~' || r < ' ' && r != '\t' }) >= 0 {
				t.Fatalf("line %q", line)
			}
		}
		_, _, status, _ := parts(t, content)
		if len(status) != 2 || status[1].Get("Action") != "failed" || !strings.HasPrefix(status[1].Get("Status"), "5.") || len(status[1]["Status"]) != 1 {
			t.Fatalf("status %q", status)
		}
	})
}

func wellFormed(enhanced string) bool {
	return regexp.MustCompile(`^([245]\.\d{1,3}\.\d{1,3})?$`).MatchString(enhanced)
}
