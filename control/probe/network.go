package probe

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"anechoic/mail"
)

// CheckTime bounds each single check.
const CheckTime = 5 * time.Second

// CheckNameServer asks one server for a name that matters to the relay.
func CheckNameServer(ctx context.Context, n *Names, server string, name mail.Domain) Check {
	c := Check{Name: "dns", About: server, State: OK, Expected: "an answer", Seen: "it answers"}
	ctx, cancel := context.WithTimeout(ctx, CheckTime)
	defer cancel()
	start := time.Now()
	err := n.Resolver.Ask(ctx, server, name.String())
	took := time.Since(start)
	switch {
	case err != nil && !errors.Is(err, mail.ErrNoDomain):
		c.State, c.Seen, c.Fix = Problem, err.Error(), "see that it runs and answers this machine, or name another in dns.servers"
	case took > time.Second:
		c.State, c.Seen, c.Fix = Warning, fmt.Sprintf("it answers after %d ms", took.Milliseconds()), "a resolver on this machine, as unbound, answers at once"
	}
	return c
}

// CheckPort connects to a port that a running relay listens on and reads its greeting.
// name is "smtp", "smtp_tls", "submission", "proxy" or "operations".
func CheckPort(ctx context.Context, name, address string) Check {
	c := Check{Name: "port", About: name + " " + address, State: OK, Expected: "it greets"}
	ctx, cancel := context.WithTimeout(ctx, CheckTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", Reachable(address))
	if err != nil {
		c.State, c.Seen, c.Fix = Problem, err.Error(), "see whether a firewall of this machine stands between, and that the relay runs"
		return c
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(CheckTime))
	if name == "proxy" || name == "operations" { // the one speaks after a PROXY header, the other after a request
		c.Seen = "it takes connections, from this machine"
		return c
	}
	if name == "smtp_tls" {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // the certificate has a check of its own
	}
	line, err := bufio.NewReaderSize(conn, 512).ReadString('\n')
	switch {
	case err != nil:
		c.State, c.Seen, c.Fix = Problem, "no greeting: "+err.Error(), "see the relay's log"
	case !strings.HasPrefix(line, "220"):
		c.State, c.Seen, c.Fix = Warning, "it says "+printable(line), "see the relay's log; another program may have the port"
	default:
		c.Seen = "it greets, seen from this machine; whether the internet reaches it, only a machine outside can tell"
	}
	return c
}

// CheckFreePort says whether a relay that is not running could listen there.
func CheckFreePort(name, address string) Check {
	c := Check{Name: "port", About: name + " " + address, State: OK, Expected: "it is free for the relay", Seen: "it is free"}
	listener, err := net.Listen("tcp", address)
	if err == nil {
		_ = listener.Close()
		return c
	}
	c.State, c.Seen, c.Fix = Problem, err.Error(), "choose another port or address"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		c.Fix = "another program has it, often the machine's own mail server: ss -ltnp shows which; stop that, or choose another port"
	case errors.Is(err, syscall.EACCES):
		c.State, c.Fix = Warning, "ports below 1024 need a right: AmbientCapabilities=CAP_NET_BIND_SERVICE in the service unit, or a socket that the service manager opens"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		c.Fix = "this machine has no such address: ip address lists those it has"
	}
	return c
}

// Reachable is where a listener is reached from this machine.
func Reachable(address string) string {
	at, err := netip.ParseAddrPort(address)
	switch {
	case err != nil || !at.Addr().IsUnspecified():
		return address
	case at.Addr().Is6():
		return netip.AddrPortFrom(netip.IPv6Loopback(), at.Port()).String()
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port()).String()
}

// CheckCertificate reads the certificate that clients are shown. made says that the
// relay makes one itself.
func CheckCertificate(file string, hostname mail.Domain, made bool, now time.Time) Check {
	c := Check{Name: "certificate", About: file, Expected: "one for " + hostname.String() + ", from a known authority, for more than two weeks"}
	text, err := os.ReadFile(file)
	switch {
	case err != nil && made:
		c.State, c.Seen, c.Fix = Warning, "none yet: the relay makes one at its first start, which no client can check", "set smtp.tls_cert and smtp.tls_key"
		return c
	case err != nil:
		c.State, c.Seen, c.Fix = Problem, err.Error(), "see that smtp.tls_cert names a file that the relay's user may read"
		return c
	}
	chain, err := parseChain(text)
	if err != nil {
		c.State, c.Seen, c.Fix = Problem, err.Error(), "smtp.tls_cert is to be PEM: the certificate, then those above it"
		return c
	}
	return judgeCertificate(c, chain, hostname, nil, now)
}

// judgeCertificate is pure but for the system's roots, which nil stands for.
func judgeCertificate(c Check, chain []*x509.Certificate, hostname mail.Domain, roots *x509.CertPool, now time.Time) Check {
	leaf := chain[0]
	left := leaf.NotAfter.Sub(now)
	days := int(left / (24 * time.Hour))
	c.State, c.Seen = OK, fmt.Sprintf("for %s, %d days left", strings.Join(leaf.DNSNames, ", "), days)
	renew := "renew it, and anechoic apply"
	above := x509.NewCertPool()
	for _, higher := range chain[1:] {
		above.AddCert(higher)
	}
	selfSigned := leaf.CheckSignatureFrom(leaf) == nil || string(leaf.RawIssuer) == string(leaf.RawSubject)
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: "", Intermediates: above, Roots: roots, CurrentTime: now})
	switch {
	case left <= 0:
		c.State, c.Seen, c.Fix = Problem, "it is over since "+leaf.NotAfter.UTC().Format(time.DateOnly), renew
	case now.Before(leaf.NotBefore):
		c.State, c.Seen, c.Fix = Problem, "it begins only at "+leaf.NotBefore.UTC().Format(time.DateTime), "see the clock of this machine"
	case leaf.VerifyHostname(hostname.String()) != nil:
		c.State, c.Fix = Problem, "it has to name "+hostname.String()+", which is what senders and clients connect to"
	case selfSigned:
		c.State, c.Seen, c.Fix = Warning, c.Seen+", self-signed: senders that want a known authority (MTA-STS), and clients that sign in, refuse it", "set smtp.tls_cert and smtp.tls_key to a certificate of an authority, as by ACME"
	case err != nil:
		c.State, c.Seen, c.Fix = Warning, c.Seen+"; it does not verify: "+err.Error(), "put the certificates between it and the authority behind it in smtp.tls_cert"
	case days < 14:
		c.State, c.Fix = Warning, renew
	}
	return c
}

// CheckOutbound connects to port 25 of some other mail server: many networks close it.
func CheckOutbound(ctx context.Context, host string, port uint16) Check {
	address := host
	if _, _, err := net.SplitHostPort(host); err != nil {
		address = net.JoinHostPort(host, fmt.Sprint(port))
	}
	c := Check{Name: "outbound", About: address, State: OK, Expected: "another mail server greets"}
	ctx, cancel := context.WithTimeout(ctx, CheckTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		c.State, c.Seen = Problem, err.Error()
		c.Fix = "no mail can be delivered from here: most hosting networks and all home networks close port 25 outwards; ask yours to open it, or set delivery.smart_host"
		return c
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(CheckTime))
	line, err := bufio.NewReaderSize(conn, 512).ReadString('\n')
	switch {
	case err != nil:
		c.State, c.Seen, c.Fix = Warning, "connected, and no greeting: "+err.Error(), "some networks answer in the place of port 25, or that server makes strangers wait: try another with --outbound HOST"
	case !strings.HasPrefix(line, "220"):
		c.State, c.Seen, c.Fix = Warning, "connected; it says "+printable(line), "the server may refuse this address: see its words"
	default:
		c.Seen = "it greets: " + printable(line)
	}
	return c
}

// printable is a stranger's line, safe to show.
func printable(s string) string {
	s = strings.TrimSpace(s[:min(len(s), 200)])
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

func parseChain(text []byte) (chain []*x509.Certificate, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("a certificate in it cannot be read: %w", err)
		}
		chain = append(chain, one)
	}
	if len(chain) == 0 {
		return nil, errors.New("it holds no certificate")
	}
	return chain, nil
}
