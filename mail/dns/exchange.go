package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	wire "github.com/miekg/dns"
)

// udpSize is what we say we take over UDP: no fragments on any path (DNS flag day
// 2020). maxStrays bounds the datagrams we pass over while we wait for ours.
const (
	udpSize   = 1232
	maxStrays = 100
)

var errStray = errors.New("not the answer to our question")

// askServer asks one server within a time: over UDP with EDNS0, without it if the
// server does not know it, over TCP if the answer does not fit.
func (c *Client) askServer(ctx context.Context, server string, q question, timeout time.Duration) (*wire.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	m, err := exchange(ctx, "udp", server, newQuery(q, true))
	if err == nil && m.Rcode == wire.RcodeFormatError {
		m, err = exchange(ctx, "udp", server, newQuery(q, false))
	}
	if err == nil && m.Truncated {
		m, err = exchange(ctx, "tcp", server, newQuery(q, true))
	}
	if err != nil {
		return nil, err
	}
	if m.Truncated {
		return nil, fmt.Errorf("%w: its answer is cut over TCP too", errServer)
	}
	if m.Rcode != wire.RcodeSuccess && m.Rcode != wire.RcodeNameError {
		return nil, fmt.Errorf("%w: %s", errServer, wire.RcodeToString[m.Rcode])
	}
	return m, nil
}

// newQuery makes a message with a random identifier. AD in a query asks for AD in
// the answer (RFC 6840 section 5.7).
func newQuery(q question, edns bool) *wire.Msg {
	m := new(wire.Msg)
	m.SetQuestion(q.name, q.qtype)
	m.AuthenticatedData = true
	if edns {
		m.SetEdns0(udpSize, false)
	}
	return m
}

// exchange sends query and waits for its answer until ctx ends. A socket of its
// own for each query means a random port for each (RFC 5452 section 9.2).
func exchange(ctx context.Context, network, server string, query *wire.Msg) (*wire.Msg, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	packed, err := query.Pack()
	if err != nil {
		return nil, err
	}
	var answer *wire.Msg
	if network == "tcp" {
		answer, err = overTCP(conn, packed, query)
	} else {
		answer, err = overUDP(conn, packed, query)
	}
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("no answer over %s in time: %w", network, ctx.Err())
	}
	return answer, err
}

// overUDP passes over datagrams that are not the answer: anybody may send them.
func overUDP(conn net.Conn, packed []byte, query *wire.Msg) (*wire.Msg, error) {
	if _, err := conn.Write(packed); err != nil {
		return nil, err
	}
	buf := make([]byte, 64<<10) // a server may send more than we asked for
	err := errStray
	for range maxStrays {
		n, readErr := conn.Read(buf)
		if readErr != nil {
			return nil, readErr
		}
		var m *wire.Msg
		if m, err = parseAnswer(buf[:n], query); err == nil {
			return m, nil
		}
	}
	return nil, err
}

// overTCP reads one message behind its length (RFC 1035 section 4.2.2).
func overTCP(conn net.Conn, packed []byte, query *wire.Msg) (*wire.Msg, error) {
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)); err != nil {
		return nil, err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, buf); err != nil {
		return nil, err
	}
	return parseAnswer(buf, query)
}

// parseAnswer reads a message and compares what must be the same in query and
// answer (RFC 5452 section 9.1). A cut message may miss its records.
func parseAnswer(b []byte, query *wire.Msg) (*wire.Msg, error) {
	m := new(wire.Msg)
	if err := m.Unpack(b); err != nil && !m.Truncated {
		return nil, fmt.Errorf("a broken answer: %w", err)
	}
	asked := query.Question[0]
	if !m.Response || m.Id != query.Id || m.Opcode != wire.OpcodeQuery {
		return nil, errStray
	}
	if m.Rcode == wire.RcodeFormatError && len(m.Question) == 0 {
		return m, nil // a server that did not understand the query does not repeat it
	}
	if len(m.Question) != 1 {
		return nil, errStray
	}
	got := m.Question[0]
	if !strings.EqualFold(got.Name, asked.Name) || got.Qtype != asked.Qtype || got.Qclass != asked.Qclass {
		return nil, errStray
	}
	return m, nil
}
