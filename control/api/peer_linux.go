package api

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// peerUser is the effective user of the process that connected (unix(7),
// SO_PEERCRED).
func peerUser(conn *net.UnixConn) (uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	var peer *unix.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) { peer, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return -1, err
	}
	if asked != nil {
		return -1, fmt.Errorf("SO_PEERCRED: %w", asked)
	}
	return int(peer.Uid), nil
}
