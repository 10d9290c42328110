package app

import (
	"net/netip"
	"sync"
	"time"
)

// Bounds of what is remembered of who logged in from where: some megabytes.
const (
	familiarFor     = 30 * 24 * time.Hour
	familiarAtMost  = 20_000
	familiarPerUser = 100 // of which one user, whoever he became, can take no more
	familiarSample  = 64  // users looked at to find a place to forget: looking at all would take long
)

// place is a user at a network.
type place struct {
	user    [32]byte // digest of the name
	network netip.Prefix
}

// familiar remembers from which networks users logged in. Only a right password
// gets into it. When it is full, what was not seen for longest is forgotten: of
// the same user if he has many networks, else of some users taken at random. After a restart all are
// strangers until they log in once. The zero value is ready, and safe for
// concurrent use.
type familiar struct {
	mu     sync.Mutex // guards what follows
	users  map[[32]byte]map[netip.Prefix]time.Time
	places int
}

// knows says that the user logged in from there before.
func (f *familiar) knows(p place, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	last, ok := f.users[p.user][p.network]
	return ok && now.Sub(last) < familiarFor
}

// note remembers a right password.
func (f *familiar) note(p place, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.users == nil {
		f.users = map[[32]byte]map[netip.Prefix]time.Time{}
	}
	networks := f.users[p.user]
	if _, known := networks[p.network]; !known {
		switch {
		case len(networks) >= familiarPerUser:
			f.forgetOldest(map[[32]byte]map[netip.Prefix]time.Time{p.user: networks})
		case f.places >= familiarAtMost:
			f.forgetOldest(f.users)
		}
		if networks = f.users[p.user]; networks == nil {
			networks = map[netip.Prefix]time.Time{}
			f.users[p.user] = networks
		}
		f.places++
	}
	networks[p.network] = now
}

// forgetOldest forgets the place among these that was not seen for longest. mu is
// held.
func (f *familiar) forgetOldest(among map[[32]byte]map[netip.Prefix]time.Time) {
	var oldest place
	var seen time.Time
	looked := 0
	for user, networks := range among { // begins anywhere (the Go specification, "For statements")
		if looked++; looked > familiarSample {
			break
		}
		for n, at := range networks {
			if seen.IsZero() || at.Before(seen) {
				oldest, seen = place{user, n}, at
			}
		}
	}
	delete(f.users[oldest.user], oldest.network)
	if len(f.users[oldest.user]) == 0 {
		delete(f.users, oldest.user)
	}
	f.places--
}
