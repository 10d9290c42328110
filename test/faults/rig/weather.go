package rig

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"anechoic/mail"
	"anechoic/mail/dns"
)

// weatherLasts is how long one state of DNS does.
const weatherLasts = 400 * time.Millisecond

// Weather has DNS fail by turns until the function it gives is called: names that
// are not answered for, SERVFAIL, and exchangers that point where nobody listens.
func (r *Rig) Weather(seed uint64) (end func()) {
	halt, ended := make(chan struct{}), make(chan struct{})
	rng := rand.New(rand.NewPCG(seed, 1))
	go func() {
		defer close(ended)
		tick := time.NewTicker(weatherLasts)
		defer tick.Stop()
		for {
			clear := r.worsen(rng)
			select {
			case <-halt:
				clear()
				return
			case <-tick.C:
				clear()
			}
		}
	}()
	return func() { close(halt); <-ended }
}

// worsen has one name fail, and gives what ends that.
func (r *Rig) worsen(rng *rand.Rand) (clear func()) {
	zone := r.internet.Zone
	n := rng.IntN(len(Domains))
	domain := Domains[n]
	names := []string{domain, "mx." + domain, home, "_anechoic." + home, "an1e._domainkey." + home}
	name := names[rng.IntN(len(names))]
	switch rng.IntN(4) {
	case 0:
		return func() {}
	case 1: // a lie: an exchanger where nobody listens
		zone.SetAddresses("mx."+domain, netip.MustParseAddr("127.50.0.99"))
		return func() { zone.SetAddresses("mx."+domain, exchanger(n)) }
	case 2: // a lie: an exchanger that is the relay's own name, and has no address
		zone.SetMX(domain, mail.MX{Preference: 5, Host: "nowhere." + domain}, mail.MX{Preference: 10, Host: "mx." + domain})
		return func() { zone.SetMX(domain, mail.MX{Preference: 10, Host: "mx." + domain}) }
	}
	silent := rng.IntN(2) == 0
	zone.Update(name, func(records *dns.Records) { records.Fault = dns.Fault{On: true, Silent: silent} })
	return func() { zone.Update(name, func(records *dns.Records) { records.Fault = dns.Fault{} }) }
}
