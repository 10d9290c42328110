package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"

	"anechoic/ledger"
	"anechoic/mail"
)

// Whatever a stranger wrote into a message, a fact is one line of what prints, and the
// JSON means what was written.
func TestAFactOfAStrangerSteersNoTerminal(t *testing.T) {
	for _, text := range []string{"\x1b]0;pwned\a\x1b[31m", "a\r\n2026-11-22 12:00:00  delivered  acme", "<script>alert(1)</script>", "\u009b2J\u202egpj.exe", "\tx\x00y\x7f", "\U000e0041tag", "=1+1"} {
		f := ledger.Fact{Time: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Event: ledger.Refused, Source: text, ClaimedOrg: text, Site: text, From: text, MailFrom: text, Rcpt: []string{text, text}, Reply: text, Detail: text, Reason: mail.Reason(text), MessageID: text}
		for _, asJSON := range []bool{false, true} {
			var out bytes.Buffer
			sh := &shell{out: &out, asJSON: asJSON}
			if err := sh.printFact(f); err != nil {
				t.Fatal(err)
			}
			line, ended := strings.CutSuffix(out.String(), "\n")
			if !ended || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("JSON %v: %q is printed as %q", asJSON, text, out.String())
			}
			if !asJSON {
				continue
			}
			var back ledger.Fact
			if err := json.Unmarshal([]byte(line), &back); err != nil || back.Reply != text || strings.Contains(line, "<script") {
				t.Errorf("%q is %q in %s, %v", text, back.Reply, line, err)
			}
		}
		var out bytes.Buffer
		if err := (&shell{out: &out}).printJSON(f); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("%q is printed as %q", text, out.String())
		}
	}
}
