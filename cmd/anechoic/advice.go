package main

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
)

// advice is what to do about errors of the system, whatever they happened to.
var advice = []struct {
	err  error
	text string
}{
	{syscall.EADDRINUSE, "another program has this port: ss -ltnp names it; stop it, or choose another port in relay.toml"},
	{syscall.EADDRNOTAVAIL, "this machine has no such address: ip address lists those it has"},
	{syscall.ENOSPC, "the disk is full: df shows how full; make room, then try again"},
	{syscall.EDQUOT, "the disk quota is used up: make room, then try again"},
	{syscall.EROFS, "the file system is mounted read-only: see to the disk and mount"},
	{syscall.EMFILE, "too many files are open: raise the limit (LimitNOFILE= of the service, or ulimit -n)"},
	{syscall.EISDIR, "it is a folder: name a file"},
	{syscall.ENOTDIR, "a part of the path is a file, not a folder"},
	{syscall.EIO, "the disk does not answer: the system's log (dmesg) says more"},
}

// portAdvice is for ports below 1024, which only root and who is given the right
// may bind.
const portAdvice = "ports below 1024 need a right: CAP_NET_BIND_SERVICE, or a service manager that binds them"

// advised is an error with what to do about it, where the system's own words say
// only what happened.
func advised(err error) string {
	text := err.Error()
	for _, a := range advice {
		if errors.Is(err, a.err) {
			return text + ": " + a.text
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission) && strings.Contains(text, "listen "):
		return text + ": " + portAdvice
	case errors.Is(err, fs.ErrPermission) && !strings.Contains(text, "sudo"):
		return text + ": this user may not: run it as the relay's user (sudo -u anechoic) or as root, or see to the owner and mode of the file"
	}
	return text
}
