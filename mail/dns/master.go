package dns

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	wire "github.com/miekg/dns"

	"anechoic/mail"
)

// maxMaster bounds the records of a master file.
const maxMaster = 10_000

// ParseMaster reads records in the form of a zone's master file (RFC 1035 section 5),
// as DNS hosts show them and `anechoic domain check` prints them. Names without a dot
// at their end are whole all the same. An error names file and line.
func ParseMaster(in io.Reader, file string) (map[string]Records, error) {
	names := map[string]Records{}
	p := wire.NewZoneParser(in, ".", file)
	p.SetDefaultTTL(0)
	p.SetIncludeAllowed(false)
	for n := 0; ; n++ {
		rr, ok := p.Next()
		if !ok {
			break
		}
		if n >= maxMaster {
			return nil, fmt.Errorf("dns: %s holds more than %d records", file, maxMaster)
		}
		key := zoneKey(rr.Header().Name)
		r := names[key]
		if err := r.add(rr); err != nil {
			return nil, fmt.Errorf("dns: %s: %s: %w", file, strings.TrimSuffix(rr.Header().Name, "."), err)
		}
		names[key] = r
	}
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	return names, nil
}

// add takes a record in.
func (r *Records) add(rr wire.RR) (err error) {
	switch rr := rr.(type) {
	case *wire.TXT:
		var text string
		if text, err = decodeTXT(rr); err == nil {
			r.TXT = append(r.TXT, text)
		}
	case *wire.A, *wire.AAAA:
		var a netip.Addr
		if a, err = decodeAddress(rr); err == nil {
			r.Addresses = append(r.Addresses, a)
		}
	case *wire.MX:
		var mx mail.MX
		if mx, err = decodeMX(rr); err == nil {
			r.MX = append(r.MX, mx)
		}
	case *wire.PTR:
		r.PTR = append(r.PTR, strings.TrimSuffix(rr.Ptr, "."))
	case *wire.NS:
		r.NS = append(r.NS, strings.TrimSuffix(rr.Ns, "."))
	case *wire.CNAME:
		r.CNAME = strings.TrimSuffix(rr.Target, ".")
	case *wire.TLSA:
		var t mail.TLSA
		if t, err = decodeTLSA(rr); err == nil {
			r.TLSA = append(r.TLSA, t)
		}
	default:
		err = fmt.Errorf("a record of type %s, which has no use here", wire.TypeToString[rr.Header().Rrtype])
	}
	return err
}

// Replace puts other names in place of all there are. What a later layer has at a name
// stands in place of what an earlier one has there.
func (z *Zone) Replace(layers ...map[string]Records) {
	names := map[string]Records{}
	for _, layer := range layers {
		for name, r := range layer {
			names[zoneKey(name)] = r
		}
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.names = names
}
