package screen

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anechoic/mail"
)

// messageOf reads a message as reception does.
func messageOf(t testing.TB, text string) mail.Message {
	t.Helper()
	head, body, _ := strings.Cut(strings.ReplaceAll(text, "\n", "\r\n"), "\r\n\r\n")
	h, err := mail.ParseHeader([]byte(head+"\r\n"), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	return mail.Message{Header: h, Body: mail.NewBody([]byte(body))}
}

func address(t testing.TB, s string) mail.Address {
	t.Helper()
	a, err := mail.ParseAddressUTF8(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

const plain = "From: Ann <ann@acme.example>\nTo: bob@dest.example\nSubject: hello\nMessage-ID: <1@acme.example>\nDate: Sun, 22 Nov 2026 10:00:00 +0000\n\nGood morning.\n"

// question is an outbound message with this text.
func question(t testing.TB, text string) *Question {
	t.Helper()
	return &Question{
		ID: mail.NewID(time.Unix(1, 0)), Direction: Outbound, Organisation: "acme", Principal: "acme/erp",
		Peer: netip.MustParseAddr("192.0.2.7"), PeerName: "erp.acme.example", Helo: "erp.acme.example", TLS: "TLSv1.3",
		Envelope: mail.Envelope{From: address(t, "ann@acme.example"), Recipients: []mail.Recipient{{Address: address(t, "bob@dest.example")}}},
		Message:  messageOf(t, text),
	}
}

// ask asks one scanner as Screen does, and gives what the caller sees.
func ask(t testing.TB, s Scanner, q *Question) Verdict {
	t.Helper()
	return New(Options{Scanners: []Scanner{s}, Timeout: 20 * time.Second}).Ask(context.Background(), q)
}

// listen runs a scanner that tells lies, or the truth, on a socket: talk has each
// connection, which is closed after it.
func listen(t testing.TB, talk func(net.Conn)) Endpoint {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			talk(conn)
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return Endpoint{Network: "unix", Address: path}
}
