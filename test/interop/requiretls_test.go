package interop

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"anechoic/ledger"
)

// witness is a mail server that notes what it is sent, and how.
type witness struct {
	listener net.Listener
	offers   []string // in EHLO, inside TLS if there is some
	conf     *tls.Config
	sessions sync.WaitGroup

	mu    sync.Mutex // guards what follows
	mails []witnessed
	lines []string // all that was said in the clear
}

// witnessed is one message.
type witnessed struct {
	command, content string
	secure           bool
}

// newWitness listens; without a certificate it offers no STARTTLS.
func newWitness(t *testing.T, address string, cert *tls.Certificate, offers ...string) *witness {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{listener: l, offers: offers}
	if cert != nil {
		w.conf = &tls.Config{Certificates: []tls.Certificate{*cert}}
	}
	w.sessions.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.sessions.Go(func() { w.serve(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); w.sessions.Wait() })
	return w
}

func (w *witness) serve(conn net.Conn) {
	defer func() { conn.Close() }()
	conn.SetDeadline(time.Now().Add(patience))
	in, m := bufio.NewReader(conn), witnessed{}
	say := func(text string) { io.WriteString(conn, text+"\r\n") }
	read := func() (string, error) {
		line, err := in.ReadString('\n')
		if !m.secure {
			w.mu.Lock()
			w.lines = append(w.lines, line)
			w.mu.Unlock()
		}
		return line, err
	}
	say("220 witness")
	for {
		line, err := read()
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " "); {
		case verb == "EHLO" && w.conf != nil && !m.secure:
			say("250-witness\r\n250 STARTTLS")
		case verb == "EHLO":
			say(strings.Join(append([]string{"250-witness"}, w.offers...), "\r\n250-") + "\r\n250 8BITMIME")
		case verb == "STARTTLS":
			say("220 go on")
			conn = tls.Server(conn, w.conf)
			in, m.secure = bufio.NewReader(conn), true
		case verb == "MAIL":
			m.command = strings.TrimSpace(line)
			say("250 Ok")
		case verb == "DATA":
			say("354 go on")
			m.content = ""
			for line, err = read(); err == nil && line != ".\r\n"; line, err = read() {
				m.content += line
			}
			w.mu.Lock()
			w.mails = append(w.mails, m)
			w.mu.Unlock()
			say("250 2.0.0 taken")
		case verb == "QUIT":
			say("221 bye")
			return
		default:
			say("250 Ok")
		}
	}
}

func (w *witness) seen() (mails []witnessed, inTheClear string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append(mails, w.mails...), strings.Join(w.lines, "")
}

// enforcing serves a policy for each domain that names its exchanger. It stands for port 443
// of every policy host.
func enforcing(t *testing.T, authority *issuer, domains ...string) func(ctx context.Context, network, address string) (net.Conn, error) {
	t.Helper()
	var hosts []string
	for _, d := range domains {
		hosts = append(hosts, "mta-sts."+d)
	}
	cert, _ := authority.certificate(t, hosts...)
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "version: STSv1\nmode: enforce\nmx: mx."+strings.TrimPrefix(q.Host, "mta-sts.")+"\nmax_age: 86400\n")
	}))
	web.TLS, web.Config.ErrorLog = &tls.Config{Certificates: []tls.Certificate{cert}}, log.New(io.Discard, "", 0)
	web.StartTLS()
	t.Cleanup(web.Close)
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, web.Listener.Addr().String())
	}
}

// Addresses of the host that the message is for, and of the sender's own.
const (
	awayAddress = "127.60.1.1"
	homeAddress = "127.60.1.2"
)

// requiring is a relay between a host that a message is for and the sender's own. Policies vouch
// for the sender's, and for that of strict.example, which are where others say they are.
func requiring(t *testing.T, away, home func(address string, authority *issuer) *witness) (r *relay, there, here *witness) {
	t.Helper()
	authority := newIssuer(t)
	there = away(awayAddress+":0", authority)
	_, port, _ := net.SplitHostPort(there.listener.Addr().String())
	here = home(homeAddress+":"+port, authority)
	r = start(t, options{
		port: uint16(there.listener.Addr().(*net.TCPAddr).Port), roots: authority.pool,
		dialWeb: enforcing(t, authority, "strict.example", domainName),
		internet: func(r *relay) string {
			for domain, at := range map[string]string{"strict.example": awayAddress, "unvouched.example": awayAddress, domainName: homeAddress} {
				r.internet.AddReceiver(domain, netip.MustParseAddr(at))
			}
			for _, domain := range []string{"strict.example", domainName} {
				r.internet.Zone.SetTXT("_mta-sts."+domain, "v=STSv1; id=1;")
			}
			return r.internet.DNS()
		},
	})
	return r, there, here
}

// The kinds of hosts.
func inTheClear(t *testing.T) func(string, *issuer) *witness {
	return func(address string, _ *issuer) *witness { return newWitness(t, address, nil, "REQUIRETLS") }
}

func withTLS(t *testing.T, name string, offers ...string) func(string, *issuer) *witness {
	return func(address string, authority *issuer) *witness {
		cert, _ := authority.certificate(t, name)
		return newWitness(t, address, &cert, offers...)
	}
}

// RFC 8689 sections 4.2.1 and 5: a message whose sender requires TLS goes to no host without it,
// and the report, which has its header, is protected as the message was. Reports return
// headers alone, whatever RET says.
func TestAMessageThatRequiresTLSAndItsReportNeverGoInTheClear(t *testing.T) {
	own := "mx." + domainName
	for name, c := range map[string]struct {
		to         string
		away, home func(string, *issuer) *witness
		says       string // in the reply of the message's failure
		command    string // MAIL of the report; empty: none is sent
	}{
		"no STARTTLS there":             {"bob@strict.example", inTheClear(t), withTLS(t, own, "REQUIRETLS"), "TLS is required and the server does not offer it", "MAIL FROM:<> REQUIRETLS"},
		"another's certificate there":   {"bob@strict.example", withTLS(t, "mx.other.example", "REQUIRETLS"), withTLS(t, own, "REQUIRETLS"), "certificate", "MAIL FROM:<> REQUIRETLS"},
		"nobody vouches for the host":   {"bob@unvouched.example", withTLS(t, "mx.unvouched.example", "REQUIRETLS"), withTLS(t, own, "REQUIRETLS"), "vouches", "MAIL FROM:<> REQUIRETLS"},
		"no REQUIRETLS there":           {"bob@strict.example", withTLS(t, "mx.strict.example"), withTLS(t, own, "REQUIRETLS"), "does not offer REQUIRETLS", "MAIL FROM:<> REQUIRETLS"},
		"no REQUIRETLS at home either":  {"bob@strict.example", withTLS(t, "mx.strict.example"), withTLS(t, own), "does not offer REQUIRETLS", "MAIL FROM:<>"},
		"no TLS at home either":         {"bob@strict.example", inTheClear(t), inTheClear(t), "TLS is required and the server does not offer it", ""},
		"another's certificate at home": {"bob@strict.example", inTheClear(t), withTLS(t, "mx.other.example", "REQUIRETLS"), "TLS is required and the server does not offer it", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, there, here := requiring(t, c.away, c.home)
			r.submit(t, c.to, " REQUIRETLS RET=FULL", "X-Secret: of-the-header\r\n")
			if f := r.fact(t, ledger.Bounced, c.to); !strings.Contains(f.Reply, c.says) {
				t.Errorf("it failed with %q", f.Reply)
			}
			event := ledger.Delivered
			if c.command == "" {
				event = ledger.Bounced
			}
			end := r.fact(t, event, sender)
			if mails, clear := there.seen(); len(mails) > 0 || strings.Contains(clear, "MAIL") {
				t.Errorf("the host was sent %+v, in the clear %q", mails, clear)
			}
			mails, clear := here.seen()
			if strings.Contains(clear, "MAIL") || strings.Contains(clear, "Subject") {
				t.Errorf("in the clear was said %q", clear)
			}
			if c.command == "" {
				if len(mails) > 0 || !strings.Contains(end.Reply, "can be used as the sender requires") {
					t.Errorf("the report: %+v, sent were %+v", end, mails)
				}
				return
			}
			if len(mails) != 1 || !mails[0].secure || !strings.HasPrefix(withoutSize(mails[0].command), c.command) || strings.Contains(c.command, "REQUIRETLS") != strings.Contains(mails[0].command, "REQUIRETLS") {
				t.Fatalf("the report came as %+v", mails)
			}
			text := mails[0].content
			for _, want := range []string{"multipart/report; report-type=delivery-status", "Status: 5.7.30", "text/rfc822-headers", "Subject: TLS\r\n"} {
				if !strings.Contains(text, want) {
					t.Errorf("the report lacks %q:\n%s", want, text)
				}
			}
			if strings.Contains(text, "\r\nHello\r\n") || strings.Contains(text, "message/rfc822\r\n") {
				t.Errorf("the report has the message's body:\n%s", text)
			}
		})
	}
}

// withoutSize is a MAIL command without the parameters that say nothing of TLS.
func withoutSize(command string) string {
	var kept []string
	for _, word := range strings.Fields(command) {
		if !strings.HasPrefix(word, "SIZE=") && !strings.HasPrefix(word, "BODY=") {
			kept = append(kept, word)
		}
	}
	return strings.Join(kept, " ")
}
