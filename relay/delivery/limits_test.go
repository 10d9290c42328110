package delivery

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
)

// countingServer takes so many recipients a transaction, answers 452 to the rest,
// and counts what it sees.
type countingServer struct {
	mailMax, rcptMax, takes int

	sessions sync.WaitGroup

	mu                              sync.Mutex // guards what follows
	mostMails, mostRcpts, delivered int
}

func (s *countingServer) route() Route {
	return Route{Site: "globex.example", Hosts: []Host{{Name: "mx1.globex.example", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Port: 25}}}
}

func (s *countingServer) transport() *SMTP {
	return &SMTP{Helo: "relay.anechoic.test", Dial: func(context.Context, netip.Addr, netip.AddrPort) (net.Conn, error) {
		ours, theirs, err := loopbackPipe()
		if err == nil {
			s.sessions.Go(func() { s.session(theirs) })
		}
		return ours, err
	}}
}

func (s *countingServer) session(conn net.Conn) {
	defer conn.Close()
	in, out := bufio.NewReader(conn), bufio.NewWriter(conn)
	fmt.Fprint(out, "220 counts\r\n")
	mails, rcpts, taken := 0, 0, 0
	for {
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		answer := "250 ok"
		switch strings.ToUpper(line[:4]) {
		case "EHLO":
			answer = "250-counts\r\n250-LIMITS"
			if s.mailMax > 0 {
				answer += fmt.Sprintf(" MAILMAX=%d", s.mailMax)
			}
			if s.rcptMax > 0 {
				answer += fmt.Sprintf(" RCPTMAX=%d", s.rcptMax)
			}
			answer += "\r\n250 PIPELINING"
		case "MAIL":
			mails, rcpts, taken = mails+1, 0, 0
		case "RCPT":
			if rcpts++; taken == s.takes {
				answer = "452 4.5.3 too many recipients"
			} else {
				taken++
			}
		case "DATA":
			fmt.Fprint(out, "354 go on\r\n")
			if out.Flush() != nil {
				return
			}
			for line != ".\r\n" {
				if line, err = in.ReadString('\n'); err != nil {
					return
				}
			}
			s.note(mails, rcpts, taken)
		case "QUIT":
			fmt.Fprint(out, "221 bye\r\n")
			out.Flush()
			return
		}
		fmt.Fprint(out, answer+"\r\n")
	}
}

func (s *countingServer) note(mails, rcpts, taken int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mostMails, s.mostRcpts, s.delivered = max(s.mostMails, mails), max(s.mostRcpts, rcpts), s.delivered+taken
}
