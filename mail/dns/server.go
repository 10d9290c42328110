package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"anechoic/mail/background"
)

// errSilent says that a question is to stay without an answer.
var errSilent = errors.New("the zone is silent here")

// answer fills m with what the zone knows about q: aliases, records, response
// code, and a SOA record where there are none (RFC 2308 section 3).
func (z *Zone) answer(m *wire.Msg, q question) error {
	z.mu.RLock()
	defer z.mu.RUnlock()
	m.Response, m.RecursionAvailable, m.AuthenticatedData = true, true, z.authentic
	ttl := uint32(z.ttl / time.Second)
	for range maxAliases + 1 {
		r, ok := z.names[q.name]
		switch {
		case !ok:
			m.Rcode = wire.RcodeNameError
		case r.Fault.hits(q.qtype) && r.Fault.Silent:
			return errSilent
		case r.Fault.hits(q.qtype):
			m.Answer, m.Rcode = nil, wire.RcodeServerFailure
			return nil
		case r.CNAME != "" && q.qtype != wire.TypeCNAME:
			m.Answer = append(m.Answer, &wire.CNAME{Hdr: header(q.name, wire.TypeCNAME, ttl), Target: wire.Fqdn(zoneKey(r.CNAME))})
			q.name = zoneKey(r.CNAME)
			continue
		}
		records := r.wire(q, ttl)
		m.Answer = append(m.Answer, records...)
		if len(records) == 0 {
			m.Ns = []wire.RR{&wire.SOA{Hdr: header(".", wire.TypeSOA, ttl), Ns: "ns.invalid.", Mbox: "postmaster.invalid.", Minttl: ttl}}
		}
		return nil
	}
	return nil
}

func header(name string, rrtype uint16, ttl uint32) wire.RR_Header {
	return wire.RR_Header{Name: name, Rrtype: rrtype, Class: wire.ClassINET, Ttl: ttl}
}

// wire gives the records of one type as they go over the network.
func (r Records) wire(q question, ttl uint32) (rrs []wire.RR) {
	h := header(q.name, q.qtype, ttl)
	switch q.qtype {
	case wire.TypeTXT:
		for _, t := range r.TXT {
			rrs = append(rrs, &wire.TXT{Hdr: h, Txt: characterStrings(t)})
		}
	case wire.TypeA, wire.TypeAAAA:
		rrs = addressRecords(h, r.Addresses)
	case wire.TypeMX:
		for _, mx := range r.MX {
			rrs = append(rrs, &wire.MX{Hdr: h, Preference: mx.Preference, Mx: wire.Fqdn(zoneKey(mx.Host))})
		}
	case wire.TypePTR:
		for _, name := range r.PTR {
			rrs = append(rrs, &wire.PTR{Hdr: h, Ptr: wire.Fqdn(zoneKey(name))})
		}
	case wire.TypeNS:
		for _, name := range r.NS {
			rrs = append(rrs, &wire.NS{Hdr: h, Ns: wire.Fqdn(zoneKey(name))})
		}
	case wire.TypeCNAME:
		if r.CNAME != "" {
			rrs = append(rrs, &wire.CNAME{Hdr: h, Target: wire.Fqdn(zoneKey(r.CNAME))})
		}
	case wire.TypeTLSA:
		for _, t := range r.TLSA {
			rrs = append(rrs, &wire.TLSA{Hdr: h, Usage: t.Usage, Selector: t.Selector, MatchingType: t.Matching, Certificate: fmt.Sprintf("%x", t.Data)})
		}
	}
	return rrs
}

func addressRecords(h wire.RR_Header, addrs []netip.Addr) (rrs []wire.RR) {
	for _, a := range addrs {
		switch {
		case h.Rrtype == wire.TypeA && a.Is4():
			rrs = append(rrs, &wire.A{Hdr: h, A: a.AsSlice()})
		case h.Rrtype == wire.TypeAAAA && a.Is6():
			rrs = append(rrs, &wire.AAAA{Hdr: h, AAAA: a.AsSlice()})
		}
	}
	return rrs
}

// characterStrings divides a text into strings of at most 255 octets (RFC 1035
// section 3.3), with octets that are not plain written as the wire library reads them.
func characterStrings(text string) []string {
	parts := []string{}
	for len(text) > 255 {
		parts = append(parts, escape(text[:255]))
		text = text[255:]
	}
	return append(parts, escape(text))
}

func escape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			fmt.Fprintf(&b, `\%03d`, c)
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Server answers over UDP and TCP from a Zone.
type Server struct {
	zone     *Zone
	udp, tcp *wire.Server
	done     chan error
}

// Serve starts a server on a loopback address, for example "127.0.0.1:0" for any
// free port. It is for tests and for the range: what is not loopback is refused.
// The caller closes it.
func (z *Zone) Serve(addr string) (*Server, error) {
	at, err := netip.ParseAddrPort(addr)
	if err != nil || !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("dns: serve %q: give a loopback address with a port, as \"127.0.0.1:0\"", addr)
	}
	pc, l, err := listenBoth(addr)
	if err != nil {
		return nil, fmt.Errorf("dns: serve %s: %w", addr, err)
	}
	s := &Server{zone: z, done: make(chan error, 2)}
	started := make(chan struct{}, 2)
	notify := func() { started <- struct{}{} }
	s.udp = &wire.Server{PacketConn: pc, Handler: wire.HandlerFunc(s.handle), NotifyStartedFunc: notify}
	s.tcp = &wire.Server{Listener: l, Handler: wire.HandlerFunc(s.handle), NotifyStartedFunc: notify}
	for _, w := range []*wire.Server{s.udp, s.tcp} {
		background.Go(nil, nil, "dns: serve a zone", func() { s.done <- w.ActivateAndServe() })
	}
	<-started
	<-started
	return s, nil
}

// listenBoth takes the same port of UDP and TCP. A free port of one may be in use
// in the other: then another one is tried.
func listenBoth(addr string) (pc net.PacketConn, l net.Listener, err error) {
	for range 20 {
		if l, err = net.Listen("tcp", addr); err != nil {
			return nil, nil, err
		}
		if pc, err = net.ListenPacket("udp", l.Addr().String()); err == nil {
			return pc, l, nil
		}
		err = errors.Join(err, l.Close())
	}
	return nil, nil, err
}

// Addr is the address of the server, as Options.Servers wants it.
func (s *Server) Addr() string { return s.tcp.Listener.Addr().String() }

// Close stops the server and waits until it has stopped.
func (s *Server) Close() error {
	return errors.Join(s.udp.Shutdown(), s.tcp.Shutdown(), <-s.done, <-s.done)
}

// handle answers one query.
func (s *Server) handle(w wire.ResponseWriter, query *wire.Msg) {
	m := new(wire.Msg)
	m.SetReply(query)
	if query.Opcode != wire.OpcodeQuery || len(query.Question) != 1 || query.Question[0].Qclass != wire.ClassINET {
		m.Rcode = wire.RcodeNotImplemented
	} else {
		asked := query.Question[0]
		if s.zone.answer(m, question{strings.ToLower(asked.Name), asked.Qtype}) != nil {
			return
		}
		m.Authoritative = !query.RecursionDesired // who asks so asks for what is here
	}
	size := wire.MinMsgSize
	if opt := query.IsEdns0(); opt != nil {
		size = max(size, int(opt.UDPSize()))
		m.SetEdns0(udpSize, false)
	}
	if _, udp := w.LocalAddr().(*net.UDPAddr); udp {
		m.Truncate(size)
	}
	if err := w.WriteMsg(m); err != nil { // records that do not fit the wire format
		f := new(wire.Msg)
		w.WriteMsg(f.SetRcode(query, wire.RcodeServerFailure))
	}
}
