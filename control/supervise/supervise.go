// Package supervise speaks with the program that started this one, as systemd's
// services do (sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3)): it says
// when mail is taken, when a reload runs, when the end begins and that the program
// is alive, and it takes over listening sockets that the supervisor holds, so that
// a restart refuses no connection.
//
// The protocol is a datagram of lines on the socket $NOTIFY_SOCKET, and variables
// of the environment. Without them there is no supervisor: Connect gives nil, and
// every method of a nil Supervisor does nothing.
//
// A supervisor that does not read delays nothing: a message that cannot be sent
// within a second is lost, and the error says so. The package decides nothing: who
// is alive, and what to do about it, is for the caller.
package supervise

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// sendTimeout bounds one message.
const sendTimeout = time.Second

// Supervisor is told how the program fares. A nil one is nobody.
type Supervisor struct {
	conn     *net.UnixConn
	watchdog time.Duration
}

// Connect finds the supervisor in the environment; nil, nil says that there is
// none. pid is this process: a watchdog that is meant for another one is not
// obeyed.
func Connect(env func(string) string, pid int) (*Supervisor, error) {
	address := env("NOTIFY_SOCKET")
	if address == "" {
		return nil, nil
	}
	if address[0] != '/' && address[0] != '@' {
		return nil, fmt.Errorf("supervisor: NOTIFY_SOCKET=%q is neither a path nor an abstract socket: start the program without that variable", address)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("supervisor: NOTIFY_SOCKET: %w", err)
	}
	return &Supervisor{conn: conn, watchdog: watchdogOf(env, pid)}, nil
}

// watchdogOf is how long this process may be silent; zero: as long as it likes.
// What cannot be read is taken for no watchdog, as sd_watchdog_enabled does for
// another process's.
func watchdogOf(env func(string) string, pid int) time.Duration {
	if whose := env("WATCHDOG_PID"); whose != "" && whose != strconv.Itoa(pid) {
		return 0
	}
	µs, err := strconv.ParseInt(env("WATCHDOG_USEC"), 10, 64)
	if err != nil || µs <= 0 || µs > int64(24*time.Hour/time.Microsecond) {
		return 0
	}
	return time.Duration(µs) * time.Microsecond
}

// Watchdog is how often Alive is to be said: half of what the supervisor waits, as
// sd_watchdog_enabled(3) advises. Zero: never.
func (s *Supervisor) Watchdog() time.Duration {
	if s == nil {
		return 0
	}
	return s.watchdog / 2
}

// Ready says that the program does its work, at first or after a reload.
func (s *Supervisor) Ready(status string) error { return s.tell("READY=1", statusLine(status)) }

// Reloading says that the configuration is read again; Ready follows, whatever
// comes of it. The time of the monotonic clock goes along, which Type=notify-reload
// wants.
func (s *Supervisor) Reloading(status string) error {
	return s.tell("RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(monotonic(), 10), statusLine(status))
}

// Stopping says that the end has begun, and will take so long at most.
func (s *Supervisor) Stopping(within time.Duration, status string) error {
	return s.tell("STOPPING=1", "EXTEND_TIMEOUT_USEC="+strconv.FormatInt(within.Microseconds(), 10), statusLine(status))
}

// Status gives one line for people to read.
func (s *Supervisor) Status(status string) error { return s.tell(statusLine(status)) }

// Alive keeps the watchdog quiet.
func (s *Supervisor) Alive() error { return s.tell("WATCHDOG=1") }

// Close ends the connection; there is nothing to say after it.
func (s *Supervisor) Close() error {
	if s == nil {
		return nil
	}
	return s.conn.Close()
}

// statusLine keeps a text within its line: what follows a line feed would be an
// order.
func statusLine(text string) string {
	return "STATUS=" + strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

func (s *Supervisor) tell(lines ...string) error {
	if s == nil {
		return nil
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	if _, err := s.conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("supervisor: it was not told %s: %w", lines[0], err)
	}
	return nil
}
