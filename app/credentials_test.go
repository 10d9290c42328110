package app

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
			c2 := newCredentials()
			got := c2.check(context.Background(), dir, c.username, c.password, c.peer, noon)
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
	c, dir := newCredentials(), oneCredential(t, "right password")
	if r := c.check(context.Background(), dir, "app@acme", "right password", inside, noon); r != nil {
		t.Fatal(r)
	}
	// With no slot left only what is remembered can be answered.
	for range checksAtOnce {
		c.slots <- struct{}{}
	}
	busy, cancel := context.WithCancel(context.Background())
	cancel()
	if r := c.check(busy, dir, "app@acme", "right password", inside, noon.Add(rememberFor-1)); r != nil {
		t.Errorf("it was not remembered: %v", r)
	}
	for what, r := range map[string]*mail.Refusal{
		"another password":        c.check(busy, dir, "app@acme", "wrong password", inside, noon),
		"the same, much later":    c.check(busy, dir, "app@acme", "right password", inside, noon.Add(rememberFor)),
		"the same, another hash":  c.check(busy, oneCredential(t, "right password"), "app@acme", "right password", inside, noon),
		"the same, another place": c.check(busy, dir, "app@acme", "right password", outside, noon),
	} {
		if r == nil {
			t.Errorf("%s passed without a check", what)
		}
	}
}

func TestGuessingIsStoppedWithoutLockingOthersOut(t *testing.T) {
	c, dir := newCredentials(), oneCredential(t, "right password")
	for range failuresBefore {
		if r := c.check(context.Background(), dir, "app@acme", "guess", outside, noon); r == nil || r.Code() != mail.AuthFailed.Code() {
			t.Fatal(r)
		}
	}
	if r := c.check(context.Background(), dir, "app@acme", "guess", outside, noon); r == nil || !r.Temporary() {
		t.Errorf("the next guess was checked: %v", r)
	}
	if r := c.check(context.Background(), dir, "app@acme", "right password", inside, noon); r != nil {
		t.Errorf("the owner was locked out: %v", r)
	}
	if r := c.check(context.Background(), dir, "app@acme", "guess", outside, noon.Add(failuresFor)); r == nil || r.Temporary() {
		t.Errorf("the guesser is never heard again: %v", r)
	}
}

func TestChecksThatWaitAreBounded(t *testing.T) {
	c, dir := newCredentials(), oneCredential(t, "right password")
	for range checksWaiting {
		c.waiting <- struct{}{}
	}
	if r := c.check(context.Background(), dir, "app@acme", "right password", inside, noon); r == nil || !r.Temporary() {
		t.Errorf("one more waits: %v", r)
	}
}

// TestManyConnectionsOfOneUserCostOneCheck: an application may open more
// connections at once than checks may wait.
func TestManyConnectionsOfOneUserCostOneCheck(t *testing.T) {
	dir := oneCredential(t, "right password")
	synctest.Test(t, func(t *testing.T) {
		c := newCredentials()
		for range checksAtOnce {
			c.slots <- struct{}{}
		}
		right, wrong := make(chan *mail.Refusal, 2*checksWaiting), make(chan *mail.Refusal, 2)
		for range cap(right) {
			go func() { right <- c.check(context.Background(), dir, "app@acme", "right password", inside, noon) }()
		}
		for range cap(wrong) {
			go func() { wrong <- c.check(context.Background(), dir, "app@acme", "wrong password", inside, noon) }()
		}
		synctest.Wait()
		if n := len(c.waiting); n != 2 {
			t.Errorf("%d checks wait, want one for each password", n)
		}
		<-c.slots
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
		if n := c.failures[attempt{"app@acme", inside}].count; n != cap(wrong) {
			t.Errorf("%d failures were counted, want %d", n, cap(wrong))
		}
		if len(c.running) > 0 {
			t.Errorf("%d checks are still noted as running", len(c.running))
		}
	})
}
