package app

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

func TestWhereThereIsNoRoomToDetainTheRefusalStands(t *testing.T) {
	queue, err := custody.OpenQueue(context.Background(), memory.New(), custody.Options{SealKey: bytes.Repeat([]byte{1}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	in := &intake{queue: queue}
	to, err := mail.ParseAddress("bob@else.test")
	if err != nil {
		t.Fatal(err)
	}
	one := func() (custody.Receipt, *mail.Refusal) {
		d := custody.Detention{
			ID: mail.NewID(noon), Organisation: "acme", Source: "server", Reason: mail.ReasonForwardedMail, Body: mail.NewBody(nil),
			Envelope: mail.Envelope{Recipients: []mail.Recipient{{Address: to}}},
		}
		return in.detain(context.Background(), d, mail.ForwardedMail.Because("it was forwarded"), &ledger.Fact{Time: noon, ID: d.ID}, noon)
	}
	for range custody.DetainedMessages {
		if receipt, refusal := one(); refusal != nil || !receipt.Detained() {
			t.Fatalf("refused: %v", refusal)
		}
	}
	receipt, refusal := one()
	if !receipt.IsZero() || refusal.Reason() != mail.ReasonForwardedMail || refusal.Code() != 550 || !strings.Contains(refusal.Detail(), "no room") || !strings.Contains(refusal.Detail(), "it was forwarded") {
		t.Errorf("past the cap: %v, %v", receipt, refusal)
	}
}
