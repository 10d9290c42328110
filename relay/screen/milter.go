package screen

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"anechoic/mail"
)

// Milter asks a mail filter as an MTA does: a connection for each message. Of what
// a milter may do to messages it takes two things: quarantine, which holds, and
// added fields whose names are in Headers. What arrived stays as it is: no milter
// changes a sender, a recipient, a body or a field. A refusal of one recipient is one
// of the message: its recipients were accepted before it came.
type Milter struct {
	Endpoint Endpoint
	Hostname string   // ours, the macro j
	Headers  []string // names of fields that it may add; others are left out
}

// Name implements Scanner.
func (m *Milter) Name() string { return "milter " + m.Endpoint.MilterText() }

// Ping implements Scanner: it negotiates and says goodbye.
func (m *Milter) Ping(ctx context.Context) error {
	s, err := m.open(ctx)
	if err != nil {
		return err
	}
	return s.close()
}

// Ask implements Scanner.
func (m *Milter) Ask(ctx context.Context, q *Question) (Opinion, error) {
	s, err := m.open(ctx)
	if err != nil {
		return Opinion{}, err
	}
	defer s.close()
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	o, err := s.run(q)
	if err != nil {
		return Opinion{}, fmt.Errorf("%s: %w", m.Name(), err)
	}
	return o, nil
}

// milterSession is one connection and what was negotiated on it.
type milterSession struct {
	milter *Milter
	conn   net.Conn
	r      *bufio.Reader
	w      *bufio.Writer
	negotiation
}

// open connects and negotiates.
func (m *Milter) open(ctx context.Context) (*milterSession, error) {
	conn, err := m.Endpoint.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.Name(), err)
	}
	s := &milterSession{milter: m, conn: conn, r: bufio.NewReader(conn), w: bufio.NewWriter(conn)}
	if err := s.negotiate(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", m.Name(), err)
	}
	return s, nil
}

func (s *milterSession) negotiate() error {
	ours := binary.BigEndian.AppendUint32(nil, milterVersion)
	ours = binary.BigEndian.AppendUint32(ours, offered)
	ours = binary.BigEndian.AppendUint32(ours, understood)
	if err := errors.Join(writePacket(s.w, cmdNegotiate, ours), s.w.Flush()); err != nil {
		return err
	}
	kind, data, err := readPacket(s.r)
	if err != nil {
		return err
	}
	s.negotiation, err = parseNegotiation(kind, data)
	return err
}

// close says goodbye. What the milter makes of it no longer matters.
func (s *milterSession) close() error {
	_ = errors.Join(writePacket(s.w, cmdQuit, nil), s.w.Flush())
	return s.conn.Close()
}

// run tells the milter everything, step by step, until it has made up its mind.
func (s *milterSession) run(q *Question) (Opinion, error) {
	for _, step := range []func(*Question) (milterReply, error){
		s.connect, s.helo, s.mailFrom, s.recipients, s.data, s.header, s.body,
	} {
		reply, err := step(q)
		if err != nil {
			return Opinion{}, err
		}
		if reply.kind != replyContinue && reply.kind != replySkip {
			return s.opinion(reply)
		}
	}
	return s.end(q)
}

func (s *milterSession) connect(q *Question) (milterReply, error) {
	name := q.PeerName
	if name == "" {
		name = "unknown"
	}
	about := append([]byte(oneLine(name)), 0)
	switch a := q.Peer.Unmap(); {
	case a.Is4():
		about = append(append(about, '4', 0, 0), a.String()+"\x00"...)
	case a.Is6():
		about = append(append(about, '6', 0, 0), a.WithZone("").String()+"\x00"...)
	default:
		about = append(about, 'U') // unknown
	}
	return s.tell(cmdConnect, noConnect, noReplyConnect, about, "j", s.milter.Hostname, "{daemon_name}", "anechoic", "v", "Anechoic")
}

func (s *milterSession) helo(q *Question) (milterReply, error) {
	return s.tell(cmdHelo, noHelo, noReplyHelo, zeroed(q.Helo), "{tls_version}", q.TLS)
}

func (s *milterSession) mailFrom(q *Question) (milterReply, error) {
	return s.tell(cmdMail, noMail, noReplyMail, zeroed("<"+q.Envelope.From.String()+">"),
		"i", string(q.ID), "{auth_authen}", q.Principal, "{mail_addr}", q.Envelope.From.String(),
		"{anechoic_direction}", string(q.Direction), "{anechoic_organisation}", string(q.Organisation))
}

func (s *milterSession) recipients(q *Question) (milterReply, error) {
	for _, to := range q.Envelope.Recipients {
		text := to.Address.String()
		reply, err := s.tell(cmdRcpt, noRcpt, noReplyRcpt, zeroed("<"+text+">"), "{rcpt_addr}", text)
		if err != nil || reply.kind != replyContinue {
			return reply, err
		}
	}
	return milterReply{kind: replyContinue}, nil
}

func (s *milterSession) data(q *Question) (milterReply, error) {
	return s.tell(cmdData, noData, noReplyData, nil, "i", string(q.ID))
}

func (s *milterSession) header(q *Question) (milterReply, error) {
	for _, f := range q.Message.Header.Fields {
		reply, err := s.tell(cmdHeader, noHeader, noReplyHeader, s.fieldOf(f))
		if err != nil || reply.kind != replyContinue {
			return reply, err
		}
	}
	return s.tell(cmdEndHeader, noEndHeader, noReplyEndHeader, nil)
}

// fieldOf is a field as milters want it: folds as LF alone, the space after the
// colon only if that was negotiated.
func (s *milterSession) fieldOf(f mail.Field) []byte {
	value := strings.ReplaceAll(string(f.RawValue()), "\r\n", "\n")
	if s.wants&leadingSpace == 0 {
		value = strings.TrimPrefix(value, " ")
	}
	return zeroed(f.Name(), value)
}

// body sends the body in chunks until the milter has enough.
func (s *milterSession) body(q *Question) (milterReply, error) {
	if s.wants&noBody != 0 {
		return milterReply{kind: replyContinue}, nil
	}
	chunk, r := make([]byte, milterChunk), q.Message.Body.Reader()
	for {
		n, readErr := io.ReadFull(r, chunk)
		if n > 0 {
			reply, err := s.tell(cmdBody, noBody, noReplyBody, chunk[:n])
			if err != nil || reply.kind != replyContinue {
				return reply, err
			}
		}
		switch {
		case errors.Is(readErr, io.EOF), errors.Is(readErr, io.ErrUnexpectedEOF):
			return milterReply{kind: replyContinue}, nil
		case readErr != nil:
			return milterReply{}, readErr
		}
	}
}

// end is the end of the message: fields and quarantine, then the last word.
func (s *milterSession) end(q *Question) (Opinion, error) {
	if err := s.send(cmdEnd, nil, "i", string(q.ID)); err != nil {
		return Opinion{}, err
	}
	return s.readEnd()
}

// readEnd reads what a milter answers to the end of a message.
func (s *milterSession) readEnd() (Opinion, error) {
	var changes []milterReply
	for {
		reply, err := s.await()
		if err != nil {
			return Opinion{}, err
		}
		switch reply.kind {
		case replyAddHeader, replyInsHeader, replyChgHeader, replyQuarantine:
			if changes = append(changes, reply); len(changes) > maxFields {
				return Opinion{}, fmt.Errorf("it wants more than %d changes", maxFields)
			}
		case replySkip:
			return Opinion{}, errors.New("it skips the end of the message")
		default:
			return s.opinion(reply, changes...)
		}
	}
}

// tell sends one command with its macros, and gives the answer; without sending if
// the milter does not want it, without waiting if it does not answer it.
func (s *milterSession) tell(cmd byte, unwanted, unanswered uint32, data []byte, macros ...string) (milterReply, error) {
	proceed := milterReply{kind: replyContinue}
	if s.wants&unwanted != 0 {
		return proceed, nil
	}
	if err := s.send(cmd, data, macros...); err != nil || s.wants&unanswered != 0 {
		return proceed, err
	}
	reply, err := s.await()
	switch {
	case err != nil:
		return reply, err
	case reply.kind == replySkip && cmd != cmdBody:
		return reply, errors.New("it skips what is no body")
	case strings.IndexByte(changeReplies, reply.kind) >= 0:
		return reply, errors.New("it wants a change before the end of the message")
	}
	return reply, nil
}

// send writes the macros that have a value, and the command.
func (s *milterSession) send(cmd byte, data []byte, macros ...string) error {
	about := []byte{cmd}
	for pair := range slices.Chunk(macros, 2) {
		if pair[1] != "" {
			about = append(about, zeroed(pair...)...)
		}
	}
	var err error
	if len(about) > 1 {
		err = writePacket(s.w, cmdMacros, about)
	}
	return errors.Join(err, writePacket(s.w, cmd, data), s.w.Flush())
}

// await reads the next reply that is more than a sign of progress. Signs of
// progress prolong nothing: the connection has one deadline.
func (s *milterSession) await() (milterReply, error) {
	for range maxReplies {
		kind, data, err := readPacket(s.r)
		if err != nil {
			return milterReply{}, err
		}
		if reply, err := parseMilterReply(kind, data); err != nil || reply.kind != replyProgress {
			return reply, err
		}
	}
	return milterReply{}, fmt.Errorf("%d signs of progress, and no answer", maxReplies)
}

// opinion is what the last word means, with the changes wanted before it.
func (s *milterSession) opinion(last milterReply, changes ...milterReply) (Opinion, error) {
	f := Finding{Scanner: s.milter.Name(), Rule: last.code, Text: last.text}
	switch {
	case last.kind == replyContinue, last.kind == replyAccept:
		return s.changed(changes)
	case last.kind == replyReject, last.kind == replyCode && last.code[0] == '5':
		return refused(mail.ReasonContentRefused, f), nil
	case last.kind == replyDiscard:
		f.Rule = "discard" // nothing is taken with 250 and thrown away
		return Opinion{Action: Hold, Findings: []Finding{f}}, nil
	default: // tempfail, 4yz, shutdown, connection failed
		return Opinion{Action: Defer, Findings: []Finding{f}}, nil
	}
}

// changed is the opinion of a milter that lets the message go on.
func (s *milterSession) changed(changes []milterReply) (Opinion, error) {
	o := Opinion{Action: Pass}
	for _, c := range changes {
		if c.kind == replyQuarantine {
			o.Action = Hold
			o.Findings = append(o.Findings, Finding{Scanner: s.milter.Name(), Rule: "quarantine", Text: c.text})
			continue
		}
		if c.kind == replyChgHeader {
			continue // what arrived stays as it is
		}
		field, err := c.field.field()
		if err != nil {
			return Opinion{}, err
		}
		if slices.ContainsFunc(s.milter.Headers, field.Is) {
			o.Headers = append(o.Headers, field)
		}
	}
	return o, nil
}

// zeroed writes texts, each ended by NUL. Within them there is no control
// character that would end one, but for the folds of a field.
func zeroed(texts ...string) (b []byte) {
	for _, text := range texts {
		b = append(append(b, strings.ReplaceAll(text, "\x00", "?")...), 0)
	}
	return b
}

var _ Scanner = (*Milter)(nil)
