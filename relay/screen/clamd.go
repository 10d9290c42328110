package screen

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"anechoic/mail"
	"anechoic/mail/background"
)

// Constants of the stream protocol (clamd(8): INSTREAM), and bounds of ours.
const (
	clamdChunk    = 64 << 10 // octets of one chunk; clamd takes any size up to its StreamMaxLength
	maxClamdReply = 4 << 10
)

// Clamd asks ClamAV's daemon with zINSTREAM: a connection for each message, which
// clamd ends with its answer.
type Clamd struct {
	Endpoint Endpoint
}

// Name implements Scanner.
func (c *Clamd) Name() string { return "clamd" }

// Ping implements Scanner.
func (c *Clamd) Ping(ctx context.Context) error {
	conn, err := c.Endpoint.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "zPING\x00"); err != nil {
		return err
	}
	answer, err := readClamdReply(conn)
	if err == nil && string(answer) != "PONG\x00" {
		err = fmt.Errorf("clamd at %s answers %q to PING", c.Endpoint.ClamdText(), safe(string(answer), maxText))
	}
	return err
}

// Ask implements Scanner.
func (c *Clamd) Ask(ctx context.Context, q *Question) (Opinion, error) {
	conn, err := c.Endpoint.dial(ctx)
	if err != nil {
		return Opinion{}, fmt.Errorf("clamd at %s: %w", c.Endpoint.ClamdText(), err)
	}
	defer conn.Close()
	body := q.content()
	defer body.shut()
	answer, err := exchange(ctx, conn, body)
	if err != nil {
		return Opinion{}, fmt.Errorf("clamd at %s: %w", c.Endpoint.ClamdText(), err)
	}
	return clamdOpinion(answer)
}

// exchange sends the message and reads the answer at the same time: clamd may
// answer in the middle and reset the connection, which would lose the answer.
func exchange(ctx context.Context, conn net.Conn, message io.Reader) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	sent := make(chan error, 1)
	background.Go(nil, nil, "screening: send to clamd", func() {
		err := errors.New("a fault in this program, see its log")
		defer func() { sent <- err }()
		err = sendStream(conn, message)
	})
	answer, err := readClamdReply(conn)
	if err != nil {
		conn.Close() // ends the sending
		return nil, errors.Join(err, <-sent)
	}
	_, verdict, _ := bytes.Cut(answer, []byte(" "))
	if err := <-sent; err != nil && !bytes.HasSuffix(verdict, []byte("ERROR\x00")) && !bytes.HasSuffix(verdict, []byte("FOUND\x00")) {
		return nil, fmt.Errorf("it answered before it had the whole message: %w", err)
	}
	return answer, nil
}

// sendStream writes the command, chunks with their size in front, and the empty
// chunk that ends them.
func sendStream(w io.Writer, message io.Reader) error {
	if _, err := io.WriteString(w, "zINSTREAM\x00"); err != nil {
		return err
	}
	chunk := make([]byte, 4+clamdChunk)
	for {
		n, err := io.ReadFull(message, chunk[4:])
		binary.BigEndian.PutUint32(chunk, uint32(n))
		if n > 0 {
			if _, err := w.Write(chunk[:4+n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			_, err := w.Write([]byte{0, 0, 0, 0})
			return err
		case err != nil:
			return err
		}
	}
}

// readClamdReply reads until clamd ends the connection.
func readClamdReply(r io.Reader) ([]byte, error) {
	answer, err := io.ReadAll(io.LimitReader(r, maxClamdReply+1))
	switch {
	case len(answer) > maxClamdReply:
		return nil, fmt.Errorf("its answer has more than %d octets", maxClamdReply)
	case err != nil && !bytes.HasSuffix(answer, []byte{0}): // a reset after a whole answer takes nothing from it
		return nil, err
	}
	return answer, nil
}

// parseClamdReply reads the answer to zINSTREAM: one text that ends in NUL. It gives
// the signature that was found, or none for a clean message.
func parseClamdReply(answer []byte) (signature string, err error) {
	text, ok := strings.CutSuffix(string(answer), "\x00")
	if !ok || len(answer) > maxClamdReply || safe(text, len(text)) != text {
		return "", fmt.Errorf("its answer is not one line of text: %q", safe(string(answer), maxText))
	}
	said, ofStream := strings.CutPrefix(text, "stream: ")
	found, isFound := strings.CutSuffix(said, " FOUND")
	switch {
	case strings.HasSuffix(text, " ERROR"):
		return "", fmt.Errorf("%w: %s", errNotScanned, safe(text, maxText))
	case ofStream && said == "OK":
		return "", nil
	case ofStream && isFound && found != "":
		return found, nil
	}
	return "", fmt.Errorf("its answer is none that clamd gives: %q", safe(text, maxText))
}

// clamdOpinion is what the answer means. What clamd names by a heuristic of its own
// is not known to be malware: what it could not look into is held, and the rest
// (phishing, unwanted programs) is refused for its content.
func clamdOpinion(answer []byte) (Opinion, error) {
	signature, err := parseClamdReply(answer)
	if err != nil {
		return Opinion{}, fmt.Errorf("clamd: %w", err)
	}
	f := Finding{Scanner: "clamd", Rule: safe(signature, maxRule)}
	has := func(prefix string) bool { return strings.HasPrefix(signature, prefix) }
	switch {
	case signature == "":
		return Opinion{Action: Pass}, nil
	case has("Heuristics.Limits.Exceeded"), has("Heuristics.Encrypted"):
		return Opinion{Action: Hold, Findings: []Finding{f}}, nil
	case has("Heuristics."), has("PUA."):
		return refused(mail.ReasonContentRefused, f), nil
	}
	return refused(mail.ReasonMalware, f), nil
}

var _ Scanner = (*Clamd)(nil)
