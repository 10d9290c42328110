//go:build darwin || freebsd

package api

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// peerUser is the effective user of the process that connected (unix(4),
// LOCAL_PEERCRED).
func peerUser(conn *net.UnixConn) (uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	var peer *unix.Xucred
	var asked error
	if err := raw.Control(func(fd uintptr) { peer, asked = unix.GetsockoptXucred(int(fd), 0, unix.LOCAL_PEERCRED) }); err != nil {
		return -1, err
	}
	if asked != nil {
		return -1, fmt.Errorf("LOCAL_PEERCRED: %w", asked)
	}
	return int(peer.Uid), nil
}
