package delivery

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestSourcesAreChosenByWeightWithinTheirFamily(t *testing.T) {
	p := EgressPool{Sources: []EgressSource{
		{Address: netip.MustParseAddr("192.0.2.1"), Weight: 3}, {Address: netip.MustParseAddr("192.0.2.2")}, {Address: netip.MustParseAddr("2001:db8::1"), Weight: 50},
	}}
	seen := map[string]int{}
	random := rand.New(rand.NewPCG(1, 2)).IntN
	for range 4000 {
		s, ok := p.source(netip.MustParseAddr("198.51.100.7"), random)
		if !ok {
			t.Fatal("no source")
		}
		seen[s.Address.String()]++
	}
	if len(seen) != 2 || seen["192.0.2.1"] < 2800 || seen["192.0.2.1"] > 3200 {
		t.Error(seen)
	}
	if s, ok := p.source(netip.MustParseAddr("2001:db8::7"), random); !ok || !s.Address.Is6() {
		t.Error(s, ok)
	}
	four := EgressPool{Sources: p.Sources[:2]}
	if _, ok := four.source(netip.MustParseAddr("2001:db8::7"), random); ok {
		t.Error("an IPv4 source for an IPv6 server")
	}
	if s, ok := (&EgressPool{}).source(netip.MustParseAddr("2001:db8::7"), random); !ok || s.Address.IsValid() {
		t.Error("a pool without sources leaves it to the system")
	}
}

// TestEachPoolLeavesFromItsAddressUnderItsName delivers over loopback from two
// pools, and looks where the connections came from.
func TestEachPoolLeavesFromItsAddressUnderItsName(t *testing.T) {
	s := newSink(t, nil)
	transport := &SMTP{Helo: "relay.anechoic.test", Bind: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Pools: []EgressPool{
		{Name: "bulk", Helo: "bulk.anechoic.test", Sources: []EgressSource{{Address: netip.MustParseAddr("127.0.0.7")}}},
		{Name: "six", Sources: []EgressSource{{Address: netip.MustParseAddr("2001:db8::1")}}},
	}}
	defer transport.Close()
	for pool, want := range map[string]string{"": "127.0.0.1", "bulk": "127.0.0.7"} {
		a := testAttempt(t, s.route(), plainContent, "bob@globex.example")
		a.Egress = pool
		r := transport.Deliver(t.Context(), a)[0]
		if r.Status != Delivered || r.Egress.String() != want {
			t.Errorf("pool %q: %+v", pool, r)
		}
		if _, ok := s.peers.Load(netip.MustParseAddr(want)); !ok {
			t.Errorf("pool %q did not leave from %s", pool, want)
		}
	}
	for pool, want := range map[string]string{"six": "no egress address is of the family of 127.0.0.1", "gone": `there is no egress pool "gone" in the configuration`} {
		a := testAttempt(t, s.route(), plainContent, "bob@globex.example")
		a.Egress = pool
		if r := transport.Deliver(t.Context(), a)[0]; r.Status != Deferred || r.Reply != fmt.Sprintf("%s: connect: %s", s.Addr(), want) {
			t.Errorf("pool %q: %+v", pool, r)
		}
	}
}

func TestTheNameIsTheSourcesThenThePools(t *testing.T) {
	d := journey{Attempt: &Attempt{}, SMTP: &SMTP{Helo: "relay.example", Bind: []netip.Addr{netip.MustParseAddr("192.0.2.9")}, Pools: []EgressPool{
		{Name: "named", Helo: "pool.example", Sources: []EgressSource{{Address: netip.MustParseAddr("192.0.2.1"), Helo: "one.example"}}},
		{Name: "half", Helo: "pool.example", Sources: []EgressSource{{Address: netip.MustParseAddr("192.0.2.1")}}},
		{Name: "bare", Sources: []EgressSource{{Address: netip.MustParseAddr("192.0.2.1")}}},
	}}}
	for pool, want := range map[string]string{"": "relay.example", "named": "one.example", "half": "pool.example", "bare": "relay.example"} {
		d.Egress = pool
		if w, err := d.way(netip.MustParseAddr("198.51.100.1")); err != nil || w.helo != want {
			t.Errorf("%q: %+v %v", pool, w, err)
		}
	}
}

func TestFamiliesAreKeptAndPreferred(t *testing.T) {
	all := []netip.Addr{}
	for i := range 6 {
		all = append(all, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i)))
	}
	for family, want := range map[Family]string{"": "6464", AnyFamily: "6464", OnlyV4: "4444", OnlyV6: "6666", PreferV4: "4446", PreferV6: "6664"} {
		got := ""
		for _, a := range family.arrange(all, 4) {
			got += map[bool]string{true: "4", false: "6"}[a.Is4()]
		}
		if got != want {
			t.Errorf("%q: %s, want %s", family, got, want)
		}
	}
	if got := OnlyV6.arrange(all[:1], 4); len(got) != 0 {
		t.Error(got)
	}
	if got := PreferV6.arrange(all[:1], 4); len(got) != 1 {
		t.Error(got)
	}
}

func TestAnAddressOfNobodyIsNoEgress(t *testing.T) {
	if err := CheckEgress(netip.MustParseAddr("127.0.0.1")); err != nil {
		t.Error(err)
	}
	if err := CheckEgress(netip.MustParseAddr("203.0.113.77")); err == nil {
		t.Error("an address that is not of this machine was taken")
	}
}

// TestASiteNeverHasMoreConnectionsThanItsLimit lets many attempts ask at the same
// time, for several keys of one site, and lets some connections wait for reuse.
func TestASiteNeverHasMoreConnectionsThanItsLimit(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(1, 4).Draw(rt, "limit")
		workers := rapid.IntRange(1, 12).Draw(rt, "workers")
		keys := rapid.IntRange(1, 5).Draw(rt, "keys")
		seed := rapid.Uint64().Draw(rt, "seed")
		synctest.Test(t, func(t *testing.T) {
			var p pool
			most := 0
			done := make(chan bool)
			for w := range workers {
				go func() {
					defer func() { done <- true }()
					random := rand.New(rand.NewPCG(seed, uint64(w)))
					for range 20 {
						key := poolKey{name: fmt.Sprint(random.IntN(keys))}
						c := p.take(key)
						if c == nil {
							if err := p.admit(t.Context(), "site", limit); err != nil {
								t.Error(err)
								return
							}
							ours, theirs := net.Pipe()
							theirs.Close()
							c = newClient(ours, key.name, netip.AddrPort{}, Timeouts{}.orDefault())
							c.site, c.left = "site", p.left
						}
						p.mu.Lock()
						most = max(most, p.open["site"])
						p.mu.Unlock()
						time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
						if random.IntN(2) == 0 {
							c.quit()
						} else {
							p.put(key, c, time.Now(), time.Second)
						}
					}
				}()
			}
			for range workers {
				<-done
			}
			p.close()
			if most > limit {
				t.Errorf("%d connections, the limit is %d", most, limit)
			}
			if len(p.open) != 0 {
				t.Errorf("still counted: %v", p.open)
			}
		})
	})
}
