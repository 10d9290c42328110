package supervise

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

const (
	firstSocket = 3   // SD_LISTEN_FDS_START of sd_listen_fds(3)
	mostSockets = 128 // ours: a relay has a handful of ports
)

// Socket is a listening socket that the supervisor holds. Closing its Listener
// leaves the supervisor's open: connections wait there for the next process.
type Socket struct {
	Name     string // what the supervisor calls it (FileDescriptorName=)
	Listener net.Listener
}

// Inherited takes over what the supervisor handed to this process: none if it
// handed over nothing. On an error nothing is left open.
func Inherited(env func(string) string, pid int) (sockets []Socket, err error) {
	names, err := handedOver(env, pid)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			for _, s := range sockets {
				_ = s.Listener.Close()
			}
			sockets = nil
		}
	}()
	for i, name := range names {
		l, err := takeOver(firstSocket+i, name)
		if err != nil {
			return sockets, err
		}
		sockets = append(sockets, Socket{Name: name, Listener: l})
	}
	return sockets, nil
}

// takeOver makes a listener of a descriptor, which is closed for it: net keeps a
// duplicate that children do not get.
func takeOver(descriptor int, name string) (net.Listener, error) {
	file := os.NewFile(uintptr(descriptor), name)
	if file == nil {
		return nil, fmt.Errorf("supervisor: descriptor %d (%s) is not open", descriptor, name)
	}
	l, err := net.FileListener(file)
	if closed := file.Close(); err == nil && closed != nil {
		return nil, errors.Join(fmt.Errorf("supervisor: descriptor %d (%s): %w", descriptor, name, closed), l.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("supervisor: descriptor %d (%s) is no listening socket: %w: the socket unit needs ListenStream=, and Accept=no", descriptor, name, err)
	}
	return l, nil
}

// handedOver reads LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES: a name for each
// socket. A socket without a name is called "unknown", as sd_listen_fds_with_names
// does. What is meant for another process is nothing.
func handedOver(env func(string) string, pid int) (names []string, err error) {
	if env("LISTEN_FDS") == "" || env("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil
	}
	n, err := strconv.Atoi(env("LISTEN_FDS"))
	if err != nil || n < 0 || n > mostSockets {
		return nil, fmt.Errorf("supervisor: LISTEN_FDS=%q is no number of sockets up to %d", env("LISTEN_FDS"), mostSockets)
	}
	if list := env("LISTEN_FDNAMES"); list != "" {
		if names = strings.Split(list, ":"); len(names) != n {
			return nil, fmt.Errorf("supervisor: LISTEN_FDNAMES has %d names for %d sockets", len(names), n)
		}
		return names, nil
	}
	for range n {
		names = append(names, "unknown")
	}
	return names, nil
}
