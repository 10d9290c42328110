package dns

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"anechoic/mail"
	"anechoic/mail/background"
)

// Bounds of our own on what an answer may ask of us.
const (
	maxAliases     = 10              // CNAME records followed in one look-up
	maxTTL         = 24 * time.Hour  // an answer is asked again after this time at the latest
	maxNegativeTTL = 5 * time.Minute // so that a record just published is seen soon
	failureTTL     = time.Second     // RFC 9520 section 3.2: a failure is kept this long at least
)

// errServer says that a server answered that it cannot answer.
var errServer = errors.New("the server failed")

// found is what one question led to. err is nil, mail.ErrNoDomain or a failure.
type found struct {
	records   []wire.RR // all of the type asked for
	authentic bool
	err       error
	ttl       time.Duration // how long it may be kept
	size      int           // octets on the wire, about
}

// asker puts one question to somebody; it gives a message whose question is that
// one, with the response code NOERROR or NXDOMAIN, or an error.
type asker func(ctx context.Context, q question) (*wire.Msg, error)

// resolve asks until there is an answer at the end of all aliases.
func resolve(ctx context.Context, q question, ask asker) found {
	result := found{authentic: true, ttl: maxTTL}
	asked := q
	for left := maxAliases; ; {
		m, err := ask(ctx, q)
		if err != nil {
			return failed(asked, err)
		}
		result.authentic = result.authentic && m.AuthenticatedData
		result.size += m.Len()
		s := read(m, q)
		result.ttl = min(result.ttl, s.ttl)
		if left -= s.aliases; left < 0 {
			return failed(asked, fmt.Errorf("more than %d aliases, or a loop of them", maxAliases))
		}
		if s.next == "" {
			result.records, result.err = s.records, nil
			if s.noDomain {
				result.err = fmt.Errorf("dns: %s: %w", asked, mail.ErrNoDomain)
			}
			return result
		}
		q.name = s.next
	}
}

func failed(q question, err error) found {
	return found{err: fmt.Errorf("dns: %s: %w", q, err), ttl: failureTTL}
}

// step is what one message says about a question.
type step struct {
	records  []wire.RR
	noDomain bool
	aliases  int    // CNAME records followed
	next     string // the alias led here, and the message says no more about it
	ttl      time.Duration
}

// read follows the aliases of q through m and collects the records at their end.
func read(m *wire.Msg, q question) step {
	s := step{ttl: maxTTL}
	name := q.name
	for q.qtype != wire.TypeCNAME && s.aliases <= maxAliases {
		alias := owned(m.Answer, question{name, wire.TypeCNAME})
		if len(alias) == 0 {
			break
		}
		s.aliases++
		s.ttl = min(s.ttl, ttlOf(alias[0]))
		name = strings.ToLower(alias[0].(*wire.CNAME).Target)
	}
	s.records = owned(m.Answer, question{name, q.qtype})
	for _, rr := range s.records {
		s.ttl = min(s.ttl, ttlOf(rr))
	}
	if len(s.records) > 0 {
		return s
	}
	negative, ok := negativeTTL(m, name)
	if m.Rcode != wire.RcodeNameError && !ok && s.aliases > 0 {
		s.next = name
		return s
	}
	s.noDomain = m.Rcode == wire.RcodeNameError
	s.ttl = min(s.ttl, negative)
	return s
}

// owned picks the records of one name and type.
func owned(rrs []wire.RR, q question) (picked []wire.RR) {
	for _, rr := range rrs {
		h := rr.Header()
		if h.Rrtype == q.qtype && h.Class == wire.ClassINET && strings.EqualFold(h.Name, q.name) {
			picked = append(picked, rr)
		}
	}
	return picked
}

// ttlOf is how long a record may be kept; RFC 2181 section 8: a TTL with its
// highest bit set is zero.
func ttlOf(rr wire.RR) time.Duration {
	ttl := rr.Header().Ttl
	if ttl > 1<<31-1 {
		return 0
	}
	return min(time.Duration(ttl)*time.Second, maxTTL)
}

// negativeTTL is how long the absence of a record may be kept (RFC 2308 section
// 5): the lesser of the SOA's own TTL and its last field. Without a SOA record
// above name, the absence is not kept, and ok is false.
func negativeTTL(m *wire.Msg, name string) (ttl time.Duration, ok bool) {
	for _, rr := range m.Ns {
		soa, is := rr.(*wire.SOA)
		if is && wire.IsSubDomain(strings.ToLower(soa.Hdr.Name), name) {
			return min(ttlOf(soa), time.Duration(soa.Minttl)*time.Second, maxNegativeTTL), true
		}
	}
	return 0, false
}

// finder looks a question up, with or without a cache.
type finder func(ctx context.Context, q question) found

// lookup is the part all look-ups share: check the name, find, decode.
func lookup[T any](ctx context.Context, find finder, name string, qtype uint16, decode func(wire.RR) (T, error)) (mail.Answer[T], error) {
	fqdn, err := canonical(name)
	if err != nil {
		return mail.Answer[T]{}, fmt.Errorf("dns: %w", err)
	}
	q := question{fqdn, qtype}
	f := find(ctx, q)
	if f.err != nil {
		return mail.Answer[T]{Authentic: f.authentic}, f.err
	}
	a := mail.Answer[T]{Authentic: f.authentic}
	var bad error
	for _, rr := range f.records {
		r, err := decode(rr)
		if err != nil {
			bad = err
			continue
		}
		a.Records = append(a.Records, r)
	}
	if len(a.Records) == 0 && bad != nil && qtype != wire.TypePTR {
		return mail.Answer[T]{}, fmt.Errorf("dns: %s: no usable record: %w", q, bad)
	}
	return a, nil
}

// lookupAddresses asks for A and AAAA at the same time. A name that has records
// of one type and does not exist for the other (some servers lie so) exists.
func lookupAddresses(ctx context.Context, find finder, name string) (mail.Answer[netip.Addr], error) {
	var b struct {
		answer mail.Answer[netip.Addr]
		err    error
	}
	var asking background.Group
	asking.Go(func() { b.answer, b.err = lookup(ctx, find, name, wire.TypeAAAA, decodeAddress) })
	a, err := lookup(ctx, find, name, wire.TypeA, decodeAddress)
	asking.Wait()
	for _, e := range []error{err, b.err} {
		if e != nil && !errors.Is(e, mail.ErrNoDomain) {
			return mail.Answer[netip.Addr]{}, e
		}
	}
	both := mail.Answer[netip.Addr]{Records: append(a.Records, b.answer.Records...), Authentic: a.Authentic && b.answer.Authentic}
	if err != nil && b.err != nil {
		return both, err
	}
	return both, nil
}

func decodeTXT(rr wire.RR) (string, error) {
	var b strings.Builder
	for _, s := range rr.(*wire.TXT).Txt {
		unescape(&b, s)
	}
	return b.String(), nil
}

// unescape undoes the wire library's presentation of a character-string: \DDD
// for an octet outside printable ASCII, a backslash before " and \.
func unescape(b *strings.Builder, s string) {
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i+2 < len(s) && s[i] >= '0' && s[i] <= '2' {
			b.WriteByte((s[i]-'0')*100 + (s[i+1]-'0')*10 + s[i+2] - '0')
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
}

func decodeMX(rr wire.RR) (mail.MX, error) {
	mx := rr.(*wire.MX)
	if mx.Mx == "." { // null MX, RFC 7505
		return mail.MX{Preference: mx.Preference}, nil
	}
	host, err := hostName(mx.Mx)
	return mail.MX{Preference: mx.Preference, Host: host}, err
}

func decodeAddress(rr wire.RR) (netip.Addr, error) {
	var ip []byte
	switch r := rr.(type) {
	case *wire.A:
		ip = r.A.To4()
	case *wire.AAAA:
		ip = r.AAAA.To16()
	}
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.Addr{}, fmt.Errorf("%q is no address", ip)
	}
	return addr, nil
}

func decodePTR(rr wire.RR) (string, error)   { return hostName(rr.(*wire.PTR).Ptr) }
func decodeCNAME(rr wire.RR) (string, error) { return hostName(rr.(*wire.CNAME).Target) }

func decodeTLSA(rr wire.RR) (mail.TLSA, error) {
	r := rr.(*wire.TLSA)
	data, err := hex.DecodeString(r.Certificate)
	return mail.TLSA{Usage: r.Usage, Selector: r.Selector, Matching: r.MatchingType, Data: data}, err
}
