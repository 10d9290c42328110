package acceptance

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"anechoic/mail"
)

// door is one of the relay's listeners.
type door string

const (
	behindProxy door = "proxy" // with a PROXY header first
	plainPort   door = "plain"
	tlsPort     door = "tls"
	submission  door = "submission"
	proxyPort   door = "bare proxy" // without a header
)

func (r *relay) address(d door) string {
	ready := r.ready()
	switch d {
	case plainPort:
		return ready.SMTP[0]
	case tlsPort:
		return ready.SMTPTLS[0]
	case submission:
		return ready.Submission[0]
	}
	return ready.Proxy[0]
}

// client is a peer that can send any octets.
type client struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
	said io.Writer

	cert   *tls.Certificate // shown in the handshake, if there is one
	newest uint16           // version of TLS; zero: any
}

// callers numbers the loopback addresses that clients of plain ports come from:
// floods from one address are counted together in the ledger.
var callers atomic.Uint32

func caller() net.IP {
	n := callers.Add(1)
	return net.IPv4(127, 60, byte(n/250), byte(1+n%250))
}

// connect opens a connection to a door from its own address (behindProxy and
// proxyPort: from the trusted balancer's), and sends nothing.
func (r *relay) connect(t testing.TB, d door) *client {
	t.Helper()
	from := caller()
	if d == behindProxy || d == proxyPort {
		from = net.IPv4(127, 0, 0, 1)
	}
	return r.connectFrom(t, d, from)
}

func (r *relay) connectFrom(t testing.TB, d door, from net.IP) *client {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}, Timeout: patience}
	conn, err := dialer.Dial("tcp", r.address(d))
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, conn, r.said)
	if d == tlsPort {
		c.handshake()
	}
	return c
}

func newClient(t testing.TB, conn net.Conn, said io.Writer) *client {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil { // a test that hangs says where
		t.Fatal(err)
	}
	return &client{t: t, conn: conn, r: bufio.NewReader(conn), said: said}
}

// as opens a connection of a peer of any address.
func (r *relay) as(t testing.TB, peer string) *client {
	t.Helper()
	c := r.connect(t, behindProxy)
	family, to := "TCP4", "192.0.2.25"
	if strings.Contains(peer, ":") {
		family, to = "TCP6", "2001:db8::25"
	}
	c.write(fmt.Sprintf("PROXY %s %s %s 40000 25\r\n", family, peer, to))
	return c
}

func (c *client) write(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Fatalf("write %.60q: %v", s, err)
	}
}

// writeAnyway is write to a server that may have closed.
func (c *client) writeAnyway(s string) { _, _ = io.WriteString(c.conn, s) }

func (c *client) handshake() {
	c.t.Helper()
	config := &tls.Config{InsecureSkipVerify: true, MaxVersion: c.newest} // the relay under test has a certificate of its own making
	if c.cert != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.cert, nil }
	}
	conn := tls.Client(c.conn, config)
	if err := conn.Handshake(); err != nil {
		c.t.Fatalf("TLS: %v", err)
	}
	c.conn, c.r = conn, bufio.NewReader(conn)
}

// reply is what the relay said; closed: it closed the connection instead.
type reply struct {
	code     int
	enhanced string
	reason   mail.Reason
	id       mail.ID
	text     string // every line
	closed   bool
}

func (r reply) String() string {
	if r.closed {
		return "the connection was closed"
	}
	return strings.TrimSpace(r.text)
}

// refusalForm is what every 4yz and 5yz looks like.
var refusalForm = regexp.MustCompile(`^[45]\d\d ([45]\.\d{1,3}\.\d{1,3}) [^\r\n]+ \[([A-Z0-9_]+) id=([a-z2-7]{26})\]\r\n$`)

// reply reads one reply.
func (c *client) reply() reply {
	c.t.Helper()
	var r reply
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				c.t.Fatalf("no reply within %s", patience)
			}
			return reply{closed: true, text: r.text + line}
		}
		r.text += line
		io.WriteString(c.said, line)
		if len(line) < 6 || !strings.HasSuffix(line, "\r\n") {
			c.t.Fatalf("this is no reply: %q", line)
		}
		if line[3] == ' ' {
			c.read(&r, line)
			return r
		}
	}
}

func (c *client) read(r *reply, line string) {
	c.t.Helper()
	code, err := strconv.Atoi(line[:3])
	if err != nil {
		c.t.Fatalf("this is no reply: %q", line)
	}
	r.code = code
	if code < 400 {
		return
	}
	m := refusalForm.FindStringSubmatch(line)
	if m == nil {
		c.t.Fatalf("a refusal without enhanced code, reason or id: %q", line)
	}
	r.enhanced, r.reason, r.id = m[1], mail.Reason(m[2]), mail.ID(m[3])
	if r.enhanced[0] != line[0] {
		c.t.Errorf("the codes contradict each other: %q", line)
	}
}

// cmd sends a line and reads its reply.
func (c *client) cmd(line string) reply {
	c.t.Helper()
	c.write(line + "\r\n")
	return c.reply()
}

// must is cmd whose reply is known.
func (c *client) must(code int, line string) reply {
	c.t.Helper()
	r := c.cmd(line)
	if r.code != code {
		c.t.Fatalf("%q was answered %s, not %d", line, r, code)
	}
	return r
}

func (c *client) greeted() *client {
	c.t.Helper()
	if r := c.reply(); r.code != 220 {
		c.t.Fatalf("the greeting is %s", r)
	}
	return c
}

// secured greets and changes to TLS.
func (c *client) secured() *client {
	c.t.Helper()
	c.must(250, "EHLO sender.test")
	c.must(220, "STARTTLS")
	c.handshake()
	c.must(250, "EHLO sender.test")
	return c
}

func plainResponse(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + password))
}

// login authenticates with a right password.
func (c *client) login(user string) *client {
	c.t.Helper()
	c.must(235, "AUTH PLAIN "+plainResponse(user, passwords[user]))
	return c
}

// gone says whether the relay closed the connection. Where it did not read all
// that was sent, the peer may see a reset.
func (c *client) gone() bool {
	rest, err := io.ReadAll(c.r)
	return len(rest) == 0 && (err == nil || errors.Is(err, syscall.ECONNRESET))
}

// letter is one transaction.
type letter struct {
	door     door   // empty: behindProxy
	peer     string // behindProxy: who connects
	plain    bool   // without TLS
	user     string // who authenticates, if anybody
	password string // instead of the right one
	from     string
	utf8     bool // MAIL says SMTPUTF8
	cert     *tls.Certificate
	chunk    int      // the data go by BDAT in chunks of so many octets; zero: by DATA
	to       []string // empty: a recipient at mailbox
	data     string   // lines end in CRLF
}

// stages of a transaction.
const (
	atConnect = "connect"
	atAuth    = "AUTH"
	atMail    = "MAIL"
	atRcpt    = "RCPT"
	atData    = "DATA"
)

// send goes through a transaction to its refusal or its end.
func (r *relay) send(t testing.TB, l letter) (stage string, answer reply) {
	t.Helper()
	c, refused := r.open(t, l)
	if c == nil {
		return atAuth, refused
	}
	defer c.conn.Close()
	mailFrom := "MAIL FROM:<" + l.from + ">"
	if l.utf8 {
		mailFrom += " SMTPUTF8"
	}
	if answer = c.cmd(mailFrom); answer.code != 250 {
		return atMail, answer
	}
	to := l.to
	if len(to) == 0 {
		to = []string{"victim@" + mailbox}
	}
	for _, rcpt := range to {
		if answer = c.cmd("RCPT TO:<" + rcpt + ">"); answer.code != 250 {
			return atRcpt, answer
		}
	}
	if l.chunk > 0 {
		return atData, c.chunks(l.data, l.chunk)
	}
	if answer = c.cmd("DATA"); answer.code != 354 {
		return atData, answer
	}
	go c.writeAnyway(stuffed(l.data) + ".\r\n")
	return atData, c.reply()
}

// chunks sends data by BDAT, each chunk pipelined behind the one before, and
// gives the first reply that is no 250, or the last.
func (c *client) chunks(data string, size int) (answer reply) {
	c.t.Helper()
	var all strings.Builder
	n := 0
	for rest := data; ; n++ {
		chunk, more := rest[:min(size, len(rest))], ""
		if rest = rest[len(chunk):]; rest == "" {
			more = " LAST"
		}
		fmt.Fprintf(&all, "BDAT %d%s\r\n%s", len(chunk), more, chunk)
		if rest == "" {
			break
		}
	}
	go c.writeAnyway(all.String())
	for range n + 1 {
		if answer = c.reply(); answer.code != 250 {
			return answer
		}
	}
	return answer
}

// open connects, secures and authenticates. Without a client authentication was
// refused.
func (r *relay) open(t testing.TB, l letter) (*client, reply) {
	t.Helper()
	var c *client
	switch l.door {
	case "", behindProxy:
		c = r.as(t, l.peer)
	default:
		c = r.connect(t, l.door)
	}
	c.cert = l.cert
	c.greeted()
	if l.plain || l.door == tlsPort {
		c.must(250, "EHLO sender.test")
	} else {
		c.secured()
	}
	if l.user == "" {
		return c, reply{}
	}
	password := passwords[l.user]
	if l.password != "" {
		password = l.password
	}
	if answer := c.cmd("AUTH PLAIN " + plainResponse(l.user, password)); answer.code != 235 {
		return nil, answer
	}
	return c, reply{}
}

// stuffed doubles the dots at the starts of lines (RFC 5321 section 4.5.2).
func stuffed(data string) string {
	if strings.HasPrefix(data, ".") {
		data = "." + data
	}
	return strings.ReplaceAll(data, "\r\n.", "\r\n..")
}
