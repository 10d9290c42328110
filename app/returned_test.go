package app

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"anechoic/watch/detect"
)

// Reports that come back about a source's mail are that source's: detection finds who
// writes to people that do not exist, and who is complained about.
func TestBouncesAndComplaintsThatComeBackAreFoundOfTheirSource(t *testing.T) {
	w := newWatched(t, "")
	const messages, complaints = 60, 10
	for n := range messages {
		code, said := w.send(t, letterOf{acmeApp, "ann@acme.test", "ann@acme.test", fmt.Sprintf("r%d@people.example", n), "client.test", "Our offer."})
		if code != 250 {
			t.Fatalf("message %d: %d %s", n, code, said)
		}
	}
	var arrived []letter
	eventually(t, "all arrive", func() bool { arrived = w.arrivedOf("@bounces.acme.test"); return len(arrived) >= messages })
	for n, l := range arrived {
		w.comesBack(t, l.from, statusOf(l.to, "delayed", "4.2.1"))
		w.comesBack(t, l.from, statusOf(l.to, "delivered", "2.0.0"))
		if n < complaints {
			w.comesBack(t, "complaints@bounces.acme.test", complaintOf(l.from, "not-spam"))
		}
	}
	w.flows(t, "after what is none")
	w.detectionHasRead(t)
	if found := append(w.found(detect.Bounces), w.found(detect.Complaints)...); len(found) > 0 {
		t.Fatalf("found of what is none: %+v", found)
	}
	for n, l := range arrived {
		w.comesBack(t, l.from, statusOf(l.to, "failed", "5.1.1"))
		if n < complaints {
			w.comesBack(t, "complaints@bounces.acme.test", complaintOf(l.from, "abuse"))
		}
	}
	app := detect.Scope{Org: "acme", Source: "app"}
	for _, kind := range []detect.Kind{detect.Bounces, detect.Complaints} {
		eventually(t, "a finding of "+string(kind), func() bool { return slices.Contains(w.found(kind), app) })
	}
}

// arrivedOf is what arrived with a sender that ends so.
func (w *watched) arrivedOf(domain string) (list []letter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.letters {
		if strings.HasSuffix(l.from, domain) {
			list = append(list, l)
		}
	}
	return list
}

// comesBack hands in a report as a stranger's server does.
func (w *watched) comesBack(t *testing.T, to, data string) {
	t.Helper()
	c := w.dial(t, "127.0.9.9")
	if err := c.Mail(""); err != nil {
		t.Fatal(err)
	}
	if err := c.Rcpt(to); err != nil {
		t.Fatal(err)
	}
	out, err := c.Data()
	if err == nil {
		_, err = out.Write([]byte(strings.ReplaceAll(data, "\n", "\r\n")))
	}
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		t.Fatalf("a report to %s: %v\n%s", to, err, data)
	}
}

// statusOf is a delivery status notification.
func statusOf(recipient, action, status string) string {
	return fmt.Sprintf("From: MAILER-DAEMON@people.example\nSubject: Your mail\nMIME-Version: 1.0\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\n\nSee below.\n"+
		"--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.people.example\n\nFinal-Recipient: rfc822; %s\nAction: %s\nStatus: %s\n\n--b--\n", recipient, action, status)
}

// complaintOf is a report of feedback about a message with a return path.
func complaintOf(returnPath, kind string) string {
	return fmt.Sprintf("From: fbl@people.example\nSubject: report\nMIME-Version: 1.0\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\n\n--b\n\nSee below.\n"+
		"--b\nContent-Type: message/feedback-report\n\nFeedback-Type: %s\nUser-Agent: x/1\nVersion: 1\n\n--b\nContent-Type: message/rfc822\n\nReturn-Path: <%s>\nFrom: ann@acme.test\nSubject: offer\n\nhello\n--b--\n", kind, returnPath)
}

// found is whom findings of a kind are about.
func (w *watched) found(kind detect.Kind) (scopes []detect.Scope) {
	for _, f := range w.app.watch.shown.Load().Findings {
		if f.Kind == kind {
			scopes = append(scopes, f.Scope)
		}
	}
	return scopes
}

// detectionHasRead waits until all facts of now are read.
func (w *watched) detectionHasRead(t *testing.T) {
	t.Helper()
	facts := w.metric(t, "anechoic_facts_total{")
	eventually(t, "detection has read all", func() bool { return w.metric(t, "anechoic_watch_facts_total ") >= facts })
}

// metric is the sum of the series that begin so.
func (w *watched) metric(t *testing.T, begins string) (sum float64) {
	t.Helper()
	for line := range strings.Lines(w.metricsPage(t)) {
		if !strings.HasPrefix(line, begins) {
			continue
		}
		words := strings.Fields(line)
		n, err := strconv.ParseFloat(words[len(words)-1], 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		sum += n
	}
	return sum
}
