package lab

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"syscall"
)

// rangeAddresses are those that a machine has to have on loopback: the
// provider's hosts, the receivers, the application, the attacker's servers.
func rangeAddresses() (list []string) {
	for i := range 3 + rogueTenants { // three customers at most
		list = append(list, fmt.Sprintf("127.40.1.%d", 2+i))
	}
	return append(list, receiverAnechoic, receiverPermissive, application.String(), vps.String(), ownServer.String(), neighbour.String())
}

// checkLoopback finds out whether the range's addresses can be used. Linux has
// all of 127.0.0.0/8; others want each address to be set.
func checkLoopback() error {
	var missing []string
	for _, addr := range rangeAddresses() {
		l, err := net.Listen("tcp", addr+":0")
		switch {
		case err == nil:
			l.Close()
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			missing = append(missing, addr)
		default:
			return fmt.Errorf("lab: the demo cannot listen on loopback: %w", err)
		}
	}
	if len(missing) > 0 {
		return errors.New(loopbackHint(runtime.GOOS, missing))
	}
	return nil
}

// loopbackHint says how a system gets the addresses that it lacks.
func loopbackHint(system string, missing []string) string {
	text := fmt.Sprintf("lab: this machine has no loopback address %s", missing[0])
	if len(missing) > 1 {
		text = fmt.Sprintf("lab: this machine lacks %d loopback addresses, as %s", len(missing), missing[0])
	}
	switch system {
	case "darwin":
		return fmt.Sprintf("%s; until the next start of the machine they come with:\n  for a in %s; do sudo ifconfig lo0 alias $a up; done", text, strings.Join(missing, " "))
	case "linux":
		return text + "; 127.0.0.0/8 is usually on lo: ip address show lo, and sudo ip address add 127.0.0.1/8 dev lo"
	}
	return text + "; give it these addresses and try again: " + strings.Join(missing, " ")
}
