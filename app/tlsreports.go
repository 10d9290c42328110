package app

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
	"anechoic/relay/delivery"
	"anechoic/standard/dkim"
	"anechoic/standard/tlsrpt"
)

const (
	reportSpread    = 4 * time.Hour      // RFC 8460 section 4.1: not all at midnight
	reportPostTime  = time.Minute        // for one report over HTTPS
	reportSignature = 7 * 24 * time.Hour // a signature of a report counts so long
)

// relayItself stands where a Notice names the organisation it is about: reports
// are about none, and no organisation can have this id.
const relayItself org.ID = "(relay)"

// report sends the reports that are due. What cannot be sent now is tried again,
// for some days.
func (s *transportSecurity) report(ctx context.Context, now time.Time) {
	for _, tally := range s.tallies.Finished(now) {
		if ctx.Err() != nil {
			return
		}
		if !reportDue(tally, now) {
			continue
		}
		again, err := s.reportOne(ctx, tally, now)
		if err != nil {
			s.app.log.Warn("a TLS report was not sent", "domain", tally.Domain.String(), "day", tally.Day.Format(time.DateOnly), "again", again, "error", err)
		}
		if again && !delivery.Outdated(tally, now) {
			continue
		}
		if err := s.tallies.Drop(ctx, tally); err != nil {
			s.app.log.Error("TLS results were not dropped: their report may be sent twice", "error", err)
		}
	}
}

// reportDue spreads the reports of a day over some hours, each domain at its own
// time.
func reportDue(t tlsrpt.Tally, now time.Time) bool {
	h := fnv.New32a()
	io.WriteString(h, t.Domain.String())
	return !now.Before(t.Day.AddDate(0, 0, 1).Add(time.Duration(h.Sum32()) * time.Second % reportSpread))
}

// reportOne sends the report of one day and domain to everybody its record names.
// again says that another time may be better.
func (s *transportSecurity) reportOne(ctx context.Context, t tlsrpt.Tally, now time.Time) (again bool, err error) {
	answer, err := s.app.resolver.TXT(ctx, tlsrpt.Owner(t.Domain))
	if err != nil && !errors.Is(err, mail.ErrNoDomain) {
		return true, err
	}
	record, err := tlsrpt.Find(answer.Records)
	if errors.Is(err, tlsrpt.ErrNoRecord) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	by, from := s.reporter()
	report := tlsrpt.Compose(t, by)
	var sent int
	var errs []error
	for _, to := range record.Mail {
		if err := s.mailReport(ctx, t, report, by, from, to, now); err != nil {
			errs = append(errs, fmt.Errorf("to %s: %w", to, err))
			continue
		}
		sent++
	}
	for _, to := range record.Web {
		if err := s.postReport(ctx, report, to); err != nil {
			errs = append(errs, fmt.Errorf("to %s: %w", to, err))
			continue
		}
		sent++
	}
	return sent == 0, errors.Join(errs...)
}

// reporter is who the reports come from.
func (s *transportSecurity) reporter() (by tlsrpt.Sender, from mail.Address) {
	c, host := s.app.config.TLSReports, s.app.config.Hostname
	own := func(set mail.Address, local string) mail.Address {
		made, _ := mail.ParseAddress(local + "@" + host.String()) // a host name is always good for an address
		if set.IsZero() {
			return made
		}
		return set
	}
	from = own(c.From, "tls-reports")
	return tlsrpt.Sender{Organisation: cmp.Or(c.Organization, host.String()), Contact: own(c.Contact, "postmaster"), Domain: from.Domain()}, from
}

// errNotOurs says that reports would leave in an organisation's name.
var errNotOurs = errors.New("the sender of TLS reports is in a domain of an organisation: set tls_reports.from to an address in the relay's own domain")

// mailReport hands a report to the queue: from the null sender, so that nothing
// comes back and reports never answer reports.
func (s *transportSecurity) mailReport(ctx context.Context, t tlsrpt.Tally, r tlsrpt.Report, by tlsrpt.Sender, from, to mail.Address, now time.Time) error {
	if _, taken := s.app.directory.Load().Owner(by.Domain); taken {
		return errNotOurs
	}
	id := mail.NewID(now)
	header, body, err := tlsrpt.Mail(t, r, by, from, to, id, now)
	if err != nil {
		return err
	}
	if header, err = s.signReport(header, body, by.Domain, now); err != nil {
		return err
	}
	notice, err := custody.NewNotice(id, relayItself)
	if err != nil {
		return err
	}
	_, err = s.app.queue.Keep(ctx, custody.Submission{
		ID: id, Warrant: notice, Header: header, Body: mail.NewBody(body),
		Envelope: mail.Envelope{Recipients: []mail.Recipient{{Address: to, Notify: mail.NotifyNever}}},
	}, now)
	return err
}

// signReport puts the relay's own signature on a report, if it has a key (RFC
// 8460 section 3 wants one). It is no organisation's: mailReport saw to that.
func (s *transportSecurity) signReport(header mail.Header, body []byte, domain mail.Domain, now time.Time) (mail.Header, error) {
	key, err := s.app.config.TLSReports.Key()
	if key == nil || err != nil {
		return header, err
	}
	hasher := dkim.NewBodyHasher(header)
	if _, err := hasher.Write(body); err != nil {
		return header, err
	}
	fields, err := dkim.Sign(header, hasher.Sum(), []dkim.Signer{{Domain: domain, Selector: s.app.config.TLSReports.Selector, Key: key}}, now, reportSignature)
	if err != nil {
		return header, fmt.Errorf("sign the report: %w", err)
	}
	return mail.Header{Fields: append(fields, header.Fields...)}, nil
}

// postReport sends a report over HTTPS (RFC 8460 section 5.4).
func (s *transportSecurity) postReport(ctx context.Context, r tlsrpt.Report, to string) error {
	data, err := r.Compressed()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reportPostTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(data))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", tlsrpt.MediaType)
	request.Header.Set("User-Agent", "Anechoic")
	response, err := s.web.RoundTrip(request) // no redirect is followed
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("the server answers %s", response.Status)
	}
	return nil
}
