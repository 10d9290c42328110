package alert

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Format is how a syslog line tells of an alert.
type Format string

// The formats.
const (
	RFC5424 Format = "rfc5424" // structured data
	CEF     Format = "cef"     // the Common Event Format as the message of an RFC 5424 line
)

// Target is a syslog server.
type Target struct {
	Network string // udp, tcp, tls or unix
	Address string // host:port, or a socket's path
	Format  Format
	Roots   *x509.CertPool // of tls; nil: whom the system trusts
}

// ParseTarget reads "udp:host:port", "tcp:…", "tls:…" or "unix:/path".
func ParseTarget(text string) (t Target, err error) {
	network, address, ok := strings.Cut(text, ":")
	t = Target{Network: network, Address: address, Format: RFC5424}
	switch network {
	case "udp", "tcp", "tls":
		_, port, splitErr := net.SplitHostPort(address)
		if n, portErr := strconv.ParseUint(port, 10, 16); splitErr != nil || portErr != nil || n == 0 {
			ok = false
		}
	case "unix":
		ok = strings.HasPrefix(address, "/")
	default:
		ok = false
	}
	if !ok {
		return t, fmt.Errorf("%q is no syslog server", text)
	}
	return t, nil
}

// String is how a target is written.
func (t Target) String() string { return t.Network + ":" + t.Address }

// Bounds of a feed.
const (
	maxLines      = 1024 // that wait for a server
	maxDatagram   = 2048 // RFC 5424 section 6.1: what every receiver should take
	syslogTimeout = 5 * time.Second
	minSyslogRest = time.Second // after a failure, doubled up to maxSyslogRest
	maxSyslogRest = time.Minute
)

// feed sends lines to one server. offer never waits: what does not fit into its
// queue is dropped and counted.
type feed struct {
	target   Target
	hostname string
	version  string
	lines    chan []byte
	log      *slog.Logger
	sent     atomic.Uint64
	dropped  atomic.Uint64
}

func newFeed(t Target, hostname, version string, log *slog.Logger) *feed {
	return &feed{target: t, hostname: hostname, version: version, lines: make(chan []byte, maxLines), log: log}
}

func (f *feed) offer(i *Incident, event EventType) {
	line := line5424(f.hostname, i, event, f.target.Format, f.version)
	select {
	case f.lines <- line:
	default:
		f.dropped.Add(1)
	}
}

// run sends what is offered until ctx ends. A line that could not be sent is tried
// again until another server comes up or the relay stops.
func (f *feed) run(ctx context.Context) {
	var conn net.Conn
	defer func() { hangUp(conn) }()
	rest := minSyslogRest
	for {
		var line []byte
		select {
		case <-ctx.Done():
			return
		case line = <-f.lines:
		}
		for {
			var err error
			if conn, err = f.send(ctx, conn, line); err == nil {
				f.sent.Add(1)
				rest = minSyslogRest
				break
			}
			f.log.Warn("a syslog server cannot be reached", "server", f.target.String(), "error", err, "again_in", rest)
			if !pauseFor(ctx, rest) {
				return
			}
			rest = min(2*rest, maxSyslogRest)
		}
	}
}

func hangUp(conn net.Conn) {
	if conn != nil {
		conn.Close()
	}
}

func pauseFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// send writes one line, on a new connection if there is none. A connection that the
// server closed in the meantime is seen first, as far as it can be.
func (f *feed) send(ctx context.Context, conn net.Conn, line []byte) (net.Conn, error) {
	if conn != nil && isClosed(conn) {
		hangUp(conn)
		conn = nil
	}
	if conn == nil {
		var err error
		if conn, err = f.dial(ctx); err != nil {
			return nil, err
		}
	}
	if err := conn.SetWriteDeadline(time.Now().Add(syslogTimeout)); err != nil {
		hangUp(conn)
		return nil, err
	}
	if _, err := conn.Write(f.frame(conn, line)); err != nil {
		hangUp(conn)
		return nil, err
	}
	return conn, nil
}

// isClosed looks whether the other side ended a stream; no syslog server says
// anything else.
func isClosed(conn net.Conn) bool {
	if isDatagram(conn) {
		return false
	}
	var one [1]byte
	if conn.SetReadDeadline(time.Now().Add(time.Millisecond)) != nil {
		return true
	}
	_, err := conn.Read(one[:])
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

func isDatagram(conn net.Conn) bool {
	_, packet := conn.(net.PacketConn)
	network := conn.RemoteAddr().Network()
	return packet && network != "unix"
}

func (f *feed) dial(ctx context.Context) (net.Conn, error) {
	d := &net.Dialer{Timeout: syslogTimeout}
	switch f.target.Network {
	case "tls":
		t := tls.Dialer{NetDialer: d, Config: &tls.Config{RootCAs: f.target.Roots, MinVersion: tls.VersionTLS12}}
		ctx, cancel := context.WithTimeout(ctx, syslogTimeout)
		defer cancel()
		return t.DialContext(ctx, "tcp", f.target.Address)
	case "unix":
		conn, err := d.DialContext(ctx, "unixgram", f.target.Address)
		if err == nil {
			return conn, nil
		}
		return d.DialContext(ctx, "unix", f.target.Address)
	}
	return d.DialContext(ctx, f.target.Network, f.target.Address)
}

// frame is a line as the connection wants it: a datagram as it is, cut to what
// receivers take; in a stream with its length before it (RFC 6587 section 3.4.1, RFC
// 5425 section 4.3), so that nothing within a line can begin another.
func (f *feed) frame(conn net.Conn, line []byte) []byte {
	if isDatagram(conn) {
		return []byte(strings.ToValidUTF8(string(line[:min(len(line), maxDatagram)]), ""))
	}
	return append([]byte(strconv.Itoa(len(line))+" "), line...)
}

// The parts of an RFC 5424 line. The enterprise number is the one set aside for
// examples (RFC 5612): the project has none of its own.
const (
	facility = 13 << 3 // log audit, RFC 5424 table 1
	sdID     = "alert@32473"
)

// levels are RFC 5424's severities (table 2) and CEF's, which go from 0 to 10.
var levels = map[string]struct{ syslog, cef int }{Info: {6, 3}, Warning: {4, 6}, Critical: {2, 9}}

// line5424 writes an incident as one syslog line.
func line5424(hostname string, i *Incident, event EventType, format Format, version string) []byte {
	level := levels[i.Severity]
	head := fmt.Sprintf("<%d>1 %s %s anechoic %d %s ", facility+level.syslog, i.Updated.UTC().Format("2006-01-02T15:04:05.000Z"), nameOf(hostname), os.Getpid(), i.Kind)
	if format == CEF {
		return []byte(head + "- \ufeff" + cefLine(i, event, version))
	}
	return []byte(head + structured(i, event) + " \ufeff" + oneLine(i.Title+": "+i.Text))
}

// nameOf is a HOSTNAME (RFC 5424 section 6.2.4): printable ASCII, or "-".
func nameOf(s string) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), 255)]
}

// structured writes what programs look for (RFC 5424 section 6.3).
func structured(i *Incident, event EventType) string {
	var b strings.Builder
	b.WriteString("[" + sdID)
	for _, p := range parameters(i, event) {
		if p[1] != "" {
			b.WriteString(" " + p[0] + `="` + parameterEscapes.Replace(oneLine(p[1])) + `"`)
		}
	}
	b.WriteByte(']')
	return b.String()
}

// parameterEscapes are of RFC 5424 section 6.3.3.
var parameterEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `]`, `\]`)

func parameters(i *Incident, event EventType) [][2]string {
	return [][2]string{
		{"event", string(event)}, {"incident", i.ID}, {"organisation", i.Org}, {"severity", i.Severity}, {"campaign", i.Campaign}, {"finding", i.Finding},
		{"count", strconv.Itoa(i.Count)},
	}
}

// oneLine is a text without line ends.
func oneLine(s string) string { return Printable(s, 2*maxText) }

// cefLine writes an incident in the Common Event Format: a bar or backslash of the
// header, an equals sign, backslash or line end of a value is escaped.
func cefLine(i *Incident, event EventType, version string) string {
	head := strings.NewReplacer(`\`, `\\`, `|`, `\|`)
	value := strings.NewReplacer(`\`, `\\`, `=`, `\=`, "\n", `\n`, "\r", `\r`)
	var b strings.Builder
	fmt.Fprintf(&b, "CEF:0|Anechoic|Anechoic|%s|%s|%s|%d|", head.Replace(oneLine(version)), head.Replace(i.Kind), head.Replace(oneLine(i.Title)), levels[i.Severity].cef)
	for k, p := range [][2]string{
		{"rt", strconv.FormatInt(i.Updated.UnixMilli(), 10)}, {"externalId", i.ID}, {"cnt", strconv.Itoa(i.Count)}, {"act", string(event)},
		{"cs1Label", "organisation"}, {"cs1", i.Org}, {"cs2Label", "campaign"}, {"cs2", i.Campaign}, {"cs3Label", "finding"}, {"cs3", i.Finding},
		{"msg", printableLines(i.Text, 1000)},
	} {
		if k > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(p[0] + "=" + value.Replace(p[1]))
	}
	return b.String()
}
