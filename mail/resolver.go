package mail

import (
	"context"
	"errors"
	"net/netip"
)

// ErrNoDomain says that a name does not exist (NXDOMAIN). A name that exists
// without records of the wanted type is no error but an Answer without records.
// Every other error of a Resolver means that nothing is known: SERVFAIL, no
// answer in time, a broken answer. Callers then act as if they had not asked:
// 451 LOOKUP_FAILED.
var ErrNoDomain = errors.New("no such domain name")

// Answer is the records of one look-up. Authentic is the AD bit of a validating
// resolver on a trusted path (RFC 6840 section 5.8).
type Answer[T any] struct {
	Records   []T
	Authentic bool
}

// MX is one mail exchanger. Host is without its trailing dot; empty for a null
// MX (RFC 7505).
type MX struct {
	Preference uint16
	Host       string
}

// TLSA is one certificate association (RFC 6698 section 2.1).
type TLSA struct {
	Usage, Selector, Matching uint8
	Data                      []byte
}

// Resolver looks names up. Names are given without a trailing dot. All methods
// follow CNAMEs, but for CNAME itself. Implementations are safe for concurrent
// use and bound their own time.
type Resolver interface {
	// TXT gives each record with its strings joined.
	TXT(ctx context.Context, name string) (Answer[string], error)
	// MX gives exchangers in no particular order.
	MX(ctx context.Context, name string) (Answer[MX], error)
	// Addresses gives A and AAAA records. An error of either is an error.
	Addresses(ctx context.Context, name string) (Answer[netip.Addr], error)
	// PTR gives the names of an address, without trailing dots.
	PTR(ctx context.Context, addr netip.Addr) (Answer[string], error)
	// CNAME gives the target of an alias at exactly this name, or no record.
	CNAME(ctx context.Context, name string) (Answer[string], error)
	// TLSA gives the associations at a name such as _25._tcp.mx.example.
	TLSA(ctx context.Context, name string) (Answer[TLSA], error)
}
