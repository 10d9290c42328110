package custody

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Course is what a person decided about where a recipient goes next, instead of
// where DNS leads. It is durable, bound to the recipient by its HMAC, and stays until
// the recipient is done or another Course is given.
type Course struct {
	Via string    `json:"via,omitempty"` // to this next hop, "host:port"
	End bool      `json:"end,omitempty"` // to nobody: the sender gets the message back without another attempt
	By  string    `json:"by"`            // who decided
	Why string    `json:"why,omitempty"` // in the words of who did
	At  time.Time `json:"at"`
}

// ErrBadCourse says that a Course leads nowhere.
var ErrBadCourse = errors.New("bad course")

// Bounds of what a person writes, in octets. A host name has 253 at most (RFC 1035
// section 2.3.4).
const (
	maxVia = 300
	maxWhy = 1000
)

func (c *Course) check() error {
	switch {
	case c.By == "":
		return fmt.Errorf("%w: it is not said who asks for it", ErrBadCourse)
	case c.End && c.Via != "":
		return fmt.Errorf("%w: it ends and leads to %s", ErrBadCourse, c.Via)
	case len(c.Via) > maxVia || len(c.By)+len(c.Why) > maxWhy:
		return fmt.Errorf("%w: it has more text than is kept", ErrBadCourse)
	case strings.IndexFunc(c.Via, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0:
		return fmt.Errorf("%w: next hop %q", ErrBadCourse, c.Via)
	}
	return nil
}

// String is the course for ledger and reports.
func (c *Course) String() string {
	text := "back to where the domain leads"
	switch {
	case c.End:
		text = "returned to the sender"
	case c.Via != "":
		text = "to " + c.Via
	}
	text += " by " + c.By
	if c.Why != "" {
		text += ": " + c.Why
	}
	return text
}

// way is what of a Course tells lanes apart: recipients of one lease go one way.
// The zero way is that of the domain.
type way struct {
	via string
	end bool
}

func (c *Course) way() way {
	if c == nil {
		return way{}
	}
	return way{c.Via, c.End}
}

// Marks of a way in a recipient's summary, behind its domain.
const (
	wayVia = "\x00>"
	wayEnd = "\x00!"
)

// appendTo writes the way behind a domain.
func (w way) appendTo(b []byte) []byte {
	switch {
	case w.end:
		return append(b, wayEnd...)
	case w.via != "":
		return append(append(b, wayVia...), w.via...)
	}
	return b
}

// cutWay reads what appendTo wrote.
func cutWay(b []byte) (domain, via []byte, end bool) {
	if domain, via, found := bytes.Cut(b, []byte(wayVia)); found {
		return domain, via, false
	}
	domain, end = bytes.CutSuffix(b, []byte(wayEnd))
	return domain, nil, end
}
