package api

import (
	"net"
	"net/http"
	"os/user"
	"strconv"
	"strings"
	"unicode"
)

// Who asks is known from the socket: the kernel says whose process connected. It
// travels as the remote address of the connection, which net/http hands to every
// handler. What the request says beside it ("by") is a claim, and told as one: root
// asks for whom sudo says.

// peerAddr is the remote address of a connection of the control socket.
type peerAddr struct{ uid int }

// peerNetwork is the network of such an address, and what its text begins with.
const peerNetwork = "uid"

// Network implements net.Addr.
func (peerAddr) Network() string { return peerNetwork }

// String is "uid:1000".
func (a peerAddr) String() string { return peerNetwork + ":" + strconv.Itoa(a.uid) }

// peerConn is a connection whose peer's user is known.
type peerConn struct {
	net.Conn
	peer peerAddr
}

// RemoteAddr implements net.Conn.
func (c peerConn) RemoteAddr() net.Addr { return c.peer }

// maxClaim bounds what a request says of who asks: a user name of Linux has 32
// octets at most (useradd(8)), and courses bound the whole.
const maxClaim = 64

// anOperator is who asks where that is not known.
const anOperator = "an operator"

// asker says who asks, for the ledger and the log: "root (uid 0) for alice", if
// alice is who the request says it is from.
func asker(r *http.Request, claim string) string {
	claim = claimed(claim)
	text, local := strings.CutPrefix(r.RemoteAddr, peerNetwork+":")
	uid, err := strconv.Atoi(text)
	if !local || err != nil {
		if claim == "" {
			return anOperator
		}
		return claim
	}
	name, who := "", "uid "+text
	if u, err := user.LookupId(text); err == nil {
		name, who = u.Username, u.Username+" (uid "+strconv.Itoa(uid)+")"
	}
	if claim == "" || claim == name {
		return who
	}
	return who + " for " + claim
}

// claimed takes out of a claim what could be taken for what is known.
func claimed(s string) string {
	s = strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) || c == '(' || c == ')' {
			return -1
		}
		return c
	}, s)
	for len(s) > maxClaim {
		s = strings.ToValidUTF8(s[:maxClaim], "")
	}
	return strings.TrimSpace(s)
}
