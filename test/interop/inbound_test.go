package interop

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"anechoic/ledger"
)

// inside is where the organisation's own server listens.
var inside = netip.MustParseAddr("127.51.0.9")

// fromOutside sends a message to somebody at the organisation, as its MX gets it.
func (r *relay) fromOutside(t *testing.T, id string, to ...string) error {
	t.Helper()
	c := dial(t, r.app.Ready().SMTP[0])
	if err := c.Mail("carol@partner.example"); err != nil {
		return err
	}
	for _, rcpt := range to {
		if err := c.Rcpt(rcpt); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "From: carol@partner.example\r\nTo: ann@acme.example\r\nSubject: Hello\r\nDate: %s\r\nMessage-ID: %s\r\n\r\n.dot\r\nend\r\n", time.Now().Format(time.RFC1123Z), id)
	return w.Close()
}

// pinOf is the SHA-256 of the key of a certificate in PEM.
func pinOf(t *testing.T, text []byte) string {
	t.Helper()
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
		return hex.EncodeToString(sum[:])
	}
	t.Fatal("no certificate")
	return ""
}

// TestInboundMailGoesToPostfix as the organisation's server: over TLS with the
// pinned key, and not at all with another.
func TestInboundMailGoesToPostfix(t *testing.T) {
	requirePostfix(t)
	certificate := newCertificate()
	for about, pin := range map[string]string{"the pinned key": pinOf(t, certificate), "another key": pinOf(t, newCertificate())} {
		t.Run(about, func(t *testing.T) {
			at := netip.AddrPortFrom(inside, freePort(t, inside.String()))
			r := start(t, options{registry: fmt.Sprintf(`[[organisation.inbound]]
domains = ["acme.example"]
deliver_to = %q
tls = { spki_sha256 = [%q] }
recipients = "ask"
`, at, pin)})
			p := startPostfix(t, at.String(), func(dir string) string {
				transport := fmt.Sprintf("acme.example smtp:[%s]:%d\n", r.receiver.Addr().Addr(), r.receiver.Addr().Port())
				if err := errors.Join(
					os.WriteFile(filepath.Join(dir, "etc", "tls.pem"), certificate, 0o600),
					os.WriteFile(filepath.Join(dir, "etc", "transport"), []byte(transport), 0o644),
				); err != nil {
					t.Fatal(err)
				}
				return fmt.Sprintf(`relay_domains = acme.example
transport_maps = texthash:%[1]s/etc/transport
smtpd_tls_security_level = may
smtpd_tls_cert_file = %[1]s/etc/tls.pem
smtpd_tls_key_file = %[1]s/etc/tls.pem
`, dir)
			})
			id := "<inbound-to-postfix@partner.example>"
			if about == "another key" {
				err := r.fromOutside(t, id, "ann@acme.example")
				if err == nil || !strings.Contains(err.Error(), "451") || strings.Contains(p.log(), "carol@partner.example") {
					t.Errorf("%v\n%s", err, p.log())
				}
				return
			}
			if err := r.fromOutside(t, id, "ann@acme.example"); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			j, err := r.receiver.Await(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			if data := string(j.Data); !strings.Contains(data, "by postfix.example (Postfix) with ESMTPS") || !strings.Contains(data, "Authentication-Results: relay.anechoic.example") || strings.Contains(data, "DKIM-Signature") {
				t.Errorf("%s", data)
			}
			if f := r.fact(t, ledger.Delivered, "ann@acme.example"); f.Direction != "inbound" || !strings.HasSuffix(f.TLS, "verified pinned") {
				t.Errorf("%+v", f)
			}
		})
	}
}

// lmtpServer is aiosmtpd's LMTP: it refuses one recipient after the message, and
// writes what it took to standard output.
const lmtpServer = `
import asyncio, sys
from aiosmtpd.lmtp import LMTP
class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("gone@"):
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 Ok"
    async def handle_DATA(self, server, session, envelope):
        print("TOOK", ",".join(envelope.rcpt_tos), len(envelope.content), flush=True)
        return "\r\n".join("250 2.0.0 %s has it" % a for a in envelope.rcpt_tos)  # each recipient has its answer
async def main():
    server = await asyncio.get_running_loop().create_server(lambda: LMTP(Handler(), enable_SMTPUTF8=True), sys.argv[1], int(sys.argv[2]))
    print("READY", flush=True)
    await server.serve_forever()
asyncio.run(main())
`

// TestInboundMailGoesToAnLMTPServer that is not ours.
func TestInboundMailGoesToAnLMTPServer(t *testing.T) {
	if err := exec.Command("/usr/bin/python3", "-c", "from aiosmtpd.lmtp import LMTP").Run(); err != nil {
		missing(t, "aiosmtpd is missing: apt-get install python3-aiosmtpd")
	}
	at := netip.AddrPortFrom(inside, freePort(t, inside.String()))
	server := exec.Command("/usr/bin/python3", "-c", lmtpServer, at.Addr().String(), fmt.Sprint(at.Port()))
	said := new(safeBuffer)
	server.Stdout, server.Stderr = said, said
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end(server, syscall.SIGKILL) })
	said.await(t, "READY")
	r := start(t, options{registry: fmt.Sprintf(`[[organisation.inbound]]
domains = ["acme.example"]
deliver_to = "lmtp:%s"
`, at)})
	if err := r.fromOutside(t, "<inbound-by-lmtp@partner.example>", "ann@acme.example", "gone@acme.example", "bob@acme.example"); err != nil {
		t.Fatal(err)
	}
	said.await(t, "TOOK ann@acme.example,bob@acme.example ")
	for _, to := range []string{"ann@acme.example", "bob@acme.example"} {
		if f := r.fact(t, ledger.Delivered, to); f.Direction != "inbound" {
			t.Errorf("%+v", f)
		}
	}
	if f := r.fact(t, ledger.Bounced, "gone@acme.example"); !strings.Contains(f.Reply, "no such user") {
		t.Errorf("%+v", f)
	}
}

// safeBuffer is what another program writes while it is read.
type safeBuffer struct {
	mu   sync.Mutex
	text []byte
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	return len(p), nil
}

func (b *safeBuffer) await(t *testing.T, word string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; <-tick.C {
		b.mu.Lock()
		text := string(b.text)
		b.mu.Unlock()
		if strings.Contains(text, word) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it did not say %q: %s", word, text)
		}
	}
}
