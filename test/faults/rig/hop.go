package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"anechoic/lab"
	"anechoic/mail"
)

// Copies is what a hop has of one message.
type Copies struct {
	Sure    int     // answered 250, and the client went on: it read that
	Unsure  int     // taken, and the client may not know: no reply, or the connection ended after it
	ID      mail.ID // the relay's, from its Received field
	Aligned bool    // a signature of the From domain verifies, in every copy
}

// Hop is the mail exchanger of every recipient. With a chance for each step of a
// connection it stalls, trickles, resets, refuses for now or for good, or lies:
// it takes a message and does not say so, or says so and is gone.
type Hop struct {
	resolver mail.Resolver
	seed     uint64
	chance   float64 // of a fault, for each step

	listeners []net.Listener
	port      uint16

	calm  atomic.Bool // no fault any more
	all   sync.WaitGroup
	count atomic.Uint64 // of connections

	mu      sync.Mutex // guards what follows
	conns   map[net.Conn]struct{}
	copies  map[string]*Copies
	bounced map[string]bool // Message-IDs that a bounce told of
	faults  map[fault]int
}

// fault is what a hop does wrong.
type fault string

const (
	stall     fault = "stalls, then resets"
	trickle   fault = "trickles"
	reset     fault = "resets"
	storm     fault = "refuses for now (4yz)"
	closing   fault = "421 and closes"
	endless   fault = "reply lines without end"
	garbage   fault = "answers nonsense"
	refuse    fault = "refuses for good (5yz)"
	silent    fault = "takes the message and resets without a reply"
	goodbye   fault = "takes the message, says 250 and resets"
	slowReply fault = "takes the message and answers late"
	busy      fault = "the moody domain is busy"
)

const (
	longestStall = 3 * time.Second
	trickleEvery = 5 * time.Millisecond
	moodEvery    = 700 * time.Millisecond // the moody domain is busy half of the time
)

var (
	atAny  = []fault{stall, trickle, reset, storm, closing, garbage}
	atOpen = []fault{stall, trickle, reset, closing, endless, garbage}
	atRcpt = []fault{stall, trickle, reset, storm, storm, closing, refuse}
	atEnd  = []fault{silent, goodbye, slowReply, trickle, storm, storm, closing}
)

// openHop listens on every address, on the same port.
func openHop(at []netip.Addr, resolver mail.Resolver, seed uint64, chance float64) (*Hop, error) {
	h := &Hop{resolver: resolver, seed: seed, chance: chance, conns: map[net.Conn]struct{}{}, copies: map[string]*Copies{}, bounced: map[string]bool{}, faults: map[fault]int{}}
	for _, addr := range at {
		listener, err := net.Listen("tcp", netip.AddrPortFrom(addr, h.port).String())
		if err != nil {
			return nil, errors.Join(err, h.Close())
		}
		h.listeners = append(h.listeners, listener)
		h.port = listener.Addr().(*net.TCPAddr).AddrPort().Port()
		h.all.Go(func() { h.accept(listener) })
	}
	return h, nil
}

// Port is where it listens, on every address.
func (h *Hop) Port() uint16 { return h.port }

// Calm ends its faults and moods.
func (h *Hop) Calm() { h.calm.Store(true) }

// Close ends it.
func (h *Hop) Close() error {
	var err error
	for _, l := range h.listeners {
		err = errors.Join(err, l.Close())
	}
	h.mu.Lock()
	for c := range h.conns {
		c.Close()
	}
	h.mu.Unlock()
	h.all.Wait()
	return err
}

// Copies gives what it has, by Message-ID.
func (h *Hop) Copies() map[string]Copies {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make(map[string]Copies, len(h.copies))
	for id, c := range h.copies {
		all[id] = *c
	}
	return all
}

// Faults counts what it did wrong.
func (h *Hop) Faults() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[string]int{}
	for f, n := range h.faults {
		all[string(f)] = n
	}
	return all
}

func (h *Hop) wasBounced(messageID string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bounced[messageID]
}

func (h *Hop) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns[conn] = struct{}{}
		h.mu.Unlock()
		n := h.count.Add(1)
		h.all.Go(func() {
			c := &hopConn{hop: h, conn: conn, r: bufio.NewReader(conn), rng: rand.New(rand.NewPCG(h.seed, n))}
			c.serve()
			h.mu.Lock()
			delete(h.conns, conn)
			h.mu.Unlock()
			conn.Close()
		})
	}
}

// hopConn is one connection.
type hopConn struct {
	hop  *Hop
	conn net.Conn
	r    *bufio.Reader
	rng  *rand.Rand

	from, to string
	taken    string // Message-ID of what was answered 250 and may not have been read
}

var errReset = errors.New("reset")

// draw is what goes wrong at this step; empty: nothing.
func (c *hopConn) draw(of []fault) fault {
	if c.hop.calm.Load() || c.rng.Float64() >= c.hop.chance {
		return ""
	}
	f := of[c.rng.IntN(len(of))]
	if f == refuse && c.from == "" {
		return "" // a bounce that bounces is gone, and nobody would be told
	}
	c.note(f)
	return f
}

func (c *hopConn) note(f fault) {
	c.hop.mu.Lock()
	c.hop.faults[f]++
	c.hop.mu.Unlock()
}

// serve speaks until the connection ends.
func (c *hopConn) serve() {
	err := c.answer("220 hop.example ESMTP", c.draw(atOpen))
	for err == nil {
		var line string
		if line, err = c.r.ReadString('\n'); err != nil {
			break
		}
		c.settle(true)
		err = c.command(strings.TrimRight(line, "\r\n"))
	}
	c.settle(false)
}

// settle books the message that was answered 250: the client went on, or the
// connection ended.
func (c *hopConn) settle(sure bool) {
	if c.taken == "" {
		return
	}
	c.hop.mu.Lock()
	defer c.hop.mu.Unlock()
	copies := c.hop.copies[c.taken]
	if c.taken = ""; sure {
		copies.Sure, copies.Unsure = copies.Sure+1, copies.Unsure-1
	}
}

func (c *hopConn) command(line string) error {
	verb, argument, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "EHLO":
		return c.answer("250-hop.example\r\n250-PIPELINING\r\n250 8BITMIME", c.draw(atAny))
	case "MAIL":
		c.from, c.to = address(argument), ""
		return c.answer("250 2.1.0 ok", c.draw(atAny))
	case "RCPT":
		c.to = address(argument)
		if f := c.draw(atRcpt); f != "" {
			return c.answer("250 2.1.5 ok", f)
		}
		if c.moody() {
			return c.say("451 4.2.1 busy")
		}
		return c.say("250 2.1.5 ok")
	case "DATA":
		if c.to == "" {
			return c.say("503 5.5.1 no recipient")
		}
		return c.data()
	case "QUIT":
		_ = c.say("221 2.0.0 bye")
		return errReset
	}
	return c.say("250 2.0.0 ok")
}

// moody says whether mail is put off, because the domain's mood says so.
func (c *hopConn) moody() bool {
	bad := !c.hop.calm.Load() && strings.HasSuffix(c.to, "@"+Domains[1]) && time.Now().UnixMilli()/moodEvery.Milliseconds()%2 == 0
	if bad {
		c.note(busy)
	}
	return bad
}

// answer gives a reply, or does what the fault says instead.
func (c *hopConn) answer(reply string, f fault) error {
	switch f {
	case stall:
		time.Sleep(time.Duration(c.rng.Int64N(int64(longestStall))))
		return c.reset()
	case reset:
		return c.reset()
	case trickle:
		return c.trickle(reply + "\r\n")
	case storm:
		c.to = ""
		return c.say("451 4.7.1 too much of you, later")
	case refuse:
		c.to = ""
		return c.say("550 5.1.1 nobody here")
	case closing:
		_ = c.say("421 4.3.2 going down")
		return errReset
	case endless:
		for range 20_000 {
			if err := c.say(reply[:3] + "-and more"); err != nil {
				return err
			}
		}
		return c.reset()
	case garbage:
		_ = c.say("\x00\xffHTTP/1.1 200 OK")
		return c.reset()
	}
	return c.say(reply)
}

func (c *hopConn) say(reply string) error {
	_, err := io.WriteString(c.conn, reply+"\r\n")
	return err
}

func (c *hopConn) trickle(text string) error {
	for i := range len(text) {
		if _, err := io.WriteString(c.conn, text[i:i+1]); err != nil {
			return err
		}
		time.Sleep(trickleEvery)
	}
	return nil
}

// reset ends the connection so that the peer sees an RST.
func (c *hopConn) reset() error {
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	return errReset
}

// data reads a message and says, truthfully or not, what became of it.
func (c *hopConn) data() error {
	f := c.draw(atAny)
	if err := c.answer("354 go", f); err != nil || f == storm {
		return err
	}
	text, err := c.readDot()
	if err != nil {
		return err
	}
	switch f = c.draw(atEnd); f {
	case storm, closing:
		return c.answer("", f)
	case silent:
		c.keep(text)
		return c.reset()
	case goodbye:
		c.keep(text)
		_ = c.say("250 2.0.0 taken")
		return c.reset()
	case slowReply:
		c.keep(text)
		time.Sleep(time.Duration(c.rng.Int64N(int64(longestStall))))
		return c.say("250 2.0.0 taken")
	case trickle:
		c.keep(text)
		return c.trickle("250-2.0.0 taken\r\n250 2.0.0 and how\r\n")
	}
	c.keep(text)
	return c.say("250 2.0.0 taken")
}

// readDot reads up to CRLF.CRLF, and takes the dots off that were put on.
func (c *hopConn) readDot() ([]byte, error) {
	var text []byte
	for {
		line, err := c.r.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		if string(line) == ".\r\n" {
			return text, nil
		}
		if line[0] == '.' {
			line = line[1:]
		}
		text = append(text, line...)
	}
}

var (
	receivedID = regexp.MustCompile(`\bwith (?:UTF8)?E?SMTPS?A? id ([a-z2-7]{26})\b`)
	loadID     = regexp.MustCompile(`(?i)\nmessage-id: *(<m[0-9]+@` + regexp.QuoteMeta(home) + `>)`)
)

// keep books a copy, unsure until the client goes on.
func (c *hopConn) keep(text []byte) {
	id := loadID.FindSubmatch(text)
	if id == nil {
		return
	}
	name := string(id[1])
	if c.from == "" { // a bounce, with the header of what it tells of
		c.hop.mu.Lock()
		c.hop.bounced[name] = true
		c.hop.mu.Unlock()
		return
	}
	j, err := lab.Judge(context.Background(), c.hop.resolver, text)
	c.hop.mu.Lock()
	defer c.hop.mu.Unlock()
	copies := c.hop.copies[name]
	if copies == nil {
		copies = &Copies{Aligned: true}
		c.hop.copies[name] = copies
	}
	copies.Aligned = copies.Aligned && err == nil && j.Aligned
	if m := receivedID.FindSubmatch(text); m != nil { // ours is the topmost
		copies.ID = mail.ID(m[1])
	}
	copies.Unsure++
	c.taken = name
}

// address takes the address out of "FROM:<a@b> SIZE=1".
func address(argument string) string {
	_, rest, _ := strings.Cut(argument, "<")
	address, _, _ := strings.Cut(rest, ">")
	return address
}

// String is the faults with their numbers, for a report.
func (h *Hop) String() string { return fmt.Sprint(h.Faults()) }
