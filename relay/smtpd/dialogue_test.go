package smtpd

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"anechoic/mail"
)

// TestDialogues runs the files of testdata. A line of a dialogue is one of
//
//	# …              a comment
//	mode NAME        plain, tls, submission, proxy; opens the connection (plain if absent)
//	set FIELD VALUE  before the first line: a limit of the server
//	C: …             the client sends the line and CRLF
//	C> …             the same, in one write with the line after it
//	R: "…"           the client sends the Go string, as it is
//	TLS, TLS cert    the client starts TLS (with its certificate)
//	S: …             the server answers so; {id} is an identifier
//	CLOSED           the server closes
//	KEPT n           so many messages were kept
//	CALLS m r        the Handler was asked about so many senders and recipients
//	HAVE …           in what was kept last there is this text
//	REFUSED n        the server refused so many times itself
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d dialogues found, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			d := &dialogue{t: t, handler: &recorder{}}
			d.server = newServer(d.handler)
			d.server.Refused = d.refused
			for n, line := range strings.Split(strings.TrimRight(string(text), "\n"), "\n") {
				if err := d.step(line); err != nil {
					t.Fatalf("%s:%d: %s\n%v", file, n+1, line, err)
				}
			}
			d.end()
		})
	}
}

type dialogue struct {
	t       *testing.T
	server  *Server
	handler *recorder
	mode    Mode
	conn    net.Conn
	r       *bufio.Reader
	unsent  string
	refusal chan mail.ID // one for each refusal of the server's own
}

func (d *dialogue) refused(s *Session, t *Transaction, id mail.ID, r *mail.Refusal) {
	if id == "" || t != nil && id != t.ID || t == nil && id != s.ID || r == nil {
		d.t.Errorf("refusal %v recorded with the id %q", r, id)
	}
	d.refusal <- id
}

var modeNames = map[string]Mode{"plain": Plain, "tls": ImplicitTLS, "submission": Submission, "proxy": Proxy}

func (d *dialogue) step(line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "", "#":
		return nil
	case "mode":
		mode, ok := modeNames[rest]
		if d.mode = mode; !ok || d.conn != nil {
			return errors.New("no such mode, or too late")
		}
		return nil
	case "set":
		return d.set(rest)
	}
	if d.conn == nil {
		d.connect()
	}
	if word != "C>" && word != "C:" && word != "R:" {
		if err := d.send(""); err != nil {
			return err
		}
	}
	return d.act(word, rest)
}

func (d *dialogue) act(word, rest string) error {
	switch word {
	case "C>":
		d.unsent += rest + "\r\n"
		return nil
	case "C:":
		return d.send(rest + "\r\n")
	case "R:":
		s, err := strconv.Unquote(rest)
		if err != nil {
			return err
		}
		return d.send(s)
	case "S:":
		return d.expect(rest)
	case "TLS":
		return d.startTLS(rest == "cert")
	case "CLOSED":
		if b, err := io.ReadAll(d.r); err != nil || len(b) > 0 {
			return fmt.Errorf("not closed: %q, %v", b, err)
		}
		return nil
	}
	return d.check(word, rest)
}

func (d *dialogue) check(word, rest string) error {
	kept := d.handler.kept()
	switch word {
	case "KEPT":
		if strconv.Itoa(len(kept)) != rest {
			return fmt.Errorf("%d were kept", len(kept))
		}
	case "CALLS":
		mails, rcpts := d.handler.calls()
		if got := fmt.Sprint(mails, rcpts); got != rest {
			return fmt.Errorf("the calls were %s", got)
		}
	case "HAVE":
		k := kept[len(kept)-1]
		if all := fmt.Sprintf("%q %+v %s", k.content(), k.envelope, k.protocol); !strings.Contains(all, rest) {
			return fmt.Errorf("kept was %s", all)
		}
	case "REFUSED":
		if got := strconv.Itoa(len(d.refusal)); got != rest {
			return fmt.Errorf("it was %s", got)
		}
	default:
		return errors.New("not a line of a dialogue")
	}
	return nil
}

func (d *dialogue) set(rest string) error {
	name, value, _ := strings.Cut(rest, " ")
	n, err := strconv.Atoi(value)
	if err != nil && name != "NoTLS" && name != "NoAuth" && name != "NoBalancers" {
		return err
	}
	switch name {
	case "MaxMessageBytes":
		d.server.MaxMessageBytes = int64(n)
	case "MaxHeaderBytes":
		d.server.MaxHeaderBytes = n
	case "MaxHeaderFields":
		d.server.MaxHeaderFields = n
	case "MaxMIMEDepth":
		d.server.MaxMIMEDepth = n
	case "MaxRecipients":
		d.server.MaxRecipients = n
	case "MaxConnections":
		d.server.MaxConnections = n
	case "MaxConnectionsPerPeer":
		d.server.MaxConnectionsPerPeer = n
	case "ErrorBudget":
		d.server.ErrorBudget = n
	case "SpoolThreshold":
		d.server.SpoolThreshold = int64(n)
	case "ProxyHeaderMilliseconds":
		d.server.Timeouts.ProxyHeader = time.Duration(n) * time.Millisecond
	case "NoTLS":
		d.server.TLS = nil
	case "NoAuth":
		d.server.Authenticate = nil
	case "NoBalancers":
		d.server.ProxyFrom = nil
	default:
		return errors.New("no such setting")
	}
	return nil
}

func (d *dialogue) connect() {
	d.refusal = make(chan mail.ID, 1000)
	conn, err := net.Dial("tcp", start(d.t, d.server, d.mode))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil { // a test that hangs says where
		d.t.Fatal(err)
	}
	d.conn, d.r = conn, bufio.NewReader(conn)
}

func (d *dialogue) startTLS(withCertificate bool) error {
	config := clientTLS()
	if withCertificate {
		config.Certificates = []tls.Certificate{certificate()}
	}
	conn := tls.Client(d.conn, config)
	d.conn, d.r = conn, bufio.NewReader(conn)
	return conn.Handshake()
}

func (d *dialogue) send(s string) error {
	s, d.unsent = d.unsent+s, ""
	if s == "" {
		return nil
	}
	_, err := io.WriteString(d.conn, s)
	return err
}

func (d *dialogue) expect(want string) error {
	line, err := d.r.ReadString('\n')
	if err != nil {
		return fmt.Errorf("instead of a reply: %q, %v", line, err)
	}
	parts := strings.Split(want, "{id}")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	if pattern := "^" + strings.Join(parts, "[a-z2-7]{26}") + "\r\n$"; !regexp.MustCompile(pattern).MatchString(line) {
		return fmt.Errorf("the server said: %s", strings.TrimRight(line, "\r\n"))
	}
	return nil
}

// end wants nothing unread, and every reply with a refusal recorded by someone.
func (d *dialogue) end() {
	if d.conn == nil || d.r.Buffered() == 0 {
		return
	}
	rest, _ := d.r.Peek(d.r.Buffered())
	d.t.Errorf("the server said more: %q", slices.Clone(rest))
}
