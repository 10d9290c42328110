package main

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"anechoic/mail"
	"anechoic/mail/dns"
)

// record puts a record up, or takes all of a name away:
//
//	record NAME A 192.0.2.1 | MX 10 host | NS host… | PTR of-address name | none
func (w *world) record(_ *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("record NAME TYPE VALUE…")
	}
	name, kind, values := args[0], args[1], args[2:]
	switch kind {
	case "A":
		a, err := netip.ParseAddr(values[0])
		w.zone.SetAddresses(name, a)
		return err
	case "MX":
		w.zone.SetMX(name, mail.MX{Preference: 10, Host: values[1]})
	case "NS":
		w.zone.SetNS(name, values...)
	case "PTR":
		a, err := netip.ParseAddr(name)
		w.zone.SetPTR(a, values...)
		return err
	case "none":
		w.zone.Remove(name)
	default:
		return fmt.Errorf("no type %s", kind)
	}
	return nil
}

// secondary serves a zone of its own at 127.0.0.2, at the port of the first:
//
//	secondary NAME=TXT…
func (w *world) secondary(ts *testscript.TestScript, args []string) error {
	zone := &dns.Zone{}
	for _, arg := range args {
		name, text, _ := strings.Cut(arg, "=")
		zone.SetTXT(name, text)
	}
	_, port, err := net.SplitHostPort(ts.Getenv("DNS"))
	if err != nil {
		return err
	}
	server, err := zone.Serve("127.0.0.2:" + port)
	if err != nil {
		return err
	}
	ts.Defer(func() { _ = server.Close() })
	return nil
}
