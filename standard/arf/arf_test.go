package arf

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anechoic/standard/report"
)

// complaint wraps fields into a feedback report.
func complaint(fields ...string) []byte {
	head := []string{"Content-Type: multipart/report; report-type=feedback-report; boundary=b", "", "--b", "", "words", "--b", "Content-Type: message/feedback-report", ""}
	return []byte(strings.Join(append(append(head, fields...), "--b", "Content-Type: message/rfc822", "", "Message-ID: <x@acme.example>", "", "body", "--b--"), "\r\n"))
}

func parse(message []byte) (Report, error) { return Parse(report.Read(report.Message(message))) }

func TestAComplaintIsRead(t *testing.T) {
	got, err := parse(complaint("Feedback-Type: Abuse", "User-Agent: SomeGenerator/1.0", "Version: 1", "Original-Mail-From: <b+token@bounces.acme.example>", "Original-Rcpt-To: <user@globex.example>", "Original-Rcpt-To: other@globex.example",
		"Source-IP: 192.0.2.1", "Reporting-MTA: dns; mail.globex.example", "Incidents: 3", "X-Else: y"))
	want := Report{
		Type: Abuse, UserAgent: "SomeGenerator/1.0", Version: "1", MailFrom: "b+token@bounces.acme.example", Recipients: []string{"user@globex.example", "other@globex.example"},
		SourceIP: "192.0.2.1", ReportingMTA: "dns; mail.globex.example", Incidents: 3, Returned: report.Fields{{Name: "Message-ID", Value: "<x@acme.example>"}},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v; -want +got:\n%s", err, diff)
	}
}

func TestUnknownTypesAreOtherAndDoubleFieldsAreNone(t *testing.T) {
	r, err := parse(complaint("Feedback-Type: grumble", "User-Agent: a", "User-Agent: b", "Incidents: -1"))
	if err != nil || r.Type != Other || r.UserAgent != "" || r.Incidents != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	for name, message := range map[string][]byte{"no type": complaint("User-Agent: a"), "two types": complaint("Feedback-Type: abuse", "Feedback-Type: not-spam"), "words": []byte("\r\nFeedback-Type: abuse")} {
		if r, err := parse(message); !errors.Is(err, ErrNoFeedback) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// FuzzParse lets anybody complain: what is read stays within bounds.
func FuzzParse(f *testing.F) {
	f.Add(complaint("Feedback-Type: abuse", "Original-Mail-From: <a@b.example>", "Original-Rcpt-To: <c@d.example>", "Incidents: 99999999999999999999"))
	f.Add(complaint("Feedback-Type: opt-out", "", "Feedback-Type: abuse"))
	f.Fuzz(func(t *testing.T, message []byte) {
		r, err := parse(message)
		if err != nil {
			return
		}
		if !slices.Contains([]Type{Abuse, Fraud, Virus, NotSpam, OptOut, AuthFailure, Other}, r.Type) || r.Incidents < 1 || r.Incidents > maxIncidents || len(r.Recipients) > maxRecipients || len(r.MailFrom) > 254 {
			t.Fatalf("%+v", r)
		}
	})
}
