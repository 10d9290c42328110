package custody_test

import (
	"testing"
	"time"

	"anechoic/engine/memory"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/relay/custody"
)

func TestAReportIsKeptAsWhatItTold(t *testing.T) {
	engine := memory.New()
	q, err := custody.OpenQueue(t.Context(), engine, custody.Options{SealKey: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	fact := ledger.Fact{Time: now, ID: mail.NewID(now), Event: ledger.BounceReceived, Org: "acme"}
	report := custody.Report{ID: mail.NewID(now), Facts: []ledger.Fact{fact}, Put: []custody.Record{{Key: "return/x", Value: []byte{1}}}}
	receipt, err := q.KeepReport(t.Context(), report, now)
	if err != nil || receipt.ID() != report.ID || receipt.IsZero() {
		t.Fatalf("%+v, %v", receipt, err)
	}
	if _, err := engine.Get(t.Context(), "return/x"); err != nil {
		t.Error(err)
	}
	facts := 0
	if err := ledger.Read(t.Context(), engine, 0, func(ledger.Fact) bool { facts++; return true }); err != nil || facts != 1 {
		t.Errorf("%d facts, %v", facts, err)
	}
}

func TestAReportNeverWritesWhatIsTheQueues(t *testing.T) {
	q, err := custody.OpenQueue(t.Context(), memory.New(), custody.Options{SealKey: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	good := custody.Report{ID: mail.NewID(now), Facts: []ledger.Fact{{Time: now, Event: ledger.BounceReceived}}}
	for name, change := range map[string]func(*custody.Report){
		"no id":        func(r *custody.Report) { r.ID = "x" },
		"nothing told": func(r *custody.Report) { r.Facts = nil },
		"a message":    func(r *custody.Report) { r.Put = []custody.Record{{Key: "message/x"}} },
		"a recipient":  func(r *custody.Report) { r.Put = []custody.Record{{Key: "recipient/x/1"}} },
		"no warrant":   func(r *custody.Report) { r.Notices = []custody.Submission{{ID: mail.NewID(now)}} },
	} {
		r := good
		change(&r)
		if receipt, err := q.KeepReport(t.Context(), r, now); err == nil || !receipt.IsZero() {
			t.Errorf("%s: %+v", name, receipt)
		}
	}
}
