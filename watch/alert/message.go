package alert

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/relay/custody"
)

// maxMailed is how many incidents one mail tells of in full.
const maxMailed = 20

// Mailing is what one mail tells one reader: every incident with news, the worst
// first.
type Mailing struct {
	Org       string // empty: the operator
	To        mail.Address
	Incidents []Incident
	More      int // beside those
}

// mail sends what is due: to each reader one mail at a time, and then none for a
// while, whatever happens meanwhile.
func (d *Dispatcher) mail(ctx context.Context, now time.Time) {
	for reader, due := range d.mailings(now) {
		d.mu.Lock()
		last := d.mailed[reader]
		d.mu.Unlock()
		if !last.IsZero() && now.Sub(last) < mailGap || ctx.Err() != nil {
			continue
		}
		m := Mailing{Org: reader, Incidents: due}
		var ok bool
		if m.To, ok = d.reader(reader); !ok {
			continue
		}
		worstFirst(m.Incidents)
		m.Incidents, m.More = due[:min(len(due), maxMailed)], max(0, len(due)-maxMailed)
		d.mu.Lock()
		d.mailed[reader] = now
		d.mu.Unlock()
		err := d.o.Mail(ctx, m)
		if err == nil {
			err = d.markMailed(ctx, reader, due)
		}
		if err != nil && ctx.Err() == nil {
			d.o.Log.Error("an alert could not be mailed, it is tried again", "org", reader, "error", err)
		}
	}
}

// reader is a reader's address; false: there is nobody to mail to.
func (d *Dispatcher) reader(org string) (mail.Address, bool) {
	if org == "" {
		return d.o.Operator, !d.o.Operator.IsZero()
	}
	to, ok := d.o.Contact(org)
	return to, ok && !to.IsZero()
}

// mailings gives the incidents each reader has not been mailed of. What nobody can
// be mailed of is forgotten after a while.
func (d *Dispatcher) mailings(now time.Time) map[string][]Incident {
	due := map[string][]Incident{}
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.unmailed {
		i, ok := d.incidents[id]
		if !ok || now.Sub(i.Updated) > mailWithin {
			delete(d.unmailed, id)
			continue
		}
		if i.Told > i.Mailed[toOperator] {
			due[""] = append(due[""], i)
		}
		if i.Org != "" && i.Told > i.Mailed[toContact] {
			due[i.Org] = append(due[i.Org], i)
		}
	}
	return due
}

// markMailed writes down what a reader was told. An incident that went on meanwhile
// stays due for what is new.
func (d *Dispatcher) markMailed(ctx context.Context, reader string, told []Incident) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	defer d.end()
	b, now := &custody.Batch{}, []Incident{}
	for _, then := range told {
		i := d.lookup(then.ID)
		if i.ID == "" {
			continue
		}
		if reader == "" {
			i.Mailed[toOperator] = then.Told
		}
		if reader == i.Org {
			i.Mailed[toContact] = then.Told // nobody else reads of what concerns the relay alone
		}
		putJSON(b, incidentPrefix+i.ID, i)
		now = append(now, i)
	}
	if err := d.o.Store.Commit(ctx, b); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts.Mails++
	for _, i := range now {
		delete(d.unmailed, i.ID)
		d.put(i)
	}
	return nil
}

// Letter is a mail of the relay's own.
type Letter struct {
	ID       mail.ID
	Hostname string
	From, To mail.Address
	Now      time.Time
}

// Compose writes the mail of a Mailing: in ASCII, of bounded length, with nothing in
// it that can be clicked, marked as written by a program (RFC 3834 section 5), so
// that no program answers.
func Compose(l Letter, m Mailing) (mail.Header, []byte, error) {
	if len(m.Incidents) == 0 {
		return mail.Header{}, nil, errors.New("alert: a mail about nothing")
	}
	first := m.Incidents[0]
	subject := fmt.Sprintf("[%s] %s%s", first.Severity, said(first.standing()), first.Title)
	if n := len(m.Incidents) + m.More - 1; n > 0 {
		subject += fmt.Sprintf(" (and %d more)", n)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Hello, this is the mail relay at %s.\n\n", l.Hostname)
	for _, i := range m.Incidents {
		i.write(&b, m.Org == "")
	}
	if m.More > 0 {
		fmt.Fprintf(&b, "%d more are not shown.\n\n", m.More)
	}
	b.WriteString("All of them: anechoic alert list")
	if m.Org != "" {
		b.WriteString(" --org " + m.Org)
	}
	b.WriteString("\nNames and addresses may have been written by whoever attacks. They are shown so\nthat nothing in this mail can be clicked.\n")
	return l.mail(subject, b.String())
}

// said is how a subject tells of news.
func said(c Change) string {
	switch c {
	case Updated:
		return "Goes on: "
	case Ended:
		return "Over: "
	}
	return ""
}

// write tells of one incident.
func (i *Incident) write(b *strings.Builder, operator bool) {
	fmt.Fprintf(b, "%s%s\n", said(i.standing()), Defanged(i.Title))
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, "    %-12s %s\n", Defanged(name), Defanged(value))
		}
	}
	if operator {
		line("organisation", i.Org)
	}
	line("severity", i.Severity)
	line("since", i.Opened.Format("2006-01-02 15:04 UTC"))
	if !i.Ended.IsZero() {
		line("ended", i.Ended.Format("2006-01-02 15:04 UTC"))
	}
	if i.Count > 1 {
		line("count", fmt.Sprint(i.Count))
	}
	line("campaign", i.Campaign)
	line("finding", i.Finding)
	for _, f := range i.Fields {
		line(f[0], f[1])
	}
	b.WriteByte('\n')
	if i.Text != "" {
		b.WriteString(wrap(Defanged(i.Text)) + "\n\n")
	}
}

// mail puts a header before a text, and makes its lines fit.
func (l Letter) mail(subject, text string) (mail.Header, []byte, error) {
	if l.From.IsZero() || l.To.IsZero() || l.ID == "" || l.Hostname == "" {
		return mail.Header{}, nil, errors.New("alert: sender, recipient, identifier or host name is missing")
	}
	header := mail.Header{Fields: []mail.Field{
		mail.NewField("Date", l.Now.UTC().Format(time.RFC1123Z)),
		mail.NewField("From", fmt.Sprintf("Mail relay <%s>", l.From)),
		mail.NewField("To", l.To.String()),
		mail.NewField("Subject", Printable(Defanged(subject), 150)),
		mail.NewField("Message-ID", fmt.Sprintf("<%s@%s>", l.ID, l.Hostname)),
		mail.NewField("Auto-Submitted", "auto-generated"), // RFC 3834 section 5
		mail.NewField("MIME-Version", "1.0"),
		mail.NewField("Content-Type", "text/plain; charset=us-ascii"),
		mail.NewField("Content-Transfer-Encoding", "7bit"),
	}}
	return header, []byte(strings.ReplaceAll(strings.TrimRight(text, "\n")+"\n", "\n", "\r\n")), nil
}

// lineWidth is where text is broken; RFC 5322 section 2.1.1 recommends at most 78.
const lineWidth = 76

// wrap breaks lines between words; a word that is longer stays whole up to what a
// line of a mail may hold.
func wrap(text string) string {
	var b strings.Builder
	for n, line := range strings.Split(text, "\n") {
		if n > 0 {
			b.WriteByte('\n')
		}
		column := 0
		for _, w := range strings.Fields(line) {
			if len(w) > 900 && column > 0 {
				b.WriteByte('\n')
				column = 0
			}
			for len(w) > 900 { // RFC 5322 section 2.1.1: 998
				b.WriteString(w[:900] + "\n")
				w, column = w[900:], 0
			}
			switch {
			case column > 0 && column+1+len(w) > lineWidth:
				b.WriteByte('\n')
				column = 0
			case column > 0:
				b.WriteByte(' ')
				column++
			}
			b.WriteString(w)
			column += len(w)
		}
	}
	return b.String()
}
