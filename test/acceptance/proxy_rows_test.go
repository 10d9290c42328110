package acceptance

import (
	"bytes"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"

	"anechoic/ledger"
	"anechoic/mail"
)

// proxyRows: who the peer is, where a balancer says it.
func proxyRows() []row {
	return []row{
		{id: "A63", scenario: "PROXY line from a client", variants: []variant{
			does("on the plain port", proxyLineOnPlain),
			does("on the plain port, behind EHLO", proxyLineLater),
			does("on the plain port, version 2", proxyTwoOnPlain),
			does("on the submission port", func(t *testing.T, r *relay) {
				c := r.connect(t, submission).greeted()
				if answer := c.cmd("PROXY TCP4 " + eop + " 192.0.2.25 40000 25"); answer.code != 500 {
					t.Error(answer)
				}
				if answer := c.secured().cmd("MAIL FROM:<ann@acme.test>"); answer.reason != mail.ReasonAuthRequired {
					t.Error(answer)
				}
			}),
			does("on the TLS port", func(t *testing.T, r *relay) {
				c := r.connectWithout(t, tlsPort)
				c.write("PROXY TCP4 " + eop + " 192.0.2.25 40000 25\r\n")
				if answer := c.reply(); answer.code != 521 || !c.gone() {
					t.Error(answer)
				}
			}),
			does("inside TLS", func(t *testing.T, r *relay) {
				c := r.connect(t, tlsPort).greeted()
				if answer := c.cmd("PROXY TCP4 " + eop + " 192.0.2.25 40000 25"); answer.code != 500 {
					t.Error(answer)
				}
			}),
			closes("none on the proxy port", "EHLO sender.test\r\n"),
			closes("a broken one", "PROXY TCP4 40.107.1.10\r\n"),
			closes("an address that is none", "PROXY TCP4 40.107.1.999 192.0.2.25 40000 25\r\n"),
			closes("leading zeros", "PROXY TCP4 040.107.1.10 192.0.2.25 40000 25\r\n"),
			closes("a family that is not the address's", "PROXY TCP4 2a01:111:f400::1 2001:db8::25 40000 25\r\n"),
			closes("the unspecified address", "PROXY TCP4 0.0.0.0 192.0.2.25 40000 25\r\n"),
			closes("without an end", "PROXY TCP4 "+strings.Repeat("1", 200)),
			closes("version 2, cut short", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x04abcd"),
			closes("version 3", "\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c"+strings.Repeat("\x01", 12)),
			does("LOCAL is the balancer itself, which proves nothing", balancerItself(header(proxyproto.LOCAL))),
			does("UNKNOWN is the balancer itself too", balancerItself("PROXY UNKNOWN\r\n")),
			does("UNKNOWN with addresses", balancerItself("PROXY UNKNOWN "+eop+" 192.0.2.25 40000 25\r\n")),
			does("a TLV that claims TLS and a name", proxyTLV),
			does("from nobody's balancer", func(t *testing.T, r *relay) {
				c := r.connectFrom(t, proxyPort, caller())
				c.writeAnyway("PROXY TCP4 " + eop + " 192.0.2.25 40000 25\r\n")
				if answer := c.reply(); !answer.closed && answer.code != 521 || !c.gone() {
					t.Error(answer)
				}
			}),
			does("a second line", func(t *testing.T, r *relay) {
				c := r.as(t, vps)
				c.write("PROXY TCP4 " + eop + " 192.0.2.25 40000 25\r\n")
				c.greeted()
				if answer := c.reply(); answer.code != 500 {
					t.Error(answer)
				}
				c.secured()
				c.must(250, "MAIL FROM:<ann@acme.test>")
				if answer := c.cmd("RCPT TO:<victim@mailbox.test>"); answer.reason != mail.ReasonRelayDenied {
					t.Error(answer)
				}
				r.peerWas(t, vps)
			}),
		}},
	}
}

// proxyLineOnPlain: the line is an unknown command, and the peer stays who it is.
func proxyLineOnPlain(t *testing.T, r *relay) {
	c := r.connect(t, plainPort)
	c.write("PROXY TCP4 " + eop + " 192.0.2.25 40000 25\r\n")
	c.greeted()
	if answer := c.reply(); answer.code != 500 || answer.reason != mail.ReasonSyntax {
		t.Error(answer)
	}
	deniedAs(t, r, c)
}

func proxyLineLater(t *testing.T, r *relay) {
	c := r.connect(t, plainPort).greeted()
	c.must(250, "EHLO sender.test")
	if answer := c.cmd("PROXY TCP4 " + eop + " 192.0.2.25 40000 25"); answer.code != 500 {
		t.Error(answer)
	}
	deniedAs(t, r, c)
}

// deniedAs: a peer that tried to be another is refused as who it is.
func deniedAs(t *testing.T, r *relay, c *client) {
	t.Helper()
	c.secured()
	c.must(250, "MAIL FROM:<ann@acme.test>")
	if answer := c.cmd("RCPT TO:<victim@mailbox.test>"); answer.code != 550 || answer.reason != mail.ReasonRelayDenied {
		t.Error(answer)
	}
	r.peerWas(t, c.conn.LocalAddr().(*net.TCPAddr).IP.String())
}

// peerWas looks into the ledger for who was refused last.
func (r *relay) peerWas(t *testing.T, want string) {
	t.Helper()
	r.acceptedAndDelivered(t, mailFromUser("app@globex", "marker@globex.test"))
	var last ledger.Fact
	for _, facts := range r.facts(t, url.Values{"reason": {string(mail.ReasonRelayDenied)}}) {
		for _, f := range facts {
			if f.Offset >= last.Offset {
				last = f
			}
		}
	}
	if last.Peer.String() != want {
		t.Errorf("the ledger says that %s was refused, not %s", last.Peer, want)
	}
}

// header is a PROXY header of version 2 that claims a provider's address.
func header(command proxyproto.ProtocolVersionAndCommand, tlvs ...proxyproto.TLV) string {
	h := &proxyproto.Header{
		Version: 2, Command: command, TransportProtocol: proxyproto.TCPv4,
		SourceAddr:      &net.TCPAddr{IP: net.ParseIP(eop), Port: 40000},
		DestinationAddr: &net.TCPAddr{IP: net.ParseIP("192.0.2.25"), Port: 25},
	}
	if err := h.SetTLVs(tlvs); err != nil {
		panic(err)
	}
	var b bytes.Buffer
	if _, err := h.WriteTo(&b); err != nil {
		panic(err)
	}
	return b.String()
}

func proxyTwoOnPlain(t *testing.T, r *relay) {
	c := r.connect(t, plainPort)
	c.write(header(proxyproto.PROXY))
	c.greeted()
	for {
		answer := c.reply()
		if answer.closed {
			return // not one command of it was taken, and the connection ended
		}
		if answer.code < 500 {
			t.Fatal(answer)
		}
	}
}

// closes: what is no PROXY header ends the connection on the proxy port.
func closes(name, octets string) variant {
	return does(name, func(t *testing.T, r *relay) {
		c := r.connect(t, proxyPort)
		c.write(octets)
		if tcp, ok := c.conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite() // nothing more will come
		}
		if answer := c.reply(); !answer.closed && answer.code != 521 {
			t.Error(answer)
		}
		if answer := c.reply(); !answer.closed {
			t.Errorf("the connection goes on: %s", answer)
		}
	})
}

// balancerItself: who speaks for himself proves nothing, not even with a
// password.
func balancerItself(octets string) func(t *testing.T, r *relay) {
	return func(t *testing.T, r *relay) {
		for _, user := range []string{"", "app@acme"} {
			c := r.connect(t, proxyPort)
			c.write(octets)
			c.greeted().secured()
			if user != "" {
				c.login(user)
			}
			c.must(250, "MAIL FROM:<ann@acme.test>")
			if answer := c.cmd("RCPT TO:<victim@mailbox.test>"); answer.code != 550 || answer.reason != mail.ReasonRelayDenied {
				t.Errorf("%q: %s", user, answer)
			}
		}
	}
}

// proxyTLV: what a TLV says of TLS and names is nobody's proof; the address
// counts, and TLS is still wanted.
func proxyTLV(t *testing.T, r *relay) {
	ssl := proxyproto.TLV{Type: proxyproto.PP2_TYPE_SSL, Value: []byte{0x07, 0, 0, 0, 0}}
	name := proxyproto.TLV{Type: proxyproto.PP2_TYPE_AUTHORITY, Value: []byte("acme.test")}
	c := r.connect(t, proxyPort)
	c.write(header(proxyproto.PROXY, ssl, name))
	c.greeted()
	c.must(250, "EHLO sender.test")
	c.must(250, "MAIL FROM:<ann@acme.test>")
	if answer := c.cmd("RCPT TO:<victim@mailbox.test>"); answer.code != 530 || answer.reason != mail.ReasonTLSRequired {
		t.Error(answer)
	}
}
