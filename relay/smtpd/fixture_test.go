package smtpd

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"anechoic/mail"
	"anechoic/relay/custody"
	"anechoic/standard/dkim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testHost     = "relay.anechoic.test"
	testUser     = "app@a.example"
	testPassword = "correct horse"
)

// recorder is a Handler that keeps what it is given, and does what the local
// parts of addresses say:
//
//	refused@…  policy refuses it (550)
//	later@…    policy defers it (451)
//	panic@…    the Handler panics
//	nothing@…  as a recipient: Data gives neither receipt nor refusal
//	other@…    as a recipient: Data gives a receipt for another message
//	unkept@…   as a recipient: Data refuses
type recorder struct {
	mu       sync.Mutex
	queue    queue
	mails    int
	rcpts    int
	messages []keptMessage
	started  chan struct{} // if not nil, told of each Data
	hold     chan struct{} // if not nil, Data waits for it
}

// keptMessage is a message as Data saw it.
type keptMessage struct {
	id        mail.ID
	session   Session
	protocol  string
	envelope  mail.Envelope
	header    []byte
	headerErr error
	body      []byte
	hashes    dkim.BodyHashes
	size      int64
}

// content is the whole message: header, empty line if there was one, body.
func (k keptMessage) content() []byte {
	if int64(len(k.header)+len(k.body)) == k.size {
		return k.header // no empty line came
	}
	return bytes.Join([][]byte{k.header, k.body}, []byte("\r\n"))
}

func judge(a mail.Address) *mail.Refusal {
	switch a.Local() {
	case "refused":
		return mail.RelayDenied
	case "later":
		return mail.LookupFailed
	case "panic":
		panic("the handler's fault")
	}
	return nil
}

func (h *recorder) Mail(_ context.Context, t *Transaction) *mail.Refusal {
	h.mu.Lock()
	h.mails++
	h.mu.Unlock()
	return judge(t.Envelope.From)
}

func (h *recorder) Rcpt(_ context.Context, _ *Transaction, rcpt mail.Recipient) *mail.Refusal {
	h.mu.Lock()
	h.rcpts++
	h.mu.Unlock()
	return judge(rcpt.Address)
}

func (h *recorder) Data(ctx context.Context, t *Transaction, m *Received) (custody.Receipt, *mail.Refusal) {
	if h.started != nil {
		h.started <- struct{}{}
	}
	if h.hold != nil {
		select {
		case <-h.hold:
		case <-ctx.Done():
			return custody.Receipt{}, mail.Internal
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case m.HeaderErr != nil:
		return custody.Receipt{}, mail.HeaderSyntax.Because("%v", m.HeaderErr)
	case rcptIs(t, "nothing"):
		return custody.Receipt{}, nil
	case rcptIs(t, "other"):
		return h.keep(t, mail.NewID(time.Now()))
	case rcptIs(t, "unkept"):
		receipt, _ := h.keep(t, t.ID)
		return receipt, mail.CustodyFailed
	case rcptIs(t, "bomb"):
		panic("the handler's fault")
	}
	body, err := io.ReadAll(m.Body.Reader())
	if err != nil {
		return custody.Receipt{}, mail.Internal.Because("%v", err)
	}
	h.messages = append(h.messages, keptMessage{
		id: t.ID, session: *t.Session, protocol: t.Protocol(), envelope: t.Envelope, header: bytes.Clone(m.RawHeader), headerErr: m.HeaderErr,
		body: body, hashes: m.Hashes, size: m.Size,
	})
	return h.keep(t, t.ID)
}

func (h *recorder) keep(t *Transaction, id mail.ID) (custody.Receipt, *mail.Refusal) {
	receipt, err := h.queue.keep(t, id)
	if err != nil {
		return receipt, mail.Internal.Because("%v", err)
	}
	return receipt, nil
}

func rcptIs(t *Transaction, local string) bool {
	return t.Envelope.Recipients[0].Address.Local() == local
}

func (h *recorder) kept() []keptMessage {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.messages
}

func (h *recorder) calls() (mails, rcpts int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mails, h.rcpts
}

// newServer is a server with everything offered.
func newServer(h Handler) *Server {
	return &Server{
		Hostname: testHost,
		Handler:  h,
		TLS:      serverTLS(),
		Authenticate: func(_ context.Context, _ *Session, username, password string) *mail.Refusal {
			switch {
			case username == "unavailable@a.example":
				return mail.AuthUnavailable
			case username != testUser || password != testPassword:
				return mail.AuthFailed
			}
			return nil
		},
		CertificateSource: func(s *Session) bool { return len(s.TLS.PeerCertificates) > 0 },
		ProxyFrom:         []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
	}
}

// certificate is made once, for relay.anechoic.test and for clients.
var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: testHost},
		DNSNames:     []string{testHost},
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), // synctest's clock starts there
		NotAfter:     time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func serverTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{certificate()}, ClientAuth: tls.RequestClientCert}
}

func clientTLS() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// start serves one mode on loopback, and stops when the test ends.
func start(t testing.TB, s *Server, mode Mode) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveUntilEnd(t, s, listener, mode)
	return listener.Addr().String()
}

func serveUntilEnd(t testing.TB, s *Server, listener net.Listener, mode Mode) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), listener, mode) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // whatever is still open is broken off
		_ = s.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// pipes is a listener over net.Pipe: what one side writes at once, the other
// side reads at once, in the very same pieces.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25} }

// dial connects from an address.
func (p *pipes) dial(from string) net.Conn {
	client, server := net.Pipe()
	p.conns <- addressed{Conn: server, local: p.Addr(), remote: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))}
	return client
}

// addressed is a connection with addresses of a network.
type addressed struct {
	net.Conn
	local, remote net.Addr
}

func (a addressed) LocalAddr() net.Addr  { return a.local }
func (a addressed) RemoteAddr() net.Addr { return a.remote }

// script is a connection that reads what is written down, in these pieces, and
// then the end.
type script struct {
	addressed
	pieces [][]byte
	wrote  bytes.Buffer
}

func (s *script) Read(p []byte) (int, error) {
	for len(s.pieces) > 0 && len(s.pieces[0]) == 0 {
		s.pieces = s.pieces[1:]
	}
	if len(s.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.pieces[0])
	s.pieces[0] = s.pieces[0][n:]
	return n, nil
}

func (s *script) Write(p []byte) (int, error)      { return s.wrote.Write(p) }
func (s *script) Close() error                     { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// play runs a whole session on a script, without goroutines, and gives what the
// server said.
func play(s *Server, mode Mode, pieces ...[]byte) string {
	conn := &script{pieces: pieces, addressed: addressed{
		local:  &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 25},
		remote: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 50000},
	}}
	listener := newPipes()
	if err := s.begin(listener, func() {}); err != nil {
		return err.Error()
	}
	defer s.end(listener)
	if c := s.admit(context.Background(), listener, conn, mode); c != nil {
		c.serve(context.Background())
	}
	return conn.wrote.String()
}

// stuff is dot-stuffing as a client does it, and the end of the data.
func stuff(content string) string {
	var b strings.Builder
	for line := range strings.SplitAfterSeq(content, "\r\n") {
		if strings.HasPrefix(line, ".") {
			b.WriteByte('.')
		}
		b.WriteString(line)
	}
	return b.String() + ".\r\n"
}

// discarder is a Handler that accepts everything but the message.
type discarder struct{}

func (discarder) Mail(context.Context, *Transaction) *mail.Refusal                 { return nil }
func (discarder) Rcpt(context.Context, *Transaction, mail.Recipient) *mail.Refusal { return nil }
func (discarder) Data(context.Context, *Transaction, *Received) (custody.Receipt, *mail.Refusal) {
	return custody.Receipt{}, mail.RelayDenied
}
