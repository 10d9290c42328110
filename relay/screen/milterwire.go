package screen

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"anechoic/mail"
)

// The milter protocol is written down in libmilter's mfdef.h alone. Version 6 is
// what every milter of the last fifteen years speaks.
const milterVersion = 6

// Commands to a milter (SMFIC_).
const (
	cmdNegotiate = 'O'
	cmdMacros    = 'D'
	cmdConnect   = 'C'
	cmdHelo      = 'H'
	cmdMail      = 'M'
	cmdRcpt      = 'R'
	cmdData      = 'T'
	cmdHeader    = 'L'
	cmdEndHeader = 'N'
	cmdBody      = 'B'
	cmdEnd       = 'E'
	cmdQuit      = 'Q'
)

// Replies of a milter (SMFIR_).
const (
	replyContinue   = 'c'
	replyAccept     = 'a'
	replyReject     = 'r'
	replyTempFail   = 't'
	replyDiscard    = 'd'
	replyCode       = 'y'
	replySkip       = 's'
	replyProgress   = 'p'
	replyShutdown   = '4'
	replyConnFail   = 'f'
	replyAddHeader  = 'h'
	replyInsHeader  = 'i'
	replyChgHeader  = 'm'
	replyQuarantine = 'q'
)

// changeReplies are changes, which have their place after the end of the message.
const changeReplies = string(replyAddHeader) + string(replyInsHeader) + string(replyChgHeader) + string(replyQuarantine)

// What a milter is offered (SMFIF_): adding fields, changing fields, quarantine. A
// milter that needs more (other senders, recipients or bodies) says at once that it
// cannot work here. Changing fields is offered because common filters do not start
// without it; such changes are not made (DESIGN.md).
const (
	mayAddHeader    = 0x01
	mayChangeHeader = 0x10
	mayQuarantine   = 0x20
	offered         = mayAddHeader | mayChangeHeader | mayQuarantine
)

// What a milter may want to be spared of (SMFIP_). The first word is a command not
// to send, the second one that it does not answer.
const (
	noConnect   = 0x1
	noHelo      = 0x2
	noMail      = 0x4
	noRcpt      = 0x8
	noBody      = 0x10
	noHeader    = 0x20
	noEndHeader = 0x40
	noData      = 0x200
	maySkip     = 0x400

	noReplyHeader    = 0x80
	noReplyConnect   = 0x1000
	noReplyHelo      = 0x2000
	noReplyMail      = 0x4000
	noReplyRcpt      = 0x8000
	noReplyData      = 0x10000
	noReplyEndHeader = 0x40000
	noReplyBody      = 0x80000
	leadingSpace     = 0x100000 // values are sent with the space after the colon

	noUnknown      = 0x100   // unknown commands are never sent
	noReplyUnknown = 0x20000 // nor answered
	understood     = noConnect | noHelo | noMail | noRcpt | noBody | noHeader | noEndHeader | noData | maySkip | noUnknown | noReplyUnknown |
		noReplyHeader | noReplyConnect | noReplyHelo | noReplyMail | noReplyRcpt | noReplyData | noReplyEndHeader | noReplyBody | leadingSpace
)

// Bounds. A chunk of a body is what libmilter takes (MILTER_CHUNK_SIZE); a reply
// holds a field at most.
const (
	milterChunk    = 65535
	maxMilterReply = 64 << 10
	maxReplies     = 1000 // to one command: signs of progress, and fields
	maxFields      = 32   // that one milter adds
)

// milterReply is one packet of a milter.
type milterReply struct {
	kind  byte
	code  string // with replyCode: "550"
	text  string // with replyCode and replyQuarantine; safe
	field milterField
}

// milterField is a field that a milter wants to be added.
type milterField struct{ name, value string }

// readPacket reads one packet: its length in four octets, its kind, its data.
func readPacket(r io.Reader) (kind byte, data []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, fmt.Errorf("it does not answer: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:4])
	if n == 0 || n > maxMilterReply {
		return 0, nil, fmt.Errorf("it answers with a packet of %d octets", n)
	}
	data = make([]byte, n-1)
	if _, err := io.ReadFull(r, data); err != nil {
		return 0, nil, fmt.Errorf("its answer breaks off: %w", err)
	}
	return head[4], data, nil
}

// writePacket buffers one packet.
func writePacket(w *bufio.Writer, kind byte, data []byte) error {
	var head [5]byte
	binary.BigEndian.PutUint32(head[:4], uint32(len(data)+1))
	head[4] = kind
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// negotiation is what a milter answers to ours.
type negotiation struct{ actions, wants uint32 }

// parseNegotiation reads version, actions and steps; names of macros may follow,
// which are passed over: it gets those that it needs anyway.
func parseNegotiation(kind byte, data []byte) (negotiation, error) {
	if kind != cmdNegotiate || len(data) < 12 {
		return negotiation{}, errors.New("it does not negotiate")
	}
	version := binary.BigEndian.Uint32(data)
	n := negotiation{binary.BigEndian.Uint32(data[4:]), binary.BigEndian.Uint32(data[8:])}
	switch {
	case version != milterVersion:
		return negotiation{}, fmt.Errorf("it speaks version %d of the protocol, not %d", version, milterVersion)
	case n.actions&^offered != 0:
		return negotiation{}, fmt.Errorf("it wants to change messages in ways it was not offered (%#x)", n.actions&^offered)
	case n.wants&^understood != 0:
		return negotiation{}, fmt.Errorf("it wants steps it was not offered (%#x)", n.wants&^understood)
	}
	return n, nil
}

// parseMilterReply reads one reply. What was not negotiated is an error, and so is
// every packet that has not exactly the form of its kind.
func parseMilterReply(kind byte, data []byte) (milterReply, error) {
	r := milterReply{kind: kind}
	var err error
	switch kind {
	case replyContinue, replyAccept, replyReject, replyTempFail, replyDiscard, replySkip, replyProgress, replyShutdown, replyConnFail:
		if len(data) > 0 {
			err = errors.New("there is something after a reply that has nothing")
		}
	case replyCode:
		r.code, r.text, err = parseCode(data)
	case replyQuarantine:
		var texts []string
		if texts, err = cutStrings(data, 1); err == nil {
			r.text = safe(texts[0], maxText)
		}
	case replyInsHeader, replyChgHeader:
		if len(data) < 4 {
			return r, errors.New("a field to insert or change has no place")
		}
		r.field, err = parseField(data[4:])
	case replyAddHeader:
		r.field, err = parseField(data)
	default:
		err = fmt.Errorf("it answers %q, which was not negotiated", safe(string(rune(kind)), 1))
	}
	return r, err
}

// cutStrings takes exactly n texts, each ended by NUL.
func cutStrings(data []byte, n int) ([]string, error) {
	body, ok := bytes.CutSuffix(data, []byte{0})
	if !ok {
		return nil, errors.New("a text does not end")
	}
	texts := strings.Split(string(body), "\x00")
	if len(texts) != n {
		return nil, fmt.Errorf("%d texts where there should be %d", len(texts), n)
	}
	return texts, nil
}

// parseCode reads an SMTP reply of 4yz or 5yz, perhaps of several lines.
func parseCode(data []byte) (code, text string, err error) {
	texts, err := cutStrings(data, 1)
	if err != nil {
		return "", "", err
	}
	whole := texts[0]
	if len(whole) < 3 || whole[0] != '4' && whole[0] != '5' || !isDigit(whole[1]) || !isDigit(whole[2]) ||
		len(whole) > 3 && whole[3] != ' ' && whole[3] != '-' {
		return "", "", fmt.Errorf("%q is no reply code of a refusal", safe(whole, 8))
	}
	return whole[:3], strings.TrimSpace(safe(whole[3:], maxText)), nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func parseField(data []byte) (milterField, error) {
	texts, err := cutStrings(data, 2)
	if err != nil {
		return milterField{}, err
	}
	return milterField{texts[0], texts[1]}, nil
}

// field makes a field of what a milter wrote: one field, of printable ASCII, of that
// name. Milters write a fold as LF alone. What would be more than a field is an error.
func (f milterField) field() (mail.Field, error) {
	value := strings.ReplaceAll(strings.ReplaceAll(f.value, "\r\n", "\n"), "\n", "\r\n")
	raw := f.name + ": " + strings.TrimLeft(value, " \t") + "\r\n"
	for i := range len(raw) {
		if c := raw[i]; (c < ' ' || c > '~') && c != '\t' && c != '\r' && c != '\n' {
			return mail.Field{}, fmt.Errorf("the field %q has octets that are not printable", safe(f.name, maxRule))
		}
	}
	h, err := mail.ParseHeader([]byte(raw), mail.HeaderLimits{})
	if err != nil || len(h.Fields) != 1 || h.Fields[0].Name() != f.name || len(h.Fields[0].Raw()) != len(raw) {
		return mail.Field{}, fmt.Errorf("the field %q is not one well formed field", safe(f.name, maxRule))
	}
	return h.Fields[0], nil
}
