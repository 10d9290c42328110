package quarantine_test

import (
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/mail"
	"anechoic/relay/custody"
	"anechoic/relay/quarantine"
)

var update = flag.Bool("update", false, "write the golden files")

func digest(t *testing.T, messages ...custody.Detained) quarantine.Digest {
	return quarantine.Digest{
		ID: "d1", Hostname: "relay.anechoic.test", From: address(t, "quarantine@relay.anechoic.test"), To: address(t, "security@acme.test"),
		Organisation: "acme", Messages: messages, Held: len(messages) + 4, Now: noon,
	}
}

func TestTheDigestCountsAndNamesAndHasNothingToClick(t *testing.T) {
	first, second := *held(t), *held(t)
	first.ID, second.ID = "aaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbb"
	second.Reason, second.Source, second.Verdicts, second.From = mail.ReasonDMARCQuarantine, "", custody.Verdicts{DMARC: "fail"}, mail.Address{}
	second.Envelope.Recipients = second.Envelope.Recipients[:1]
	header, body, err := quarantine.Compose(digest(t, first, second))
	if err != nil {
		t.Fatal(err)
	}
	got := string(header.Bytes()) + string(body)
	if *update {
		if err := os.WriteFile("testdata/digest.golden", []byte(strings.ReplaceAll(got, "\r\n", "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile("testdata/digest.golden")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.ReplaceAll(string(golden), "\n", "\r\n"), got); diff != "" {
		t.Errorf("the digest (-want +got):\n%s", diff)
	}
	for _, never := range []string{"freemail.test", "example.org", "rger", "http"} {
		if strings.Contains(string(body), never) {
			t.Errorf("it says %q", never)
		}
	}
}

func TestADigestIsBoundedASCII(t *testing.T) {
	var many []custody.Detained
	for range 300 {
		d := *held(t)
		d.From = address(t, strings.Repeat("x", 60)+"@"+strings.Repeat("y", 60)+".test")
		many = append(many, d)
	}
	_, body, err := quarantine.Compose(digest(t, many...))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(body), "    from "); n != 50 || !strings.Contains(string(body), "and 250 messages more.") {
		t.Errorf("%d lines:\n%s", n, body)
	}
	for line := range strings.SplitSeq(string(body), "\r\n") {
		if len(line) > 100 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("line %q", line)
		}
	}
	if _, _, err := quarantine.Compose(digest(t)); !errors.Is(err, quarantine.ErrNothingNew) {
		t.Errorf("of nothing: %v", err)
	}
	d := digest(t, *held(t))
	d.Now = time.Time{}
	d.To = mail.Address{}
	if _, _, err := quarantine.Compose(d); err == nil {
		t.Error("a digest for nobody was composed")
	}
}
