package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"anechoic/mail/dns"
)

// Tryout is an internet for somebody who tries the relay without a domain: a name
// server whose records are a file that a person edits, and the mail server of
// mailbox.example, which takes everything, judges it as large providers do and keeps
// it in a folder.
//
//	<dir>/zone.txt        records, read again when the file changes
//	<dir>/mailbox/1.eml   what arrived, in order
//
// A Microsoft 365 has a sending host in it too, for SendRogue.
type Tryout struct {
	options  TryoutOptions
	zone     *dns.Zone
	server   *dns.Server
	receiver *Receiver
	base     map[string]dns.Records
	read     time.Time // the zone file's time of change when it was read
	kept     int
}

// TryoutOptions says where it stands.
type TryoutOptions struct {
	Dir     string
	DNS     string       // address and port of the name server
	Mailbox string       // of the mail server
	Tell    func(string) // a line for a person
}

// tryoutZone is what stands in DNS beside the file.
const tryoutZone = `
mailbox.example.                              MX  10 mx.mailbox.example.
mailbox.example.                              NS  ns.mailbox.example.
mx.mailbox.example.                           A   %[1]s
ns.mailbox.example.                           A   %[2]s
rogue.outbound.protection.outlook.com.        A   %[3]s
%[4]s                                         PTR rogue.outbound.protection.outlook.com.
`

// zoneIntroduction begins the file of records.
const zoneIntroduction = `; Records of this internet, in the form in which "anechoic domain check" and
; "anechoic key show" print them. The file is read again whenever it is saved.
`

// rogueHost is where the provider hands on what the rogue tenant relays.
var rogueHost = netip.AddrFrom4([4]byte{127, 40, 1, 1})

// OpenTryout starts it. The caller closes it.
func OpenTryout(o TryoutOptions) (t *Tryout, err error) {
	t = &Tryout{options: o, zone: &dns.Zone{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	if err := os.MkdirAll(filepath.Join(o.Dir, "mailbox"), 0o755); err != nil {
		return t, fmt.Errorf("lab: %w", err)
	}
	if _, err := os.Stat(t.zoneFile()); errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(t.zoneFile(), []byte(zoneIntroduction), 0o644); err != nil {
			return t, fmt.Errorf("lab: %w", err)
		}
	}
	if t.server, err = t.zone.Serve(o.DNS); err != nil {
		return t, fmt.Errorf("lab: name server: %w", inUse(err))
	}
	if t.receiver, err = NewReceiver(o.Mailbox, t.zone); err != nil {
		return t, inUse(err)
	}
	t.receiver.Key = func(j Judgement) string { t.keep(j); return j.MessageID }
	return t, t.layBase()
}

// inUse says what to do about a port that somebody else has.
func inUse(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: another program has that port; choose another with --dns or --mailbox", err)
	}
	return err
}

func (t *Tryout) layBase() (err error) {
	host, _, err := net.SplitHostPort(t.DNS())
	if err != nil {
		return err
	}
	text := fmt.Sprintf(tryoutZone, t.receiver.Addr().Addr(), host, rogueHost, dns.ReverseName(rogueHost))
	if t.base, err = dns.ParseMaster(strings.NewReader(text), "lab"); err != nil {
		return err
	}
	t.zone.Replace(t.base)
	return nil
}

// DNS is where the name server answers, Mailbox where the mail server does.
func (t *Tryout) DNS() string             { return t.server.Addr() }
func (t *Tryout) Mailbox() netip.AddrPort { return t.receiver.Addr() }

func (t *Tryout) zoneFile() string { return filepath.Join(t.options.Dir, "zone.txt") }

// Close ends it.
func (t *Tryout) Close() (err error) {
	if t.receiver != nil {
		err = t.receiver.Close()
	}
	if t.server != nil {
		err = errors.Join(err, t.server.Close())
	}
	return err
}

// howOften the zone file is looked at.
const lookAtZone = 200 * time.Millisecond

// Run reads the records, and again whenever they change, until ctx ends.
func (t *Tryout) Run(ctx context.Context) {
	tick := time.NewTicker(lookAtZone)
	defer tick.Stop()
	for {
		t.publish()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// publish reads the zone file if it changed. What is wrong with it is told, and the
// records before stay.
func (t *Tryout) publish() {
	info, err := os.Stat(t.zoneFile())
	if err != nil || info.ModTime().Equal(t.read) {
		return
	}
	t.read = info.ModTime()
	f, err := os.Open(t.zoneFile())
	if err != nil {
		t.options.Tell(fmt.Sprintf("dns      %v: the records before stay", err))
		return
	}
	defer f.Close()
	names, err := dns.ParseMaster(f, t.zoneFile())
	if err != nil {
		t.options.Tell(fmt.Sprintf("dns      %v: the records before stay", err))
		return
	}
	delegate(names)
	t.zone.Replace(t.base, names)
	t.options.Tell(fmt.Sprintf("dns      %s has %s", t.zoneFile(), counted(len(names), "name", "names")))
}

// delegate makes each domain whose proof stands in the file a zone of this server, so
// that its records can be asked for where they are kept.
func delegate(names map[string]dns.Records) {
	for name := range names {
		domain, ok := strings.CutPrefix(name, "_anechoic.")
		if r := names[domain]; ok && len(r.NS) == 0 {
			r.NS = []string{"ns.mailbox.example"}
			names[domain] = r
		}
	}
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// keep writes down what arrived, and tells of it.
func (t *Tryout) keep(j Judgement) {
	t.kept++
	name := filepath.Join(t.options.Dir, "mailbox", fmt.Sprintf("%d.eml", t.kept))
	if err := os.WriteFile(name, j.Data, 0o644); err != nil {
		t.options.Tell("mailbox  " + err.Error())
	}
	signed := "no DKIM signature that verifies"
	if len(j.SignedBy) > 0 {
		signed = "DKIM pass (" + j.SignedBy[0].String() + ")"
	}
	t.options.Tell(printable(fmt.Sprintf("mailbox  %s arrived for %s: From %s; SPF %s, %s, DMARC %s: %s",
		name, strings.Join(j.Recipients, ", "), j.From, j.SPF.Status, signed, j.DMARC.Status, j.Place)))
}

// Handed is one message for Send.
type Handed struct {
	Server   string // address and port of the relay
	From, To string
	Subject  string
	User     string // with Secret: AUTH
	Secret   string
	Rogue    bool // through the tenant of a stranger at Microsoft 365, as in 2024
}

// Send hands one message to a relay and gives its answer.
func Send(ctx context.Context, h Handed) (answer Reply, err error) {
	draft := Draft{From: h.From, To: h.To, Subject: h.Subject, Body: "Sent by anechoic lab send.\r\n",
		MessageID: fmt.Sprintf("<%d@lab.mailbox.example>", time.Now().UnixNano())}
	l := Letter{Via: netip.AddrFrom4([4]byte{127, 0, 0, 1}), From: h.From, To: h.To, User: h.User, Secret: h.Secret, Data: draft.Plain()}
	if h.Rogue {
		tenant := Tenant{GUID: guid("rogue", 0), Originator: "rogue.onmicrosoft.com", Host: rogueHost}
		l.Via, l.Data = rogueHost, tenant.Stamp(BlindRelay, draft, vps)
	}
	err = sendAll(ctx, h.Server, []Letter{l}, func(_ Letter, r Reply) { answer = r })
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		err = errors.New(loopbackHint(runtime.GOOS, []string{l.Via.String()}))
	}
	return answer, err
}
