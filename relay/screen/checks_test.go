package screen

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"anechoic/mail"
	"anechoic/relay/screen/content"
)

// checked asks our own checks alone.
func checked(t *testing.T, dangerous Action, text string) Verdict {
	t.Helper()
	q := question(t, text)
	q.Rules.Checks = Checking{Rules: &content.Rules{Blocked: content.DefaultBlocked()}, Dangerous: dangerous}
	return ask(t, new(Checks), q)
}

// withFile is a message with a file in it.
func withFile(name string, data []byte) string {
	return "From: Ann <ann@acme.example>\nContent-Type: application/octet-stream; name=\"" + name + "\"\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString(data) + "\n"
}

func TestFindingsDoWhatTheOrganisationWants(t *testing.T) {
	dangerous := withFile("invoice.pdf.exe", []byte("MZ"))
	suspicious := "From: \"ceo@bank.example\" <ann@acme.example>\n\nhello\n"
	fragment := "From: ann@acme.example\nContent-Type: message/partial; id=x; number=1; total=2\n\nhello\n"
	unopened := withFile("a.rar", []byte("Rar!\x1a\x07\x01\x00and more of it"))
	deep := strings.Builder{}
	deep.WriteString("From: ann@acme.example\n")
	for i := range 2 * mail.DefaultMaxMIMEDepth {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
	}
	for _, c := range []struct {
		behaviour, text    string
		mark, hold, refuse Action
		rule               string
	}{
		{"a program", dangerous, Mark, Hold, Refuse, "file-two-endings"},
		{"another's address as the name", suspicious, Mark, Mark, Mark, "name-is-address"},
		{"a piece of a message", fragment, Mark, Hold, Hold, "message-fragment"},
		{"an archive that is not opened", unopened, Mark, Mark, Mark, "file-unopened"},
		{"too many parts in parts", deep.String() + "Content-Type: text/plain\n\nx\n", Mark, Mark, Mark, "message-cut"},
		{"nothing", plain, Pass, Pass, Pass, ""},
	} {
		t.Run(c.behaviour, func(t *testing.T) {
			for level, want := range map[Action]Action{Mark: c.mark, Hold: c.hold, Refuse: c.refuse, Lost: c.hold} {
				v := checked(t, level, c.text)
				if v.Action != want || !strings.Contains(v.Detail(), c.rule) {
					t.Errorf("%v: %v, not %v: %s", level, v.Action, want, v.Detail())
				}
				if want == Refuse && v.Refusal().Reason() != mail.ReasonContentRefused {
					t.Errorf("refused as %v", v.Refusal())
				}
			}
		})
	}
}

func TestFindingsQuoteNothingOfTheMessage(t *testing.T) {
	for _, text := range []string{
		withFile("s\xc3\xa9cret\x1b[31m.exe", []byte("MZ")),
		"From: \"ceo@secret.example\" <ann@acme.example>\nContent-Type: text/html\n\n<a href=\"https://secret.example@1.2.3.4/\">x</a>\n",
	} {
		v := checked(t, Hold, text)
		if len(v.Findings) == 0 {
			t.Fatal("nothing was found")
		}
		for _, f := range v.Findings {
			if s := f.String(); strings.Contains(s, "cret") || safe(s, len(s)) != s {
				t.Errorf("%q", s)
			}
		}
	}
}

func TestOnlyWhatImpersonatesOrIsDangerousAlarms(t *testing.T) {
	for _, c := range []struct{ text, alarms string }{
		{plain, ""},
		{"From: \"ceo@bank.example\" <ann@acme.example>\n\nhello\n", "name-is-address"},
		{"From: ann@acme.example\nContent-Type: text/calendar\n\nBEGIN:VCALENDAR\nMETHOD:REQUEST\nORGANIZER:mailto:ceo@bank.example\n", "invite-other"},
		{withFile("a.exe", []byte("MZ")), "file-blocked file-program"},
		{withFile("a.docm", []byte("x")), ""},
	} {
		if got := strings.Join(checked(t, Mark, c.text).Alarms(), " "); got != c.alarms {
			t.Errorf("%q alarms with %q", c.text[:40], got)
		}
	}
}

func TestChecksThatNobodyWantsAreNotAsked(t *testing.T) {
	s := New(Options{Scanners: []Scanner{new(Checks)}})
	v := s.Ask(context.Background(), question(t, withFile("a.exe", []byte("MZ"))))
	if n := s.States(time.Unix(1, 0))[0].Counts[Pass]; v.Action != Pass || n != 0 {
		t.Errorf("%v, and %d were counted", v.Action, n)
	}
}

// A body that cannot be read is a loss; it says nothing about the checks, which go on.
func TestALossOfTheChecksNeverPassesAndNeverRests(t *testing.T) {
	s := New(Options{Scanners: []Scanner{new(Checks)}, Losses: 1})
	w := &mail.BodyWriter{Threshold: 1, Dir: t.TempDir()}
	if _, err := w.Write([]byte("hello\r\n")); err != nil {
		t.Fatal(err)
	}
	gone := question(t, plain)
	gone.Message.Body = w.Body()
	gone.Rules.Checks = Checking{Rules: &content.Rules{}}
	if err := gone.Message.Body.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if v := s.Ask(context.Background(), gone); v.Action != Lost || v.Refusal().Reason() != mail.ReasonScreeningLost {
			t.Errorf("%v: %s", v.Action, v.Detail())
		}
	}
	whole := question(t, plain)
	whole.Rules.Checks = gone.Rules.Checks
	if v := s.Ask(context.Background(), whole); v.Action != Pass {
		t.Errorf("%v: %s", v.Action, v.Detail())
	}
}

func TestChecksAreOneVoiceBesideOthers(t *testing.T) {
	q := question(t, withFile("a.exe", []byte("MZ")))
	q.Rules.Checks = Checking{Rules: &content.Rules{}, Dangerous: Hold}
	refuses := httpLiar(t, httpAnswer(`{"score":20,"required_score":15,"action":"reject","symbols":{}}`))
	q.Message.Body = mail.NewBody([]byte("TVo=\r\nGood morning.\r\n"))
	v := New(Options{Scanners: []Scanner{refuses, new(Checks)}}).Ask(context.Background(), q)
	if v.Action != Refuse || !strings.Contains(v.Detail(), "checks file-program") {
		t.Errorf("%v: %s", v.Action, v.Detail())
	}
}

// The worst that archives do is bounded by content.Limits, whatever they claim.
func TestAnArchiveOfZerosIsFoundAndNotUnpacked(t *testing.T) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create("zeros.txt")
	for range 64 { // 64 MiB
		if err == nil {
			_, err = w.Write(make([]byte, 1<<20))
		}
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if v := checked(t, Refuse, withFile("a.zip", b.Bytes())); v.Action != Refuse || !strings.Contains(v.Detail(), "file-bomb") {
		t.Errorf("%v: %s", v.Action, v.Detail())
	}
}

func FuzzChecks(f *testing.F) {
	f.Add(withFile("a.exe", []byte("MZ")), uint8(Mark))
	f.Add("From: \"c@b.example\" <a@a.example>\nContent-Type: message/partial\n\nx", uint8(Refuse))
	f.Fuzz(func(t *testing.T, text string, dangerous uint8) {
		head, body, _ := strings.Cut(strings.ReplaceAll(text, "\n", "\r\n"), "\r\n\r\n")
		h, err := mail.ParseHeader([]byte(head+"\r\n"), mail.HeaderLimits{})
		if err != nil {
			return
		}
		q := &Question{Message: mail.Message{Header: h, Body: mail.NewBody([]byte(body))}}
		q.Rules.Checks = Checking{Rules: &content.Rules{Blocked: content.DefaultBlocked()}, Dangerous: Action(dangerous)}
		limits := content.Limits{Depth: 5, Parts: 20, Text: 16 << 10, ArchiveMemory: 64 << 10, Unpacked: 256 << 10}
		o, err := (&Checks{Limits: limits}).Ask(context.Background(), q)
		if err != nil || o.Action == Lost || o.Action == Defer || o.Action == Refuse && Action(dangerous) != Refuse || len(o.Findings) > maxChecked {
			t.Fatalf("%+v, %v", o, err)
		}
		for _, finding := range o.Findings {
			if s := finding.String(); len(s) > 2*maxText || safe(s, math.MaxInt) != s {
				t.Errorf("not fit for a log: %q", s)
			}
		}
	})
}
