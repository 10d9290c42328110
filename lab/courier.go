package lab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/smtp"
	"net/textproto"
	"time"
)

// Letter is a message with its envelope and the address it is sent from.
type Letter struct {
	Via     netip.Addr // source address of the connection
	From    string     // MAIL FROM
	To      string
	Data    []byte
	User    string // AUTH PLAIN, if not empty
	Secret  string
	Subject string // for progress only
}

// Reply is what a relay said to a letter: Code 250, or the refusal.
type Reply struct {
	Code int
	Text string
}

// Accepted says that the relay took the letter.
func (r Reply) Accepted() bool { return r.Code == 250 }

// courier keeps a connection to one relay from one address, as a provider's
// sending host does.
type courier struct {
	client *smtp.Client
	conn   net.Conn
	unlink func() bool // from the context that ends it
}

// closing is the reply after which a server hangs up (RFC 5321 section 3.8).
const closing = 421

// sendTimeout bounds one letter: nothing on loopback takes as long.
const sendTimeout = 30 * time.Second

// dial connects from an address, with TLS if the relay offers it. The end of ctx
// closes the connection.
func dial(ctx context.Context, relay string, via netip.Addr, user, secret string) (*courier, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: via.AsSlice()}, Timeout: sendTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", relay)
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	unlink := context.AfterFunc(ctx, func() { conn.Close() })
	host, _, err := net.SplitHostPort(relay)
	if err != nil {
		unlink()
		return nil, errors.Join(err, conn.Close())
	}
	conn.SetDeadline(time.Now().Add(sendTimeout))
	client, err := smtp.NewClient(conn, host)
	if err == nil {
		err = greet(client, host, user, secret)
	}
	if err != nil {
		unlink()
		return nil, errors.Join(err, conn.Close())
	}
	return &courier{client, conn, unlink}, nil
}

func greet(client *smtp.Client, host, user, secret string) error {
	if err := client.Hello("sender.lab.example"); err != nil {
		return err
	}
	if ok, _ := client.Extension("STARTTLS"); ok {
		// The relays of the range have certificates they made themselves.
		if err := client.StartTLS(&tls.Config{ServerName: host, InsecureSkipVerify: true}); err != nil {
			return err
		}
	}
	if user == "" {
		return nil
	}
	return client.Auth(smtp.PlainAuth("", user, secret, host))
}

// send hands one letter over. A refusal is a Reply; an error means that the
// connection is of no more use.
func (c *courier) send(l Letter) (Reply, error) {
	c.conn.SetDeadline(time.Now().Add(sendTimeout))
	err := c.client.Mail(l.From)
	if err == nil {
		err = c.client.Rcpt(l.To)
	}
	taken := ""
	if err == nil {
		taken, err = c.data(l.Data)
	}
	var refused *textproto.Error
	switch {
	case err == nil:
		return Reply{250, taken}, nil
	case errors.As(err, &refused) && refused.Code == closing:
		return Reply{refused.Code, refused.Msg}, nil
	case errors.As(err, &refused):
		return Reply{refused.Code, refused.Msg}, c.client.Reset()
	}
	return Reply{}, err
}

// data sends the text of a letter and gives what the relay said when it took it.
func (c *courier) data(text []byte) (taken string, err error) {
	id, err := c.client.Text.Cmd("DATA")
	if err != nil {
		return "", err
	}
	c.client.Text.StartResponse(id)
	defer c.client.Text.EndResponse(id)
	if _, _, err := c.client.Text.ReadResponse(354); err != nil {
		return "", err
	}
	w := c.client.Text.DotWriter()
	if _, err := w.Write(text); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	_, taken, err = c.client.Text.ReadResponse(250)
	return taken, err
}

func (c *courier) close() { c.unlink(); c.client.Quit(); c.conn.Close() }

// SendAll sends letters to a relay, each address over a connection of its own at
// the same time, in order. each is called after each letter, from one goroutine
// at a time.
func SendAll(relay string, letters []Letter, each func(Letter, Reply)) error {
	return sendAll(context.Background(), relay, letters, each)
}

func sendAll(ctx context.Context, relay string, letters []Letter, each func(Letter, Reply)) error {
	queues := map[netip.Addr][]Letter{}
	for _, l := range letters {
		queues[l.Via] = append(queues[l.Via], l)
	}
	type result struct {
		letter Letter
		reply  Reply
		err    error
		last   bool
	}
	results := make(chan result)
	for _, queue := range queues {
		go func() {
			err := sendQueue(ctx, relay, queue, func(l Letter, r Reply) { results <- result{letter: l, reply: r} })
			results <- result{err: err, last: true}
		}()
	}
	var errs []error
	for open := len(queues); open > 0; {
		r := <-results
		if r.last {
			open--
			errs = append(errs, r.err)
			continue
		}
		each(r.letter, r.reply)
	}
	return errors.Join(errs...)
}

// sendQueue sends in order. A server that hangs up is called again, as who sends
// much does.
func sendQueue(ctx context.Context, relay string, queue []Letter, each func(Letter, Reply)) (err error) {
	var c *courier
	defer func() {
		if c != nil {
			c.close()
		}
	}()
	for _, l := range queue {
		if c == nil {
			if c, err = dial(ctx, relay, l.Via, l.User, l.Secret); err != nil {
				return err
			}
		}
		reply, err := c.send(l)
		if err != nil {
			return fmt.Errorf("lab: send to %s from %s: %w", relay, l.Via, err)
		}
		each(l, reply)
		if reply.Code == closing {
			c.close()
			c = nil
		}
	}
	return nil
}
