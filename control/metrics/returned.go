package metrics

// MailboxReport is what came of a report that came to somebody's mailbox.
type MailboxReport string

// What may come of one.
const (
	ReportMatched   MailboxReport = "matched"   // it is about a message of the organisation's, and told
	ReportRepeated  MailboxReport = "repeated"  // what it says was told before
	ReportUnmatched MailboxReport = "unmatched" // it is about no message that can be found
	ReportSkipped   MailboxReport = "skipped"   // too many wait, or came in an hour: nobody looked
	ReportFailed    MailboxReport = "failed"    // looking, or writing down what was found, failed
)

var mailboxReports = []MailboxReport{ReportMatched, ReportRepeated, ReportUnmatched, ReportSkipped, ReportFailed}

func (m *Metrics) newReturned() {
	m.mailboxReports = m.counters("mailbox_reports_total", "Bounces and complaints that came in for mailboxes of organisations, by whether the message they tell of was found: matched, repeated, unmatched, skipped, failed.", "result")
	for _, r := range mailboxReports {
		m.mailboxReports.WithLabelValues(string(r))
	}
}

// CameHome counts a report that came to a mailbox.
func (m *Metrics) CameHome(r MailboxReport) { m.mailboxReports.WithLabelValues(string(r)).Inc() }
