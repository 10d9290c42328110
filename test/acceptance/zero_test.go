package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"anechoic/engine/memory"
	"anechoic/mail"
	"anechoic/mail/dns"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
	"anechoic/relay/policy"
	"anechoic/relay/signing"
	"anechoic/relay/smtpd"
	"anechoic/standard/dkim"
)

// Zero values of Proof, Warrant and Receipt are what Go gives to who forgets to
// ask. Every consumer refuses them.

func TestZeroProofIsRefused(t *testing.T) {
	var proof attribution.Proof
	key := bytes.Repeat([]byte{1}, 32)
	if sealed, err := attribution.Seal(key, proof, nil); err == nil || sealed != nil {
		t.Errorf("it is sealed: %x, %v", sealed, err)
	}
	for _, stored := range [][]byte{nil, make([]byte, 32), append(make([]byte, 32), "{}"...)} {
		if p, err := attribution.Open(key, stored, nil); !errors.Is(err, attribution.ErrForged) || !p.IsZero() {
			t.Errorf("%x opens: %v", stored, err)
		}
	}
	if warrant, refusal := policy.Permit(new(org.Directory), proof, message("ann@acme.test"), stands); refusal == nil || !warrant.IsZero() {
		t.Error("policy permits it")
	}
	if w, err := custody.NewProven(proof, domain("acme.test")); !errors.Is(err, custody.ErrNoWarrant) || !w.IsZero() {
		t.Errorf("it makes a warrant: %v", err)
	}
}

func TestZeroEvidenceProvesNothing(t *testing.T) {
	proof, refusal := attribution.Attribute(new(org.Directory), new(attribution.Evidence), time.Now())
	if refusal == nil || !proof.IsZero() {
		t.Errorf("%+v, %v", proof, refusal)
	}
}

// TestZeroWarrantIsNotSigned: signing.Sign takes a Proven and no other kind of
// Warrant; its zero value is refused before any key is asked for.
func TestZeroWarrantIsNotSigned(t *testing.T) {
	var warrant custody.Proven
	signer := &signing.Signer{Keys: noKeys{t}, Resolver: new(dns.Zone)}
	header, err := mail.ParseHeader([]byte("From: ann@acme.test\r\n\r\n"), mail.HeaderLimits{})
	if err != nil {
		t.Fatal(err)
	}
	hasher := dkim.NewBodyHasher(header)
	fields, refusal := signer.Sign(t.Context(), warrant, new(org.Directory), header, hasher.Sum(), time.Now())
	if refusal == nil || len(fields) > 0 {
		t.Errorf("%d signatures, %v", len(fields), refusal)
	}
}

// noKeys are keys that must not be asked for.
type noKeys struct{ t *testing.T }

var errNoKeys = errors.New("no keys")

func (k noKeys) Sign(context.Context, signing.KeyRef, []byte, crypto.SignerOpts) ([]byte, error) {
	k.t.Error("a signature was asked for")
	return nil, errNoKeys
}

func (k noKeys) Public(signing.KeyRef) (crypto.PublicKey, error) {
	k.t.Error("a key was asked for")
	return nil, errNoKeys
}

func TestZeroWarrantsAreNotKept(t *testing.T) {
	engine := memory.New()
	queue, err := custody.OpenQueue(t.Context(), engine, custody.Options{SealKey: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	before := records(t, engine)
	to := mail.Envelope{Recipients: []mail.Recipient{{Address: message("b@b.test").MailFrom}}}
	for name, warrant := range map[string]custody.Warrant{"none": nil, "proven": *new(custody.Proven), "notice": *new(custody.Notice)} {
		receipt, err := queue.Keep(t.Context(), custody.Submission{ID: mail.NewID(time.Now()), Warrant: warrant, Envelope: to, Body: mail.NewBody(nil)}, time.Now())
		if !errors.Is(err, custody.ErrNoWarrant) || !receipt.IsZero() {
			t.Errorf("%s: kept as %s, %v", name, receipt.ID(), err)
		}
	}
	if after := records(t, engine); after != before {
		t.Errorf("%d records were written", after-before)
	}
	if _, err := custody.NewNotice("", ""); !errors.Is(err, custody.ErrNoWarrant) {
		t.Errorf("a notice about nothing: %v", err)
	}
}

// records counts what an engine holds.
func records(t *testing.T, engine custody.Engine) (n int) {
	t.Helper()
	if err := engine.Scan(t.Context(), "", "", func(string, []byte) bool { n++; return true }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestZeroReceiptIsNoAcknowledgement: a handler that gives neither receipt nor
// refusal, or another message's receipt, does not make the server say 250.
func TestZeroReceiptIsNoAcknowledgement(t *testing.T) {
	for name, receipt := range map[string]custody.Receipt{"zero": {}, "of another message": otherReceipt(t)} {
		t.Run(name, func(t *testing.T) {
			answer := talk(t, &handler{receipt: receipt})
			if !strings.HasPrefix(answer, "451 4.3.0 ") || !strings.Contains(answer, "[INTERNAL id=") {
				t.Errorf("the answer is %q", answer)
			}
		})
	}
}

// otherReceipt is a right receipt for some message.
func otherReceipt(t *testing.T) custody.Receipt {
	t.Helper()
	queue, err := custody.OpenQueue(t.Context(), memory.New(), custody.Options{SealKey: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	notice, err := custody.NewNotice(mail.NewID(time.Now()), "acme")
	if err != nil {
		t.Fatal(err)
	}
	to := mail.Envelope{Recipients: []mail.Recipient{{Address: message("b@b.test").MailFrom}}}
	receipt, err := queue.Keep(t.Context(), custody.Submission{ID: mail.NewID(time.Now()), Warrant: notice, Envelope: to, Body: mail.NewBody(nil)}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

// handler accepts everything and gives one receipt.
type handler struct{ receipt custody.Receipt }

func (h *handler) Mail(context.Context, *smtpd.Transaction) *mail.Refusal                 { return nil }
func (h *handler) Rcpt(context.Context, *smtpd.Transaction, mail.Recipient) *mail.Refusal { return nil }
func (h *handler) Data(context.Context, *smtpd.Transaction, *smtpd.Received) (custody.Receipt, *mail.Refusal) {
	return h.receipt, nil
}

// talk sends a message to a server with a handler and gives the last reply.
func talk(t *testing.T, h smtpd.Handler) string {
	t.Helper()
	server := &smtpd.Server{Hostname: "relay.test", Handler: h}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.Background(), listener, smtpd.Plain) }()
	defer func() {
		if err := errors.Join(server.Shutdown(context.Background()), <-served); err != nil {
			t.Error(err)
		}
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, conn: conn, r: bufio.NewReader(conn), said: io.Discard}
	c.greeted()
	c.must(250, "HELO sender.test")
	c.must(250, "MAIL FROM:<ann@acme.test>")
	c.must(250, "RCPT TO:<b@b.test>")
	c.must(354, "DATA")
	return c.cmd("From: ann@acme.test\r\n\r\ntext\r\n.").text
}
