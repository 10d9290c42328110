package alert

import (
	"context"
	"flag"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares a mail with a file.
func golden(t *testing.T, name string, header mail.Header, body []byte) {
	t.Helper()
	got := string(header.Bytes()) + string(body)
	for k := range len(got) {
		if got[k] > '~' || got[k] < ' ' && got[k] != '\r' && got[k] != '\n' {
			t.Fatalf("octet %x in a mail of 7 bits", got[k])
		}
	}
	for _, line := range strings.Split(got, "\r\n") {
		if len(line) > 998 || strings.ContainsAny(line, "\r\n") {
			t.Errorf("a line of %d octets, or with a bare line end", len(line))
		}
	}
	file := "testdata/" + name
	if *update {
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(got, "\r\n", "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.ReplaceAll(string(want), "\n", "\r\n"), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", name, diff)
	}
}

func letter(t *testing.T) Letter {
	return Letter{ID: "a1", Hostname: "relay.test", From: address(t, "alerts@relay.test"), To: address(t, "security@acme.test"), Now: noon}
}

func TestTheMailOfAnAlert(t *testing.T) {
	bad := Alert{
		Key: "k", Org: "acme", Kind: "campaign", Severity: Critical, Title: "Mail of acme.test from http://evil.example\r\nBcc: all@acme.test", Count: 2000,
		Text: "Reports said: visit https://evil.example/login or mail eve@evil.example. \x1b]0;owned\x07 " + strings.Repeat("word ", 40) + strings.Repeat("x", 2000), Fields: [][2]string{{"tenant", "9f3c"}, {"host", "evil.example"}},
		Campaign: "c1",
	}
	first, _ := Incident{}.After(campaign.clean(noon))
	second, _ := Incident{}.After(bad.clean(noon))
	over, _ := first.After(Alert{Key: "k", Kind: "campaign", Title: "It is over", Severity: Warning, Count: 41, Ended: true}.clean(noon))
	list := []Incident{first, over, second}
	worstFirst(list)
	header, body, err := Compose(letter(t), Mailing{Org: "acme", To: address(t, "security@acme.test"), Incidents: list, More: 3})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "alert.golden", header, body)
	for _, never := range []string{"evil.example", "http", "eve@"} {
		if strings.Contains(string(body), never) {
			t.Errorf("it says %q", never)
		}
	}
	if header, _, err = Compose(letter(t), Mailing{Incidents: list[:1]}); err != nil || len(header.Fields) != 9 {
		t.Errorf("%v: %d fields", err, len(header.Fields))
	}
}

func TestAMailWithoutSenderOrContentIsNone(t *testing.T) {
	if _, _, err := Compose(letter(t), Mailing{}); err == nil {
		t.Error("a mail about nothing")
	}
	if _, _, err := Compose(Letter{}, Mailing{Incidents: make([]Incident, 1)}); err == nil {
		t.Error("a mail from nobody")
	}
}

func TestAWeekIsReadFromTheLedger(t *testing.T) {
	engine := memory.New()
	begin := noon.AddDate(0, 0, -7)
	fact := func(days int, event ledger.Event, f ledger.Fact) ledger.Fact {
		f.Time, f.Event = begin.AddDate(0, 0, days), event
		return f
	}
	facts := []ledger.Fact{
		fact(-1, ledger.Accepted, ledger.Fact{Org: "acme"}), // the week before
		fact(1, ledger.Accepted, ledger.Fact{Org: "acme"}),
		fact(1, ledger.Delivered, ledger.Fact{Org: "acme", Rcpt: []string{"a@b.test"}}),
		fact(2, ledger.Refused, ledger.Fact{ClaimedOrg: "acme", Reason: mail.ReasonTenantNotAuthorized, Tenant: "9f3c", Count: 500}),
		fact(2, ledger.Refused, ledger.Fact{ClaimedOrg: "acme", Reason: mail.ReasonTenantNotAuthorized, Peer: netip.MustParseAddr("192.0.2.9")}),
		fact(3, ledger.Refused, ledger.Fact{Org: "acme", Reason: mail.ReasonRateLimited}),
		fact(3, ledger.Held, ledger.Fact{Org: "acme"}),
		fact(3, ledger.Refused, ledger.Fact{ClaimedOrg: "other", Reason: mail.ReasonTenantNotAuthorized, Tenant: "evil.example\n"}),
		fact(4, ledger.Refused, ledger.Fact{Reason: mail.ReasonTenantNotAuthorized}), // of nobody
		fact(8, ledger.Accepted, ledger.Fact{Org: "acme"}),                           // the week after
	}
	if err := engine.Commit(context.Background(), &custody.Batch{Facts: facts}); err != nil {
		t.Fatal(err)
	}
	weeks, err := Weeks(t.Context(), engine, begin, noon)
	if err != nil || len(weeks) != 2 {
		t.Fatalf("%v: %d weeks", err, len(weeks))
	}
	w := *weeks["acme"]
	if w.Accepted != 1 || w.Delivered != 1 || w.Held != 1 || w.Refused[mail.ReasonTenantNotAuthorized] != 501 || w.Tried["tenant 9f3c"] != 500 || !w.Happened() {
		t.Errorf("%+v", w)
	}
	i, _ := Incident{}.After(campaign.clean(noon))
	w.Incidents = []Incident{i}
	header, body, err := ComposeWeek(letter(t), w)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "week.golden", header, body)
	if new(Week).Happened() {
		t.Error("nothing happened, and it says something did")
	}
}

func TestWhoTriedIsCountedInBoundedSpace(t *testing.T) {
	w := Week{Tried: map[string]int{}, Refused: map[mail.Reason]int{}}
	for n := range 100_000 {
		w.count(&ledger.Fact{Event: ledger.Refused, Peer: netip.AddrFrom4([4]byte{byte(n >> 16), byte(n >> 8), byte(n), 1})})
	}
	if len(w.Tried) > maxTried || w.TriedMore != 100_000-maxTried {
		t.Errorf("%d, and %d more", len(w.Tried), w.TriedMore)
	}
}
