//go:build !linux && !darwin && !freebsd

package api

import (
	"errors"
	"net"
)

// peerUser cannot be known here, so nobody is let in.
func peerUser(*net.UnixConn) (uid int, err error) {
	return -1, errors.New("this system does not say who connects to a socket")
}
