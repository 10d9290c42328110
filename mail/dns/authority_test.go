package dns

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"anechoic/mail"
)

// heldTime is patience: a server on loopback answers at once.
const heldTime = 5 * time.Second

// A server that has a zone is asked past every cache, without recursion.
func TestAServerIsAskedWhatItHolds(t *testing.T) {
	zone := &Zone{}
	server, err := zone.Serve("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	zone.SetTXT("a.test", "one", "two")
	zone.SetMX("a.test", mail.MX{Preference: 5, Host: "mx.test"})
	zone.SetCNAME("b.test", "elsewhere.example")
	zone.SetNS("a.test", "ns1.test", "ns2.test")
	if h, err := HeldTXT(t.Context(), server.Addr(), "a.test", heldTime); err != nil || len(h.Records) != 2 {
		t.Errorf("TXT: %+v, %v", h, err)
	}
	if h, err := HeldMX(t.Context(), server.Addr(), "a.test", heldTime); err != nil || len(h.Records) != 1 || h.Records[0] != "5 mx.test" {
		t.Errorf("MX: %+v, %v", h, err)
	}
	if _, err := HeldTXT(t.Context(), server.Addr(), "none.test", heldTime); !errors.Is(err, mail.ErrNoDomain) {
		t.Errorf("a name that does not exist: %v", err)
	}
	zone.SetFault("a.test", true)
	if _, err := HeldTXT(t.Context(), server.Addr(), "a.test", heldTime); err == nil || errors.Is(err, mail.ErrNoDomain) {
		t.Errorf("a server that fails: %v", err)
	}
	zone.SetFault("a.test", false)
	client, err := New(Options{Servers: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if ns, err := client.NS(t.Context(), "a.test"); err != nil || len(ns.Records) != 2 {
		t.Errorf("NS: %+v, %v", ns, err)
	}
	if err := client.Ask(t.Context(), server.Addr(), "a.test"); err != nil {
		t.Errorf("a server that answers: %v", err)
	}
}

// A server that only knows from others is none of the zone's.
func TestAServerWithoutTheZoneIsToldApart(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lame := &wire.Server{PacketConn: pc, Handler: wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
		if q.RecursionDesired {
			t.Error("recursion was asked for")
		}
		m := new(wire.Msg)
		_ = w.WriteMsg(m.SetReply(q))
	})}
	go lame.ActivateAndServe()
	defer lame.Shutdown()
	if _, err := HeldTXT(t.Context(), pc.LocalAddr().String(), "a.test", heldTime); !errors.Is(err, ErrNotAuthoritative) {
		t.Errorf("a lame server: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := HeldTXT(ctx, pc.LocalAddr().String(), "a.test", heldTime); err == nil {
		t.Error("nobody waits, and there is an answer")
	}
}
