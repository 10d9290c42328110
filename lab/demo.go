package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"time"

	"anechoic/mail"
)

// DemoOptions says how the demo runs.
type DemoOptions struct {
	JSON     bool      // the result as one JSON object on Out
	Legit    int       // legitimate messages at each door; zero: 200
	Spoofs   int       // spoofed messages at each door; zero: 2,000
	Out      io.Writer // the result
	Progress io.Writer // what is going on; nil: silent
	Keep     string    // directory to leave the relay's data in; empty: a temporary one, removed
}

// DemoResult is what came of it. OK holds if no spoof was signed or delivered by
// the relay and every legitimate message arrived, signed and aligned.
type DemoResult struct {
	OK         bool           `json:"ok"`
	Seconds    float64        `json:"seconds"`
	Permissive DoorResult     `json:"permissive_relay"`
	Anechoic   DoorResult     `json:"anechoic"`
	Refusals   map[string]int `json:"refusals"` // by reason
	Example    []string       `json:"example"`  // one refused message explained
	Failures   []string       `json:"failures,omitempty"`
}

// DoorResult counts what went through one relay.
type DoorResult struct {
	LegitSent      int `json:"legit_sent"`
	LegitDelivered int `json:"legit_delivered"`
	LegitAligned   int `json:"legit_dmarc_pass"`
	SpoofsSent     int `json:"spoofs_sent"`
	SpoofsRefused  int `json:"spoofs_refused"`
	SpoofsSigned   int `json:"spoofs_signed"`
	SpoofsArrived  int `json:"spoofs_delivered"`
	SpoofsAligned  int `json:"spoofs_dmarc_pass"`
	Leaked         int `json:"evidence_leaked"`
	Repeated       int `json:"repeated"`
}

// deliverWithin bounds how long accepted mail may take to arrive.
const deliverWithin = 60 * time.Second

// rogueTenants is how many tenants the attacker has, as in 2024 one of many.
const rogueTenants = 5

// Demo runs the campaign of 2024 at both doors: the same legitimate mail and the
// same spoofs are given to a permissive relay and to this one, and receivers say
// what came out. An error means that the range itself failed; whether the relay
// did is in the result.
func Demo(ctx context.Context, o DemoOptions) (DemoResult, error) {
	d, err := newDemo(o)
	if err != nil {
		return DemoResult{}, err
	}
	defer d.close()
	if err := d.run(ctx); err != nil {
		return DemoResult{}, errors.Join(err, ctx.Err())
	}
	d.result.Seconds = time.Since(d.started).Seconds()
	d.result.Failures = d.failures()
	d.result.OK = len(d.result.Failures) == 0
	return d.result, d.print()
}

// demo is the range with everything in it.
type demo struct {
	o                        DemoOptions
	started                  time.Time
	dir                      string
	internet                 *Internet
	customers                []Customer
	rogues                   []Tenant
	vps                      netip.Addr
	atAnechoic, atPermissive *Receiver
	relay                    *Relay
	old                      *permissive
	closers                  []func() error
	result                   DemoResult
}

func newDemo(o DemoOptions) (d *demo, err error) {
	if o.Legit == 0 {
		o.Legit = 200
	}
	if o.Spoofs == 0 {
		o.Spoofs = 2000
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	d = &demo{o: o, started: time.Now(), result: DemoResult{Refusals: map[string]int{}}}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	d.say("starting DNS, a Microsoft 365 with %d tenants, receivers and both relays …", 2+rogueTenants)
	if err := d.directory(); err != nil {
		return nil, err
	}
	if err := d.people(); err != nil {
		return nil, err
	}
	return d, d.relays()
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.o.Progress, format+"\n", args...) }

func (d *demo) onClose(f func() error) { d.closers = append(d.closers, f) }

// close undoes what was started, last first.
func (d *demo) close() {
	for i := len(d.closers) - 1; i >= 0; i-- {
		if err := d.closers[i](); err != nil {
			d.say("closing: %v", err)
		}
	}
	d.closers = nil
}

func (d *demo) directory() error {
	if d.o.Keep != "" {
		d.dir = d.o.Keep
		return os.MkdirAll(d.dir, 0o700)
	}
	dir, err := os.MkdirTemp("", "anechoic-demo-")
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	d.dir = dir
	d.onClose(func() error { return os.RemoveAll(dir) })
	return nil
}

// people makes the internet, the customers, the attacker and the receivers.
func (d *demo) people() (err error) {
	if d.internet, err = NewInternet(); err != nil {
		return err
	}
	d.onClose(d.internet.Close)
	d.customers = []Customer{NewCustomer(d.internet, "acme", 1, true), NewCustomer(d.internet, "globex", 2, false)}
	for i := range rogueTenants {
		d.rogues = append(d.rogues, Tenant{GUID: guid("rogue", byte(i)), Originator: fmt.Sprintf("rogue%d.onmicrosoft.com", i+1), Host: d.internet.ProviderHost()})
	}
	d.vps = netip.MustParseAddr("127.70.0.1")
	if d.atAnechoic, err = NewReceiver("127.50.0.1:0", d.internet.Zone); err != nil {
		return err
	}
	d.onClose(d.atAnechoic.Close)
	if d.atPermissive, err = NewReceiver("127.50.0.2:0", d.internet.Zone); err != nil {
		return err
	}
	d.onClose(d.atPermissive.Close)
	d.internet.AddReceiver("freemail.example", d.atAnechoic.Addr().Addr())
	return nil
}

func (d *demo) relays() (err error) {
	d.relay, err = StartRelay(d.internet, d.dir, d.atAnechoic.Addr().Port(), d.customers, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	d.onClose(d.relay.Stop)
	var domains []mail.Domain
	for _, c := range d.customers {
		domain, err := mail.ParseDomain(c.Domain)
		if err != nil {
			return err
		}
		domains = append(domains, domain)
	}
	trusted := []netip.Prefix{ProviderRange, netip.MustParsePrefix("127.60.0.0/16")}
	d.old, err = newPermissive(d.internet, trusted, domains, map[string]string{"freemail.example": d.atPermissive.Addr().String()})
	if err != nil {
		return err
	}
	d.onClose(d.old.close)
	return nil
}

// run sends everything to both doors and waits for what was accepted.
func (d *demo) run(ctx context.Context) error {
	legit, spoofs := d.legitimate(), d.spoofs()
	d.say("\n%-44s %s", "2024-style permissive relay", "anechoic")
	legitOld, legitNew := tally{}, tally{}
	if err := d.both(legit, &legitOld, &legitNew, "legitimate mail accepted"); err != nil {
		return err
	}
	spoofOld, spoofNew := tally{}, tally{}
	if err := d.both(spoofs, &spoofOld, &spoofNew, "spoofs accepted"); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, deliverWithin)
	defer cancel()
	waited := errors.Join(
		d.atPermissive.Wait(wait, legitOld.accepted+spoofOld.accepted),
		d.atAnechoic.Wait(wait, legitNew.accepted+spoofNew.accepted))
	if waited != nil {
		d.say("%v", waited)
	}
	d.result.Permissive = judge(d.atPermissive, legitOld, spoofOld)
	d.result.Anechoic = judge(d.atAnechoic, legitNew, spoofNew)
	d.result.Refusals = spoofNew.reasons
	var err error
	d.result.Example, err = d.explain(ctx, spoofNew.example)
	return err
}

// tally counts what one relay said.
type tally struct {
	sent, accepted int
	reasons        map[string]int
	example        string // reply to the first that was refused
}

func (t *tally) count(r Reply) {
	t.sent++
	if r.Accepted() {
		t.accepted++
		return
	}
	if t.reasons == nil {
		t.reasons = map[string]int{}
	}
	if _, rest, ok := strings.Cut(r.Text, "["); ok {
		reason, _, _ := strings.Cut(rest, " ")
		t.reasons[reason]++
		if t.example == "" {
			t.example = r.Text
		}
		return
	}
	t.reasons["other"]++
}

// both sends the same letters to both relays at once, with progress side by side.
func (d *demo) both(letters []Letter, old, new *tally, what string) error {
	type event struct {
		at    *tally
		reply Reply
	}
	events, errs := make(chan event), make(chan error, 2)
	send := func(addr string, letters []Letter, at *tally) {
		errs <- SendAll(addr, letters, func(_ Letter, r Reply) { events <- event{at, r} })
	}
	go send(d.old.addr(), withoutAuth(letters), old)
	go send(d.relay.Addr(), letters, new)
	step := max(len(letters)/10, 1)
	for open, err := 2, error(nil); ; {
		select {
		case e := <-events:
			e.at.count(e.reply)
			if (old.sent+new.sent)%(2*step) == 0 {
				d.say("%-26s %6d of %-6d    %6d of %-6d", what, old.accepted, old.sent, new.accepted, new.sent)
			}
		case e := <-errs:
			err = errors.Join(err, e)
			if open--; open == 0 {
				return err
			}
		}
	}
}

// withoutAuth is the same mail for the old door, which knows applications by
// their address.
func withoutAuth(letters []Letter) []Letter {
	plain := make([]Letter, len(letters))
	for i, l := range letters {
		l.User, l.Secret = "", ""
		plain[i] = l
	}
	return plain
}

// legitimate is mail of the customers: from their own tenants and an application.
func (d *demo) legitimate() (letters []Letter) {
	for i := range d.o.Legit {
		c := d.customers[i%len(d.customers)]
		draft := Draft{
			From: fmt.Sprintf("%s <person%d@%s>", c.ID, i%7, c.Domain), To: fmt.Sprintf("friend%d@freemail.example", i),
			Subject: "Invoice", MessageID: fmt.Sprintf("<legit-%d@%s>", i, c.Domain), Body: body(i, "Please find the invoice below."),
		}
		l := Letter{Via: c.Tenant.Host, From: fmt.Sprintf("person%d@%s", i%7, c.Domain), To: fmt.Sprintf("friend%d@freemail.example", i)}
		if c.Username != "" && i%4 == 0 {
			draft.From, l.From = "billing@"+c.Domain, "billing@"+c.Domain
			l.Via, l.User, l.Secret, l.Data = netip.MustParseAddr("127.60.0.1"), c.Username, c.Password, draft.Plain()
		} else {
			l.Data = c.Tenant.Stamp(Cloud, draft, netip.Addr{})
		}
		letters = append(letters, l)
	}
	return letters
}

// spoofs is the campaign: From a customer, blind-relayed through rogue tenants of
// the same provider, to the customers of a free-mail provider.
func (d *demo) spoofs() (letters []Letter) {
	random := rand.New(rand.NewPCG(2024, 1)) // a fixed seed: the same campaign each time
	for i := range d.o.Spoofs {
		tenant, victim := d.rogues[i%len(d.rogues)], d.customers[i%len(d.customers)]
		local := fmt.Sprintf("admin_support%c%c%c", 'a'+rune(random.IntN(26)), 'a'+rune(random.IntN(26)), 'a'+rune(random.IntN(26)))
		draft := Draft{
			From: fmt.Sprintf("%s Support <%s@%s>", victim.ID, local, victim.Domain), To: fmt.Sprintf("victim%d@freemail.example", i),
			Subject: "Your subscription has expired", MessageID: fmt.Sprintf("<spoof-%d@vps.attacker.example>", i), Body: body(i, "Renew now: http://renew.attacker.example/"),
		}
		letters = append(letters, Letter{
			Via: tenant.Host, From: fmt.Sprintf("bounce%d@%s", i, tenant.Originator), To: fmt.Sprintf("victim%d@freemail.example", i),
			Data: tenant.Stamp(BlindRelay, draft, d.vps),
		})
	}
	return letters
}

// body is a text of about 1.5 KiB.
func body(i int, first string) string {
	return first + "\r\n\r\n" + strings.Repeat(fmt.Sprintf("This is line of message %d, as long as lines of mail are.\r\n", i), 25)
}

// judge counts what a receiver saw.
func judge(r *Receiver, legit, spoofs tally) DoorResult {
	result := DoorResult{LegitSent: legit.sent, SpoofsSent: spoofs.sent, SpoofsRefused: spoofs.sent - spoofs.accepted, Repeated: r.Repeated()}
	for _, j := range r.Judgements() {
		result.Leaked += len(j.Leaked)
		if strings.HasPrefix(j.MessageID, "<legit-") {
			result.LegitDelivered++
			result.LegitAligned += one(j.Aligned)
			continue
		}
		result.SpoofsArrived++
		result.SpoofsSigned += one(len(j.SignedBy) > 0)
		result.SpoofsAligned += one(j.Aligned)
	}
	return result
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// explain asks the relay's own ledger about one refused message.
func (d *demo) explain(ctx context.Context, reply string) ([]string, error) {
	_, rest, ok := strings.Cut(reply, " id=")
	if !ok {
		return nil, nil
	}
	id := mail.ID(strings.TrimSuffix(rest, "]"))
	story, err := d.relay.App.Explain(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("lab: explain %s: %w", id, err)
	}
	return append([]string{reply}, story...), nil
}

// failures says in words what was not as it must be.
func (d *demo) failures() (list []string) {
	check := func(ok bool, format string, args ...any) {
		if !ok {
			list = append(list, fmt.Sprintf(format, args...))
		}
	}
	n, p := d.result.Anechoic, d.result.Permissive
	check(n.LegitDelivered == n.LegitSent, "anechoic delivered %d of %d legitimate messages", n.LegitDelivered, n.LegitSent)
	check(n.LegitAligned == n.LegitSent, "%d of %d legitimate messages passed DMARC", n.LegitAligned, n.LegitSent)
	check(n.SpoofsArrived == 0, "anechoic delivered %d spoofs", n.SpoofsArrived)
	check(n.SpoofsSigned == 0, "anechoic signed %d spoofs", n.SpoofsSigned)
	check(n.SpoofsRefused == n.SpoofsSent, "anechoic accepted %d spoofs", n.SpoofsSent-n.SpoofsRefused)
	check(n.Leaked == 0, "%d header fields with evidence left anechoic", n.Leaked)
	check(n.Repeated == 0, "anechoic delivered %d messages twice", n.Repeated)
	check(p.SpoofsAligned == p.SpoofsSent, "the attack itself failed: %d of %d spoofs passed DMARC at the permissive relay", p.SpoofsAligned, p.SpoofsSent)
	check(len(d.result.Example) > 1, "the ledger could not explain a refusal")
	return list
}

// print writes the result.
func (d *demo) print() error {
	if d.o.JSON {
		return json.NewEncoder(d.o.Out).Encode(d.result)
	}
	n, p := d.result.Anechoic, d.result.Permissive
	var b strings.Builder
	row := func(what string, old, new any) { fmt.Fprintf(&b, "  %-38s %18v %14v\n", what, old, new) }
	fmt.Fprintf(&b, "\n")
	row("", "permissive (2024)", "anechoic")
	row("legitimate messages delivered", of(p.LegitDelivered, p.LegitSent), of(n.LegitDelivered, n.LegitSent))
	row("  of them passing DMARC", p.LegitAligned, n.LegitAligned)
	row("spoofs delivered", of(p.SpoofsArrived, p.SpoofsSent), of(n.SpoofsArrived, n.SpoofsSent))
	row("  of them signed as the victim", p.SpoofsSigned, n.SpoofsSigned)
	row("  of them passing DMARC in the inbox", p.SpoofsAligned, n.SpoofsAligned)
	fmt.Fprintf(&b, "\nOne refused message, as its sender and as the ledger saw it:\n\n")
	for _, line := range d.result.Example {
		fmt.Fprintf(&b, "  %s\n", line)
	}
	fmt.Fprintf(&b, "\n")
	for _, f := range d.result.Failures {
		fmt.Fprintf(&b, "FAILED: %s\n", f)
	}
	if d.result.OK {
		fmt.Fprintf(&b, "Spoofs signed: %d of %d. Legitimate messages lost: 0 of %d. %.1f seconds.\n", n.SpoofsSigned, n.SpoofsSent, n.LegitSent, d.result.Seconds)
	}
	if d.o.Keep != "" {
		fmt.Fprintf(&b, "The relay's configuration and data are in %s.\n", d.o.Keep)
	}
	_, err := io.WriteString(d.o.Out, b.String())
	return err
}

func of(n, all int) string { return fmt.Sprintf("%d of %d", n, all) }
