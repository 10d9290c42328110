package rig

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/textproto"
	"regexp"
	"strings"
	"sync"
	"time"

	"anechoic/lab"
	"anechoic/mail"
)

// largeEvery is how often a message has a body that is stored in chunks.
const largeEvery = 60

// Load is senders that never pause: a new message as soon as the one before was
// answered, a new connection as soon as one was lost.
type Load struct {
	rig  *Rig
	halt chan struct{}
	all  sync.WaitGroup

	mu           sync.Mutex // guards what follows
	acknowledged map[string]mail.ID
	number       int
	putOff       int
}

// StartLoad lets senders run until Stop.
func (r *Rig) StartLoad(senders int) *Load {
	l := &Load{rig: r, halt: make(chan struct{}), acknowledged: map[string]mail.ID{}}
	for range senders {
		host := r.internet.ProviderHost()
		l.all.Go(func() { l.run(host) })
	}
	return l
}

// Stop ends the senders and gives what was acknowledged: Message-IDs, and the
// relay's ids that stood in the 250.
func (l *Load) Stop() map[string]mail.ID {
	close(l.halt)
	l.rig.changed.Broadcast()
	l.all.Wait()
	return l.acknowledged
}

// PutOff is how many messages were answered 4yz.
func (l *Load) PutOff() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.putOff
}

func (l *Load) halted() bool {
	select {
	case <-l.halt:
		return true
	default:
		return false
	}
}

// run sends messages over one connection after the other.
func (l *Load) run(host netip.Addr) {
	for !l.halted() {
		address := l.awaitAddress()
		c, err := dial(address, host)
		if err != nil {
			time.Sleep(time.Millisecond) // the process was killed; the next one is awaited
			continue
		}
		for err == nil && !l.halted() {
			err = l.sendOne(c)
		}
		c.Close()
		var refused *textproto.Error
		switch {
		case errors.As(err, &refused) && refused.Code >= 500:
			l.rig.problem("an honest message was refused: %v", err)
			return
		case errors.As(err, &refused):
			l.mu.Lock()
			l.putOff++
			l.mu.Unlock()
		}
	}
}

// awaitAddress waits until a process takes mail.
func (l *Load) awaitAddress() string {
	l.rig.mu.Lock()
	defer l.rig.mu.Unlock()
	for l.rig.address == "" && !l.halted() {
		l.rig.changed.Wait()
	}
	return l.rig.address
}

var keptAs = regexp.MustCompile(`\bid=([a-z2-7]{26})\b`)

// sendOne sends a new message and notes its 250.
func (l *Load) sendOne(c *textproto.Conn) error {
	l.mu.Lock()
	l.number++
	n := l.number
	l.mu.Unlock()
	id, to, body := fmt.Sprintf("<m%d@%s>", n, home), "box@"+Domains[n%len(Domains)], "a line\r\n"
	if n%largeEvery == 0 {
		body = strings.Repeat("sixty-four octets of text, with their line end, over and over.\r\n", 5000)
	}
	text := l.rig.tenant.Stamp(lab.Cloud, lab.Draft{From: "ann@" + home, To: to, Subject: "load", MessageID: id, Body: body}, netip.Addr{})
	answer := ""
	for _, step := range []struct {
		code    int
		command string
	}{{250, "MAIL FROM:<ann@" + home + ">"}, {250, "RCPT TO:<" + to + ">"}, {354, "DATA"}, {250, string(text) + "."}} {
		var err error
		if answer, err = command(c, step.code, step.command); err != nil {
			return err
		}
	}
	m := keptAs.FindStringSubmatch(answer)
	if m == nil {
		l.rig.problem("a 250 without an id: %s", answer)
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acknowledged[id] = mail.ID(m[1])
	return nil
}

// dial connects from a host of the provider's and changes to TLS.
func dial(address string, host netip.Addr) (*textproto.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: host.AsSlice()}}
	raw, err := dialer.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	if err := raw.SetDeadline(time.Now().Add(Patience)); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	plain := textproto.NewConn(raw)
	if _, _, err = plain.ReadResponse(220); err == nil {
		_, err = command(plain, 250, "EHLO mail.outbound.example")
	}
	if err == nil {
		_, err = command(plain, 220, "STARTTLS")
	}
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	c := textproto.NewConn(tls.Client(raw, &tls.Config{InsecureSkipVerify: true})) // the relay made its certificate itself
	if _, err := command(c, 250, "EHLO mail.outbound.example"); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func command(c *textproto.Conn, code int, line string) (answer string, err error) {
	if err := c.PrintfLine("%s", line); err != nil {
		return "", err
	}
	_, answer, err = c.ReadResponse(code)
	return answer, err
}
