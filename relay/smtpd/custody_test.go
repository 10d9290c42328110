package smtpd

import (
	"bytes"
	"context"
	"testing"
	"time"

	"anechoic/engine/memory"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/custody"
)

// queue takes real custody, because nothing else makes a receipt. The right is a
// notice's; which right it is does not matter here.
type queue struct {
	q *custody.Queue
}

// keep gives the receipt for a message of that id.
func (q *queue) keep(t *Transaction, id mail.ID) (custody.Receipt, error) {
	if q.q == nil {
		opened, err := custody.OpenQueue(context.Background(), memory.New(), custody.Options{SealKey: bytes.Repeat([]byte{1}, 32), ExpireAfter: time.Hour})
		if err != nil {
			return custody.Receipt{}, err
		}
		q.q = opened
	}
	notice, err := custody.NewNotice(id, org.ID("a"))
	if err != nil {
		return custody.Receipt{}, err
	}
	return q.q.Keep(context.Background(), custody.Submission{
		ID: id, Warrant: notice, Envelope: t.Envelope, Body: mail.NewBody(nil),
		Header: mail.Header{Fields: []mail.Field{mail.NewField("From", "<a@a.example>")}},
	}, time.Now())
}

func TestFixtureTakesCustody(t *testing.T) {
	var q queue
	id := mail.NewID(time.Now())
	address, err := mail.ParseAddress("b@b.example")
	if err != nil {
		t.Fatal(err)
	}
	receipt, err := q.keep(&Transaction{Envelope: mail.Envelope{Recipients: []mail.Recipient{{Address: address}}}}, id)
	if err != nil || receipt.ID() != id {
		t.Fatalf("%v, %v", receipt, err)
	}
}
