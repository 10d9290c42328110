package delivery

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/standard/dane"
	"anechoic/standard/tlsrpt"
)

// This is where the wire meets transport security. For an attempt, and then for
// each of its hosts:
//
//	plan, end := rules.Plan(ctx, &a)           // once, after routing; end is the result of every recipient
//	sec, err := plan.Host(ctx, host)           // err: the host is passed over, nothing is sent to it
//	sec.Key()                                  // what a connection that is used again must share
//	sec.Start(offersSTARTTLS) (bool, error)    // after EHLO: whether to say STARTTLS; err: not this host
//	conn, text, err := sec.Handshake(…)        // text is Result.TLS; err ends the connection
//	sec.Mail(offersREQUIRETLS) error           // after the second EHLO
//	plan.Session(TLSSession{…})                // once a connection that came to EHLO, with the first error of Start and Handshake
//
// Every error here that a message with REQUIRETLS meets wraps ErrRequireTLS: if
// all hosts failed so, the message is returned with 5.7.30.

// SecurityLevel is what a connection must be before a message is sent on it.
type SecurityLevel uint8

// The levels, each more than the one before, but for the zero one, which is used
// where nobody says anything.
const (
	LevelOpportunistic SecurityLevel = iota // TLS where it is offered; after a failed handshake in the clear (RFC 7435)
	LevelNone                               // never TLS: for hosts whose TLS is broken
	LevelEncrypted                          // TLS, whatever the certificate
	LevelVerified                           // TLS, and the host showed that it is who it should be
)

// raised is the higher of two levels.
func (l SecurityLevel) raised(to SecurityLevel) SecurityLevel {
	order := [...]int{LevelOpportunistic: 1, LevelNone: 0, LevelEncrypted: 2, LevelVerified: 3}
	if order[to] > order[l] {
		return to
	}
	return l
}

// SecuredBy is who asked for a level.
type SecuredBy string

// Who may ask. Empty: nobody.
const (
	ByConfig  SecuredBy = "config"
	BySTS     SecuredBy = "mta-sts"
	ByDANE    SecuredBy = "dane"
	ByMessage SecuredBy = "requiretls"
)

// Security is what one host must show before it is sent a message. The zero
// Security is opportunistic.
type Security struct {
	Level   SecurityLevel
	By      SecuredBy
	Names   []string      // the certificate is for one of them; empty: for the host
	SNI     string        // empty: the host
	TLSA    []mail.TLSA   // usable ones; if there are any, they decide about the certificate
	Pins    [][32]byte    // SHA-256 of keys (DER SubjectPublicKeyInfo); if there are any, the certificate's is one of them, and no more is asked
	Testing bool          // MTA-STS mode testing: the certificate is judged for the report, and no more
	Require bool          // the host must offer REQUIRETLS and is told so (RFC 8689)
	Returns bool          // the message is a report, with the null sender: one that does not offer REQUIRETLS gets it too
	Policy  tlsrpt.Policy // what sessions are reported under
}

// ErrRequireTLS says that a message with REQUIRETLS cannot go to a host.
var ErrRequireTLS = errors.New("the sender requires verified TLS on the whole way (REQUIRETLS)")

// errNoSTARTTLS is reported as starttls-not-supported.
var errNoSTARTTLS = errors.New("TLS is required and the server does not offer it")

// Key is the same for two Securities if a connection made under one may be used
// under the other.
func (s Security) Key() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s %t %t %t %q %q", s.Level, s.By, s.Testing, s.Require, s.Returns, s.SNI, s.Names)
	for _, pin := range s.Pins {
		fmt.Fprintf(&b, " %x", pin)
	}
	if len(s.TLSA) > 0 {
		h := sha256.New()
		for _, r := range s.TLSA {
			fmt.Fprintf(h, "%s\n", dane.Text(r))
		}
		b.WriteString(" " + hex.EncodeToString(h.Sum(nil)))
	}
	return b.String()
}

// Start says whether to say STARTTLS to a server that offers it, or not.
func (s Security) Start(offered bool) (start bool, err error) {
	switch {
	case s.Level == LevelNone:
		return false, nil
	case !offered && s.mandatory():
		return false, s.blocked(errNoSTARTTLS)
	}
	return offered, nil
}

// mandatory says that nothing is sent in the clear.
func (s Security) mandatory() bool { return s.Level >= LevelEncrypted }

// Mail says whether a message may be offered to a server that offers
// REQUIRETLS, or not. A report about a message with REQUIRETLS is not thrown away because
// of that alone (RFC 8689 section 5): it goes over verified TLS all the same.
func (s Security) Mail(offersRequireTLS bool) error {
	if s.Require && !s.Returns && !offersRequireTLS {
		return s.blocked(errors.New("the server does not offer REQUIRETLS"))
	}
	return nil
}

// blocked marks what keeps a message with REQUIRETLS from a host.
func (s Security) blocked(err error) error {
	if s.Require {
		return fmt.Errorf("%w: %w", ErrRequireTLS, err)
	}
	return err
}

// Handshake changes to TLS and judges the host. text describes the connection as
// Result.TLS has it: version, cipher suite, "verified" or "unverified", and by
// what. An error means that nothing may be sent here; for the levels below
// LevelVerified that is the handshake itself, never the certificate. judged is
// what speaks against the certificate, also where it decides nothing.
func (s Security) Handshake(ctx context.Context, conn net.Conn, host string, base *tls.Config, roots *x509.CertPool) (secured *tls.Conn, text string, judged, err error) {
	conf := base.Clone()
	conf.ServerName = s.SNI
	if conf.ServerName == "" {
		conf.ServerName = host
	}
	conf.RootCAs, conf.InsecureSkipVerify = roots, true // VerifyConnection does it instead
	conf.VerifyConnection = func(state tls.ConnectionState) error {
		judged = s.verify(host, state.PeerCertificates, roots, time.Now())
		if judged != nil && s.Level == LevelVerified {
			return s.blocked(judged)
		}
		return nil
	}
	secured = tls.Client(conn, conf)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, "", judged, s.broken(err)
	}
	return secured, s.text(secured.ConnectionState(), judged), judged, nil
}

// broken is an error of the handshake. That it was ended or took too long is not
// the server's word on REQUIRETLS.
func (s Security) broken(err error) error {
	var op *net.OpError
	if errors.Is(err, ErrRequireTLS) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.As(err, &op) && op.Timeout() {
		return err
	}
	return s.blocked(err)
}

// verify judges the certificates a host showed.
func (s Security) verify(host string, shown []*x509.Certificate, roots *x509.CertPool, now time.Time) error {
	names := s.Names
	if len(names) == 0 {
		names = []string{host}
	}
	if len(s.Pins) > 0 {
		return verifyPin(shown, s.Pins)
	}
	if len(s.TLSA) > 0 {
		return dane.Verify(s.TLSA, shown, names, now)
	}
	return verifyPKIX(shown, names, roots, now)
}

// verifyPin wants the certificate of one of the keys, whoever made it.
func verifyPin(shown []*x509.Certificate, pins [][32]byte) error {
	if len(shown) == 0 {
		return errors.New("the server showed no certificate")
	}
	key := sha256.Sum256(shown[0].RawSubjectPublicKeyInfo)
	if !slices.Contains(pins, key) {
		return fmt.Errorf("the key of the server's certificate is %x, which is not one that is pinned", key)
	}
	return nil
}

// verifyPKIX wants a certificate that a trusted authority made for one of names
// (RFC 5280, RFC 9525; RFC 8461 section 4.2).
func verifyPKIX(shown []*x509.Certificate, names []string, roots *x509.CertPool, now time.Time) error {
	if len(shown) == 0 {
		return errors.New("the server showed no certificate")
	}
	between := x509.NewCertPool()
	for _, c := range shown[1:] {
		between.AddCert(c)
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	var err error
	for _, options.DNSName = range names {
		if _, err = shown[0].Verify(options); err == nil {
			return nil
		}
	}
	return err
}

// text describes a connection. The certificate is named even where it does not
// matter: the ledger then says what TLS was worth.
func (s Security) text(state tls.ConnectionState, judged error) string {
	version := strings.ReplaceAll(tls.VersionName(state.Version), " ", "")
	text := version + " " + tls.CipherSuiteName(state.CipherSuite)
	if judged != nil {
		return text + " unverified"
	}
	text += " verified"
	switch {
	case len(s.Pins) > 0:
		return text + " pinned"
	case len(s.TLSA) > 0:
		return text + " dane"
	case s.By == BySTS:
		return text + " mta-sts"
	}
	return text
}

// TLSSession is what came of TLS on one fresh connection.
type TLSSession struct {
	Security Security
	Host     string
	Server   netip.AddrPort
	From     netip.Addr // our address, if it is known
	Err      error      // of Start or Handshake; else what Handshake judged
}

// Failure is the session as it is reported; the zero Failure if TLS was as it
// should be. Without any policy a certificate does not matter (RFC 8460 section
// 4.3.1 counts what a policy failed on).
func (t TLSSession) Failure() tlsrpt.Failure {
	if t.Err == nil {
		return tlsrpt.Failure{}
	}
	f := tlsrpt.Failure{Type: failureType(t.Err, t.Security), Host: t.Host, Server: t.Server.Addr().String(), Reason: printable(describe(t.Err), maxKeptReply)}
	if t.From.IsValid() {
		f.From = t.From.String()
	}
	return f
}

// failureType finds the result type of RFC 8460 section 4.3 for an error.
func failureType(err error, s Security) tlsrpt.ResultType {
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var found *policyFault
	switch {
	case errors.As(err, &found):
		return found.result
	case errors.Is(err, errNoSTARTTLS):
		return tlsrpt.STARTTLSNotSupported
	case errors.Is(err, dane.ErrMismatch) && len(s.TLSA) > 0 && !errors.As(err, &name) && !errors.As(err, &invalid):
		return tlsrpt.ValidationFailure
	case errors.As(err, &name):
		return tlsrpt.HostMismatch
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return tlsrpt.Expired
	case errors.As(err, &unknown), errors.As(err, &invalid):
		return tlsrpt.NotTrusted
	}
	return tlsrpt.ValidationFailure
}

// policyFault is what stands between a policy and a host before any connection.
type policyFault struct {
	result tlsrpt.ResultType
	err    error
}

func (f *policyFault) Error() string { return f.err.Error() }
func (f *policyFault) Unwrap() error { return f.err }
