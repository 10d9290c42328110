package dsn

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anechoic/standard/report"
)

func parse(lines ...string) (Report, error) {
	return Parse(report.Read(report.Message([]byte(strings.Join(lines, "\r\n")))))
}

// status wraps status fields into a report.
func status(fields ...string) []string {
	head := []string{"Content-Type: multipart/report; report-type=delivery-status; boundary=b", "", "--b", "", "words", "--b", "Content-Type: message/delivery-status", ""}
	return append(append(head, fields...), "--b", "Content-Type: text/rfc822-headers", "", "Message-ID: <x@acme.example>", "--b--")
}

func TestAReportSaysWhatBecameOfEachRecipient(t *testing.T) {
	got, err := parse(status("Reporting-MTA: dns; mx.globex.example", "Original-Envelope-Id: QQ314159", "Arrival-Date: Fri, 20 Nov 2026 09:30:00 +0100", "",
		"Original-Recipient: rfc822;bob@globex.example", "Final-Recipient: RFC822; robert@globex.example", "Action: failed", "Status: 5.1.1 (bad mailbox)", "Remote-MTA: dns; in.globex.example", "Diagnostic-Code: smtp; 550 5.1.1 No", "",
		"Final-Recipient: rfc822;<carol@globex.example>", "Action: delayed", "Status: 4.04.1", "",
		`Final-Recipient: utf-8; \x{7528}\x{6237}@globex.example`, "Action: Delivered", "Status: 2.0.0")...)
	if err != nil {
		t.Fatal(err)
	}
	want := Report{
		EnvelopeID: "QQ314159", ReportingMTA: "mx.globex.example", Arrival: time.Date(2026, 11, 20, 8, 30, 0, 0, time.UTC),
		Recipients: []Recipient{
			{Original: "bob@globex.example", Final: "robert@globex.example", Action: Failed, Status: "5.1.1", Remote: "in.globex.example", Diagnostic: "550 5.1.1 No", SMTP: true},
			{Final: "carol@globex.example", Action: Delayed, Status: "4.4.1"},
			{Final: "用户@globex.example", Action: Delivered, Status: "2.0.0"},
		},
		Returned: report.Fields{{Name: "Message-ID", Value: "<x@acme.example>"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWhatIsNoReportIsNone(t *testing.T) {
	for name, lines := range map[string][]string{
		"words":                     {"Subject: x", "", "Final-Recipient is not here"},
		"no recipient":              status("Reporting-MTA: dns; x"),
		"a recipient without fate":  status("Final-Recipient: rfc822; bob@globex.example"),
		"an address without domain": status("Final-Recipient: bob", "Action: failed"),
		"an endless address":        status("Final-Recipient: rfc822; "+strings.Repeat("b", 300)+"@globex.example", "Action: failed"),
	} {
		if r, err := parse(lines...); !errors.Is(err, ErrNoStatus) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestRecipientsAreBounded(t *testing.T) {
	r, err := parse(status(strings.Repeat("Final-Recipient: rfc822; a@b.example\r\nAction: failed\r\n\r\n", 3*maxRecipients))...)
	if err != nil || len(r.Recipients) != maxRecipients {
		t.Errorf("%d recipients, %v", len(r.Recipients), err)
	}
}

func TestStatusCodes(t *testing.T) {
	for in, want := range map[string]string{"5.1.1": "5.1.1", " 4.07.001 (x)": "4.7.1", "2.0.0;": "2.0.0", "5.1": "", "3.1.1": "", "5..1": "", "5.1.": "", "5.1.1000": "", "55.1.1": "", "": "", "5.999.999": "5.999.999", "5.1.99999999999999999999": ""} {
		if got := Status(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestCodesAreFoundInWords(t *testing.T) {
	for _, test := range []struct {
		text, enhanced string
		code           int
	}{
		{"550 5.1.1 no", "5.1.1", 550}, {"550-5.7.26 a\r\n550 5.7.26 b", "5.7.26", 550}, {"said: 421 later (#4.4.5)", "4.4.5", 421},
		{"192.0.2.1 said no", "", 0}, {"at 12:5.1.1", "5.1.1", 0}, {"600 5.1.1.2", "", 0}, {"<550@x> 599", "", 0}, {"250 2.0.0 ok", "", 0},
	} {
		if code, enhanced := Codes(test.text); code != test.code || enhanced != test.enhanced {
			t.Errorf("%q: %d %q, want %d %q", test.text, code, enhanced, test.code, test.enhanced)
		}
	}
}

func TestReplies(t *testing.T) {
	for _, test := range []struct {
		code     int
		enhanced string
		text     string
		want     Class
	}{
		{550, "5.1.1", "550 5.1.1 <bob@globex.example>: Recipient address rejected: User unknown in virtual mailbox table", UserUnknown},
		{550, "5.7.1", "550 5.7.1 blocked due to spam from spam@user-unknown.example", Spam},
		{550, "", "550 Requested action not taken: mailbox unavailable", RecipientRefused},
		{550, "5.1.1", "550 5.1.1 Requested action not taken: mailbox unavailable", UserUnknown},
		{550, "5.1.10", "550 5.1.10 null MX", NotAccepting},
		{556, "", "556 go away", NotAccepting},
		{552, "5.2.2", "552 5.2.2 over quota", MailboxFull},
		{552, "5.3.4", "552 5.3.4 Message exceeds the size limit", TooBig},
		{450, "4.2.0", "450 4.2.0 Greylisted, come back in 300 seconds", Greylisted},
		{451, "4.7.1", "451 4.7.1 Please try again in 300 seconds", Greylisted},
		{421, "4.7.28", "421-4.7.28 our system has detected an unusual rate of mail", RateLimited},
		{550, "5.7.26", "550 5.7.26 fails", AuthFailure},
		{550, "5.7.1", "550 5.7.1 SPF check failed", AuthFailure},
		{554, "5.7.1", "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", Reputation},
		{550, "5.7.1", "550 5.7.1 Relaying denied", RelayRefused},
		{530, "5.7.0", "530 5.7.0 Must issue a STARTTLS command first", TLS},
		{554, "5.4.6", "554 5.4.6 Too many hops", Loop},
		{0, "4.4.1", "192.0.2.1:25: connect: connection refused", Network},
		{0, "5.1.2", "the domain glbex.example does not exist", DomainUnknown},
		{550, "5.2.1", "550 5.2.1 The email account that you tried to reach is disabled", UserDisabled},
		{550, "5.1.6", "550 5.1.6 gone", Moved},
		{554, "5.6.0", "554 5.6.0 no", Content},
		{554, "5.7.1", "554 5.7.1 virus found", Virus},
		{550, "5.7.1", "550 5.7.1 no", Policy},
		{503, "", "503 bad sequence", Protocol},
		{451, "", "451 later", SystemError},
		{554, "", "554 no", Unclassified},
		{0, "", "", Unclassified},
	} {
		if got := Classify(test.code, test.enhanced, test.text); got != test.want {
			t.Errorf("%q: %s, want %s", test.text, got, test.want)
		}
	}
}

func TestOnlyWhatIsSaidOfTheAddressCountsAgainstIt(t *testing.T) {
	for _, c := range Classes() {
		about := slices.Contains([]Class{UserUnknown, UserDisabled, Moved, DomainUnknown, NotAccepting}, c)
		if c.AboutAddress() != about {
			t.Errorf("%s", c)
		}
	}
}

func TestEveryRowOfTheTablesHasAClassOfTheSet(t *testing.T) {
	known := func(c Class) {
		if !slices.Contains(Classes(), c) {
			t.Errorf("%q is not in the set", c)
		}
	}
	for _, row := range slices.Concat(telling, vague) {
		known(row.class)
		for _, phrase := range row.any {
			if normal(phrase) != phrase || len(phrase) < 3 {
				t.Errorf("%q is not written as texts are when they are compared: %q", phrase, normal(phrase))
			}
		}
	}
	for _, c := range precise {
		known(c)
	}
	for _, c := range general {
		known(c)
	}
}

// FuzzParse lets anybody write a report: what is read stays within bounds.
func FuzzParse(f *testing.F) {
	f.Add([]byte(strings.Join(status("Reporting-MTA: dns; x", "", "Final-Recipient: rfc822;a@b.example", "Action: failed", "Status: 5.1.1", "Diagnostic-Code: smtp; 550 no"), "\r\n")))
	f.Add([]byte("\nFinal-Recipient: utf-8; \\x{41}\\x{}@b\nAction: delivered\n\n"))
	f.Fuzz(func(t *testing.T, message []byte) {
		r, err := Parse(report.Read(report.Message(message)))
		if (err == nil) != (len(r.Recipients) > 0) || len(r.Recipients) > maxRecipients {
			t.Fatalf("%v with %d recipients", err, len(r.Recipients))
		}
		for _, rcpt := range r.Recipients {
			if rcpt.Final == "" && rcpt.Original == "" || rcpt.Status != "" && Status(rcpt.Status) != rcpt.Status {
				t.Fatalf("%+v", rcpt)
			}
		}
	})
}

// FuzzClassify lets servers say what they like: there is always a class, and the
// same one again.
func FuzzClassify(f *testing.F) {
	f.Add(550, "5.1.1", "550 5.1.1 user unknown")
	f.Add(0, "", "İ’\xff \" 5.7.26.")
	f.Fuzz(func(t *testing.T, code int, enhanced, text string) {
		class := Classify(code, enhanced, text)
		if !slices.Contains(Classes(), class) || class != Classify(code, enhanced, text) {
			t.Fatalf("%q", class)
		}
	})
}
