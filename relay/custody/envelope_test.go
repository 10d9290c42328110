package custody_test

import (
	"testing"

	"anechoic/engine/memory"
	"anechoic/mail"
)

// What the client said of octets outside ASCII is there again when the message
// leaves, and so are addresses that are.
func TestAnEnvelopeOutsideASCIIIsKept(t *testing.T) {
	from, err := mail.ParseAddressUTF8("jürgen@bücher.example")
	if err != nil {
		t.Fatal(err)
	}
	to, err := mail.ParseAddressUTF8("用户@例子.example")
	if err != nil {
		t.Fatal(err)
	}
	q := open(t, memory.New())
	s := submission("bob@else.test")
	s.Envelope.From, s.Envelope.UTF8 = from, true
	s.Envelope.Recipients = []mail.Recipient{{Address: to}}
	keep(t, q, s, noon)
	leases := leaseAll(t, q, noon)
	if len(leases) != 1 {
		t.Fatalf("%d leases", len(leases))
	}
	if e := leases[0].Message.Envelope; !e.UTF8 || !e.EightBit || e.From != from || leases[0].Recipients[0].Address != to {
		t.Errorf("%+v %+v", e, leases[0].Recipients)
	}
	if _, warrant, err := q.Load(t.Context(), leases[0]); err != nil || warrant.IsZero() {
		t.Errorf("%v, %v", warrant, err)
	}
}
