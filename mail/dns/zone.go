package dns

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	wire "github.com/miekg/dns"

	"anechoic/mail"
)

// Zone is DNS in memory: a mail.Resolver for tests and for the range, which can
// also be served (Serve). A name that was not set does not exist, even if names
// below it do; a name set to Records{} exists without records. The zero Zone is
// empty. All methods are safe for concurrent use: records change under way.
type Zone struct {
	mu        sync.RWMutex // guards what follows
	names     map[string]Records
	authentic bool
	ttl       time.Duration
}

var _ mail.Resolver = (*Zone)(nil)

// Records is what stands at one name.
type Records struct {
	TXT       []string // each joined; on the wire in strings of 255 octets
	Addresses []netip.Addr
	MX        []mail.MX // Host empty: null MX
	PTR       []string
	NS        []string // names of the servers that have the zone which begins here
	CNAME     string   // an alias; the other records are then not seen
	TLSA      []mail.TLSA
	Fault     Fault
}

// Fault makes look-ups at a name fail for the time being. The zero Fault is none.
type Fault struct {
	On     bool
	Silent bool     // a server of the zone does not answer at all, instead of SERVFAIL
	Only   string   // the one record type that fails, for example "TXT"; empty: all
	Except []string // record types that do not fail
}

func (f Fault) hits(qtype uint16) bool {
	t := wire.TypeToString[qtype]
	return f.On && (f.Only == "" || f.Only == t) && !slices.Contains(f.Except, t)
}

// ParseZone reads a zone in JSON: an object of names, each an object of
//
//	"TXT": ["one string", ["several", "strings"]], "A": ["192.0.2.1"], "AAAA": ["2001:db8::1"],
//	"MX": [[10, "mx.example"]], "PTR": ["host.example"], "CNAME": "other.example",
//	"TLSA": [[3, 1, 1, "hex digits"]],
//	"FAULT": true, or {"code": "ETIMEOUT" or "ESERVFAIL", "type": "TXT", "except": ["TXT"]}
//
// all of which may be absent. Names of PTR records are reverse names. Other keys
// are errors.
func ParseZone(data []byte) (*Zone, error) {
	var names map[string]jsonRecords
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&names); err != nil {
		return nil, fmt.Errorf("dns: zone: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("dns: zone: something follows the object of names")
	}
	z := &Zone{names: make(map[string]Records, len(names))}
	for name, j := range names {
		r, err := j.records()
		if err != nil {
			return nil, fmt.Errorf("dns: zone: %q: %w", name, err)
		}
		key := zoneKey(name)
		if _, twice := z.names[key]; twice {
			return nil, fmt.Errorf("dns: zone: %q is there twice, in different spelling", name)
		}
		z.names[key] = r
	}
	return z, nil
}

type jsonRecords struct {
	TXT   []jsonText
	A     []netip.Addr
	AAAA  []netip.Addr
	MX    []jsonMX
	PTR   []string
	CNAME string
	TLSA  []jsonTLSA
	FAULT jsonFault
}

func (j jsonRecords) records() (Records, error) {
	r := Records{PTR: j.PTR, CNAME: j.CNAME, Fault: Fault(j.FAULT)}
	for _, a := range j.A {
		if !a.Is4() {
			return Records{}, fmt.Errorf("%q of A is no IPv4 address", a)
		}
	}
	for _, a := range j.AAAA {
		if !a.Is6() || a.Zone() != "" {
			return Records{}, fmt.Errorf("AAAA: %q is no IPv6 address", a)
		}
	}
	r.Addresses = append(j.A, j.AAAA...)
	for _, t := range j.TXT {
		r.TXT = append(r.TXT, string(t))
	}
	for _, mx := range j.MX {
		r.MX = append(r.MX, mail.MX(mx))
	}
	for _, t := range j.TLSA {
		r.TLSA = append(r.TLSA, mail.TLSA(t))
	}
	return r, nil
}

// jsonText is one string or a list of strings.
type jsonText string

func (t *jsonText) UnmarshalJSON(b []byte) error {
	var parts []string
	if bytes.HasPrefix(b, []byte("[")) {
		err := json.Unmarshal(b, &parts)
		*t = jsonText(strings.Join(parts, ""))
		return err
	}
	return json.Unmarshal(b, (*string)(t))
}

// jsonMX is [preference, host].
type jsonMX mail.MX

func (mx *jsonMX) UnmarshalJSON(b []byte) error {
	if err := unmarshalTuple(b, &mx.Preference, &mx.Host); err != nil {
		return fmt.Errorf("MX: %w", err)
	}
	mx.Host = strings.TrimSuffix(mx.Host, ".")
	return nil
}

// jsonTLSA is [usage, selector, matching type, hex digits].
type jsonTLSA mail.TLSA

func (t *jsonTLSA) UnmarshalJSON(b []byte) error {
	var digits string
	if err := unmarshalTuple(b, &t.Usage, &t.Selector, &t.Matching, &digits); err != nil {
		return fmt.Errorf("TLSA: %w", err)
	}
	data, err := hex.DecodeString(digits)
	t.Data = data
	return err
}

// unmarshalTuple reads an array whose elements have different types.
func unmarshalTuple(b []byte, into ...any) error {
	var parts []json.RawMessage
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	if len(parts) != len(into) {
		return fmt.Errorf("%d values where %d belong", len(parts), len(into))
	}
	for i, p := range parts {
		if err := json.Unmarshal(p, into[i]); err != nil {
			return err
		}
	}
	return nil
}

// jsonFault is true, false or an object.
type jsonFault Fault

func (f *jsonFault) UnmarshalJSON(b []byte) error {
	*f = jsonFault{}
	if !bytes.HasPrefix(b, []byte("{")) {
		return json.Unmarshal(b, &f.On)
	}
	var o struct {
		Code, Type string
		Except     []string
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		return err
	}
	switch o.Code {
	case "", "ESERVFAIL", "ETIMEOUT":
	default:
		return fmt.Errorf("FAULT: unknown code %q; known are ESERVFAIL and ETIMEOUT", o.Code)
	}
	*f = jsonFault{On: true, Silent: o.Code == "ETIMEOUT", Only: o.Type, Except: o.Except}
	return nil
}

// zoneKey is a name in the form that is looked up. A name that cannot be looked
// up stays as it is.
func zoneKey(name string) string {
	key, err := canonical(name)
	if err != nil {
		return name
	}
	return key
}

// Set puts records at a name, in place of those that were there.
func (z *Zone) Set(name string, r Records) { z.Update(name, func(old *Records) { *old = r }) }

// Update changes the records at a name; they are empty if it did not exist.
func (z *Zone) Update(name string, change func(*Records)) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.names == nil {
		z.names = make(map[string]Records)
	}
	r := z.names[zoneKey(name)]
	change(&r)
	z.names[zoneKey(name)] = r
}

// Remove makes a name not exist.
func (z *Zone) Remove(name string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	delete(z.names, zoneKey(name))
}

// SetTXT sets the texts at a name, and keeps its other records, as do SetMX,
// SetAddresses, SetPTR, SetNS, SetCNAME, SetTLSA and SetFault.
func (z *Zone) SetTXT(name string, texts ...string) {
	z.Update(name, func(r *Records) { r.TXT = texts })
}

// SetMX sets the exchangers of a name.
func (z *Zone) SetMX(name string, mx ...mail.MX) { z.Update(name, func(r *Records) { r.MX = mx }) }

// SetAddresses sets the A and AAAA records of a name.
func (z *Zone) SetAddresses(name string, addrs ...netip.Addr) {
	z.Update(name, func(r *Records) { r.Addresses = addrs })
}

// SetPTR sets the names of an address.
func (z *Zone) SetPTR(addr netip.Addr, names ...string) {
	z.Update(ReverseName(addr), func(r *Records) { r.PTR = names })
}

// SetNS sets the servers of the zone that begins at a name.
func (z *Zone) SetNS(name string, servers ...string) {
	z.Update(name, func(r *Records) { r.NS = servers })
}

// SetCNAME makes a name an alias; with an empty target it is none any more.
func (z *Zone) SetCNAME(name, target string) { z.Update(name, func(r *Records) { r.CNAME = target }) }

// SetTLSA sets the certificate associations of a name.
func (z *Zone) SetTLSA(name string, associations ...mail.TLSA) {
	z.Update(name, func(r *Records) { r.TLSA = associations })
}

// SetFault makes look-ups of every type at a name fail, or not fail any more.
func (z *Zone) SetFault(name string, on bool) {
	z.Update(name, func(r *Records) { r.Fault = Fault{On: on} })
}

// SetAuthentic says whether answers carry the AD bit.
func (z *Zone) SetAuthentic(on bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.authentic = on
}

// SetTTL says how long clients of a served zone may keep answers, in whole
// seconds. Zero, as at the start: not at all, so that changes are seen at once.
func (z *Zone) SetTTL(ttl time.Duration) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.ttl = ttl
}

// TXT implements mail.Resolver, as do the methods that follow.
func (z *Zone) TXT(ctx context.Context, name string) (mail.Answer[string], error) {
	return lookup(ctx, z.find, name, wire.TypeTXT, decodeTXT)
}

func (z *Zone) MX(ctx context.Context, name string) (mail.Answer[mail.MX], error) {
	return lookup(ctx, z.find, name, wire.TypeMX, decodeMX)
}

func (z *Zone) Addresses(ctx context.Context, name string) (mail.Answer[netip.Addr], error) {
	return lookupAddresses(ctx, z.find, name)
}

func (z *Zone) PTR(ctx context.Context, addr netip.Addr) (mail.Answer[string], error) {
	return lookup(ctx, z.find, ReverseName(addr), wire.TypePTR, decodePTR)
}

func (z *Zone) CNAME(ctx context.Context, name string) (mail.Answer[string], error) {
	return lookup(ctx, z.find, name, wire.TypeCNAME, decodeCNAME)
}

func (z *Zone) TLSA(ctx context.Context, name string) (mail.Answer[mail.TLSA], error) {
	return lookup(ctx, z.find, name, wire.TypeTLSA, decodeTLSA)
}

func (z *Zone) find(ctx context.Context, q question) found { return resolve(ctx, q, z.ask) }

// ask answers as a server would, without one.
func (z *Zone) ask(ctx context.Context, q question) (*wire.Msg, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m := new(wire.Msg)
	m.SetQuestion(q.name, q.qtype)
	if z.answer(m, q) != nil || m.Rcode == wire.RcodeServerFailure {
		return nil, fmt.Errorf("%w: the zone has a fault here", errServer)
	}
	return m, nil
}
