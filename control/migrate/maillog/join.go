package maillog

import (
	"bufio"
	"compress/gzip"
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
)

// Message is what a log tells of a message.
type Message struct {
	Queue   string
	Client  string
	Address netip.Addr
	User    string
	ID      string
	From    string
	To      []string // at most maxRecipients
	Sent    bool     // some recipient was given to the next server, or to a mailbox
	Local   bool     // by the sendmail command
	Again   bool     // a filter handed it in: counted before

	begun bool // the line with the client was seen
	named bool // the line with MAIL FROM was seen
}

// Bounds of what is remembered.
const (
	maxOpen       = 100_000  // messages whose end was not seen yet
	maxRecipients = 100      // of a message, by name
	maxLine       = 64 << 10 // octets; longer ones are passed over
)

// Joiner joins lines to messages by their queue ids. The message that was quiet longest
// is taken for ended when there are too many.
type Joiner struct {
	Done     func(*Message) // is given every message once
	open     map[string]*list.Element
	order    *list.List // of *Message, quiet longest first
	Rejected int        // refused by Postfix itself
}

// NewJoiner gives messages to done.
func NewJoiner(done func(*Message)) *Joiner {
	return &Joiner{Done: done, open: make(map[string]*list.Element), order: list.New()}
}

// Add takes a line.
func (j *Joiner) Add(l *Line) {
	if l.Queue == NoQueue {
		j.Rejected++
		return
	}
	at, known := j.open[l.Queue]
	if begins := l.Address.IsValid() || l.Local || l.Client != ""; known && begins && at.Value.(*Message).named {
		j.end(at) // a short id that is used again
		known = false
	}
	if !known {
		if l.Removed {
			return
		}
		if j.order.Len() >= maxOpen {
			j.end(j.order.Front())
		}
		at = j.order.PushBack(&Message{Queue: l.Queue})
		j.open[l.Queue] = at
	}
	j.order.MoveToBack(at)
	at.Value.(*Message).take(l)
	if l.Removed {
		j.end(at)
	}
}

// take adds what a line says.
func (m *Message) take(l *Line) {
	switch {
	case l.Local:
		m.Local, m.begun = true, true
	case l.Daemon == "smtpd":
		m.Client, m.Address, m.User, m.Again, m.begun = l.Client, l.Address, l.User, l.Again, true
	case l.ID != "":
		m.ID = l.ID
	case l.From != nil:
		m.From, m.named = *l.From, true
	case l.To != "":
		if len(m.To) < maxRecipients && !slices.Contains(m.To, l.To) {
			m.To = append(m.To, l.To)
		}
		m.Sent = m.Sent || l.Status == "sent"
	}
}

func (j *Joiner) end(at *list.Element) {
	m := j.order.Remove(at).(*Message)
	delete(j.open, m.Queue)
	j.Done(m)
}

// Flush ends what is open: the log ends before the messages do.
func (j *Joiner) Flush() {
	for j.order.Len() > 0 {
		j.end(j.order.Front())
	}
}

// Read joins the lines of a log, which may be packed by gzip. It gives how many lines
// there were; between lines it looks whether ctx has ended.
func (j *Joiner) Read(ctx context.Context, r io.Reader) (lines int, err error) {
	b := bufio.NewReaderSize(r, maxLine)
	if magic, err := b.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		unpacked, err := gzip.NewReader(b)
		if err != nil {
			return 0, fmt.Errorf("unpack: %w", err)
		}
		b = bufio.NewReaderSize(unpacked, maxLine)
	}
	for {
		text, err := b.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			if err = skipLine(b); err == nil {
				lines++
				continue
			}
		}
		if len(text) > 0 && (err == nil || errors.Is(err, io.EOF)) {
			lines++
			if l, ok := Parse(string(text)); ok {
				j.Add(&l)
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return lines, nil
		case err != nil:
			return lines, err
		case lines%1024 == 0 && ctx.Err() != nil:
			return lines, ctx.Err()
		}
	}
}

// skipLine passes over the rest of a line that is too long.
func skipLine(b *bufio.Reader) error {
	for {
		if _, err := b.ReadSlice('\n'); !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}
