package smtpd

import (
	"bytes"
	"fmt"

	"anechoic/mail"
	"anechoic/standard/dkim"
)

// message collects one message from the runs of a decoder: header first, then,
// when the empty line has come and the header is read, the body, which is hashed
// and whose MIME parts are followed in the same pass.
type message struct {
	limits  mail.HeaderLimits
	maximum int64 // octets; what is more is counted, not kept
	depth   int   // of MIME parts

	header    []byte
	parsed    mail.Header
	headerErr error
	inBody    bool
	body      mail.BodyWriter
	hasher    *dkim.BodyHasher
	parts     *mail.MIMEScanner
	size      int64
	dropped   bool  // nothing is kept any more
	err       error // of the spool
}

// take is what the decoder calls: whole lines.
func (m *message) take(run []byte) {
	m.size += int64(len(run))
	if m.size > m.maximum {
		m.drop()
	}
	switch {
	case m.dropped:
	case m.inBody:
		m.takeBody(run)
	default:
		m.takeHeader(run)
	}
}

// drop gives up what was collected.
func (m *message) drop() {
	if m.dropped {
		return
	}
	m.dropped = true
	_ = m.body.Abort()
	m.body = mail.BodyWriter{}
}

func (m *message) takeHeader(run []byte) {
	fields, body, ended := cutHeader(run)
	if most := m.limits.Bytes; most > 0 && len(m.header)+len(fields) > most {
		m.header = append(m.header, fields[:most-len(m.header)]...)
		m.headerErr = fmt.Errorf("%w: more than %d octets", mail.ErrHeaderTooBig, most)
		m.drop()
		return
	}
	m.header = append(m.header, fields...)
	if ended {
		m.endHeader()
		m.takeBody(body)
	}
}

// cutHeader splits whole lines at the first empty one.
func cutHeader(run []byte) (fields, body []byte, ended bool) {
	if bytes.HasPrefix(run, []byte("\r\n")) {
		return nil, run[2:], true
	}
	if i := bytes.Index(run, []byte("\r\n\r\n")); i >= 0 {
		return run[:i+2], run[i+4:], true
	}
	return run, nil, false
}

func (m *message) endHeader() {
	m.inBody = true
	m.parsed, m.headerErr = mail.ParseHeader(m.header, m.limits)
	if m.headerErr != nil {
		m.drop()
		return
	}
	m.hasher = dkim.NewBodyHasher(m.parsed)
	m.parts = mail.NewMIMEScanner(m.parsed, m.depth, m.limits.Bytes)
}

func (m *message) takeBody(run []byte) {
	if len(run) == 0 || m.dropped {
		return
	}
	if m.parts.Scan(run); m.parts.Err() != nil {
		m.drop()
		return
	}
	_, _ = m.hasher.Write(run) // it fails only after its end
	if _, err := m.body.Write(run); err != nil {
		m.err = err
		m.drop()
	}
}

// received ends the collecting. A message may be header alone (RFC 5322 section
// 3.5). The caller closes the body.
func (m *message) received() *Received {
	if !m.inBody && !m.dropped {
		m.endHeader()
	}
	r := &Received{RawHeader: m.header, Header: m.parsed, HeaderErr: m.headerErr, Size: m.size, Body: m.body.Body()}
	if m.hasher != nil {
		r.Hashes = m.hasher.Sum()
	}
	return r
}
