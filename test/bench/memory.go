package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"sync"
	"time"
)

// How many connections are open in the memory measurement, and how many of them
// send when the others are idle.
const (
	memoryConnections = 1000
	memoryActive      = 100
)

// memory measures a thousand connections twice: most of them idle inside TLS
// after AUTH, and all of them sending.
func memory(ctx context.Context, g *ground, o options, out io.Writer) error {
	c := pureGo(g)
	fmt.Fprintf(out, "%s. %s, %s.\n\n| KiB | connections | of them sending | peak PSS MiB | delivered/s while submitting | lost | refused or failed |\n|--:|--:|--:|--:|--:|--:|--:|\n",
		machine(), c.name, c.terms.Source)
	for _, active := range []int{memoryActive, memoryConnections} {
		l := Load{KiB: o.sizes[0], Connections: active, Seconds: o.seconds}
		m, err := measureIdle(ctx, g, c, l, memoryConnections-active)
		if err != nil {
			return fmt.Errorf("%d connections of which %d send: %w", memoryConnections, active, err)
		}
		fmt.Fprintf(out, "| %d | %d | %d | %.0f | %.0f | %.0f | %.0f |\n", l.KiB, memoryConnections, active, m.Memory, m.Delivered, m.Lost, m.Failed)
	}
	return nil
}

// measureIdle is measure with idle connections beside the load.
func measureIdle(ctx context.Context, g *ground, c contender, l Load, idle int) (m Measurement, err error) {
	r, err := c.start(ctx)
	if err != nil {
		return m, fmt.Errorf("start: %w", err)
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	held, err := holdConnections(r.addr, idle)
	defer func() {
		for _, conn := range held {
			_ = conn.Close()
		}
	}()
	if err != nil {
		return m, err
	}
	return generate(ctx, g, c, r, l)
}

// holdConnections opens sessions up to and including AUTH, a few at a time, and
// leaves them there.
func holdConnections(addr string, count int) (held []net.Conn, err error) {
	var mu sync.Mutex // guards held and err
	var opening sync.WaitGroup
	slots := make(chan struct{}, 8)
	for range count {
		slots <- struct{}{}
		opening.Go(func() {
			defer func() { <-slots }()
			conn, failed := openSession(addr)
			mu.Lock()
			defer mu.Unlock()
			if failed != nil {
				err = failed
				return
			}
			held = append(held, conn)
		})
	}
	opening.Wait()
	return held, err
}

// openSession connects, starts TLS and proves the credential.
func openSession(addr string) (net.Conn, error) {
	raw, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	plain := textproto.NewConn(raw)
	err = errors.Join(expect(plain, 220, ""), expect(plain, 250, "EHLO idle.example.org"), expect(plain, 220, "STARTTLS"))
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	secured := tls.Client(raw, &tls.Config{InsecureSkipVerify: true}) // its certificate is made by itself; this is loopback
	session := textproto.NewConn(secured)
	initial := base64.StdEncoding.EncodeToString([]byte("\x00" + username + "\x00" + password))
	err = errors.Join(expect(session, 250, "EHLO idle.example.org"), expect(session, 235, "AUTH PLAIN "+initial))
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return secured, nil
}

// expect sends a command, if there is one, and wants its reply.
func expect(c *textproto.Conn, code int, line string) error {
	if line != "" {
		if err := c.PrintfLine("%s", line); err != nil {
			return err
		}
	}
	_, _, err := c.ReadResponse(code)
	return err
}
