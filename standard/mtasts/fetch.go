package mtasts

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"anechoic/mail"
)

// fetchTime is all a policy host gets (RFC 8461 section 3.3 suggests a minute).
const fetchTime = time.Minute

// The ways in which a fetch fails, for people and for reports.
var (
	ErrFetch       = errors.New("the MTA-STS policy could not be fetched")
	ErrCertificate = errors.New("the certificate of the MTA-STS policy host is not valid")
	ErrRedirect    = errors.New("the MTA-STS policy host redirects, which may not be followed") // section 3.3
	ErrMediaType   = errors.New("the MTA-STS policy is not text/plain")                         // section 3.2
	ErrTooLarge    = errors.New("the MTA-STS policy is larger than 64 KiB")
)

// PolicyHost is where a domain's policy is (section 3.3).
func PolicyHost(domain mail.Domain) string { return "mta-sts." + domain.String() }

// Fetch gets the policy of a domain over the transport given, which must verify
// certificates. Nothing of HTTP caching counts (section 3.3).
func Fetch(ctx context.Context, over http.RoundTripper, domain mail.Domain) (Policy, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+PolicyHost(domain)+wellKnown, nil)
	if err != nil {
		return Policy{}, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	request.Header.Set("User-Agent", "Anechoic")
	response, err := over.RoundTrip(request) // a RoundTripper follows nothing
	if err != nil {
		return Policy{}, unreachable(err)
	}
	defer response.Body.Close()
	if err := acceptable(response); err != nil {
		return Policy{}, err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, MaxPolicy+1))
	if err != nil {
		return Policy{}, fmt.Errorf("%w: %w", ErrFetch, err)
	}
	if len(body) > MaxPolicy {
		return Policy{}, ErrTooLarge
	}
	return ParsePolicy(body)
}

func unreachable(err error) error {
	var invalid *tls.CertificateVerificationError
	if errors.As(err, &invalid) {
		return fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	return fmt.Errorf("%w: %w", ErrFetch, err)
}

// acceptable judges a response before its body is read.
func acceptable(r *http.Response) error {
	switch {
	case r.StatusCode >= 300 && r.StatusCode <= 399:
		return fmt.Errorf("%w (%d)", ErrRedirect, r.StatusCode)
	case r.StatusCode != http.StatusOK:
		return fmt.Errorf("%w: the policy host answers %d", ErrFetch, r.StatusCode)
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "text/plain" {
		return fmt.Errorf("%w, but %.60q", ErrMediaType, r.Header.Get("Content-Type"))
	}
	if r.ContentLength > MaxPolicy {
		return ErrTooLarge
	}
	return nil
}

// Transport is a RoundTripper fit for Fetch: it verifies certificates, keeps no
// connections and reads no endless headers. Base is cloned.
func Transport(base *http.Transport) *http.Transport {
	t := base.Clone()
	t.DisableKeepAlives, t.DisableCompression, t.Proxy = true, true, nil
	t.MaxResponseHeaderBytes = MaxPolicy
	t.ResponseHeaderTimeout, t.TLSHandshakeTimeout = fetchTime, fetchTime
	return t
}
