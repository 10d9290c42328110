package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"anechoic/mail"
)

// MediaType is that of a compressed report (RFC 8460 section 6.4).
const MediaType = "application/tlsrpt+gzip"

// Sender is who reports.
type Sender struct {
	Organisation string       // for people
	Contact      mail.Address // whom to ask
	Domain       mail.Domain  // the submitter: of the address that reports come from
}

// Report is the JSON of section 4.4.
type Report struct {
	Organization string         `json:"organization-name"`
	Range        DateRange      `json:"date-range"`
	Contact      string         `json:"contact-info"`
	ID           string         `json:"report-id"`
	Policies     []PolicyResult `json:"policies"`
}

// DateRange is the day, both ends included (RFC 3339).
type DateRange struct {
	Start time.Time `json:"start-datetime"`
	End   time.Time `json:"end-datetime"`
}

// PolicyResult is what happened under one policy.
type PolicyResult struct {
	Policy  PolicyDescription `json:"policy"`
	Summary Summary           `json:"summary"`
	Details []FailureDetails  `json:"failure-details,omitempty"`
}

// PolicyDescription names a policy.
type PolicyDescription struct {
	Type   PolicyType `json:"policy-type"`
	Text   []string   `json:"policy-string,omitempty"`
	Domain string     `json:"policy-domain"`
	MX     []string   `json:"mx-host,omitempty"`
}

// Summary is the totals.
type Summary struct {
	Success int64 `json:"total-successful-session-count"`
	Failure int64 `json:"total-failure-session-count"`
}

// FailureDetails is one way in which sessions failed.
type FailureDetails struct {
	Type   ResultType `json:"result-type"`
	From   string     `json:"sending-mta-ip,omitempty"`
	Host   string     `json:"receiving-mx-hostname,omitempty"`
	Server string     `json:"receiving-ip,omitempty"`
	Count  int64      `json:"failed-session-count"`
	Reason string     `json:"failure-reason-code,omitempty"`
}

// Compose makes the report of a tally.
func Compose(t Tally, by Sender) Report {
	r := Report{
		Organization: by.Organisation, Contact: by.Contact.String(),
		Range: DateRange{t.Day.UTC(), t.Day.UTC().Add(24*time.Hour - time.Second)},
		ID:    fmt.Sprintf("%s!%s!%s", t.Day.UTC().Format("2006-01-02T15:04:05Z"), t.Domain, by.Domain),
	}
	for _, line := range t.Policies {
		p := PolicyResult{
			Policy:  PolicyDescription{line.Policy.Type, line.Policy.Text, line.Policy.Domain.String(), line.Policy.MX},
			Summary: Summary{line.Success, line.Failure},
		}
		if line.Policy.Domain.IsZero() {
			p.Policy.Domain = t.Domain.String()
		}
		for _, f := range sorted(line.Failures) {
			p.Details = append(p.Details, FailureDetails{f.Type, f.From, f.Host, f.Server, f.Count, f.Reason})
		}
		r.Policies = append(r.Policies, p)
	}
	return r
}

// Compressed is the report as it is sent (section 5.2).
func (r Report) Compressed() ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("TLS report: %w", err)
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(text); err != nil {
		return nil, fmt.Errorf("TLS report: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("TLS report: %w", err)
	}
	return b.Bytes(), nil
}

// FileName is that of section 5.1.
func (t Tally) FileName(by Sender) string {
	return fmt.Sprintf("%s!%s!%d!%d.json.gz", by.Domain, t.Domain, t.Day.Unix(), t.Day.Add(24*time.Hour-time.Second).Unix())
}

// Mail makes the message that takes a report to an address (section 5.3). It is
// marked as automatic, and TLS is not required for it: a domain whose TLS is
// broken is the one that needs it most (section 3; RFC 8689 section 5).
func Mail(t Tally, r Report, by Sender, from, to mail.Address, id mail.ID, now time.Time) (mail.Header, []byte, error) {
	attachment, err := r.Compressed()
	if err != nil {
		return mail.Header{}, nil, err
	}
	boundary := "tls-report-" + rand.Text()
	header := mail.Header{Fields: []mail.Field{
		mail.NewField("Date", now.UTC().Format(time.RFC1123Z)),
		mail.NewField("From", fmt.Sprintf("TLS reports <%s>", from)),
		mail.NewField("To", to.String()),
		mail.NewField("Subject", fmt.Sprintf("Report Domain: %s\r\n Submitter: %s\r\n Report-ID: <%s@%s>", t.Domain, by.Domain, id, by.Domain)),
		mail.NewField("Message-ID", fmt.Sprintf("<%s@%s>", id, by.Domain)),
		mail.NewField("TLS-Report-Domain", t.Domain.String()),
		mail.NewField("TLS-Report-Submitter", by.Domain.String()),
		mail.NewField("TLS-Required", "No"),
		mail.NewField("Auto-Submitted", "auto-generated"),
		mail.NewField("MIME-Version", "1.0"),
		mail.NewField("Content-Type", "multipart/report; report-type=\"tlsrpt\";\r\n\tboundary=\""+boundary+"\""),
		mail.NewField("Content-Transfer-Encoding", "7bit"),
	}}
	var b strings.Builder
	fmt.Fprintf(&b, "--%s\r\nContent-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\n", boundary)
	fmt.Fprintf(&b, "This is an aggregate report on TLS sessions with the mail servers of\r\n%s on %s (UTC), as RFC 8460 has it.\r\n", t.Domain, t.Day.Format(time.DateOnly))
	fmt.Fprintf(&b, "\r\n--%s\r\nContent-Type: %s\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment;\r\n\tfilename=\"%s\"\r\n\r\n", boundary, MediaType, t.FileName(by))
	writeBase64(&b, attachment)
	fmt.Fprintf(&b, "\r\n--%s--\r\n", boundary)
	return header, []byte(b.String()), nil
}

// writeBase64 writes lines of 76 characters (RFC 2045 section 6.8).
func writeBase64(b *strings.Builder, data []byte) {
	for text := base64.StdEncoding.EncodeToString(data); text != ""; {
		n := min(76, len(text))
		b.WriteString(text[:n] + "\r\n")
		text = text[n:]
	}
}
