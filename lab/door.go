package lab

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"strings"
	"sync"
)

// envelope is one message as a door received it.
type envelope struct {
	Peer       netip.Addr
	Helo       string
	From       string
	Recipients []string
	Data       []byte
}

// door is a small SMTP server that believes what it is told: the receivers' and
// the permissive relay's. It is for the range only; package relay/smtpd is the
// real one.
type door struct {
	listener net.Listener
	take     func(envelope) error // an error's text is the reply after DATA

	mu    sync.Mutex // guards conns
	conns map[net.Conn]struct{}
	all   sync.WaitGroup
}

func openDoor(addr string, take func(envelope) error) (*door, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	d := &door{listener: listener, take: take, conns: map[net.Conn]struct{}{}}
	d.all.Go(d.accept)
	return d, nil
}

func (d *door) addr() netip.AddrPort { return d.listener.Addr().(*net.TCPAddr).AddrPort() }

// close ends the listener and every connection, and waits for them.
func (d *door) close() error {
	err := d.listener.Close()
	d.mu.Lock()
	for c := range d.conns {
		err = errors.Join(err, c.Close())
	}
	d.mu.Unlock()
	d.all.Wait()
	return err
}

func (d *door) accept() {
	for {
		conn, err := d.listener.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		d.conns[conn] = struct{}{}
		d.mu.Unlock()
		d.all.Go(func() {
			d.serve(conn)
			d.mu.Lock()
			delete(d.conns, conn)
			d.mu.Unlock()
			conn.Close()
		})
	}
}

// serve speaks one connection until it ends.
func (d *door) serve(conn net.Conn) {
	peer := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	r, w := textproto.NewReader(bufio.NewReader(conn)), textproto.NewWriter(bufio.NewWriter(conn))
	mail, helo := envelope{Peer: peer}, ""
	reply := "220 door.lab.example ESMTP"
	for {
		if w.PrintfLine("%s", reply) != nil {
			return
		}
		line, err := r.ReadLine()
		if err != nil {
			return
		}
		verb, argument, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			helo, reply = argument, "250-door.lab.example\r\n250-PIPELINING\r\n250 8BITMIME"
		case "MAIL":
			mail, reply = envelope{Peer: peer, Helo: helo, From: path(argument)}, "250 2.1.0 ok"
		case "RCPT":
			mail.Recipients, reply = append(mail.Recipients, path(argument)), "250 2.1.5 ok"
		case "DATA":
			if w.PrintfLine("354 go") != nil {
				return
			}
			reply = d.data(r, mail)
		case "QUIT":
			w.PrintfLine("221 2.0.0 bye")
			return
		default:
			reply = "250 2.0.0 ok"
		}
	}
}

// data reads a message. Line ends are made CRLF again, as dkim wants them: what
// comes here was sent by programs of the range.
func (d *door) data(r *textproto.Reader, mail envelope) string {
	text, err := io.ReadAll(r.DotReader())
	if err != nil {
		return "451 4.3.0 " + err.Error()
	}
	mail.Data = []byte(strings.ReplaceAll(string(text), "\n", "\r\n"))
	if err := d.take(mail); err != nil {
		return err.Error()
	}
	return "250 2.0.0 taken"
}

// path takes the address out of "FROM:<a@b> SIZE=1".
func path(argument string) string {
	_, rest, _ := strings.Cut(argument, "<")
	address, _, _ := strings.Cut(rest, ">")
	return address
}
