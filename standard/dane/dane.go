// Package dane says what TLSA records ask of the certificate of a mail server
// (RFC 6698, RFC 7671, RFC 7672).
//
// The steps, for one host:
//
//  1. Names says at which names TLSA records are looked for;
//  2. Usable leaves the records that mean something for SMTP, with the strongest
//     digest of each kind only;
//  3. Verify compares what the server showed with them.
//
// It guarantees: Verify accepts nothing without a record that matches; no record
// of the usages 0 and 1 is ever used; a certificate that cannot be read matches
// nothing. It looks nothing up and has no opinion on whether DNS was authentic:
// the caller must not come here with records that were not.
package dane

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"time"

	"anechoic/mail"
)

// The certificate usages of RFC 6698 section 2.1.1 that count for SMTP. PKIX-TA(0)
// and PKIX-EE(1) do not (RFC 7672 section 3.1.3).
const (
	UsageTA = 2 // DANE-TA: a trust anchor that the server sends along
	UsageEE = 3 // DANE-EE: the server's own certificate or key
)

// The selectors of RFC 6698 section 2.1.2.
const (
	SelectorCertificate = 0
	SelectorKey         = 1 // SubjectPublicKeyInfo
)

// The matching types of RFC 6698 section 2.1.3.
const (
	MatchingFull   = 0
	MatchingSHA256 = 1
	MatchingSHA512 = 2
)

// ErrMismatch says that no usable record matches what the server showed. The
// wrapping error says what came nearest.
var ErrMismatch = errors.New("no TLSA record matches the certificate")

// Owner is the name of the TLSA records of a host (RFC 6698 section 3).
func Owner(host string, port uint16) string {
	return "_" + strconv.Itoa(int(port)) + "._tcp." + host
}

// Names gives the TLSA base domains to ask, in order (RFC 7672 section 2.2.2): what
// the host is an alias of, where the whole chain is authentic, then the host
// itself. canonical is empty or the end of that chain.
func Names(host, canonical string) []string {
	if canonical == "" || canonical == host {
		return []string{host}
	}
	return []string{canonical, host}
}

// Usable leaves the records that can be used for SMTP: DANE-TA and DANE-EE with
// known selector and matching type and a value of the right length, and of each
// usage and selector only the strongest digest besides full values (RFC 7671
// section 9). None left, though there were some, means TLS without
// authentication (RFC 7672 section 2.2).
func Usable(records []mail.TLSA) []mail.TLSA {
	type kind struct{ usage, selector uint8 }
	strongest := make(map[kind]uint8)
	var known []mail.TLSA
	for _, r := range records {
		if !meaningful(r) {
			continue
		}
		k := kind{r.Usage, r.Selector}
		strongest[k] = max(strongest[k], r.Matching) // SHA-512 is numbered above SHA-256, and full below both
		known = append(known, r)
	}
	var usable []mail.TLSA
	for _, r := range known {
		if r.Matching == MatchingFull || r.Matching == strongest[kind{r.Usage, r.Selector}] {
			usable = append(usable, r)
		}
	}
	return usable
}

func meaningful(r mail.TLSA) bool {
	if r.Usage != UsageTA && r.Usage != UsageEE || r.Selector > SelectorKey {
		return false
	}
	switch r.Matching {
	case MatchingFull:
		return wellFormed(r)
	case MatchingSHA256:
		return len(r.Data) == sha256.Size
	case MatchingSHA512:
		return len(r.Data) == sha512.Size
	}
	return false
}

// wellFormed says that a full value is what it should be. A record that cannot
// match anything would otherwise stop all mail.
func wellFormed(r mail.TLSA) (ok bool) {
	if r.Selector == SelectorKey {
		_, err := x509.ParsePKIXPublicKey(r.Data)
		return err == nil
	}
	_, err := x509.ParseCertificate(r.Data)
	return err == nil
}

// Verify says whether what a server showed (its own certificate first) is what
// usable records ask for; names are those a certificate under a trust anchor may
// be for: the TLSA base domain, and the name mail was addressed to (RFC 7672
// section 3.2.2). One record that matches is enough.
func Verify(usable []mail.TLSA, shown []*x509.Certificate, names []string, now time.Time) error {
	if len(shown) == 0 {
		return fmt.Errorf("%w: the server showed none", ErrMismatch)
	}
	var near error
	for _, r := range usable {
		switch r.Usage {
		case UsageEE: // names, dates and issuers do not matter (RFC 7671 section 5.1)
			if matches(r, shown[0]) {
				return nil
			}
		case UsageTA:
			err := underAnchor(r, shown, names, now)
			if err == nil {
				return nil
			}
			if !errors.Is(err, errNoAnchor) {
				near = err
			}
		}
	}
	if near != nil {
		return fmt.Errorf("%w: the trust anchor does, but %w", ErrMismatch, near)
	}
	return ErrMismatch
}

// errNoAnchor says that the record names nothing that the server showed.
var errNoAnchor = errors.New("the trust anchor was not shown")

// underAnchor verifies the chain up to what r names (RFC 7671 section 5.2). The
// anchor may be an intermediate certificate, and what it has above it does not
// matter. A key alone that signed a certificate, and was not shown in one of its
// own, is no anchor here.
func underAnchor(r mail.TLSA, shown []*x509.Certificate, names []string, now time.Time) error {
	anchors, between := x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, c := range shown {
		if matches(r, c) {
			anchors.AddCert(c)
			found = true
		} else {
			between.AddCert(c)
		}
	}
	if full := fullCertificate(r); full != nil { // need not be shown (RFC 7671 section 5.2.2)
		anchors.AddCert(full)
		found = true
	}
	if !found {
		return errNoAnchor
	}
	if matches(r, shown[0]) && !shown[0].IsCA {
		return errNoAnchor // an own certificate is no anchor of itself: that is what DANE-EE is for
	}
	err := errors.New("there is no name to compare")
	for _, name := range names {
		_, err = shown[0].Verify(x509.VerifyOptions{
			DNSName: name, Roots: anchors, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err == nil {
			return nil
		}
	}
	return err
}

// fullCertificate is the certificate a record holds whole, or nil.
func fullCertificate(r mail.TLSA) *x509.Certificate {
	if r.Selector != SelectorCertificate || r.Matching != MatchingFull {
		return nil
	}
	c, err := x509.ParseCertificate(r.Data)
	if err != nil {
		return nil
	}
	return c
}

// matches compares one record with one certificate.
func matches(r mail.TLSA, c *x509.Certificate) bool {
	selected := c.Raw
	if r.Selector == SelectorKey {
		selected = c.RawSubjectPublicKeyInfo
	}
	switch r.Matching {
	case MatchingFull:
		return bytes.Equal(selected, r.Data)
	case MatchingSHA256:
		sum := sha256.Sum256(selected)
		return bytes.Equal(sum[:], r.Data)
	case MatchingSHA512:
		sum := sha512.Sum512(selected)
		return bytes.Equal(sum[:], r.Data)
	}
	return false
}

// Text is a record as zone files have it, for reports (RFC 8460 section 4.4).
func Text(r mail.TLSA) string {
	return fmt.Sprintf("%d %d %d %x", r.Usage, r.Selector, r.Matching, r.Data)
}
