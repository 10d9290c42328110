package detect

import (
	"net/netip"
	"strings"
)

// Bounds of what is remembered of one principal.
const (
	maxPlaces = 8
	maxRcpt   = 1000 // recipients of one event that are looked at
)

// principal is what is known of an organisation, a source or a From domain.
type principal struct {
	base    baseline
	hour    *hourWindow // nil: no mail for long
	day     *dayWindow
	places  []place // of a source: the addresses and origin classes its mail comes from
	idHosts []place // of a source: the sites in Message-ID
	names   families
	rcpts   known          // of an organisation
	senders known          // of an organisation
	writers *concentration // of an organisation: senders, by recipients who are strangers at free-mail providers
	pairs   *concentration // of an organisation: a sender and a recipient, by kilobytes and messages
	domains int            // of an organisation: From domains with a principal of their own
	slept   int64          // of a source: seconds it had been asleep when it woke
	woke    int64          // when
}

// place is something a source uses again and again.
type place struct {
	Sum         uint64
	First, Last int64
	Messages    uint32
}

// count adds c to the windows, and teaches it to the baseline unless that would be
// learning from an attack.
func (p *principal) count(now int64, c *counts, teach bool) {
	if p.hour == nil {
		p.hour, p.day = &hourWindow{}, &dayWindow{}
	}
	p.hour.at(now).add(c)
	p.day.at(now).add(c)
	if teach {
		p.base.learn(now, c)
	}
}

// concentrate makes sure that an organisation has what finds its heaviest.
func (p *principal) concentrate() {
	if p.writers == nil {
		p.writers, p.pairs = &concentration{}, &concentration{}
	}
}

// rest forgets windows in which nothing is left.
func (p *principal) rest(now int64) {
	if p.hour != nil && now/dayStep-p.day.step >= daySteps {
		p.hour, p.day, p.names = nil, nil, nil
	}
}

// isNew notes sum among places and says that it is new: first seen when the source
// was no longer young, and not yet for settle seconds or for settled messages. A source with very
// many places has none that are new.
func isNew(places *[]place, sum uint64, now, young, settle int64) bool {
	const settled = 20
	for i := range *places {
		if p := &(*places)[i]; p.Sum == sum {
			p.Last = now
			p.Messages++
			return len(*places) < maxPlaces && p.First > young && (now-p.First < settle || p.Messages < settled)
		}
	}
	fresh := place{Sum: sum, First: now, Last: now, Messages: 1}
	if len(*places) < maxPlaces {
		*places = append(*places, fresh)
		return len(*places) < maxPlaces && now > young
	}
	oldest := 0
	for i, p := range *places {
		if p.Last < (*places)[oldest].Last {
			oldest = i
		}
	}
	(*places)[oldest] = fresh
	return false
}

// placeOf is where a message came from, as far as that tells its source from others:
// behind a provider it is the server that handed the message to the provider, or
// only the origin class; else the network of the peer.
func placeOf(e *Event) string {
	switch {
	case e.ConnectingIP != "":
		return "behind " + prefixOf(e.ConnectingIP)
	case e.Tenant != "":
		return "class " + e.Origin
	case e.Peer.IsValid():
		return "peer " + networkOf(e.Peer)
	}
	return ""
}

func prefixOf(address string) string {
	ip, err := netip.ParseAddr(strings.Trim(address, "[]"))
	if err != nil {
		return clean(address)
	}
	return networkOf(ip)
}

// networkOf is the /24 or /48 an address lies in.
func networkOf(ip netip.Addr) string {
	ip = ip.Unmap()
	bits := 48
	if ip.Is4() {
		bits = 24
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return ""
	}
	return prefix.String()
}
