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
)

// Bounds of password checks. One takes tens of milliseconds and its hash's
// memory (19 MiB as this project makes them), so they are few at a time, and a
// right password is remembered for a while.
const (
	checksAtOnce   = 2
	checksWaiting  = 64
	rememberFor    = 5 * time.Minute
	rememberAtMost = 10_000
	failuresBefore = 10 // of one user name from one address, then no more checks
	failuresFor    = 15 * time.Minute
)

// credentials checks user names and passwords of credential sources.
type credentials struct {
	key     [32]byte // of the digests remembered: nothing that can be tried offline
	slots   chan struct{}
	waiting chan struct{}
	nobody  org.PasswordHash // checked for unknown users, so that time tells nothing

	mu       sync.Mutex // guards what follows
	running  map[[32]byte]*passwordCheck
	right    map[[32]byte]time.Time
	failures map[attempt]failureCount
}

// passwordCheck is one computation and its outcome. Whoever comes with the same
// user and password meanwhile waits for it instead of computing too.
type passwordCheck struct {
	done    chan struct{} // closed when what follows is there
	matches bool
	refusal *mail.Refusal
}

// attempt is what failures are counted by: both, so that nobody can lock a user
// out from elsewhere.
type attempt struct {
	username string
	peer     netip.Addr
}

type failureCount struct {
	count int
	since time.Time
}

func newCredentials() *credentials {
	c := &credentials{
		slots: make(chan struct{}, checksAtOnce), waiting: make(chan struct{}, checksWaiting),
		running: map[[32]byte]*passwordCheck{}, right: map[[32]byte]time.Time{}, failures: map[attempt]failureCount{},
	}
	rand.Read(c.key[:]) // never fails (its documentation)
	nobody, err := org.ParsePasswordHash(org.HashPassword(c.key[:]))
	if err != nil {
		panic(err) // what HashPassword makes always parses
	}
	c.nobody = nobody
	return c
}

// check says whether a password is right for a user of the Directory from an
// address: nil, or AuthFailed, or that it cannot be said now.
func (c *credentials) check(ctx context.Context, dir *org.Directory, username, password string, peer netip.Addr, now time.Time) *mail.Refusal {
	who := attempt{username, peer}
	if c.exhausted(who, now) {
		return mail.AuthUnavailable.Because("too many wrong passwords for this user from %s", peer)
	}
	source, known := dir.Username(username)
	hash := c.nobody
	if known {
		parsed, err := org.ParsePasswordHash(source.Password)
		if err != nil {
			return mail.Internal.Because("the password hash of source %s does not parse", source.ID)
		}
		hash = parsed
	}
	digest := c.digest(username, hash.String(), password)
	matches, refusal := c.matches(ctx, digest, hash, password, now)
	switch {
	case refusal != nil:
		return refusal
	case !matches || !known:
		c.fail(who, now)
		return mail.AuthFailed.Because("wrong user name or password")
	}
	if len(source.Addresses) > 0 && !org.Within(peer, source.Addresses) {
		return mail.AuthFailed.Because("source %s is not for address %s", source.ID, peer)
	}
	return nil
}

// matches says whether a password is right: from memory, from a computation
// under way, or by one of its own. An application that opens a hundred
// connections at once costs one.
func (c *credentials) matches(ctx context.Context, digest [32]byte, hash org.PasswordHash, password string, now time.Time) (bool, *mail.Refusal) {
	check, mine := c.join(digest, now)
	switch {
	case check == nil:
		return true, nil
	case mine:
		defer c.finish(digest, check, now)
		check.matches, check.refusal = c.compute(ctx, hash, password)
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
func (c *credentials) join(d [32]byte, now time.Time) (check *passwordCheck, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if until, ok := c.right[d]; ok && now.Before(until) {
		return nil, false
	}
	if check := c.running[d]; check != nil {
		return check, false
	}
	check = &passwordCheck{done: make(chan struct{}), refusal: mail.AuthUnavailable}
	c.running[d] = check
	return check, true
}

// finish remembers a right password and tells who waits.
func (c *credentials) finish(d [32]byte, check *passwordCheck, now time.Time) {
	c.mu.Lock()
	delete(c.running, d)
	if check.matches {
		c.remember(d, now)
	}
	c.mu.Unlock()
	close(check.done)
}

// compute runs one check within the bounds.
func (c *credentials) compute(ctx context.Context, hash org.PasswordHash, password string) (bool, *mail.Refusal) {
	select {
	case c.waiting <- struct{}{}:
		defer func() { <-c.waiting }()
	default:
		return false, mail.AuthUnavailable.Because("%d password checks are waiting", checksWaiting)
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return false, mail.AuthUnavailable.Because("%v", ctx.Err())
	}
	return hash.Matches([]byte(password)), nil
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

// remember keeps a right password in mind for a while. mu is held.
func (c *credentials) remember(d [32]byte, now time.Time) {
	if len(c.right) >= rememberAtMost {
		clear(c.right)
	}
	c.right[d] = now.Add(rememberFor)
}

func (c *credentials) exhausted(who attempt, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.failures[who]
	return ok && f.count >= failuresBefore && now.Sub(f.since) < failuresFor
}

func (c *credentials) fail(who attempt, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.failures) >= rememberAtMost {
		clear(c.failures)
	}
	f := c.failures[who]
	if f.count == 0 || now.Sub(f.since) >= failuresFor {
		f = failureCount{since: now}
	}
	f.count++
	c.failures[who] = f
}
