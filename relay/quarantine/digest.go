package quarantine

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
)

// Bounds of a digest.
const (
	maxDigestLines = 50
	maxDigestCell  = 60
)

// Digest is what an organisation is told once a day of what is held.
type Digest struct {
	ID           mail.ID
	Hostname     string
	From, To     mail.Address
	Organisation org.ID
	Messages     []custody.Detained // that are new since the last one, oldest first
	More         int                // new ones beside those
	Held         int                // all that wait
	Now          time.Time
}

// ErrNothingNew says that there is no digest to send.
var ErrNothingNew = errors.New("nothing new is held")

// Compose writes the digest: counts, and a line for each message with what names
// it. There is no Subject of a stranger in it, no content, and no address or host
// that a mail program would make a link of. It is 7-bit text.
func Compose(d Digest) (mail.Header, []byte, error) {
	switch {
	case len(d.Messages) == 0:
		return mail.Header{}, nil, ErrNothingNew
	case d.From.IsZero() || d.To.IsZero() || d.ID == "" || d.Hostname == "":
		return mail.Header{}, nil, errors.New("digest: sender, recipient, identifier or host name is missing")
	}
	header := mail.Header{Fields: []mail.Field{
		mail.NewField("Date", d.Now.UTC().Format(time.RFC1123Z)),
		mail.NewField("From", fmt.Sprintf("Mail relay <%s>", d.From)),
		mail.NewField("To", d.To.String()),
		mail.NewField("Subject", fmt.Sprintf("Held mail: %d new, %d waiting", len(d.Messages)+d.More, d.Held)),
		mail.NewField("Message-ID", fmt.Sprintf("<%s@%s>", d.ID, d.Hostname)),
		mail.NewField("Auto-Submitted", "auto-generated"), // RFC 3834 section 5
		mail.NewField("MIME-Version", "1.0"),
		mail.NewField("Content-Type", "text/plain; charset=us-ascii"),
		mail.NewField("Content-Transfer-Encoding", "7bit"),
	}}
	return header, []byte(strings.ReplaceAll(d.text(), "\n", "\r\n")), nil
}

// text is the body, with bare line ends.
func (d *Digest) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Hello, this is the mail relay at %s.\n\n", d.Hostname)
	fmt.Fprintf(&b, "It holds %s for organisation %s, %d new since the last mail\nlike this. None of it was sent on or signed. Each is deleted when its time is over.\n\n", messages(d.Held), d.Organisation, len(d.Messages)+d.More)
	d.counts(&b)
	for i := range d.Messages[:min(len(d.Messages), maxDigestLines)] {
		d.line(&b, &d.Messages[i])
	}
	if more := d.More + max(len(d.Messages)-maxDigestLines, 0); more > 0 {
		fmt.Fprintf(&b, "and %s more.\n\n", messages(more))
	}
	fmt.Fprintf(&b, "Addresses are written so that nothing in this mail can be clicked. To look at\nthem, and to release or delete them, ask whoever runs the relay, or there:\n\n    anechoic quarantine list --org %s\n    anechoic quarantine show ID --content\n", d.Organisation)
	return b.String()
}

// counts tells how many are new, by direction and reason.
func (d *Digest) counts(b *strings.Builder) {
	type kind struct {
		direction Direction
		reason    mail.Reason
	}
	counted := map[kind]int{}
	for i := range d.Messages {
		m := &d.Messages[i]
		counted[kind{DirectionOf(m), m.Reason}]++
	}
	kinds := slices.SortedFunc(maps.Keys(counted), func(x, y kind) int {
		return cmp.Or(counted[y]-counted[x], cmp.Compare(x.direction, y.direction), cmp.Compare(x.reason, y.reason))
	})
	for _, k := range kinds {
		fmt.Fprintf(b, "    %5d  %s, %s\n", counted[k], k.direction, k.reason)
	}
	b.WriteByte('\n')
}

// line tells of one message, on lines of their own.
func (d *Digest) line(b *strings.Builder, m *custody.Detained) {
	to := "nobody"
	if n := len(m.Envelope.Recipients); n > 0 {
		if to = digestCell(m.Envelope.Recipients[0].Address.String()); n > 1 {
			to += fmt.Sprintf(" and %d more", n-1)
		}
	}
	fmt.Fprintf(b, "%s  %s  %s\n", m.Kept.UTC().Format("2006-01-02 15:04"), m.ID, m.Reason)
	fmt.Fprintf(b, "    from %s\n    to   %s\n    until %s, %d octets\n\n", digestCell(m.From.String()), to, m.Expires.UTC().Format(time.DateOnly), m.Size)
}

// digestCell is an address that is short, ASCII and no link.
func digestCell(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if s == "" {
		return "nobody"
	}
	if s = Defanged(s); len(s) > maxDigestCell {
		s = s[:maxDigestCell-3] + "..."
	}
	return s
}

func messages(n int) string {
	if n == 1 {
		return "1 message"
	}
	return fmt.Sprintf("%d messages", n)
}
