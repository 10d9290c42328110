package campaign

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anechoic/lab"
)

// TestTheRelayRefusesEverySpoofAndKeepsEveryLetter sends some hundred messages of a
// world to a relay in the range, over SMTP.
func TestTheRelayRefusesEverySpoofAndKeepsEveryLetter(t *testing.T) {
	p := short(t)
	p.Organisations, p.Attacks, p.Stresses = 4, []string{AttackCampaign}, []string{}
	internet, err := lab.NewInternet()
	if err != nil {
		t.Fatal(err)
	}
	defer internet.Close()
	w := make1(t, p, 12)
	calm := p.Calm()
	most := map[string]int{AttackCampaign: 250, Ordinary: 20, Invoices: 20} // a source that nobody knows may send 60 a minute
	post, err := w.Letters(internet, func(i Item) bool { return i.Label.Attack || i.Event.Time.After(calm) }, most)
	if err != nil {
		t.Fatal(err)
	}
	receiver, err := lab.NewReceiver("127.50.0.9:0", internet.Zone)
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.Close()
	internet.AddReceiver(PostDomain, netip.MustParseAddr("127.50.0.9"))
	relay, err := lab.StartRelay(internet, t.TempDir(), receiver.Addr().Port(), post.Customers, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := relay.Stop(); err != nil {
			t.Error(err)
		}
	}()

	sent, kept := map[string]int{}, 0
	err = lab.SendAll(relay.Addr(), post.Letters, func(l lab.Letter, r lab.Reply) {
		label := post.Labels[l.To]
		sent[label.Kind]++
		switch {
		case label.Attack && (r.Code != 550 || !strings.Contains(r.Text, "TENANT_NOT_AUTHORIZED")):
			t.Errorf("a spoof got %d %s", r.Code, r.Text)
		case !label.Attack && !r.Accepted():
			t.Errorf("an honest letter from %s got %d %s", l.From, r.Code, r.Text)
		case r.Accepted():
			kept++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if sent[AttackCampaign] != 250 || sent[Ordinary] != 20 || sent[Invoices] == 0 {
		t.Errorf("sent: %v, left out: %v", sent, post.LeftOut)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := receiver.Wait(ctx, kept); err != nil {
		t.Fatal(err)
	}
	for _, j := range receiver.Judgements() {
		if !j.Aligned || post.Labels[j.Recipients[0]].Attack {
			t.Errorf("%s arrived at %v, signed by %v", j.MessageID, j.Recipients, j.SignedBy)
		}
	}
}
