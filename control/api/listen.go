package api

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// SocketName is the control socket's name in the data directory.
const SocketName = "control.sock"

// maxSocketPath is what sockaddr_un takes on Linux, less its final zero (unix(7));
// some other systems take four octets less.
const maxSocketPath = 107

// ErrRunning says that another process answers on the control socket.
var ErrRunning = errors.New("a relay is running on this data directory")

// Listen makes the control socket of a data directory. A socket that is left of
// a process that ended is replaced; one that answers is not: ErrRunning. Accept
// gives only connections whose peer is the user of this process, or root; others
// are closed and logged. Closing the listener removes the socket.
func Listen(dataDir string, log *slog.Logger) (net.Listener, error) {
	path := filepath.Join(dataDir, SocketName)
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("control socket: %s has %d octets, a socket's path has %d at most: choose a shorter data_dir", path, len(path), maxSocketPath)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), l.Close())
	}
	return &guarded{UnixListener: l, log: log, permitted: permitted}, nil
}

// removeStale takes away a socket that nobody answers on.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control socket: %s is there and no socket: move it away", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		return errors.Join(fmt.Errorf("control socket: %s: %w", path, ErrRunning), conn.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("control socket: cannot tell whether somebody answers: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("control socket: a stale one cannot be removed: %w", err)
	}
	return nil
}

// guarded is a listener that knows whom it lets in.
type guarded struct {
	*net.UnixListener
	log       *slog.Logger
	permitted func(peer, self int) bool
}

// Accept waits for a connection of a permitted peer, and says whose it is in its
// remote address.
func (g *guarded) Accept() (net.Conn, error) {
	for {
		conn, err := g.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peerUser(conn)
		if err == nil && g.permitted(uid, os.Geteuid()) {
			return peerConn{conn, peerAddr{uid}}, nil
		}
		g.log.Warn("control socket: a connection of another user was closed", "uid", uid, "error", err)
		_ = conn.Close() // nothing was said on it
	}
}

// permitted is who may steer the relay: its own user, and root.
func permitted(peer, self int) bool { return peer == self || peer == 0 }
