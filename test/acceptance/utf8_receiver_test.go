package acceptance

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"anechoic/engine/memory"
	"anechoic/mail"
	"anechoic/relay/custody"
	"anechoic/relay/smtpd"
	"anechoic/standard/dkim"
)

// utf8Receiver is a mail exchanger that offers SMTPUTF8, which the range's does
// not: the relay's own reception with a handler that remembers what it took.
type utf8Receiver struct {
	resolver mail.Resolver
	queue    *custody.Queue

	mu    sync.Mutex // guards taken
	taken []utf8Message
}

// utf8Message is one message as it came.
type utf8Message struct {
	envelope mail.Envelope
	header   mail.Header
	results  []dkim.Result
}

func (u *utf8Receiver) Mail(context.Context, *smtpd.Transaction) *mail.Refusal { return nil }
func (u *utf8Receiver) Rcpt(context.Context, *smtpd.Transaction, mail.Recipient) *mail.Refusal {
	return nil
}

func (u *utf8Receiver) Data(ctx context.Context, tx *smtpd.Transaction, r *smtpd.Received) (custody.Receipt, *mail.Refusal) {
	u.mu.Lock()
	u.taken = append(u.taken, utf8Message{tx.Envelope, r.Header, dkim.Verify(ctx, u.resolver, r.Header, r.Hashes, time.Now())})
	u.mu.Unlock()
	notice, err := custody.NewNotice(tx.ID, "receiver")
	if err != nil {
		return custody.Receipt{}, mail.Internal
	}
	receipt, err := u.queue.Keep(ctx, custody.Submission{ID: tx.ID, Warrant: notice, Envelope: tx.Envelope, Header: r.Header, Body: r.Body}, time.Now())
	if err != nil {
		return custody.Receipt{}, mail.Internal.Because("%v", err)
	}
	return receipt, nil
}

// newUTF8Receiver opens one as the exchanger of utf8.test.
func newUTF8Receiver(t *testing.T, r *relay) *utf8Receiver {
	t.Helper()
	queue, err := custody.OpenQueue(t.Context(), memory.New(), custody.Options{SealKey: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddr("127.50.0.2")
	listener, err := net.Listen("tcp", net.JoinHostPort(at.String(), strconv.Itoa(int(r.receiver.Addr().Port()))))
	if err != nil {
		t.Fatal(err)
	}
	u := &utf8Receiver{resolver: r.internet.Zone, queue: queue}
	server := &smtpd.Server{Hostname: "mx.utf8.test", Handler: u}
	served := make(chan error, 1)
	go func() { served <- server.Serve(context.Background(), listener, smtpd.Plain) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(ctx) // the relay may keep its connection
		<-served
	})
	r.internet.AddReceiver("utf8.test", at)
	return u
}

// ownedULabel: the owned IDN in its own letters is the owned IDN. It is signed as
// its A-label, goes to who takes SMTPUTF8, and comes back from who does not.
func ownedULabel(t *testing.T, _ *relay) {
	r := newRelay(t, registry(), nil)
	u := newUTF8Receiver(t, r)
	for _, from := range []string{"ann@b\xc3\xbccher.test", "ann@xn--bcher-kva.test"} {
		l := mailFromUser("app@acme", "Ann <ann@b\xc3\xbccher.test>").sender(from).withUTF8().recipients("b@utf8.test")
		if stage, answer := r.send(t, l); answer.code != 250 {
			t.Fatalf("%s: at %s: %s", from, stage, answer)
		}
	}
	eventually(t, "both messages", func() bool { u.mu.Lock(); defer u.mu.Unlock(); return len(u.taken) == 2 })
	for _, m := range u.taken {
		if len(m.results) != 1 || m.results[0].Status != dkim.Pass || m.results[0].Domain.String() != "xn--bcher-kva.test" || !m.envelope.UTF8 {
			t.Errorf("SMTPUTF8 %v, signatures %+v", m.envelope.UTF8, m.results)
		}
	}
	l := mailFromUser("app@acme", "Ann <ann@b\xc3\xbccher.test>").sender("ann@acme.test").withUTF8()
	_, answer := r.send(t, l)
	if answer.code != 250 {
		t.Fatal(answer)
	}
	r.bounced(t, acceptedID(answer))
	if _, arrived := r.receiver.Judgement(messageID(l.data)); arrived {
		t.Error("it went to a host that does not offer SMTPUTF8")
	}
}
