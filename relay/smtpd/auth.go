package smtpd

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/emersion/go-sasl"

	"anechoic/mail"
)

// maxAuthFailures is how many wrong passwords a connection may offer.
const maxAuthFailures = 3

// credentials are what a mechanism got out of the peer. They are never logged.
type credentials struct {
	identity, username, password string
}

// wellFormed says that the peer claims to be exactly the user whose password it
// gives (RFC 4616 section 2 would let it ask for another identity).
func (c credentials) wellFormed() bool {
	return c.username != "" && !hasControl(c.username) && (c.identity == "" || c.identity == c.username)
}

// mechanism gives the server side of a SASL mechanism that fills got; nil if it
// is not offered.
func mechanism(name string, got *credentials) sasl.Server {
	switch strings.ToUpper(name) {
	case sasl.Plain:
		return sasl.NewPlainServer(func(identity, username, password string) error {
			*got = credentials{identity, username, password}
			return nil
		})
	case sasl.Login:
		return &login{got: got}
	}
	return nil
}

// login is the LOGIN mechanism, which go-sasl has for clients only
// (draft-murchison-sasl-login): user name, then password.
type login struct {
	got   *credentials
	named bool
}

var errLoginOver = errors.New("LOGIN takes two responses")

// Next takes a response and gives the next challenge.
func (l *login) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case response == nil && !l.named:
		return []byte("Username:"), false, nil
	case response == nil:
		return nil, false, errLoginOver
	case !l.named:
		l.named = true
		l.got.username = string(response)
		return []byte("Password:"), false, nil
	}
	l.got.password = string(response)
	return nil, true, nil
}

// auth answers AUTH (RFC 4954): inside TLS, once, outside of transactions.
func (c *conn) auth(ctx context.Context, args string) bool {
	name, initial, given := strings.Cut(args, " ")
	var got credentials
	m := mechanism(name, &got)
	switch {
	case c.server.Authenticate == nil:
		return c.refuse(mail.CommandNotOffered)
	case c.session.TLS == nil:
		return c.refuse(mail.AuthNeedsTLS)
	case c.session.Username != "":
		return c.refuse(mail.AuthTwice)
	case !c.session.EHLO || c.tx != nil:
		return c.refuse(mail.BadSequence)
	case c.authFailures >= maxAuthFailures:
		return c.refuse(mail.TooManyErrors.Because("%d wrong passwords", c.authFailures))
	case m == nil:
		return c.refuse(mail.AuthMechanism)
	}
	var response []byte
	if given {
		var err error
		if response, err = decodeResponse(strings.TrimPrefix(initial, "=")); err != nil {
			return c.refuse(mail.ArgumentSyntax.Because("the initial response is not base64"))
		}
	}
	if complete, goOn := c.exchange(m, response); !complete {
		return goOn
	}
	return c.authenticate(ctx, got)
}

// exchange takes challenges and responses through the wire until the mechanism
// has what it needs. Not complete: the refusal was sent.
func (c *conn) exchange(m sasl.Server, response []byte) (complete, goOn bool) {
	for {
		challenge, done, err := m.Next(response)
		if err != nil {
			return false, c.refuse(mail.ArgumentSyntax.Because("not what the mechanism expects"))
		}
		if done {
			return true, true
		}
		if !c.reply("334 " + base64.StdEncoding.EncodeToString(challenge)) {
			return false, false
		}
		line, err := c.readLine(func([]byte) int { return maxAuthLine })
		if err != nil {
			return false, c.lineFailed(err)
		}
		if line == "*" {
			return false, c.refuse(mail.AuthCancelled)
		}
		if response, err = decodeResponse(line); err != nil {
			return false, c.refuse(mail.ArgumentSyntax.Because("the response is not base64"))
		}
	}
}

// decodeResponse gives a response that is never nil, which would mean that there
// is none.
func decodeResponse(s string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return append([]byte{}, b...), err
}

// authenticate has the password checked. The user name is the session's only if
// it was right.
func (c *conn) authenticate(ctx context.Context, got credentials) bool {
	if !got.wellFormed() {
		c.authFailures++
		return c.refuse(mail.AuthFailed.Because("no user name, or another identity was asked for"))
	}
	if r := c.server.Authenticate(ctx, &c.session, got.username, got.password); r != nil {
		if r.Reason() == mail.ReasonAuthFailed {
			c.authFailures++
		}
		return c.answer(r, c.session.ID)
	}
	c.session.Username = got.username
	c.server.Counters.Authenticated.Add(1)
	return c.reply("235 2.7.0 Authenticated")
}
