package app

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/limit"
)

// Bounds of password checks. One takes tens of milliseconds and its hash's
// memory (19 MiB as this project makes them), so they are two at a time, and a
// right password is remembered for a while.
const (
	checksWaiting  = 64 // for each of the two, and no more
	rememberFor    = 5 * time.Minute
	rememberAtMost = 10_000
	failuresFor    = 15 * time.Minute
	failuresBefore = 10 // of one user name from one network, then no more checks
	peerBits4      = 32 // guesses from IPv4 are counted by address
)

// credentials checks user names and passwords of credential sources.
//
// Whoever logged in from a network before is familiar there. One of the two
// checks at a time is kept for the familiar, with a waiting list of its own, and
// wrong passwords of other users from the same network are not held against them:
// a flood of guesses, from however many addresses, shuts out strangers at most.
//
// It tells a guesser nothing about user names: a name that is not known costs the
// same check, in the same list, as one that is. Who is familiar shows only to who
// comes from that network.
type credentials struct {
	key      [32]byte         // of the digests remembered: nothing that can be tried offline
	nobody   org.PasswordHash // checked for unknown users, so that time tells nothing
	perPeer  limit.Rate       // wrong passwords of a network, whichever users
	compute  func(org.PasswordHash, []byte) bool
	reserved chan struct{} // the check that is kept for the familiar
	common   chan struct{} // the check that anybody may take
	waiting  map[bool]chan struct{}

	guesses  limit.Limiter // wrong passwords by user and network
	networks limit.Limiter // wrong passwords by network
	familiar familiar

	mu      sync.Mutex // guards what follows
	running map[passwordWork]*passwordCheck
	right   map[[32]byte]time.Time
}

// login is one try to authenticate.
type login struct {
	username, password string
	peer               netip.Addr
	shared             bool // the peer's address is a provider's: customers who know nothing of each other have it
}

// passwordWork is one computation. The familiar do not wait for one that stands
// in the strangers' list.
type passwordWork struct {
	digest   [32]byte
	familiar bool
}

// passwordCheck is one computation and its outcome. Whoever comes with the same
// user and password meanwhile waits for it instead of computing too.
type passwordCheck struct {
	done    chan struct{} // closed when what follows is there
	matches bool
	refusal *mail.Refusal
}

func newCredentials(failuresPerPeer int) *credentials {
	c := &credentials{
		perPeer: limit.Rate{Units: failuresPerPeer, Span: failuresFor}, compute: org.PasswordHash.Matches,
		reserved: make(chan struct{}, 1), common: make(chan struct{}, 1),
		waiting: map[bool]chan struct{}{true: make(chan struct{}, checksWaiting), false: make(chan struct{}, checksWaiting)},
		running: map[passwordWork]*passwordCheck{}, right: map[[32]byte]time.Time{},
	}
	rand.Read(c.key[:]) // never fails (its documentation)
	nobody, err := org.ParsePasswordHash(org.HashPassword(c.key[:]))
	if err != nil {
		panic(err) // what HashPassword makes always parses
	}
	c.nobody = nobody
	return c
}

// check says whether a login is right for a user of the Directory: nil, or
// AuthFailed, or that it cannot be said now.
func (c *credentials) check(ctx context.Context, dir *org.Directory, l login, now time.Time) *mail.Refusal {
	source, known := dir.Username(l.username)
	hash := c.nobody
	if known {
		parsed, err := org.ParsePasswordHash(source.Password)
		if err != nil {
			return mail.Internal.Because("the password hash of source %s does not parse", source.ID)
		}
		hash = parsed
	}
	from := c.placeOf(l)
	work := passwordWork{c.digest(l.username, hash.String(), l.password), c.familiar.knows(from, now)}
	if !work.familiar || !c.remembers(work.digest, now) {
		if refusal := c.exhausted(l, from, work.familiar, now); refusal != nil {
			return refusal
		}
		matches, refusal := c.matches(ctx, work, hash, l.password, now)
		switch {
		case refusal != nil:
			return refusal
		case !matches || !known:
			c.failed(l, from, now)
			return mail.AuthFailed.Because("wrong user name or password")
		}
	}
	if len(source.Addresses) > 0 && !org.Within(l.peer, source.Addresses) {
		return mail.AuthFailed.Because("source %s is not for address %s", source.ID, l.peer)
	}
	c.familiar.note(from, now)
	return nil
}

// matches says whether a password is right: from memory, from a computation
// under way, or by one of its own. An application that opens a hundred
// connections at once costs one.
func (c *credentials) matches(ctx context.Context, work passwordWork, hash org.PasswordHash, password string, now time.Time) (bool, *mail.Refusal) {
	check, mine := c.join(work, now)
	switch {
	case check == nil:
		return true, nil
	case mine:
		defer c.finish(work, check, now)
		check.matches, check.refusal = c.inTurn(ctx, work.familiar, hash, password)
		return check.matches, check.refusal
	}
	select {
	case <-check.done:
		return check.matches, check.refusal
	case <-ctx.Done():
		return false, mail.AuthUnavailable.Because("%v", ctx.Err())
	}
}

// join gives the check to wait for, or to make (mine); nil: the password is
// remembered as right.
func (c *credentials) join(work passwordWork, now time.Time) (check *passwordCheck, mine bool) {
	if c.remembers(work.digest, now) {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if check := c.running[work]; check != nil {
		return check, false
	}
	check = &passwordCheck{done: make(chan struct{}), refusal: mail.AuthUnavailable}
	c.running[work] = check
	return check, true
}

// finish remembers a right password and tells who waits.
func (c *credentials) finish(work passwordWork, check *passwordCheck, now time.Time) {
	c.mu.Lock()
	delete(c.running, work)
	if check.matches {
		c.remember(work.digest, now)
	}
	c.mu.Unlock()
	close(check.done)
}

// inTurn computes one check when its turn comes.
func (c *credentials) inTurn(ctx context.Context, familiar bool, hash org.PasswordHash, password string) (bool, *mail.Refusal) {
	turn, refusal := c.turn(ctx, familiar)
	if refusal != nil {
		return false, refusal
	}
	defer func() { <-turn }()
	return c.compute(hash, []byte(password)), nil
}

// turn waits for one of the checks at a time, and gives where it was taken: who
// has finished takes one out.
func (c *credentials) turn(ctx context.Context, familiar bool) (chan struct{}, *mail.Refusal) {
	waiting := c.waiting[familiar]
	select {
	case waiting <- struct{}{}:
		defer func() { <-waiting }()
	default:
		return nil, mail.AuthUnavailable.Because("%d password checks are waiting", checksWaiting)
	}
	var reserved chan struct{} // nil: never free
	if familiar {
		reserved = c.reserved
	}
	select {
	case reserved <- struct{}{}:
		return reserved, nil
	case c.common <- struct{}{}:
		return c.common, nil
	case <-ctx.Done():
		return nil, mail.AuthUnavailable.Because("%v", ctx.Err())
	}
}

// digest names one user, hash and password; it changes when the hash does.
func (c *credentials) digest(username, hash, password string) (d [32]byte) {
	h := hmac.New(sha256.New, c.key[:])
	for _, part := range []string{username, hash, password} {
		sum := sha256.Sum256([]byte(part))
		h.Write(sum[:])
	}
	h.Sum(d[:0])
	return d
}

// remembers says that a password was right a short while ago.
func (c *credentials) remembers(d [32]byte, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.right[d]
	return ok && now.Before(until)
}

// remember keeps a right password in mind for a while. mu is held.
func (c *credentials) remember(d [32]byte, now time.Time) {
	if len(c.right) >= rememberAtMost {
		clear(c.right)
	}
	c.right[d] = now.Add(rememberFor)
}

// exhausted refuses a login before any computation: too many wrong passwords
// came for this user from this network; or from this network for whomever, if the
// login is neither familiar there nor from an address that customers share.
func (c *credentials) exhausted(l login, from place, familiar bool, now time.Time) *mail.Refusal {
	if retry := c.guesses.Ask(now, guess(from)); !retry.IsZero() {
		return mail.AuthUnavailable.Because("too many wrong passwords for this user from %s, none is checked before %s", from.network, retry.UTC().Format(time.RFC3339))
	}
	if familiar || l.shared {
		return nil
	}
	if retry := c.networks.Ask(now, c.anyGuess(from)); !retry.IsZero() {
		return mail.AuthUnavailable.Because("too many wrong passwords from %s, none of a stranger is checked before %s", from.network, retry.UTC().Format(time.RFC3339))
	}
	return nil
}

// failed counts a wrong password.
func (c *credentials) failed(l login, from place, now time.Time) {
	c.guesses.Take(now, guess(from))
	if !l.shared {
		c.networks.Take(now, c.anyGuess(from))
	}
}

// guess is a wrong password for one user from one network: nobody can lock a
// user out from elsewhere.
func guess(from place) limit.Claim {
	return limit.Claim{Key: string(from.user[:]) + from.network.String(), Rate: limit.Rate{Units: failuresBefore, Span: failuresFor}, Amount: 1}
}

// anyGuess is a wrong password for whomever.
func (c *credentials) anyGuess(from place) limit.Claim {
	return limit.Claim{Key: from.network.String(), Rate: c.perPeer, Amount: 1}
}

// placeOf is where a login comes from, by user. The name is kept as its digest: it
// is a stranger's text of any length.
func (c *credentials) placeOf(l login) place {
	return place{user: sha256.Sum256([]byte(l.username)), network: network(l.peer, peerBits4)}
}
