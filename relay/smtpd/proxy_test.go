package smtpd

import (
	"bufio"
	"bytes"
	"net/netip"
	"strings"
	"testing"
)

// v2 is the signature of the PROXY protocol's version 2.
const v2 = "\r\n\r\n\x00\r\nQUIT\n"

var proxyHeaders = []struct {
	name, header string
	peer         string // empty: refused
	itself       bool
}{
	{name: "v1 IPv4", header: "PROXY TCP4 192.0.2.1 192.0.2.2 40000 25\r\n", peer: "192.0.2.1:40000"},
	{name: "v1 IPv6", header: "PROXY TCP6 2001:db8::1 2001:db8::2 40000 25\r\n", peer: "[2001:db8::1]:40000"},
	{name: "v1 IPv4 mapped", header: "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 40000 25\r\n", peer: "192.0.2.1:40000"},
	{name: "v1 unknown", header: "PROXY UNKNOWN\r\n", itself: true},
	{name: "v1 unknown with addresses", header: "PROXY UNKNOWN 192.0.2.1 192.0.2.2 40000 25\r\n", itself: true},
	{name: "v1 without CR", header: "PROXY TCP4 192.0.2.1 192.0.2.2 40000 25\n"},
	{name: "v1 IPv4 as TCP6", header: "PROXY TCP6 192.0.2.1 192.0.2.2 40000 25\r\n"},
	{name: "v1 multicast", header: "PROXY TCP4 224.0.0.1 192.0.2.2 40000 25\r\n"},
	{name: "v1 port too high", header: "PROXY TCP4 192.0.2.1 192.0.2.2 65536 25\r\n"},
	{name: "v1 two spaces", header: "PROXY TCP4  192.0.2.1 192.0.2.2 40000 25\r\n"},
	{name: "v1 without end", header: "PROXY TCP4 192.0.2.1 " + strings.Repeat("x", 100)},
	{name: "v2 IPv4", header: v2 + "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x9c\x40\x00\x19", peer: "192.0.2.1:40000"},
	{name: "v2 with TLV", header: v2 + "\x21\x11\x00\x13\xc0\x00\x02\x01\xc0\x00\x02\x02\x9c\x40\x00\x19\x02\x00\x04evil", peer: "192.0.2.1:40000"},
	{name: "v2 IPv6", header: v2 + "\x21\x21\x00\x24" + strings.Repeat("\x20\x01", 16) + "\x9c\x40\x00\x19", peer: "[2001:2001:2001:2001:2001:2001:2001:2001]:40000"},
	{name: "v2 local", header: v2 + "\x20\x00\x00\x00", itself: true},
	{name: "v2 local with addresses", header: v2 + "\x20\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x9c\x40\x00\x19", itself: true},
	{name: "v2 UDP", header: v2 + "\x21\x12\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x9c\x40\x00\x19"},
	{name: "v2 socket", header: v2 + "\x21\x31\x00\xd8" + strings.Repeat("x", 216)},
	{name: "v2 unspecified family", header: v2 + "\x21\x00\x00\x00"},
	{name: "v2 address too short", header: v2 + "\x21\x11\x00\x04\xc0\x00\x02\x01"},
	{name: "v2 cut short", header: v2 + "\x21\x11\x00\x0c\xc0\x00\x02\x01"},
	{name: "v2 very long", header: v2 + "\x21\x11\xff\xff" + strings.Repeat("x", 65535)},
	{name: "version 3", header: v2 + "\x31\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x9c\x40\x00\x19"},
	{name: "nothing", header: ""},
	{name: "SMTP", header: "EHLO client.a.example\r\n"},
}

func TestProxyHeaderSaysWhoThePeerIs(t *testing.T) {
	for _, test := range proxyHeaders {
		t.Run(test.name, func(t *testing.T) {
			h := &recorder{}
			pieces := [][]byte{[]byte(test.header)}
			if test.peer != "" || test.itself {
				pieces = append(pieces, []byte("HELO a\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n"), []byte("\r\n.\r\nQUIT\r\n"))
			}
			said := play(newServer(h), Proxy, pieces...)
			if len(pieces) == 1 {
				if !strings.HasPrefix(said, "521 ") || strings.Count(said, "\r\n") != 1 {
					t.Errorf("the server said %q", said)
				}
				return
			}
			if len(h.messages) != 1 {
				t.Fatalf("the server said %q", said)
			}
			want := Session{Peer: netip.MustParseAddrPort("127.0.0.1:50000"), BalancerItself: test.itself}
			if test.peer != "" {
				want.Peer = netip.MustParseAddrPort(test.peer)
			}
			if got := h.messages[0].session; got.Peer != want.Peer || got.BalancerItself != want.BalancerItself || got.Balancer.Addr().String() != "127.0.0.1" {
				t.Errorf("peer %v, balancer %v, itself %v", got.Peer, got.Balancer, got.BalancerItself)
			}
		})
	}
}

func FuzzProxyHeader(f *testing.F) {
	for _, test := range proxyHeaders {
		f.Add([]byte(test.header + "EHLO x\r\n"))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(input), commandBuffer)
		p, err := readProxyHeader(r)
		if err != nil {
			return
		}
		if !bytes.HasPrefix(input, []byte("PROXY ")) && !bytes.HasPrefix(input, []byte(v2)) {
			t.Fatalf("%q is no PROXY header", input)
		}
		if p.itself == p.peer.IsValid() || p.peer.Addr().Is4In6() {
			t.Fatalf("%q: itself %v, peer %v", input, p.itself, p.peer)
		}
	})
}
