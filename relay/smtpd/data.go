package smtpd

import (
	"bytes"

	"anechoic/mail"
)

// decoder reads message data (RFC 5321 section 4.1.1.4): it finds the end, which
// is CRLF.CRLF and nothing else, takes dot-stuffing off (section 4.5.2), and
// refuses bare CR, bare LF and NUL. It works on what is buffered, whole lines at a
// time. The zero decoder is at the start of a line, as DATA's own CRLF says.
type decoder struct {
	// chunked says that the octets come by BDAT: a dot is a dot, and only their
	// number ends them.
	chunked bool

	// tooLong says that a line had more than mail.MaxLine octets. Nothing is put
	// out from there on, but the end is still looked for.
	tooLong bool

	midLine bool  // the line that b begins in began in an earlier, dropped part
	cuts    []int // where in the region a stuffed dot stands
}

// decode consumes n octets of b and gives take the text among them, in runs of
// whole lines. done: the last three consumed were the dot and its CRLF. What is
// not consumed must stand at the front of the next b. The error is errBareNewline.
func (d *decoder) decode(b []byte, take func(run []byte)) (n int, done bool, err error) {
	d.cuts = d.cuts[:0]
	lines, text := 0, 0 // text: the end of what is text
	for !done {
		i := bytes.IndexByte(b[n:], '\n')
		if i < 0 {
			break
		}
		if i == 0 || b[n+i-1] != '\r' {
			return 0, false, errBareNewline
		}
		if done = d.line(b[n:n+i+1], n); !done {
			text = n + i + 1
		}
		lines++
		n += i + 1
	}
	// Every line ends in CRLF; one more CR is a bare one.
	if bytes.Count(b[:n], cr) != lines || bytes.IndexByte(b[:n], 0) >= 0 {
		return 0, false, errBareNewline
	}
	if !done {
		dropped, err := d.tail(b[n:])
		if err != nil {
			return 0, false, err
		}
		n += dropped
	}
	d.put(b[:text], take)
	return n, done, nil
}

var (
	cr   = []byte{'\r'}
	crlf = []byte("\r\n")
)

// line looks at one line, CRLF included, that stands at offset at. It says
// whether the line ends the data.
func (d *decoder) line(line []byte, at int) (end bool) {
	if d.midLine {
		d.midLine = false
		return false
	}
	octets := len(line) - 2
	if line[0] == '.' && !d.chunked {
		if octets == 1 {
			return true
		}
		d.cuts = append(d.cuts, at)
		octets--
	}
	if octets > mail.MaxLine {
		d.tooLong = true
	}
	return false
}

// tail looks at a line that has not ended yet, and says how much of it to drop
// because it is too long in any case.
func (d *decoder) tail(b []byte) (dropped int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	last := len(b) - 1 // a CR there may be half a CRLF
	if bytes.IndexByte(b[:last], '\r') >= 0 || bytes.IndexByte(b, 0) >= 0 {
		return 0, errBareNewline
	}
	if !d.midLine && len(b) <= len(".")+mail.MaxLine+len("\r") {
		return 0, nil
	}
	d.tooLong, d.midLine = true, true
	return last, nil
}

// put gives out the text of a region, without the dots that were stuffed.
func (d *decoder) put(region []byte, take func(run []byte)) {
	if d.tooLong {
		return
	}
	start := 0
	for _, cut := range d.cuts {
		if cut > start {
			take(region[start:cut])
		}
		start = cut + 1
	}
	if start < len(region) {
		take(region[start:])
	}
}
