package lab

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/standard/dmarc"
	"anechoic/standard/spf"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
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
		t.Errorf("%s (-want +got; go test -update writes it):\n%s", file, diff)
	}
}

func text(lines []line, colour bool) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.render(colour) + "\n")
	}
	return b.String()
}

// halfway is a campaign under way.
var halfway = actView{title: "Spoofs", spoof: true, doors: [2]doorView{{total: 2000, taken: 1000}, {total: 2000, refused: 1500}}}

func TestProgressAtEveryWidth(t *testing.T) {
	var b strings.Builder
	for _, width := range []int{120, 100, 80, 79, 40, 20} {
		fmt.Fprintf(&b, "== %d columns\n%s", width, text(append(headingLines(width), halfway.lines(width)...), false))
	}
	golden(t, "progress.txt", b.String())
}

func TestProgressNeverLeavesItsWidth(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		door := func(name string) doorView {
			total := rapid.IntRange(0, 100_000).Draw(rt, name)
			taken := rapid.IntRange(0, total).Draw(rt, "taken")
			return doorView{total, taken, rapid.IntRange(0, total-taken).Draw(rt, "refused")}
		}
		v := actView{title: rapid.String().Draw(rt, "title"), doors: [2]doorView{door("old"), door("new")}}
		width := rapid.IntRange(14, 300).Draw(rt, "width")
		for _, l := range v.lines(width) {
			if l.length() > width {
				rt.Fatalf("%d of %d columns: %q", l.length(), width, l.render(false))
			}
		}
	})
}

func TestWrappedTextFitsAndLosesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text, width := rapid.String().Draw(rt, "text"), rapid.IntRange(1, 60).Draw(rt, "width")
		var joined strings.Builder
		for _, l := range wrap(text, width) {
			if utf8.RuneCountInString(l) > width {
				rt.Fatalf("%q is wider than %d", l, width)
			}
			joined.WriteString(strings.ReplaceAll(l, " ", ""))
		}
		if want := strings.Join(strings.Fields(printable(text)), ""); joined.String() != want {
			rt.Fatalf("%q became %q", want, joined.String())
		}
	})
}

// TestBarsAreDrawnOverEachOtherOnATerminalOnly: elsewhere four lines an act, and
// not one escape.
func TestBarsAreDrawnOverEachOtherOnATerminalOnly(t *testing.T) {
	play := func(o DemoOptions) string {
		var out bytes.Buffer
		o.Progress = &out
		s := newScreen(o)
		s.heading()
		v := actView{title: "Spoofs", spoof: true, doors: [2]doorView{{total: 50}, {total: 50}}}
		for range 50 {
			v.doors[0].taken++
			s.last = time.Time{}
			s.show(v)
			v.doors[1].refused++
			s.show(v)
		}
		s.finish(v)
		return out.String()
	}
	plainText := play(DemoOptions{})
	if strings.Contains(plainText, "\x1b") || strings.Count(plainText, "Spoofs") != 4 {
		t.Errorf("off a terminal:\n%s", plainText)
	}
	live := play(DemoOptions{Live: true, Width: func() int { return 40 }})
	if !strings.Contains(live, "\x1b[3A") || strings.Contains(live, "\x1b[3"+"1m") || strings.Contains(live, "\x1b[1m") {
		t.Errorf("on a narrow terminal without colours:\n%q", live[:200])
	}
	if coloured := play(DemoOptions{Live: true, Colour: true}); !strings.Contains(coloured, "\x1b[31m█") || !strings.Contains(coloured, "\x1b[32m░") {
		t.Errorf("in colours:\n%q", coloured[:200])
	}
}

// refusedSpoof is what the ledger has of a spoof, in all its parts.
func refusedSpoof() ledger.Fact {
	return ledger.Fact{
		Event: ledger.Refused, ClaimedOrg: "globex", From: "admin_supportkxm@globex.example", Rcpt: []string{"victim1@freemail.example"},
		Peer: netip.MustParseAddr("127.40.1.5"), Tenant: "a92bb60b-1234-4abc-8def-0123456789ab", Originator: "rogue2.onmicrosoft.com",
		ConnectingIP: "TenantId=a92bb60b-1234-4abc-8def-0123456789ab;Ip=[127.70.0.1];Helo=[mail.sender.example]", Reason: mail.ReasonTenantNotAuthorized,
	}
}

// delivered is the same where nobody asked.
func delivered(t *testing.T) *Judgement {
	t.Helper()
	domain, err := mail.ParseDomain("globex.example")
	if err != nil {
		t.Fatal(err)
	}
	return &Judgement{SignedBy: []mail.Domain{domain}, SPF: spf.Result{Status: spf.Pass, Domain: "globex.example"}, DMARC: dmarc.Result{Status: dmarc.Pass}, Place: Inbox}
}

var refusal = Reply{550, "5.7.1 Not proven to come from this organisation [TENANT_NOT_AUTHORIZED id=2al273ajvlxyqwix3sfrsw2fv2]"}

func TestOneSpoofSideBySide(t *testing.T) {
	c := compare(delivered(t), refusal, refusedSpoof())
	golden(t, "comparison.txt", "== 100 columns\n"+text(c.lines(100), false)+"== 60 columns\n"+text(c.lines(60), false))
}

func TestTheHopThatFailedIsTheOneTheReasonSpeaksOf(t *testing.T) {
	for reason, want := range map[mail.Reason]string{
		mail.ReasonTenantNotAuthorized: "tenant", mail.ReasonFromNotOwned: "author", mail.ReasonSourceNotAllowed: "author",
		mail.ReasonRelayDenied: "peer", mail.ReasonPeerNotEOP: "peer", mail.ReasonRateLimited: "here",
	} {
		f := refusedSpoof()
		f.Reason = reason
		var failed []string
		for _, h := range hops(f) {
			if h.Failed {
				failed = append(failed, h.Name)
			}
		}
		if len(failed) != 1 || failed[0] != want {
			t.Errorf("%s: failed at %q, want %s", reason, failed, want)
		}
	}
}

// TestStrangersTextCannotSteerATerminal: what an attacker writes into names and
// stamps is shown, not obeyed.
func TestStrangersTextCannotSteerATerminal(t *testing.T) {
	f := refusedSpoof()
	f.From = "a\x1b[2J\u202e@globex.example\r\nx"
	f.Originator, f.ConnectingIP, f.Rcpt = "\x1b]0;owned\x07", "\x9b31m", []string{"v\x00@freemail.example"}
	c := compare(nil, Reply{550, "5.7.1 \x1b[31m"}, f)
	for _, width := range []int{100, 60, 10} {
		for _, l := range c.lines(width) {
			for _, r := range l.render(false) {
				if !unicode.IsPrint(r) {
					t.Fatalf("%q at width %d", l.render(false), width)
				}
			}
		}
	}
	if c.Inbox[0] != "refused there too" {
		t.Errorf("left: %q", c.Inbox)
	}
}
