package app

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"anechoic/mail"
	"anechoic/org"
)

// oneCredential is a Directory with one credential, locked to 192.0.2.0/24.
func oneCredential(t testing.TB, password string) *org.Directory {
	t.Helper()
	text := fmt.Sprintf(`
[[organisation]]
id = "acme"
name = "Acme"
security_contact = "security@acme.test"
  [[organisation.domain]]
  name = "acme.test"
  dkim = [{ selector = "an1", algorithm = "ed25519" }]
  [[organisation.source]]
  id = "app"
  kind = "credential"
  role = "application"
  username = "app@acme"
  password = { argon2id = %q }
  from = ["*@acme.test"]
  addresses = ["192.0.2.0/24"]
`, org.HashPassword([]byte(password)))
	registry, problems := org.ParseRegistry("registry.toml", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	dir, problems, _ := org.Build(registry, org.Providers{}, nil, 1, time.Now())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return dir
}

// testPeerFailures is what the configuration says by default.
const testPeerFailures = 100

var (
	inside  = netip.MustParseAddr("192.0.2.7")
	outside = netip.MustParseAddr("198.51.100.7")
	noon    = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
)

func TestPasswords(t *testing.T) {
	dir := oneCredential(t, "right password")
	for name, c := range map[string]struct {
		username, password string
		peer               netip.Addr
		want               *mail.Refusal
	}{
		"the right one":                 {"app@acme", "right password", inside, nil},
		"a wrong one":                   {"app@acme", "wrong password", inside, mail.AuthFailed},
		"an empty one":                  {"app@acme", "", inside, mail.AuthFailed},
		"an unknown user":               {"nobody@acme", "right password", inside, mail.AuthFailed},
		"no user":                       {"", "", inside, mail.AuthFailed},
		"the hash as password":          {"app@acme", "$argon2id$v=19$", inside, mail.AuthFailed},
		"right, from an address beside": {"app@acme", "right password", outside, mail.AuthFailed},
	} {
		t.Run(name, func(t *testing.T) {
			c2 := newCredentials(testPeerFailures)
			got := c2.check(context.Background(), dir, login{username: c.username, password: c.password, peer: c.peer}, noon)
			if (got == nil) != (c.want == nil) || got != nil && got.Code() != c.want.Code() {
				t.Fatalf("got %v, want %v", got, c.want)
			}
			if got != nil && c.password != "" && strings.Contains(got.String(), c.password) {
				t.Errorf("the password stands in %q", got)
			}
		})
	}
}

func TestARightPasswordIsRememberedForAWhile(t *testing.T) {
	c, dir := newCredentials(testPeerFailures), oneCredential(t, "right password")
	if r := c.check(context.Background(), dir, login{username: "app@acme", password: "right password", peer: inside}, noon); r != nil {
		t.Fatal(r)
	}
	// With no turn left only what is remembered can be answered.
	c.reserved <- struct{}{}
	c.common <- struct{}{}
	busy, cancel := context.WithCancel(context.Background())
	cancel()
	if r := c.check(busy, dir, login{username: "app@acme", password: "right password", peer: inside}, noon.Add(rememberFor-1)); r != nil {
		t.Errorf("it was not remembered: %v", r)
	}
	for what, r := range map[string]*mail.Refusal{
		"another password":        c.check(busy, dir, login{username: "app@acme", password: "wrong password", peer: inside}, noon),
		"the same, much later":    c.check(busy, dir, login{username: "app@acme", password: "right password", peer: inside}, noon.Add(rememberFor)),
		"the same, another hash":  c.check(busy, oneCredential(t, "right password"), login{username: "app@acme", password: "right password", peer: inside}, noon),
		"the same, another place": c.check(busy, dir, login{username: "app@acme", password: "right password", peer: outside}, noon),
	} {
		if r == nil {
			t.Errorf("%s passed without a check", what)
		}
	}
}

func TestGuessingIsStoppedWithoutLockingOthersOut(t *testing.T) {
	c, dir := newCredentials(testPeerFailures), oneCredential(t, "right password")
	for range failuresBefore {
		if r := c.check(context.Background(), dir, login{username: "app@acme", password: "guess", peer: outside}, noon); r == nil || r.Code() != mail.AuthFailed.Code() {
			t.Fatal(r)
		}
	}
	if r := c.check(context.Background(), dir, login{username: "app@acme", password: "guess", peer: outside}, noon); r == nil || !r.Temporary() {
		t.Errorf("the next guess was checked: %v", r)
	}
	if r := c.check(context.Background(), dir, login{username: "app@acme", password: "right password", peer: inside}, noon); r != nil {
		t.Errorf("the owner was locked out: %v", r)
	}
	if r := c.check(context.Background(), dir, login{username: "app@acme", password: "guess", peer: outside}, noon.Add(failuresFor)); r == nil || r.Temporary() {
		t.Errorf("the guesser is never heard again: %v", r)
	}
}

func TestChecksThatWaitAreBounded(t *testing.T) {
	c, dir := newCredentials(testPeerFailures), oneCredential(t, "right password")
	for range checksWaiting {
		c.waiting[false] <- struct{}{}
	}
	l := login{username: "app@acme", password: "right password", peer: inside}
	if r := c.check(context.Background(), dir, l, noon); r == nil || !r.Temporary() {
		t.Errorf("one more waits: %v", r)
	}
	c.familiar.note(c.placeOf(l), noon)
	if r := c.check(context.Background(), dir, l, noon); r != nil {
		t.Errorf("who is familiar waits behind strangers: %v", r)
	}
}

// TestManyConnectionsOfOneUserCostOneCheck: an application may open more
// connections at once than checks may wait.
func TestManyConnectionsOfOneUserCostOneCheck(t *testing.T) {
	dir := oneCredential(t, "right password")
	synctest.Test(t, func(t *testing.T) {
		c := newCredentials(testPeerFailures)
		c.common <- struct{}{}
		try := func(password string, answers chan<- *mail.Refusal) {
			l := login{username: "app@acme", password: password, peer: inside}
			go func() { answers <- c.check(context.Background(), dir, l, noon) }()
		}
		right, wrong := make(chan *mail.Refusal, 2*checksWaiting), make(chan *mail.Refusal, 2)
		for range cap(right) {
			try("right password", right)
		}
		for range cap(wrong) {
			try("wrong password", wrong)
		}
		synctest.Wait()
		if n := len(c.waiting[false]); n != 2 {
			t.Errorf("%d checks wait, want one for each password", n)
		}
		<-c.common
		for range cap(right) {
			if r := <-right; r != nil {
				t.Fatal(r)
			}
		}
		for range cap(wrong) {
			if r := <-wrong; r == nil || r.Code() != mail.AuthFailed.Code() {
				t.Fatalf("a wrong password: %v", r)
			}
		}
		if len(c.running) > 0 {
			t.Errorf("%d checks are still noted as running", len(c.running))
		}
	})
}

// quick is credentials whose computation takes a moment of the test's time and
// counts how many there are at once.
type quick struct {
	*credentials
	now, most, all atomic.Int32
}

// moment is how long one computation takes in a bubble of synctest.
const moment = 30 * time.Millisecond

func newQuick(failuresPerPeer int) *quick {
	q := &quick{credentials: newCredentials(failuresPerPeer)}
	q.compute = func(hash org.PasswordHash, password []byte) bool {
		q.all.Add(1)
		n := q.now.Add(1)
		defer q.now.Add(-1)
		for most := q.most.Load(); n > most && !q.most.CompareAndSwap(most, n); most = q.most.Load() {
		}
		time.Sleep(moment)
		return hash.String() != q.nobody.String() && string(password) == "right password"
	}
	return q
}

// numbered is one of many addresses.
func numbered(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18, byte(i / 256), byte(i % 256)})
}

// TestAFloodOfGuessesNeverKeepsAFamiliarUserOut: a thousand peers guess without
// end, each as fast as it is answered; the application that logged in before logs
// in all the while, and waits for no more than one computation, its own.
func TestAFloodOfGuessesNeverKeepsAFamiliarUserOut(t *testing.T) {
	dir := oneCredential(t, "right password")
	synctest.Test(t, func(t *testing.T) {
		c := newQuick(testPeerFailures)
		own := login{username: "app@acme", password: "right password", peer: inside}
		if r := c.check(t.Context(), dir, own, time.Now()); r != nil {
			t.Fatal(r)
		}
		flood, end := context.WithCancel(t.Context())
		var guessers sync.WaitGroup
		for i := range 1000 {
			guessers.Go(func() {
				for n := 0; flood.Err() == nil; n++ {
					user := [...]string{"app@acme", "nobody@acme"}[i%2]
					if r := c.check(flood, dir, login{username: user, password: fmt.Sprint("guess ", i, n), peer: numbered(i)}, time.Now()); r == nil {
						t.Error("a guess was right")
					}
					time.Sleep(moment)
				}
			})
		}
		for range 5 {
			time.Sleep(moment / 2)
			c.mu.Lock()
			clear(c.right) // so that it is computed again
			c.mu.Unlock()
			begun := time.Now()
			if r := c.check(t.Context(), dir, own, begun); r != nil {
				t.Errorf("kept out: %v", r)
			}
			if waited := time.Since(begun); waited > moment {
				t.Errorf("it waited %s behind strangers", waited)
			}
		}
		end()
		guessers.Wait()
		if n := c.most.Load(); n > 2 {
			t.Errorf("%d computations at once", n)
		}
		if len(c.running) > 0 || len(c.waiting[false]) > 0 || len(c.common) > 0 || len(c.reserved) > 0 {
			t.Error("the flood left something behind")
		}
	})
}

// TestStrangersNeverTakeTheReservedCheck: one at a time is theirs, and the
// familiar may use both.
func TestStrangersNeverTakeTheReservedCheck(t *testing.T) {
	dir := oneCredential(t, "right password")
	for familiar, want := range map[bool]int32{false: 1, true: 2} {
		synctest.Test(t, func(t *testing.T) {
			c := newQuick(testPeerFailures)
			var all sync.WaitGroup
			for i := range 10 {
				l := login{username: "app@acme", password: fmt.Sprint("guess ", i), peer: numbered(i)}
				if familiar {
					c.familiar.note(c.placeOf(l), time.Now())
				}
				all.Go(func() { c.check(t.Context(), dir, l, time.Now()) })
			}
			all.Wait()
			if got := c.most.Load(); got != want {
				t.Errorf("familiar %v: %d computations at once, want %d", familiar, got, want)
			}
		})
	}
}

// TestANetworkHasOneBudgetForAllNames: guessing many names costs as much as
// guessing one; nobody else pays, and who is familiar in that network does not
// either.
func TestANetworkHasOneBudgetForAllNames(t *testing.T) {
	dir := oneCredential(t, "right password")
	synctest.Test(t, func(t *testing.T) {
		c, now := newQuick(testPeerFailures), time.Now()
		nat, beside := netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("192.0.2.10")
		right := login{username: "app@acme", password: "right password", peer: nat}
		if r := c.check(t.Context(), dir, right, now); r != nil {
			t.Fatal(r)
		}
		for i := range testPeerFailures {
			if r := c.check(t.Context(), dir, login{username: fmt.Sprint("user ", i), password: "guess", peer: nat}, now); r == nil || r.Temporary() {
				t.Fatalf("guess %d: %v", i, r)
			}
		}
		computed := c.all.Load()
		stranger := login{username: "another", password: "guess", peer: nat}
		if r := c.check(t.Context(), dir, stranger, now); r == nil || !r.Temporary() || c.all.Load() != computed {
			t.Errorf("one more was computed: %v", r)
		}
		if r := c.check(t.Context(), dir, right, now); r != nil {
			t.Errorf("remembered, and kept out: %v", r)
		}
		if r := c.check(t.Context(), dir, right, now.Add(rememberFor)); r != nil {
			t.Errorf("familiar, and kept out: %v", r)
		}
		stranger.peer = beside
		if r := c.check(t.Context(), dir, stranger, now); r == nil || r.Temporary() {
			t.Errorf("the neighbour pays: %v", r)
		}
		stranger.peer = nat
		if r := c.check(t.Context(), dir, stranger, now.Add(failuresFor)); r == nil || r.Temporary() {
			t.Errorf("the network is never heard again: %v", r)
		}
	})
}

// TestARememberedPasswordHelpsOnlyWhereItIsFamiliar: a guesser who has used up his
// tries is not let in by the luck of the next, though the user has just logged in
// elsewhere with that password.
func TestARememberedPasswordHelpsOnlyWhereItIsFamiliar(t *testing.T) {
	dir := oneCredential(t, "right password")
	synctest.Test(t, func(t *testing.T) {
		c, now := newQuick(testPeerFailures), time.Now()
		if r := c.check(t.Context(), dir, login{username: "app@acme", password: "right password", peer: inside}, now); r != nil {
			t.Fatal(r)
		}
		guesser := netip.MustParseAddr("192.0.2.66")
		for i := range failuresBefore {
			c.check(t.Context(), dir, login{username: "app@acme", password: fmt.Sprint(i), peer: guesser}, now)
		}
		if r := c.check(t.Context(), dir, login{username: "app@acme", password: "right password", peer: guesser}, now); r == nil || !r.Temporary() {
			t.Errorf("the next guess: %v", r)
		}
	})
}

// TestAnIPv6NetworkIsOneGuesser: the addresses of a /64 are one machine's.
func TestAnIPv6NetworkIsOneGuesser(t *testing.T) {
	dir := oneCredential(t, "right password")
	synctest.Test(t, func(t *testing.T) {
		c, now := newQuick(testPeerFailures), time.Now()
		peer := netip.MustParseAddr("2001:db8::1")
		for range failuresBefore {
			c.check(t.Context(), dir, login{username: "app@acme", password: "guess", peer: peer}, now)
			peer = peer.Next()
		}
		if r := c.check(t.Context(), dir, login{username: "app@acme", password: "guess", peer: peer}, now); r == nil || !r.Temporary() {
			t.Errorf("the next address: %v", r)
		}
	})
}

// TestAProvidersAddressesHaveNoBudgetOfAll: customers of a provider share them and
// know nothing of each other.
func TestAProvidersAddressesHaveNoBudgetOfAll(t *testing.T) {
	dir := oneCredential(t, "right password")
	synctest.Test(t, func(t *testing.T) {
		c, now := newQuick(10), time.Now()
		for i := range 50 {
			l := login{username: fmt.Sprint("user ", i), password: "guess", peer: outside, shared: true}
			if r := c.check(t.Context(), dir, l, now); r == nil || r.Temporary() {
				t.Fatalf("guess %d: %v", i, r)
			}
		}
	})
}

// TestUnknownUsersCostTheSame: the same computation, in the same list, with the
// same answer and the same budget.
func TestUnknownUsersCostTheSame(t *testing.T) {
	dir := oneCredential(t, "right password")
	answers := map[string][]string{}
	for _, user := range []string{"app@acme", "nobody@acme"} {
		synctest.Test(t, func(t *testing.T) {
			c, now := newQuick(testPeerFailures), time.Now()
			for i := range failuresBefore + 2 {
				begun := time.Now()
				r := c.check(t.Context(), dir, login{username: user, password: fmt.Sprint("guess ", i), peer: outside}, now)
				answers[user] = append(answers[user], fmt.Sprintf("%v after %s", r, time.Since(begun)))
			}
		})
	}
	if !slices.Equal(answers["app@acme"], answers["nobody@acme"]) {
		t.Errorf("a user name shows:\n%q\n%q", answers["app@acme"], answers["nobody@acme"])
	}
}

// TestMemoryOfPlacesIsBounded: whatever comes, no more places are kept than there
// may be, one user has no more than his part, and the last to come is known.
func TestMemoryOfPlacesIsBounded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var f familiar
		now := noon
		for range rapid.IntRange(1, 400).Draw(rt, "logins") {
			now = now.Add(time.Second)
			p := place{[32]byte{rapid.Byte().Draw(rt, "user") % 3}, network(numbered(rapid.IntRange(0, 150).Draw(rt, "network")), peerBits4)}
			f.note(p, now)
			kept := 0
			for _, networks := range f.users {
				kept += len(networks)
				if len(networks) > familiarPerUser || len(networks) == 0 {
					rt.Fatalf("one user has %d places", len(networks))
				}
			}
			if kept != f.places {
				rt.Fatalf("%d places are counted, %d kept", f.places, kept)
			}
			if !f.knows(p, now) || f.knows(p, now.Add(familiarFor)) {
				rt.Fatal("a place is not known for as long as it should be")
			}
		}
	})
}

// TestOneUserCannotMakeTheOthersStrangers: who logs in from everywhere forgets his
// own places first.
func TestOneUserCannotMakeTheOthersStrangers(t *testing.T) {
	var f familiar
	quiet := place{[32]byte{1}, network(inside, peerBits4)}
	f.note(quiet, noon)
	for i := range 10 * familiarPerUser {
		f.note(place{[32]byte{2}, network(numbered(i), peerBits4)}, noon.Add(time.Duration(i)*time.Second))
	}
	if !f.knows(quiet, noon.Add(time.Hour)) || f.places != familiarPerUser+1 {
		t.Errorf("%d places are kept, the quiet user's among them: %v", f.places, f.knows(quiet, noon.Add(time.Hour)))
	}
	for i := range familiarAtMost {
		var user [32]byte
		binary.BigEndian.PutUint32(user[2:], uint32(i))
		f.note(place{user, network(inside, peerBits4)}, noon.Add(2*time.Hour))
		if i > 0 && i%1000 == 0 && f.places > familiarAtMost {
			t.Fatalf("%d places are kept", f.places)
		}
	}
	if f.places != familiarAtMost {
		t.Errorf("%d places are kept", f.places)
	}
}
