package maillog

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/org"
)

const registry = `
[[organisation]]
id = "acme"
[[organisation.domain]]
name = "acme.example"
dkim = [ { selector = "an1", algorithm = "rsa-2048" } ]
[[organisation.source]]
id = "billing"
kind = "credential"
username = "billing"
password = { argon2id = "$argon2id$v=19$m=19456,t=2,p=1$YW5lY2hvaWMtZXhhbXBsZQ$1OJqZUIhW7UOgfaqZcoK7kiXoCQU+vMChLuX+iMBvtE" }
from = ["billing@acme.example"]
[[organisation.source]]
id = "server"
kind = "address"
addresses = ["203.0.113.10/32"]
from = ["*@acme.example"]
[[organisation.inbound]]
domains = ["acme.example"]
deliver_to = "127.0.0.1:2600"
[[organisation]]
id = "globex"
[[organisation.domain]]
name = "globex.example"
[[organisation.source]]
id = "m365"
kind = "microsoft365"
tenant_ids = ["11111111-1111-4111-8111-111111111111"]
originator_orgs = ["globex.example"]
require_dkim = true
`

func directory(t testing.TB) *org.Directory {
	t.Helper()
	reg, problems := org.ParseRegistry("registry.toml", []byte(registry))
	providers := org.Providers{Microsoft365: org.Provider{Ranges: []netip.Prefix{netip.MustParsePrefix("40.92.0.0/15")}}}
	dir, more, _ := org.Build(reg, providers, nil, 1, time.Now())
	for _, p := range append(problems, more...) {
		t.Fatal(p)
	}
	return dir
}

// message is the lines of one message, as Postfix 3.7 writes them.
func message(queue, client, from, to string) string {
	const at = "2026-11-20T10:00:00.123456+00:00 relay postfix/"
	return at + "submission/smtpd[10]: " + queue + ": client=" + client + "\n" +
		at + "cleanup[11]: " + queue + ": message-id=<" + queue + "@x>\n" +
		at + "qmgr[12]: " + queue + ": from=<" + from + ">, size=423, nrcpt=1 (queue active)\n" +
		at + "smtp[13]: " + queue + ": to=<" + to + ">, relay=mx.mailbox.example[192.0.2.9]:25, delay=0.1, delays=0/0/0/0.1, dsn=2.0.0, status=sent (250 2.0.0 ok to=<x>, status=bounced)\n" +
		at + "qmgr[12]: " + queue + ": removed\n"
}

func run(t testing.TB, log string) *Tally {
	t.Helper()
	dir, tally := directory(t), NewTally()
	j := NewJoiner(func(m *Message) { tally.Add(m, Judge(dir, m)) })
	if _, err := j.Read(t.Context(), strings.NewReader(log)); err != nil {
		t.Fatal(err)
	}
	j.Flush()
	tally.Settle(100)
	return tally
}

// TestAWeekIsJudged: who would go on, who would not, for what reason, and what to add.
func TestAWeekIsJudged(t *testing.T) {
	for _, test := range []struct{ name, log, want string }{
		{"its own user", message("4F0000001A", "pc[192.0.2.1], sasl_method=PLAIN, sasl_username=billing", "billing@acme.example", "x@mailbox.example"), "relayed acme/billing"},
		{"its own server", message("4F0000001A", "mail[203.0.113.10]", "ann@acme.example", "x@mailbox.example"), "relayed acme/server"},
		{"a server of nobody", message("4F0000001A", "mail[203.0.113.11]", "ann@acme.example", "x@mailbox.example"), "refused RELAY_DENIED claims acme, delivered 1"},
		{"a user of nobody", message("4F0000001A", "pc[192.0.2.1], sasl_method=PLAIN, sasl_username=printer", "p@acme.example", "x@mailbox.example"), "refused AUTH_FAILED claims acme, delivered 1"},
		{"as another address", message("4F0000001A", "pc[192.0.2.1], sasl_method=PLAIN, sasl_username=billing", "ceo@acme.example", "x@mailbox.example"), "refused SOURCE_NOT_ALLOWED claims acme, delivered 1"},
		{"as another organisation", message("4F0000001A", "pc[192.0.2.1], sasl_method=PLAIN, sasl_username=billing", "x@globex.example", "x@mailbox.example"), "refused SENDER_NOT_OWNED claims acme, delivered 1"},
		{"a report", message("4F0000001A", "mail[203.0.113.10]", "", "x@mailbox.example"), "unknown a report with the null sender: From decides, which the log has not"},
		{"a tenant that has a source", message("4F0000001A", "eop[40.92.1.1]", "x@globex.example", "x@mailbox.example"), "unknown source m365 is told by headers, which the log has not"},
		{"a tenant that has none", message("4F0000001A", "eop[40.92.1.1]", "x@acme.example", "x@mailbox.example"), "refused TENANT_NOT_AUTHORIZED claims acme, delivered 1"},
		{"for an organisation", message("4F0000001A", "mx[192.0.2.3]", "x@mailbox.example", "ann@acme.example"), "inbound"},
		{"handed in again", message("4F0000001A", "localhost[127.0.0.1], orig_queue_id=ABCDEF0, orig_client=x[192.0.2.1]", "ann@acme.example", "x@mailbox.example"), "again"},
		{"long ids, and the old form of time", "Nov  2 07:56:03 relay postfix/smtpd[1]: 4bXyZ01k2Lz9q: client=mail[203.0.113.10]\nNov  2 07:56:03 relay postfix/qmgr[1]: 4bXyZ01k2Lz9q: from=<a@acme.example>, size=1, nrcpt=1 (queue active)\n", "relayed acme/server"},
		{"the log begins late", "Nov  2 07:56:03 relay postfix/qmgr[1]: 4F0000001A: from=<a@acme.example>, size=1, nrcpt=1 (queue active)\n", "unknown the log begins after the message came"},
		{"the sendmail command", "Nov  2 07:56:03 relay postfix/pickup[1]: 4F0000001A: uid=0 from=<root>\nNov  2 07:56:03 relay postfix/qmgr[1]: 4F0000001A: from=<root@acme.example>, size=1, nrcpt=1 (queue active)\n", "refused RELAY_DENIED claims , delivered 0"},
		{"nothing of mail", "Nov  2 07:56:03 relay sshd[1]: 4F0000001A: client=mail[203.0.113.10]\n\x00\xff\n2026-11-20T10 x\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.TrimSpace(summary(run(t, test.log))); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func summary(t *Tally) string {
	var b strings.Builder
	for _, s := range t.Sources {
		fmt.Fprintf(&b, "relayed %s/%s\n", s.Organisation, s.Source)
	}
	for _, s := range t.Senders {
		fmt.Fprintf(&b, "refused %s claims %s, delivered %d\n", s.Reason, s.Organisation, s.Delivered)
		if s.Do == "" || s.Why == "" {
			b.WriteString("and not why, or what to do\n")
		}
	}
	for _, d := range t.Doubts {
		b.WriteString("unknown " + d.Why + "\n")
	}
	if t.Inbound > 0 {
		b.WriteString("inbound\n")
	}
	if t.Again > 0 {
		b.WriteString("again\n")
	}
	return b.String()
}

// TestInterleavedMessagesAreKeptApart: lines of many messages stand between each other.
func TestInterleavedMessagesAreKeptApart(t *testing.T) {
	var parts [5]strings.Builder
	for i := range 50 {
		client := "mail[203.0.113.10]"
		if i%2 == 1 {
			client = "mail[203.0.113.11]"
		}
		for k, line := range strings.SplitAfter(message(fmt.Sprintf("4F%08X", i), client, "ann@acme.example", "x@mailbox.example"), "\n") {
			if k < len(parts) {
				parts[k].WriteString(line)
			}
		}
	}
	log := ""
	for i := range parts {
		log += parts[i].String()
	}
	got := run(t, log)
	if got.Relayed != 25 || got.Refused != 25 || got.Messages != 50 || got.Own() != 1 {
		t.Errorf("%d relayed, %d refused of %d, %d senders of the organisation", got.Relayed, got.Refused, got.Messages, got.Own())
	}
}

// TestMemoryIsBounded: a log of messages that never end, and of senders without end,
// with lines without end, in a packed file.
func TestMemoryIsBounded(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	for i := range maxOpen + 1000 {
		fmt.Fprintf(z, "Nov  2 07:56:03 relay postfix/smtpd[1]: %010X: client=x[192.0.2.1]\nNov  2 07:56:03 relay postfix/qmgr[1]: %010X: from=<s%d@acme.example>, size=1, nrcpt=1 (queue active)\n", i, i, i)
	}
	fmt.Fprintf(z, "Nov  2 07:56:03 relay postfix/smtpd[1]: 4F0000001A: client=%s[192.0.2.1]\n", strings.Repeat("x", 1<<20))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	tally, dir := NewTally(), directory(t)
	j := NewJoiner(func(m *Message) { tally.Add(m, Judge(dir, m)) })
	lines, err := j.Read(t.Context(), &packed)
	if err != nil || lines != 2*(maxOpen+1000)+1 || j.order.Len() != maxOpen || tally.Messages != 1000 {
		t.Errorf("%d lines, %d open, %d ended: %v", lines, j.order.Len(), tally.Messages, err)
	}
	j.Flush()
	tally.Settle(10)
	if len(tally.bySender) != maxSenders || len(tally.Senders) != 10 || tally.Others != tally.Refused-maxSenders {
		t.Errorf("%d senders, %d listed, %d others of %d", len(tally.bySender), len(tally.Senders), tally.Others, tally.Refused)
	}
}

// TestStrangersTextIsHarmless: what a client wrote cannot steer a terminal, and cannot
// pass for another part of the line.
func TestStrangersTextIsHarmless(t *testing.T) {
	l, ok := Parse("Nov  2 07:56:03 relay postfix/qmgr[1]: 4F0000001A: from=<\x1b[2Ja\u202eb@acme.example>, size=1\r\n")
	if !ok || *l.From != "\uFFFD[2Ja\uFFFDb@acme.example" {
		t.Errorf("%v %q", ok, *l.From)
	}
	l, ok = Parse("Nov  2 07:56:03 relay postfix/smtp[1]: 4F0000001A: to=<a@b.example>, relay=x[192.0.2.1]:25, status=deferred (host said: 450 x, status=sent (ok))")
	if diff := cmp.Diff([]any{true, "deferred", "a@b.example"}, []any{ok, l.Status, l.To}); diff != "" {
		t.Error(diff)
	}
}

func FuzzParseLine(f *testing.F) {
	for line := range strings.Lines(message("4F0000001A", "pc[192.0.2.1], sasl_method=PLAIN, sasl_username=billing", "a@acme.example", "x@mailbox.example")) {
		f.Add(line)
	}
	f.Add("Nov  2 07:56:03 relay postfix/smtpd[1]: NOQUEUE: reject: RCPT from x[192.0.2.1]: 554 5.7.1 no")
	f.Add("Nov  2 07:56:03 relay postfix/pickup[1]: 4F0000001A: uid=0 from=<root>\n")
	dir := directory(f)
	f.Fuzz(func(t *testing.T, text string) {
		l, ok := Parse(text)
		if !ok {
			return
		}
		for _, v := range []string{l.Client, l.User, l.ID, l.To, l.Relay, l.Status} {
			if len(v) > 3*maxValue || strings.ContainsAny(v, "\x00\x1b\r\n") {
				t.Errorf("%q of %q", v, text)
			}
		}
		tally := NewTally()
		j := NewJoiner(func(m *Message) { tally.Add(m, Judge(dir, m)) })
		j.Add(&l)
		j.Flush()
		if n := tally.Messages + tally.Again + j.Rejected; n > 1 {
			t.Errorf("one line is %d messages", n)
		}
		tally.Settle(5)
	})
}
