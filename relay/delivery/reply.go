package delivery

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Limits on what a server may answer. RFC 5321 section 4.5.3.1.5 allows 512
// octets a line; real servers pass that, none passes these.
const (
	maxReplyLine  = 2048     // octets of one line with its CRLF
	maxReplyLines = 128      // lines of one reply
	maxReplySize  = 32 << 10 // octets of one reply
	maxKeptReply  = 512      // octets of a reply that is kept or shown
)

// errReply says that what a server sent is no SMTP reply.
var errReply = errors.New("not an SMTP reply")

// Reply is what a server answered, made safe to keep: printable ASCII of at
// most 512 octets in all. The zero Reply means that there was none.
type Reply struct {
	Code     int    // 200 to 599
	Enhanced string // RFC 2034, for example "5.1.1"; empty if the server gave none
	Text     string // the lines in one, without the codes
}

// String is the reply as one line.
func (r Reply) String() string {
	s := fmt.Sprint(r.Code)
	if r.Enhanced != "" {
		s += " " + r.Enhanced
	}
	if r.Text != "" {
		s += " " + r.Text
	}
	return s
}

// reply is a reply as it came. Its text shares the reader's buffer and is gone
// with the next reply.
type reply struct {
	code int
	text []byte // what follows the code of each line, joined by LF
}

func (r reply) positive() bool     { return r.code/100 == 2 }
func (r reply) intermediate() bool { return r.code/100 == 3 }
func (r reply) temporary() bool    { return r.code/100 == 4 }
func (r reply) permanent() bool    { return r.code/100 == 5 }

// replyReader reads replies one after the other.
type replyReader struct {
	in   *bufio.Reader
	text []byte
}

func newReplyReader(r io.Reader) replyReader {
	return replyReader{in: bufio.NewReaderSize(r, maxReplyLine)}
}

// read takes one whole reply (RFC 5321 section 4.2.1). Lines end in CRLF, bear
// the same code, and are joined by a hyphen after it; anything else is errReply.
// An error of the connection is returned as it is.
func (r *replyReader) read() (reply, error) {
	r.text = r.text[:0]
	first := 0
	for n := 1; ; n++ {
		line, err := r.line()
		if err != nil {
			return reply{}, err
		}
		code, text, more, err := parseReplyLine(line)
		switch {
		case err != nil:
			return reply{}, err
		case n > 1 && code != first:
			return reply{}, fmt.Errorf("%w: its lines bear the codes %d and %d", errReply, first, code)
		case n > maxReplyLines:
			return reply{}, fmt.Errorf("%w: it has more than %d lines", errReply, maxReplyLines)
		case len(r.text)+len(text) >= maxReplySize:
			return reply{}, fmt.Errorf("%w: it has more than %d octets", errReply, maxReplySize)
		case n > 1:
			r.text = append(r.text, '\n')
		}
		first, r.text = code, append(r.text, text...)
		if !more {
			return reply{code: code, text: r.text}, nil
		}
	}
}

// line reads one line and takes its CRLF off.
func (r *replyReader) line() ([]byte, error) {
	line, err := r.in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("%w: a line has more than %d octets", errReply, maxReplyLine)
	}
	if err != nil {
		return nil, err
	}
	if len(line) < 2 || line[len(line)-2] != '\r' {
		return nil, fmt.Errorf("%w: a line does not end in CRLF", errReply)
	}
	return line[:len(line)-2], nil
}

// parseReplyLine reads one line of a reply: a code from 200 to 559, a space or,
// if more lines follow, a hyphen, and text. A code alone is allowed at the end.
func parseReplyLine(line []byte) (code int, text []byte, more bool, err error) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' || line[1] < '0' || line[1] > '5' || line[2] < '0' || line[2] > '9' {
		return 0, nil, false, fmt.Errorf("%w: %.40q has no code", errReply, line)
	}
	if bytes.IndexByte(line, '\r') >= 0 {
		return 0, nil, false, fmt.Errorf("%w: a line has a bare CR", errReply)
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	switch {
	case len(line) == 3:
		return code, nil, false, nil
	case line[3] == ' ', line[3] == '-':
		return code, line[4:], line[3] == '-', nil
	}
	return 0, nil, false, fmt.Errorf("%w: %.40q has neither space nor hyphen after its code", errReply, line)
}

// keep makes the reply safe to keep.
func (r reply) keep() Reply {
	kept := Reply{Code: r.code}
	var text strings.Builder
	for i, line := range bytes.Split(r.text, []byte("\n")) {
		enhanced, rest := cutEnhanced(line, r.code)
		if i == 0 {
			kept.Enhanced = enhanced
		}
		if enhanced == kept.Enhanced {
			line = rest
		}
		if text.Len() > maxKeptReply {
			break
		}
		if text.Len() > 0 {
			text.WriteByte(' ')
		}
		text.Write(line)
	}
	kept.Text = printable(text.String(), maxKeptReply-len("550 ")-len(kept.Enhanced)-1)
	return kept
}

// cutEnhanced takes an enhanced status code off the front of a line, if there
// is one and its class is that of the code (RFC 2034 section 4: class "."
// subject "." detail, RFC 3463 section 2: at most three digits each).
func cutEnhanced(line []byte, code int) (enhanced string, rest []byte) {
	n, dots, digits := 0, 0, 0
scan:
	for ; n < len(line); n++ {
		switch c := line[n]; {
		case c >= '0' && c <= '9' && digits < 3:
			digits++
		case c == '.' && digits > 0 && dots < 2:
			dots, digits = dots+1, 0
		default:
			break scan
		}
	}
	ends := n == len(line) || line[n] == ' '
	if dots != 2 || digits == 0 || !ends || line[0] != byte('0'+code/100) || line[1] != '.' {
		return "", line
	}
	return string(line[:n]), bytes.TrimLeft(line[n:], " ")
}

// printable gives s as printable ASCII of at most limit octets: what strangers
// send ends in logs, ledger and bounces.
func printable(s string, limit int) string {
	s = strings.TrimSpace(s)
	if len(s) > limit {
		s = s[:limit]
	}
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return maskUnprintable(s)
		}
	}
	return s
}

func maskUnprintable(s string) string {
	b := []byte(s)
	for i, c := range b {
		switch {
		case c == '\t':
			b[i] = ' '
		case c < ' ' || c > '~':
			b[i] = '?'
		}
	}
	return string(b)
}
