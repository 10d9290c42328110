package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"anechoic/control/api"
)

// queuedRecipients is how many domains mail is queued for.
const queuedRecipients = 5000

// ColdStart is one start on a full queue.
type ColdStart struct {
	Ready     time.Duration // from the start of the process to its ready line
	Accepting time.Duration // to the first 250 of a whole message
	Indexed   time.Duration // until the control socket counts all
	Peak      int           // MiB, largest resident memory until then
	Resident  int           // MiB, then
}

// queued fills a queue with the relay stopped, lets the store come to rest, and
// measures starts on it: after a clean stop, and after kill -9, in turn.
func queued(ctx context.Context, g *ground, o options, out io.Writer) error {
	n := o.node()
	dir, err := os.MkdirTemp(g.work, "queued-")
	if err != nil {
		return err
	}
	file, err := writeNode(g, dir)
	if err != nil {
		return err
	}
	took, err := g.fill(ctx, file, o.queued)
	if err != nil {
		return err
	}
	q := fullQueue{ground: g, dir: dir, file: file, messages: o.queued}
	g.say("queued in %.0f s; one start that does not count, until the store has put in order what came so fast", took.Seconds())
	if _, err := q.start(ctx, awaitIdle, terminated); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s. %d messages queued with the relay stopped: 1 KiB, of %d organisations with %d domains, to %d domains; the next hop is suspended. Signer: Go crypto/rsa; fsync: yes; the disk's cache is warm.\n\n",
		machine(), o.queued, n.countOrganisations(), n.countDomains(), queuedRecipients)
	fmt.Fprint(out, "| messages | stopped by | ready s | accepting s | indexed s | peak RSS MiB until then | RSS MiB then |\n|--:|---|--:|--:|--:|--:|--:|\n")
	before := "SIGTERM"
	for range 2 * o.rounds {
		end, next := killed, "SIGKILL"
		if before == "SIGKILL" {
			end, next = terminated, "SIGTERM"
		}
		have := q.messages
		s, err := q.start(ctx, nil, end)
		if err != nil {
			return fmt.Errorf("start after %s: %w", before, err)
		}
		fmt.Fprintf(out, "| %d | %s | %.2f | %.2f | %.1f | %d | %d |\n", have, before, s.Ready.Seconds(), s.Accepting.Seconds(), s.Indexed.Seconds(), s.Peak, s.Resident)
		before = next
	}
	return nil
}

// fill fills the queue in a process of its own, so that it takes no memory of the
// measurement.
func (g *ground) fill(ctx context.Context, file string, messages int) (time.Duration, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	g.say("queueing %d messages", messages)
	start := time.Now()
	err = raised(ctx, g.work, self, "fill", file, strconv.Itoa(messages), strconv.Itoa(g.sinkPort)).run()
	return time.Since(start), err
}

// indexTime is how long a start may take until all is indexed.
const indexTime = 10 * time.Minute

// fullQueue is a data directory with messages in it.
type fullQueue struct {
	*ground
	dir, file string
	messages  int
}

// start starts the relay, hands it one more message, waits until all is indexed,
// does what else there is to do, and ends it so.
func (q *fullQueue) start(ctx context.Context, then func(context.Context, running) error, end func(running) error) (s ColdStart, err error) {
	begun := time.Now()
	r, err := launch(ctx, q.dir, q.path("anechoic"), "serve", "--config", q.file)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, end(r)) }()
	s.Ready = time.Since(begun)
	if err := sendOne(r.addr); err != nil {
		return s, fmt.Errorf("the first message: %w", err)
	}
	s.Accepting = time.Since(begun)
	q.messages++
	if err := awaitIndexed(ctx, filepath.Join(q.dir, "data"), q.messages); err != nil {
		return s, err
	}
	s.Indexed = time.Since(begun)
	status, err := os.ReadFile(filepath.Join("/proc", r.pids, "status"))
	s.Peak, s.Resident = memoryOf(string(status), "VmHWM:"), memoryOf(string(status), "VmRSS:")
	if err == nil && then != nil {
		err = then(ctx, r)
	}
	return s, err
}

// Two ways to end a relay.
func terminated(r running) error { return r.stop() }
func killed(r running) error     { r.kill(); return nil }

// When a relay is at rest: it used little processor time for some seconds. It is
// not waited for longer than restTime.
const (
	restShare   = 0.05
	restSeconds = 3
	restTime    = 5 * time.Minute
)

// awaitIdle waits until a relay is at rest.
func awaitIdle(ctx context.Context, r running) error {
	ctx, cancel := context.WithTimeout(ctx, restTime)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for last, calm := time.Duration(-1), 0; calm < restSeconds; {
		stat, err := os.ReadFile(filepath.Join("/proc", r.pids, "stat"))
		if err != nil {
			return err
		}
		used := processorTime(string(stat))
		if calm++; last < 0 || (used-last).Seconds() > restShare {
			calm = 0
		}
		last = used
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the relay is not at rest after %s: %w", restTime, ctx.Err())
		}
	}
	return nil
}

// processorTime is user and system time in /proc/PID/stat, fields 14 and 15
// (proc(5)), counted in hundredths of a second on every Linux that Go runs on.
func processorTime(stat string) time.Duration {
	_, rest, _ := strings.Cut(stat, ") ") // field 2 is a name in brackets
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// sendOne hands over a whole message, as soon as anybody takes it.
func sendOne(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(indexTime)); err != nil {
		return err
	}
	c := textproto.NewConn(conn)
	for _, step := range []struct {
		code int
		line string
	}{
		{220, ""}, {250, "EHLO client.bench.example.org"}, {250, "MAIL FROM:<" + sender + ">"}, {250, "RCPT TO:<one@more.example>"}, {354, "DATA"},
		{250, "From: " + sender + "\r\nTo: one@more.example\r\nSubject: one more\r\nDate: " + time.Now().Format(time.RFC1123Z) +
			"\r\nMessage-ID: <" + strconv.FormatInt(time.Now().UnixNano(), 10) + "@" + senderDomain + ">\r\n\r\nHello.\r\n."},
	} {
		if err := expect(c, step.code, step.line); err != nil {
			return err
		}
	}
	return nil
}

// askedEvery is how often a relay is asked how far it came: an answer about a million
// messages costs it a tenth of a second of processor time.
const askedEvery = 500 * time.Millisecond

// awaitIndexed asks the relay until it counts so many messages in the queue.
func awaitIndexed(ctx context.Context, dataDir string, messages int) error {
	ctx, cancel := context.WithTimeout(ctx, indexTime)
	defer cancel()
	client := api.NewClient(dataDir)
	tick := time.NewTicker(askedEvery)
	defer tick.Stop()
	have := 0
	for {
		status, err := client.Status(ctx, "bench")
		if err == nil {
			have = status.Queue.Messages
		}
		if have >= messages {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the relay counts %d of %d messages (%v): %w", have, messages, err, ctx.Err())
		}
	}
}

// memoryOf reads a line such as "VmHWM:   12345 kB" of /proc/PID/status, in MiB.
func memoryOf(status, name string) (mib int) {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			_, _ = fmt.Sscan(rest, &mib)
			return mib >> 10
		}
	}
	return 0
}
