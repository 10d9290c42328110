package bounce

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anechoic/mail"
	"anechoic/standard/report"
)

func crlf(text string) []byte { return []byte(strings.ReplaceAll(text, "\n", "\r\n")) }

// withParts is a report with parts after its words.
func withParts(head, status, returned string) []byte {
	text := head + "MIME-Version: 1.0\nContent-Type: multipart/report; boundary=b\n\n--b\n\nSorry.\n"
	for _, part := range []string{status, returned} {
		if part != "" {
			text += "--b\n" + part + "\n"
		}
	}
	return crlf(text + "--b--\n")
}

const (
	daemonHead = "From: MAILER-DAEMON@mx.people.example\nSubject: Undelivered\n"
	failedPart = "Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.people.example\n\nFinal-Recipient: rfc822; bob@people.example\nAction: failed\nStatus: 5.1.1\n"
	abusePart  = "Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nUser-Agent: x/1\nVersion: 1\n"
)

func TestAReportNamesTheMessageItGivesBack(t *testing.T) {
	for _, test := range []struct {
		name    string
		message []byte
		want    []string
	}{
		{"its header", withParts(daemonHead, failedPart, "Content-Type: text/rfc822-headers\n\nFrom: ann@acme.example\nMessage-ID: <one@acme.example>\n"), []string{"<one@acme.example>"}},
		{"the whole of it", withParts(daemonHead, failedPart, "Content-Type: message/rfc822\n\nMessage-Id:\n <one@acme.example>\nSubject: x\n\nMessage-ID: <two@acme.example>\n"), []string{"<one@acme.example>"}},
		{"under its own Message-ID and References", withParts(daemonHead+"Message-ID: <own@mx.people.example>\nReferences: <other@acme.example>\n", failedPart, "Content-Type: message/rfc822\n\nMessage-ID: <one@acme.example>\n"), []string{"<one@acme.example>"}},
		{"nothing", withParts(daemonHead+"References: <other@acme.example>\n", failedPart, ""), nil},
		{"nothing, but in In-Reply-To", withParts(daemonHead+"In-Reply-To: <one@acme.example>\n", failedPart, ""), []string{"<one@acme.example>"}},
		{"several in In-Reply-To", withParts(daemonHead+"In-Reply-To: <one@acme.example> <two@acme.example>\n", failedPart, ""), nil},
		{"a header that has none, and In-Reply-To", withParts(daemonHead+"In-Reply-To: <one@acme.example>\n", failedPart, "Content-Type: message/rfc822\n\nSubject: x\n"), []string{"<one@acme.example>"}},
		{"several", withParts(daemonHead, failedPart, "Content-Type: message/rfc822\n\nMessage-ID: <1@a>\nMessage-ID: <1@a>\nMessage-ID: <2@a>\nMessage-ID: <3@a>\n"), []string{"<1@a>", "<2@a>"}},
		{"an empty one", withParts(daemonHead, failedPart, "Content-Type: message/rfc822\n\nMessage-ID: <>\nSubject: x\n"), nil},
		{"in words alone", crlf("From: MAILER-DAEMON@x.example\nSubject: failure notice\nIn-Reply-To: <other@acme.example>\n\nSorry.\n<bob@people.example>:\n550 5.1.1 no such user\n\n--- Below this line is a copy of the message.\n\nReturn-Path: <ann@acme.example>\nReceived: from a\nMessage-ID: <one@acme.example>\n\nhello\n"), []string{"<one@acme.example>"}},
		{"in words alone, without it", crlf("From: MAILER-DAEMON@x.example\nSubject: failure notice\nIn-Reply-To: <other@acme.example>\n\nSorry.\n<bob@people.example>:\n550 5.1.1 no such user\n"), nil},
		{"a complaint", withParts("From: fbl@people.example\n", abusePart, "Content-Type: message/rfc822\n\nMessage-ID: <one@acme.example>\n"), []string{"<one@acme.example>"}},
		{"an answer", crlf("From: bob@people.example\nSubject: Re: x\nAuto-Submitted: auto-replied\nIn-Reply-To: <one@acme.example>\n\nI am away.\n"), nil},
		{"an answer of a person", crlf("From: bob@people.example\nSubject: Re: x\nIn-Reply-To: <one@acme.example>\n\nThanks.\n"), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, ReadIncoming(report.Message(test.message)).MessageIDs); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestABareIDHasNothingAroundIt(t *testing.T) {
	for id, want := range map[string]string{
		"<a@b>": "a@b", " <a@b> ": "a@b", "a@b": "a@b", "(x) <a@b> (y)": "a@b", "<a@b": "a@b", "<>": "", "": "", "< a@b >": "a@b",
	} {
		if got := BareID(id); got != want {
			t.Errorf("%q is %q, want %q", id, got, want)
		}
	}
}

func TestOnlyWhatMayBeAReportIsRead(t *testing.T) {
	for _, test := range []struct {
		name     string
		noSender bool
		header   string
		want     bool
	}{
		{"nobody sent it", true, "Subject: x\n", true},
		{"somebody's mail", false, "Subject: x\nContent-Type: text/plain\n", false},
		{"somebody's mail with parts", false, "Content-Type: multipart/mixed; boundary=b\n", false},
		{"a complaint has a sender", false, "Content-Type: MULTIPART/Report; report-type=feedback-report\n", true},
		{"Outlook.com's", false, "Subject: Complaint about message from 192.0.2.1\n", true},
	} {
		header, _ := report.Message(crlf(test.header))
		if got := MayReport(test.noSender, header.Get("Content-Type"), header.Get("Subject")); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func domains(t *testing.T, names ...string) (list []mail.Domain) {
	t.Helper()
	for _, name := range names {
		d, err := mail.ParseDomain(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, d)
	}
	return list
}

func TestWhoIsBelievedWhat(t *testing.T) {
	one := Sent{Recipients: []string{"bob@people.example"}}
	two := Sent{Recipients: []string{"bob@people.example", "eve@others.example"}}
	served := func(sites ...string) Sent {
		return Sent{Recipients: two.Recipients, Sites: map[string]string{"bob@people.example": sites[0], "eve@others.example": sites[1]}}
	}
	by := func(names ...string) Witness { return Witness{NoSender: true, Domains: domains(t, names...)} }
	for _, test := range []struct {
		name string
		kind Kind
		sent Sent
		rcpt string
		who  Witness
		want Ground
	}{
		{"the only recipient's, from anybody", KindStatus, one, "Bob@people.example", by(), GroundAlone},
		{"in words", KindOldBounce, one, "bob@people.example", by(), GroundAlone},
		{"the same recipient twice", KindStatus, Sent{Recipients: []string{"bob@people.example", "BOB@People.example"}}, "bob@people.example", by(), GroundAlone},
		{"of somebody else", KindStatus, one, "eve@others.example", by("others.example"), ""},
		{"of nobody", KindStatus, one, "", by(), ""},
		{"with a sender", KindStatus, one, "bob@people.example", Witness{Domains: domains(t, "people.example")}, ""},
		{"disowned by who it says it is from", KindStatus, one, "bob@people.example", Witness{NoSender: true, Contradicted: true}, ""},
		{"an answer", KindReply, one, "bob@people.example", by(), ""},
		{"one of two, from anybody", KindStatus, two, "bob@people.example", by(), ""},
		{"one of two, from the other", KindStatus, two, "bob@people.example", by("others.example", "mx.others.example"), ""},
		{"one of two, from its domain", KindStatus, two, "bob@people.example", by("others.example", "people.example"), GroundDomain},
		{"one of two, from a host of its domain", KindOldBounce, two, "bob@people.example", by("mx1.people.example"), GroundDomain},
		{"one of two, from a sibling", KindStatus, Sent{Recipients: []string{"bob@a.hoster.example", "eve@b.hoster.example"}}, "bob@a.hoster.example", by("b.hoster.example"), ""},
		{"one of two, from above", KindStatus, Sent{Recipients: []string{"bob@a.hoster.example", "eve@b.hoster.example"}}, "bob@a.hoster.example", by("hoster.example"), GroundDomain},
		{"one of two, from a top domain", KindStatus, Sent{Recipients: []string{"bob@people.co.uk", "eve@others.example"}}, "bob@people.co.uk", by("co.uk", "uk"), ""},
		{"one of two, from its site", KindStatus, served("hoster.example", "others.example"), "bob@people.example", by("out3.hoster.example"), GroundSite},
		{"both of one site", KindStatus, served("hoster.example", "hoster.example"), "bob@people.example", by("out3.hoster.example"), ""},
		{"from the other's site", KindStatus, served("hoster.example", "others.example"), "bob@people.example", by("others.example"), ""},
		{"no site is known", KindStatus, served("", ""), "bob@people.example", by("hoster.example"), ""},
		{"a site that is an address", KindStatus, served("[192.0.2.1]", "x.example"), "bob@people.example", by("hoster.example"), ""},
		{"a complaint has a sender", KindComplaint, one, "bob@people.example", Witness{}, GroundAlone},
		{"a complaint of one of two", KindComplaint, two, "bob@people.example", by("people.example"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Believe(test.kind, test.sent, test.rcpt, test.who); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// What holds whatever a report says and whoever brings it.
func TestNobodyIsBelievedAboutAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"people.example", "a.people.example", "others.example", "hoster.example", "b.hoster.example", "example"}
		address := rapid.Custom(func(t *rapid.T) string {
			return rapid.SampledFrom([]string{"bob", "eve", "dan"}).Draw(t, "local") + "@" + rapid.SampledFrom(names[:5]).Draw(t, "domain")
		})
		sent := Sent{Recipients: rapid.SliceOfN(address, 1, 4).Draw(t, "recipients"), Sites: map[string]string{}}
		for _, to := range sent.Recipients {
			if rapid.Bool().Draw(t, "delivered") {
				sent.Sites[to] = rapid.SampledFrom(names).Draw(t, "site")
			}
		}
		who := Witness{NoSender: rapid.Bool().Draw(t, "no sender"), Contradicted: rapid.Bool().Draw(t, "contradicted")}
		for _, name := range rapid.SliceOfN(rapid.SampledFrom(names), 0, 2).Draw(t, "stand behind it") {
			d, err := mail.ParseDomain(name)
			if err != nil {
				t.Fatal(err)
			}
			who.Domains = append(who.Domains, d)
		}
		kind := rapid.SampledFrom([]Kind{KindStatus, KindOldBounce, KindComplaint, KindReply, KindOther}).Draw(t, "kind")
		rcpt := address.Draw(t, "said of")
		ground := Believe(kind, sent, rcpt, who)
		others := slices.DeleteFunc(slices.Clone(sent.Recipients), func(a string) bool { return a == rcpt })
		switch {
		case ground == "":
			return
		case !slices.Contains(sent.Recipients, rcpt):
			t.Fatalf("believed (%s) about somebody who did not get it", ground)
		case who.Contradicted || kind == KindReply || kind == KindOther:
			t.Fatalf("believed: %s", ground)
		case kind != KindComplaint && !who.NoSender:
			t.Fatalf("believed (%s) with a sender", ground)
		case len(others) > 0 && (kind == KindComplaint || len(who.Domains) == 0):
			t.Fatalf("believed (%s) though %q got it too", ground, others)
		case (ground == GroundAlone) != (len(others) == 0):
			t.Fatalf("%s, and %q got it too", ground, others)
		}
	})
}

// Real bounces give back what they are about: how many do is in docs/bounces.md.
func TestRealBouncesNameTheirMessages(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(suite(t), "*", "*.eml"))
	if err != nil || len(files) < 400 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	tell, named := 0, 0
	for _, f := range files {
		in := readBounce(t, f)
		if in.Tells() {
			tell++
		}
		if len(in.MessageIDs) > 0 {
			named++
		}
	}
	t.Logf("%d files, %d tell of a message, %d by a Message-ID", len(files), tell, named)
	if share := float64(named) / float64(tell); share < namedShare {
		t.Errorf("%d of %d name their message, want %.0f %%", named, tell, 100*namedShare)
	}
}

// namedShare is the share of real bounces that name their message, at least.
const namedShare = 0.84
