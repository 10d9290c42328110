package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"anechoic/control/api"
)

// DemoOptions says how the demo runs.
type DemoOptions struct {
	Scenario string    // by name; empty: echospoof
	JSON     bool      // the result as one JSON object on Out
	Legit    int       // legitimate messages at each door; zero: 200
	Spoofs   int       // spoofed messages at each door; zero: 2,000
	Out      io.Writer // the result
	Progress io.Writer // what is going on; nil: silent
	Keep     string    // new or empty directory to leave the relay's data in; empty: a temporary one, removed
	Picture  string    // file for an animated picture of the run, as SVG; empty: none
	Slow     bool      // at a pace at which it can be read, with explanations

	Live   bool       // Progress is a terminal: bars are drawn again and again
	Colour bool       // and shows colours
	Width  func() int // columns of the terminal; nil: defaultWidth

	pause func(context.Context, time.Duration) error // nil: that long
}

// DemoResult is what came of it. OK holds if all checks of the scenario do.
type DemoResult struct {
	OK         bool           `json:"ok"`
	Scenario   string         `json:"scenario"`
	Seconds    float64        `json:"seconds"`
	Permissive DoorResult     `json:"permissive_relay"`
	Anechoic   DoorResult     `json:"anechoic"`
	Kinds      []KindResult   `json:"kinds"`
	Checks     []Check        `json:"checks"`
	Refusals   map[string]int `json:"refusals"`             // of spoofs, by reason
	Findings   []string       `json:"findings,omitempty"`   // of the relay about itself, at the end
	Comparison *Comparison    `json:"comparison,omitempty"` // one spoof at both doors
	Example    []string       `json:"example"`              // one refused message explained
	Failures   []string       `json:"failures,omitempty"`   // checks that did not hold
	Remark     string         `json:"remark,omitempty"`
}

// DoorResult counts what went through one relay.
type DoorResult struct {
	LegitSent      int `json:"legit_sent"`
	LegitDelivered int `json:"legit_delivered"`
	LegitAligned   int `json:"legit_dmarc_pass"`
	LegitInbox     int `json:"legit_in_inbox"` // by the receiver, as are those below
	SpoofsSent     int `json:"spoofs_sent"`
	SpoofsRefused  int `json:"spoofs_refused"`
	SpoofsSigned   int `json:"spoofs_signed"`
	SpoofsArrived  int `json:"spoofs_delivered"`
	SpoofsAligned  int `json:"spoofs_dmarc_pass"`
	SpoofsInbox    int `json:"spoofs_in_inbox"`
	SpoofsSpam     int `json:"spoofs_in_spam"`
	SpoofsRejected int `json:"spoofs_rejected_by_receiver"`
	Leaked         int `json:"evidence_leaked"`
	Repeated       int `json:"repeated"`
}

// KindResult counts the letters of one kind at both doors.
type KindResult struct {
	Name       string `json:"name"`
	Title      string `json:"title"`
	Class      string `json:"class"` // legitimate, spoof, around (never came to a relay), aside
	Permissive Counts `json:"permissive_relay"`
	Anechoic   Counts `json:"anechoic"`
}

// Counts is what became of letters of one kind. Accepted, PutOff and Refused are
// the door's answers; the rest is what the receiver saw.
type Counts struct {
	Sent      int `json:"sent"`
	Accepted  int `json:"accepted"`
	PutOff    int `json:"put_off"` // answered with 4yz
	Refused   int `json:"refused"` // answered with 5yz
	Delivered int `json:"delivered"`
	Signed    int `json:"signed"`
	DMARCPass int `json:"dmarc_pass"`
	Inbox     int `json:"in_inbox"`
	Spam      int `json:"in_spam"`
	Rejected  int `json:"rejected_by_receiver"`
}

// kind gives the counts of a kind; nothing of one that was not sent.
func (r *DemoResult) kind(name string) KindResult {
	for _, k := range r.Kinds {
		if k.Name == name {
			return k
		}
	}
	return KindResult{}
}

// OptionsError says what is wrong with options: nothing was started.
type OptionsError struct{ Text string }

func (e OptionsError) Error() string { return e.Text }

// deliverWithin bounds how long accepted mail may take to arrive.
const deliverWithin = 60 * time.Second

// What is sent if nobody says otherwise, and how much is no demo any more.
const (
	defaultLegit  = 200
	defaultSpoofs = 2000
	fewest        = 4 // of each: below it some kinds of a scenario would be empty
	mostLetters   = 100_000
)

// Demo runs a scenario at both doors: the same letters are given to a permissive
// relay and to this one, and receivers say what came out. An error means that the
// range itself failed, or that ctx ended; whether the relay did as it must is in
// the result. Whatever was started is stopped, and the temporary directory gone,
// when Demo returns.
func Demo(ctx context.Context, o DemoOptions) (DemoResult, error) {
	d, err := newDemo(o)
	if err != nil {
		return DemoResult{}, err
	}
	defer d.close()
	if err := d.run(ctx); err != nil {
		d.screen.end()
		if ctx.Err() != nil {
			return DemoResult{}, fmt.Errorf("lab: the demo was interrupted; %s: %w", d.leaves(), ctx.Err())
		}
		return DemoResult{}, err
	}
	if err := d.show(); err != nil {
		return DemoResult{}, err
	}
	return d.result, nil
}

// leaves says what stays behind.
func (d *demo) leaves() string {
	if d.o.Keep != "" {
		return "what it wrote until then is in " + d.o.Keep
	}
	return "nothing of it is left"
}

// demo is the range with everything in it.
type demo struct {
	o                    DemoOptions
	scenario             Scenario
	started              time.Time
	dir                  string
	internet             *Internet
	customers            []Customer
	hosts                []netip.Addr // of the provider, from which the rogue tenants' mail comes
	permissive, anechoic *side
	relay                *Relay
	old                  *permissive
	screen               *screen
	closers              []func() error
	signatureLives       time.Duration // of the copy that a replay sends
	result               DemoResult
}

// side is one of the two doors, with the receiver behind it.
type side struct {
	name     string
	addr     string
	auth     bool // it takes credentials; the other knows applications by their address
	receiver *Receiver
	counts   map[string]*Counts // by kind
	reasons  map[string]int     // of refused spoofs
	kinds    map[string]string  // of letters, by recipient
	replies  map[string]Reply   // to spoofs, by recipient
	spoofs   []string           // their recipients, in the order of the replies
	accepted int
}

func newDemo(o DemoOptions) (*demo, error) {
	scenario, err := findScenario(o.Scenario)
	if err != nil {
		return nil, err
	}
	if err := o.complete(); err != nil {
		return nil, err
	}
	if err := checkLoopback(); err != nil {
		return nil, err
	}
	d := &demo{o: o, scenario: scenario, started: time.Now(), screen: newScreen(o)}
	d.screen.note("Starting DNS, a Microsoft 365 with rogue tenants, receivers and both relays: "+scenario.Title+".", 0)
	if err := d.start(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *demo) start() error {
	if err := d.directory(); err != nil {
		return err
	}
	if err := d.people(); err != nil {
		return err
	}
	return d.relays()
}

// complete fills in what was left out and refuses what makes no demo.
func (o *DemoOptions) complete() error {
	if o.Legit == 0 {
		o.Legit = defaultLegit
	}
	if o.Spoofs == 0 {
		o.Spoofs = defaultSpoofs
	}
	if min(o.Legit, o.Spoofs) < fewest || max(o.Legit, o.Spoofs) > mostLetters {
		return OptionsError{fmt.Sprintf("%d legitimate messages and %d spoofs make no demo: say %d to %d of each", o.Legit, o.Spoofs, fewest, mostLetters)}
	}
	if info, err := os.Stat(filepath.Dir(o.Picture)); o.Picture != "" && (err != nil || !info.IsDir()) {
		return OptionsError{fmt.Sprintf("the picture cannot be written to %s: there is no folder %s", o.Picture, filepath.Dir(o.Picture))}
	}
	if info, err := os.Stat(o.Picture); err == nil && info.IsDir() {
		return OptionsError{fmt.Sprintf("the picture cannot be written to %s: that is a folder", o.Picture)}
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.pause == nil {
		o.pause = pause
	}
	if !o.Slow {
		o.pause = func(context.Context, time.Duration) error { return nil }
	}
	return nil
}

// pause is a while to read in.
func pause(ctx context.Context, long time.Duration) error {
	timer := time.NewTimer(long)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *demo) onClose(f func() error) { d.closers = append(d.closers, f) }

// close undoes what was started, last first.
func (d *demo) close() {
	for i := len(d.closers) - 1; i >= 0; i-- {
		if err := d.closers[i](); err != nil {
			d.screen.note("Closing: "+err.Error(), 0)
		}
	}
	d.closers = nil
}

// directory makes the folder of the relay.
func (d *demo) directory() error {
	if d.o.Keep != "" {
		d.dir = d.o.Keep
		return emptyFolder(d.dir)
	}
	dir, err := os.MkdirTemp("", "anechoic-demo-")
	if err != nil {
		return fmt.Errorf("lab: the demo needs a temporary folder (TMPDIR says where): %w", err)
	}
	d.dir = dir
	d.onClose(func() error { return os.RemoveAll(dir) })
	return nil
}

// emptyFolder makes a folder, unless there is one with nothing in it: what
// somebody has there is not to be mixed with a range's secrets.
func emptyFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	if len(entries) > 0 {
		return OptionsError{fmt.Sprintf("folder %s is not empty (%s is in it): name a new one or an empty one", dir, entries[0].Name())}
	}
	return nil
}

// Addresses where the receivers listen.
const (
	receiverAnechoic   = "127.50.0.1"
	receiverPermissive = "127.50.0.2"
)

// people makes the internet, the customers, the attacker and the receivers.
func (d *demo) people() (err error) {
	if d.internet, err = NewInternet(); err != nil {
		return fmt.Errorf("%w; the demo needs a free UDP and TCP port on 127.0.0.1", err)
	}
	d.onClose(d.internet.Close)
	customers := usual
	if d.scenario.customers != nil {
		customers = d.scenario.customers
	}
	d.customers = customers(d.internet, d.o)
	for range rogueTenants {
		d.hosts = append(d.hosts, d.internet.ProviderHost())
	}
	if d.anechoic, err = d.side("anechoic", receiverAnechoic); err != nil {
		return err
	}
	if d.permissive, err = d.side("permissive", receiverPermissive); err != nil {
		return err
	}
	d.anechoic.auth = true
	d.internet.AddReceiver(freemail, d.anechoic.receiver.Addr().Addr())
	return nil
}

func (d *demo) side(name, addr string) (*side, error) {
	receiver, err := NewReceiver(addr+":0", d.internet.Zone)
	if err != nil {
		return nil, err
	}
	receiver.Key = func(j Judgement) string { return j.Recipients[0] }
	d.onClose(receiver.Close)
	return &side{name: name, receiver: receiver, counts: map[string]*Counts{}, reasons: map[string]int{}, kinds: map[string]string{}, replies: map[string]Reply{}}, nil
}

// trustedApplications is where the permissive relay takes customers'
// applications to be.
var trustedApplications = netip.MustParsePrefix("127.60.0.0/16")

func (d *demo) relays() (err error) {
	d.relay, err = StartRelay(d.internet, d.dir, d.anechoic.receiver.Addr().Port(), d.customers, slog.New(slog.DiscardHandler))
	if err != nil {
		return fmt.Errorf("lab: the relay does not start: %w", err)
	}
	d.onClose(d.relay.Stop)
	names, err := domains(d.customers)
	if err != nil {
		return err
	}
	trusted := append([]netip.Prefix{ProviderRange, trustedApplications}, d.scenario.trusted...)
	next := map[string]string{freemail: d.permissive.receiver.Addr().String()}
	if d.old, err = newPermissive(d.internet, trusted, names, next); err != nil {
		return err
	}
	d.onClose(d.old.close)
	d.anechoic.addr, d.permissive.addr = d.relay.Addr(), d.old.addr()
	return nil
}

// control asks the relay about itself, as the command line does.
func (d *demo) control() *api.Client { return api.NewClient(filepath.Join(d.dir, "data")) }

// show writes the result and the picture.
func (d *demo) show() error {
	if err := d.print(); err != nil {
		return err
	}
	if d.o.Picture == "" {
		return nil
	}
	if err := os.WriteFile(d.o.Picture, d.picture(), 0o644); err != nil {
		return errors.Join(errors.New("lab: the picture cannot be written"), err)
	}
	return nil
}
