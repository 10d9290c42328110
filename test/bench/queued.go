package main

import (
	"context"
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

// queued fills a queue with the relay stopped, and measures starts on it.
func queued(ctx context.Context, g *ground, o options, out io.Writer) (err error) {
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
	fmt.Fprintf(out, "%s. %d messages queued with the relay stopped, in %.0f s: 1 KiB, of %d organisations with %d domains, to %d domains; the next hop is suspended. Clean stops; a pure Go binary; the disk's cache is warm.\n\n",
		machine(), o.queued, took.Seconds(), n.countOrganisations(), n.countDomains(), queuedRecipients)
	fmt.Fprint(out, "| messages | ready s | accepting s | indexed s | peak RSS MiB until then | RSS MiB then |\n|--:|--:|--:|--:|--:|--:|\n")
	for round := range o.rounds {
		s, err := coldStart(ctx, g, dir, file, o.queued+round)
		if err != nil {
			return fmt.Errorf("start %d: %w", round+1, err)
		}
		fmt.Fprintf(out, "| %d | %.2f | %.2f | %.1f | %d | %d |\n", o.queued+round, s.Ready.Seconds(), s.Accepting.Seconds(), s.Indexed.Seconds(), s.Peak, s.Resident)
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

// coldStart starts the relay on what is queued, hands it one more message, and
// waits until all is indexed.
func coldStart(ctx context.Context, g *ground, dir, file string, messages int) (s ColdStart, err error) {
	begun := time.Now()
	c := contender{start: func(ctx context.Context) (running, error) {
		return launch(ctx, dir, g.path("anechoic"), "serve", "--config", file)
	}}
	err = whileRunning(ctx, c, func(r running) error {
		s.Ready = time.Since(begun)
		if err := sendOne(r.addr); err != nil {
			return fmt.Errorf("the first message: %w", err)
		}
		s.Accepting = time.Since(begun)
		if err := awaitIndexed(ctx, filepath.Join(dir, "data"), messages+1); err != nil {
			return err
		}
		s.Indexed = time.Since(begun)
		status, err := os.ReadFile(filepath.Join("/proc", r.pids, "status"))
		s.Peak, s.Resident = memoryOf(string(status), "VmHWM:"), memoryOf(string(status), "VmRSS:")
		return err
	})
	return s, err
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

// awaitIndexed asks the relay until it counts so many messages in the queue.
func awaitIndexed(ctx context.Context, dataDir string, messages int) error {
	ctx, cancel := context.WithTimeout(ctx, indexTime)
	defer cancel()
	client := api.NewClient(dataDir)
	tick := time.NewTicker(200 * time.Millisecond)
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
