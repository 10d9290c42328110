package mail

import "testing"

func TestOnlyReportsAndAutomaticAnswersAreAutomatic(t *testing.T) {
	for header, want := range map[string]bool{
		"Content-Type: multipart/report; report-type=delivery-status\r\n":          true,
		"Content-Type: multipart/report;\r\n\treport-type=\"delivery-status\"\r\n": true,
		"Content-Type: multipart/report; report-type=disposition-notification\r\n": true,
		"Content-Type: Multipart/Report\r\n":                                       true,
		"content-type: multipart / report (a comment); x=y\r\n":                    true,
		"Content-Type: (x) multipart/report\r\n":                                   true,
		"Auto-Submitted: auto-replied\r\n":                                         true,
		"Auto-Submitted: auto-generated; x=y\r\n":                                  true,
		"Auto-Submitted: auto-notified; owner-email=\"x@y.example\"\r\n":           true,
		"AUTO-SUBMITTED:\r\n Auto-Generated (rejected)\r\n":                        true,
		"Auto-Submitted: auto-replied\r\nContent-Type: text/plain\r\n":             true,
		"Content-Type: multipart/report\r\nAuto-Submitted: no\r\n":                 true,
		"Auto-Submitted: no\r\n":                                                   false,
		"Auto-Submitted: No ; x=y\r\n":                                             false,
		"Auto-Submitted: (auto-replied) no\r\n":                                    false,
		"Auto-Submitted: no (auto-replied)\r\n":                                    false,
		"Auto-Submitted: \r\n":                                                     false,
		"Auto-Submitted: ; auto-replied\r\n":                                       false,
		"Auto-Submitted: auto replied\r\n":                                         false,
		"Auto-Submitted: \"no\"\r\n":                                               false,
		"Auto-Submitted: no\r\nAuto-Submitted: auto-replied\r\n":                   false,
		"Auto-Submitted: auto-replied\r\nAuto-Submitted: auto-replied\r\n":         false,
		"Content-Type: text/plain; x=multipart/report\r\n":                         false,
		"Content-Type: multipart/reports\r\n":                                      false,
		"Content-Type: multipart/mixed (multipart/report)\r\n":                     false,
		"Content-Type: text/plain\r\nContent-Type: multipart/report\r\n":           false,
		"Subject: multipart/report\r\n":                                            false,
		"X-Auto-Submitted: auto-replied\r\nPrecedence: bulk\r\n":                   false,
		"Subject: Undelivered Mail Returned to Sender\r\nReturn-Path: <>\r\n":      false,
		"X-Content-Type: multipart/report\r\nAuto-Submitted-By: auto-replied\r\n":  false,
		"": false,
	} {
		if got := IsAutomatic(must(ParseHeader([]byte(header), HeaderLimits{}))); got != want {
			t.Errorf("%q: %t", header, got)
		}
	}
}
