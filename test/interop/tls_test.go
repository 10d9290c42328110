package interop

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/smtp"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"anechoic/control/api"
	"anechoic/ledger"
	"anechoic/mail"
)

// issuer is an authority of the test.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "interop"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key, pool: x509.NewCertPool()}
	if i.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	i.pool.AddCert(i.cert)
	return i
}

// certificate is one for names, with its parsed form.
func (i *issuer) certificate(t *testing.T, names ...string) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: names, NotBefore: i.cert.NotBefore, NotAfter: i.cert.NotAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, c, i.cert, key.Public(), i.key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, leaf
}

// tlsHost is a mail server with STARTTLS that takes everything.
type tlsHost struct {
	listener   net.Listener
	conf       *tls.Config
	requireTLS bool // REQUIRETLS is offered
	sessions   sync.WaitGroup

	mu    sync.Mutex // guards what follows
	mails []string   // MAIL commands of messages that were taken
}

func newTLSHost(t *testing.T, address string, cert tls.Certificate) *tlsHost {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	e := &tlsHost{listener: l, conf: &tls.Config{Certificates: []tls.Certificate{cert}}}
	e.sessions.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			e.sessions.Go(func() { e.serve(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); e.sessions.Wait() })
	return e
}

func (e *tlsHost) port() uint16 { return uint16(e.listener.Addr().(*net.TCPAddr).Port) }

func (e *tlsHost) serve(conn net.Conn) {
	defer func() { conn.Close() }()
	conn.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(conn)
	say := func(lines ...string) { io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n") }
	say("220 exchanger")
	secure, command := false, ""
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " "); verb {
		case "EHLO":
			offers := []string{"250-exchanger", "250-8BITMIME"}
			if !secure {
				offers = append(offers, "250-STARTTLS")
			} else if e.requireTLS {
				offers = append(offers, "250-REQUIRETLS")
			}
			say(append(offers, "250 SIZE")...)
		case "STARTTLS":
			say("220 go on")
			conn = tls.Server(conn, e.conf)
			in, secure = bufio.NewReader(conn), true
		case "MAIL":
			command = strings.TrimSpace(line)
			say("250 Ok")
		case "DATA":
			say("354 go on")
			for line != ".\r\n" {
				if line, err = in.ReadString('\n'); err != nil {
					return
				}
			}
			e.mu.Lock()
			e.mails = append(e.mails, command)
			e.mu.Unlock()
			say("250 2.0.0 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 Ok")
		}
	}
}

// submit sends one message to a recipient as the organisation's server.
func (r *relay) submit(t *testing.T, to, mailParameters, header string) {
	t.Helper()
	c := dial(t, r.app.Ready().Submission[0])
	steps := []func() error{
		func() error { return c.StartTLS(&tls.Config{InsecureSkipVerify: true}) },
		func() error { return c.Auth(smtp.PlainAuth("", username, r.password, "127.0.0.1")) },
		func() error { _, err := command(c, 250, "MAIL FROM:<%s>%s", sender, mailParameters); return err },
		func() error { return c.Rcpt(to) },
	}
	for i, s := range steps {
		if err := s(); err != nil {
			t.Fatalf("step %d of the submission to %s: %v", i, to, err)
		}
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(w, "From: %s\r\nTo: %s\r\nSubject: TLS\r\nDate: %s\r\nMessage-ID: <%d@acme.example>\r\n%s\r\nHello\r\n", sender, to, time.Now().Format(time.RFC1123Z), time.Now().UnixNano(), header)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// command says something that net/smtp does not know.
func command(c *smtp.Client, code int, format string, args ...any) (string, error) {
	id, err := c.Text.Cmd(format, args...)
	if err != nil {
		return "", err
	}
	c.Text.StartResponse(id)
	defer c.Text.EndResponse(id)
	_, text, err := c.Text.ReadResponse(code)
	return text, err
}

const hostAddress = "127.60.0.1"

// keyDigest is the data of a "3 1 1" record.
func keyDigest(c *x509.Certificate) string {
	return fmt.Sprintf("%x", sha256.Sum256(c.RawSubjectPublicKeyInfo))
}

// TestDANEWithAValidatingResolver: the running relay asks unbound, which
// validates a signed zone; each domain in it is one case.
func TestDANEWithAValidatingResolver(t *testing.T) {
	authority := newIssuer(t)
	cert, leaf := authority.certificate(t, "not.the.host.example") // DANE-EE does not look at names
	host := newTLSHost(t, hostAddress+":0", cert)
	r := start(t, options{port: host.port(), config: "[tls_reports]\nenabled = true\n", internet: func(r *relay) string {
		z := newSignedZone(t, "signed.example")
		for _, name := range []string{"good", "bad", "plain", "bogus", "bogusmx", "usable"} {
			z.add(t, name+" MX 10 mx-"+name+".%[1]s", "mx-"+name+" A "+hostAddress)
		}
		tlsa := func(name, data string) { z.add(t, fmt.Sprintf("_%d._tcp.mx-%s TLSA %s", host.port(), name, data)) }
		tlsa("good", "3 1 1 "+keyDigest(leaf))
		tlsa("bad", "3 1 1 "+strings.Repeat("00", 32))
		tlsa("bogus", "3 1 1 "+keyDigest(leaf))
		tlsa("bogusmx", "3 1 1 "+keyDigest(leaf))
		tlsa("usable", "1 1 1 "+keyDigest(leaf))
		z.falsify(fmt.Sprintf("_%d._tcp.mx-bogus", host.port()), wire.TypeTLSA)
		z.falsify("bogusmx", wire.TypeMX)
		r.internet.AddReceiver("insecure.example", netip.MustParseAddr(hostAddress))
		r.internet.Zone.SetTLSA(fmt.Sprintf("_%d._tcp.mx.insecure.example", host.port()), mail.TLSA{Usage: 3, Selector: 1, Matching: 1, Data: make([]byte, 32)})
		return r.startUnbound(t, z)
	}, dnssecProbe: "signed.example"})

	status, err := api.NewClient(r.dir+"/data").Status(t.Context(), "")
	if err != nil || !strings.HasPrefix(status.Transport, "DANE on: ") {
		t.Fatalf("status says %q, %v", status.Transport, err)
	}
	for _, c := range []struct {
		domain string
		event  ledger.Event
		says   string // in TLS if delivered, else in the reply
	}{
		{"good.signed.example", ledger.Delivered, "verified dane"},
		{"plain.signed.example", ledger.Delivered, "unverified"},
		{"usable.signed.example", ledger.Delivered, "unverified"},
		{"insecure.example", ledger.Delivered, "unverified"},
		{"bad.signed.example", ledger.Deferred, "no TLSA record matches"},
		{"bogus.signed.example", ledger.Deferred, "TLSA records could not be looked up"},
		{"bogusmx.signed.example", ledger.Deferred, "could not be looked up"},
	} {
		t.Run(c.domain, func(t *testing.T) {
			to := "bob@" + c.domain
			r.submit(t, to, "", "")
			f := r.fact(t, c.event, to)
			if said := f.TLS + f.Reply; !strings.Contains(said, c.says) {
				t.Errorf("%+v", f)
			}
		})
	}
	t.Run("TLS-Required: No goes where DANE would not", func(t *testing.T) {
		const to = "eve@bad.signed.example"
		r.submit(t, to, "", "TLS-Required: No\r\n")
		r.fact(t, ledger.Delivered, to)
	})
	t.Run("REQUIRETLS comes back from a host without it", func(t *testing.T) {
		const to = "eve@good.signed.example"
		r.submit(t, to, " REQUIRETLS", "")
		if f := r.fact(t, ledger.Bounced, to); !strings.Contains(f.Reply, "REQUIRETLS") {
			t.Errorf("%+v", f)
		}
	})
}

// TestAResolverThatDoesNotValidateMakesNoDANE: what would defer with DANE goes
// out, and status says why.
func TestAResolverThatDoesNotValidateMakesNoDANE(t *testing.T) {
	cert, _ := newIssuer(t).certificate(t, "mx.globex.example")
	host := newTLSHost(t, hostAddress+":0", cert)
	r := start(t, options{port: host.port(), internet: func(r *relay) string {
		r.internet.AddReceiver("globex.example", netip.MustParseAddr(hostAddress))
		r.internet.Zone.SetTLSA(fmt.Sprintf("_%d._tcp.mx.globex.example", host.port()), mail.TLSA{Usage: 3, Selector: 1, Matching: 1, Data: make([]byte, 32)})
		return r.internet.DNS()
	}})
	status, err := api.NewClient(r.dir+"/data").Status(t.Context(), "")
	if err != nil || !strings.HasPrefix(status.Transport, "DANE off: ") {
		t.Fatalf("status says %q, %v", status.Transport, err)
	}
	r.submit(t, "bob@globex.example", "", "")
	r.fact(t, ledger.Delivered, "bob@globex.example")
}

// TestMTASTSWithAPolicyHost: policies come from a web server of the test, which
// stands for port 443 of every policy host.
func TestMTASTSWithAPolicyHost(t *testing.T) {
	authority := newIssuer(t)
	cert, _ := authority.certificate(t, "mx.strict.example", "mx.elsewhere.example", "mx.html.example")
	host := newTLSHost(t, hostAddress+":0", cert)
	host.requireTLS = true
	webCert, _ := authority.certificate(t, "mta-sts.strict.example", "mta-sts.elsewhere.example", "mta-sts.wrongname.example", "mta-sts.html.example")
	policies := map[string]string{
		"mta-sts.strict.example":    "version: STSv1\r\nmode: enforce\r\nmx: *.strict.example\r\nmax_age: 86400\r\n",
		"mta-sts.elsewhere.example": "version: STSv1\nmode: enforce\nmx: mx.other.example\nmax_age: 86400\n",
		"mta-sts.wrongname.example": "version: STSv1\nmode: enforce\nmx: mx.wrongname.example\nmax_age: 86400\n",
		"mta-sts.html.example":      "<html>Welcome</html>",
	}
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, policies[q.Host])
	}))
	web.TLS, web.Config.ErrorLog = &tls.Config{Certificates: []tls.Certificate{webCert}}, log.New(io.Discard, "", 0)
	web.StartTLS()
	t.Cleanup(web.Close)
	r := start(t, options{
		port: host.port(), roots: authority.pool,
		dialWeb: func(ctx context.Context, network, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, web.Listener.Addr().String())
		},
		internet: func(r *relay) string {
			for _, name := range []string{"strict.example", "elsewhere.example", "wrongname.example", "html.example"} {
				r.internet.AddReceiver(name, netip.MustParseAddr(hostAddress))
				r.internet.Zone.SetTXT("_mta-sts."+name, "v=STSv1; id=1;")
			}
			return r.internet.DNS()
		},
	})
	for _, c := range []struct {
		domain, parameters string
		event              ledger.Event
		says               string
	}{
		{"strict.example", "", ledger.Delivered, "verified mta-sts"},
		{"elsewhere.example", "", ledger.Deferred, "does not name the host"},
		{"wrongname.example", "", ledger.Deferred, "certificate"},
		{"html.example", "", ledger.Delivered, "verified"},
	} {
		t.Run(c.domain, func(t *testing.T) {
			to := "bob@" + c.domain
			r.submit(t, to, c.parameters, "")
			f := r.fact(t, c.event, to)
			if said := f.TLS + f.Reply; !strings.Contains(said, c.says) {
				t.Errorf("%+v", f)
			}
		})
	}
	t.Run("REQUIRETLS goes on as such", func(t *testing.T) {
		r.submit(t, "eve@strict.example", " REQUIRETLS", "")
		r.fact(t, ledger.Delivered, "eve@strict.example")
		host.mu.Lock()
		defer host.mu.Unlock()
		if last := host.mails[len(host.mails)-1]; !strings.Contains(last, " REQUIRETLS") {
			t.Errorf("the host was told %q", last)
		}
	})
}
