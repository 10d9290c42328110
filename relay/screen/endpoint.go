package screen

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"anechoic/mail"
)

// Endpoint is where a scanner listens. Scanners are given whole messages in the
// clear: so it is a socket of this machine, or TCP on loopback or in a private
// network (RFC 1918, RFC 4193). A host name is held to that whenever it is dialled.
type Endpoint struct {
	Network string // "tcp" or "unix"; empty: there is none
	Address string // host:port, or an absolute path
}

// IsZero says that there is none.
func (e Endpoint) IsZero() bool { return e == Endpoint{} }

// The prefixes by which TCP is written in the configuration.
const (
	rspamdPrefix = "http://"
	milterPrefix = "inet:"
	unixPrefix   = "unix:"
)

// ParseRspamd reads "http://host:port" or "unix:/path".
func ParseRspamd(s string) (Endpoint, error) { return parseEndpoint(s, rspamdPrefix) }

// ParseClamd reads "host:port" or "unix:/path".
func ParseClamd(s string) (Endpoint, error) { return parseEndpoint(s, "") }

// ParseMilter reads "inet:host:port" or "unix:/path".
func ParseMilter(s string) (Endpoint, error) { return parseEndpoint(s, milterPrefix) }

// RspamdText, ClamdText and MilterText write it as their parsers read it.
func (e Endpoint) RspamdText() string { return e.text(rspamdPrefix) }

// ClamdText is described at RspamdText.
func (e Endpoint) ClamdText() string { return e.text("") }

// MilterText is described at RspamdText.
func (e Endpoint) MilterText() string { return e.text(milterPrefix) }

func (e Endpoint) text(prefix string) string {
	switch e.Network {
	case "":
		return ""
	case "unix":
		return unixPrefix + e.Address
	}
	return prefix + e.Address
}

func parseEndpoint(s, prefix string) (Endpoint, error) {
	if path, ok := strings.CutPrefix(s, unixPrefix); ok {
		if !filepath.IsAbs(path) || strings.ContainsRune(path, 0) {
			return Endpoint{}, fmt.Errorf("%q has no absolute path", s)
		}
		return Endpoint{Network: "unix", Address: filepath.Clean(path)}, nil
	}
	hostPort, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return Endpoint{}, fmt.Errorf("%q begins with neither %s nor %s", s, prefix, unixPrefix)
	}
	hostPort = strings.TrimSuffix(hostPort, "/") // as a URL may end
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return Endpoint{}, fmt.Errorf("%q is not host:port", hostPort)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Endpoint{}, fmt.Errorf("%q has no port from 1 to 65535", hostPort)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if !near(a) {
			return Endpoint{}, fmt.Errorf("%s is neither loopback nor in a private network: whole messages would cross others' networks in the clear", a)
		}
	} else if _, err := mail.ParseDomain(host); err != nil {
		return Endpoint{}, fmt.Errorf("%q has no host name or address", hostPort)
	}
	return Endpoint{Network: "tcp", Address: hostPort}, nil
}

// near says that an address may be given messages in the clear.
func near(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || a.IsPrivate()
}

// dial connects. The connection ends when ctx does: nothing on it outlasts that.
func (e Endpoint) dial(ctx context.Context) (net.Conn, error) {
	dialer := net.Dialer{Control: refuseFar}
	conn, err := dialer.DialContext(ctx, e.Network, e.Address)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// refuseFar is a Dialer's Control: it sees the address that a name led to.
func refuseFar(network, address string, _ syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil || !near(to.Addr()) {
		return fmt.Errorf("%s is neither loopback nor in a private network", address)
	}
	return nil
}
