package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/smtp"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anechoic/control/api"
	"anechoic/mail"
	"anechoic/org"
)

// sourceTrial is what the flags of `source test` say.
type sourceTrial struct {
	secretFile string
	headerFile string
	from       string
	wait       time.Duration
}

// How often the relay is asked what came, and how often a person is told that nothing
// did.
const (
	probePoll   = 300 * time.Millisecond
	probeRemind = 30 * time.Second
	probeAfter  = 15 * time.Second // a message that was taken arrives so soon, or not at all
)

func (sh *shell) sourceTestCommand() *cobra.Command {
	var trial sourceTrial
	c := &cobra.Command{
		Use:   "test ORG SOURCE | ORG/SOURCE",
		Short: "Send a message through a source from end to end, and try to spoof it",
		Long: `Prove a source from end to end. The running relay makes a recipient of its own that
lasts an hour. A message to it takes the way of any other: it is attributed, permitted,
counted, screened, signed and kept. Only its delivery ends inside the relay, which
looks at it as a receiver would. Nothing leaves the machine.

For a credential source the message is sent from here, over the relay's submission
port, with the password of the source: from --secret-file, a prompt, or standard
input. One that is locked to addresses this machine does not have cannot be proven
from here. For it, and for every other source, the address is shown, and the message
is yours to send: from the tenant, the server or the application that the source
stands for.

Then the relay tries to be you: it asks attribution and policy again with what came,
changed as a stranger would have to change it, and opens sessions to itself without
any proof. All of it must be refused. One that is not is a RISK.

Exits with 0 if the source is proven and every spoof was refused, with 3 if not, with
7 if nothing came in time.`,
		Example: `  anechoic source test acme/acme-billing --secret-file password.txt
  anechoic source test acme acme-m365 --wait 30m
  anechoic source test acme acme-m365 --json`,
		Args: arguments("ORG [SOURCE]"),
		RunE: func(c *cobra.Command, args []string) error { return sh.sourceTest(c.Context(), args, trial) },
	}
	c.Flags().StringVar(&trial.secretFile, "secret-file", "", "read the password of a credential source from this `file`")
	c.Flags().StringVar(&trial.headerFile, "header-secret-file", "", "read the value of the source's secret header from this `file`")
	c.Flags().StringVar(&trial.from, "from", "", "write this `address` into From (default: one that the source may send as)")
	c.Flags().DurationVar(&trial.wait, "wait", 10*time.Minute, "how long to wait for the message")
	return c
}

func (sh *shell) sourceTest(ctx context.Context, args []string, trial sourceTrial) error {
	organisation, source, err := splitSource(args)
	if err != nil {
		return err
	}
	if trial.wait <= 0 || trial.wait > time.Hour {
		return usagef("--wait takes up to an hour, which is how long the address lasts")
	}
	client, err := sh.client()
	if err != nil {
		return err
	}
	begin, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	p, err := client.BeginProbe(begin, organisation, source)
	if err != nil {
		return err
	}
	if err := sh.sendProbe(begin, &p, trial); err != nil {
		return err
	}
	if p, err = sh.followProbe(ctx, client, p, trial.wait); err != nil {
		return err
	}
	if sh.asJSON {
		err = sh.printJSON(p)
	} else {
		sh.printProbe(&p)
	}
	switch {
	case err != nil:
		return err
	case p.Proven():
		return nil
	case len(p.Taken) == 0 && len(p.Refused) == 0 && len(p.AtRisk()) == 0:
		return fmt.Errorf("nothing came to %s: %w", p.Address, context.DeadlineExceeded)
	}
	return errFindings
}

func splitSource(args []string) (organisation, source string, err error) {
	if len(args) == 2 {
		return args[0], args[1], nil
	}
	organisation, source, ok := strings.Cut(args[0], "/")
	if !ok || organisation == "" || source == "" {
		return "", "", usagef("name the organisation and its source, as in acme/acme-m365")
	}
	return organisation, source, nil
}

// sendProbe sends the message for a credential source, and says to a person what to
// send for every other.
func (sh *shell) sendProbe(ctx context.Context, p *api.Probe, trial sourceTrial) error {
	from, err := probeSender(p, trial.from)
	if err != nil {
		return err
	}
	if p.Kind == string(org.Credential) && !fromHere(p) {
		sh.notef("%s/%s is locked to %s, and this machine is none of it: that the source works cannot be proven from here.\n"+
			"Send as user %s from a machine in there, the application itself at best; or take the lock out while you try: anechoic source set %s %s addresses=\n",
			p.Organisation, p.Source, strings.Join(p.LockedTo, ", "), p.Username, p.Organisation, p.Source)
	}
	if p.Kind != string(org.Credential) || !fromHere(p) {
		sh.notef("Send a message from %s to\n\n    %s\n\nby the way that %s/%s stands for. Waiting %s for it.\n", whoMaySend(p, trial.from), p.Address, p.Organisation, p.Source, span(trial.wait))
		return nil
	}
	password, err := sh.sourcePassword(trial.secretFile)
	if err != nil {
		return err
	}
	header, err := headerSecret(p, trial.headerFile)
	if err != nil {
		return err
	}
	l, err := submissionOf(p.Listeners)
	if err != nil {
		return err
	}
	sh.notef("Sending from %s to %s as %s over %s\n", from, p.Address, p.Username, l.Address)
	err = submitProbe(ctx, l, p, from, password, header)
	var said *textproto.Error
	if errors.As(err, &said) {
		sh.notef("The relay refused it: %s\n", err)
		if strings.Contains(said.Msg, "AUTH") || len(p.Refused) == 0 && said.Code == 535 {
			return fmt.Errorf("the relay did not let %s in: %s; give the password that the source's hash was made of", p.Username, said.Msg)
		}
		return nil // the relay tells why
	}
	return err
}

// fromHere says that a client on this machine may use the user name: its address is the
// listener's own.
func fromHere(p *api.Probe) bool {
	if len(p.LockedTo) == 0 {
		return true
	}
	l, err := submissionOf(p.Listeners)
	if err != nil {
		return true // sending tells
	}
	at, err := netip.ParseAddrPort(localOf(l.Address))
	return err != nil || slices.ContainsFunc(p.LockedTo, func(network string) bool {
		n, err := netip.ParsePrefix(network)
		return err != nil || n.Contains(at.Addr().Unmap())
	})
}

// whoMaySend says in words which addresses a source may send as.
func whoMaySend(p *api.Probe, from string) string {
	return cmp.Or(from, strings.Join(p.From, " or "), "an address of the organisation")
}

// probeSender is an address that the source may send as.
func probeSender(p *api.Probe, from string) (string, error) {
	if from == "" && len(p.From) > 0 {
		local, domain, _ := strings.Cut(p.From[0], "@")
		if local == "*" {
			local = "anechoic-probe"
		}
		from = local + "@" + domain
	}
	if _, err := mail.ParseAddress(from); err != nil {
		return "", usagef("--from: %v", err)
	}
	return from, nil
}

func (sh *shell) sourcePassword(file string) (string, error) {
	if file == "" {
		return sh.readPassword()
	}
	return secretFrom(file)
}

// secretFrom reads one line. Errors name the file, never what is in it.
func secretFrom(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("the secret: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPassword+3))
	if err != nil {
		return "", fmt.Errorf("the secret in %s: %w", file, err)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" || len(secret) > maxPassword || strings.ContainsFunc(secret, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fmt.Errorf("%s holds no secret: it is to be one line of at most %d octets", file, maxPassword)
	}
	return secret, nil
}

func headerSecret(p *api.Probe, file string) (string, error) {
	switch {
	case p.SecretHeader == "":
		return "", nil
	case file == "":
		return "", usagef("mail of %s/%s bears the secret header %s: give its value with --header-secret-file", p.Organisation, p.Source, p.SecretHeader)
	}
	return secretFrom(file)
}

// submissionOf is the port for a client that signs in.
func submissionOf(listeners []api.Listener) (api.Listener, error) {
	for _, name := range []string{"submission", "smtp_tls", "smtp"} {
		i := slices.IndexFunc(listeners, func(l api.Listener) bool { return l.Name == name })
		if i >= 0 {
			return listeners[i], nil
		}
	}
	return api.Listener{}, errors.New("the relay has no port where a client can sign in: set smtp.listen_submission")
}

// submitProbe sends one message. The control socket told which certificate the relay
// shows: nobody else gets the password.
func submitProbe(ctx context.Context, l api.Listener, p *api.Probe, from, password, header string) error {
	secure := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, VerifyConnection: func(state tls.ConnectionState) error {
		sum := sha256.Sum256(state.PeerCertificates[0].Raw)
		if hex.EncodeToString(sum[:]) != p.Certificate {
			return fmt.Errorf("%s shows another certificate than this relay: something stands between", l.Address)
		}
		return nil
	}}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", localOf(l.Address))
	if err != nil {
		return fmt.Errorf("submission: %w", err)
	}
	defer conn.Close()
	if at, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(at)
	}
	if l.Name == "smtp_tls" {
		conn = tls.Client(conn, secure)
	}
	c, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		return err
	}
	if err := c.Hello("localhost"); err != nil {
		return err
	}
	if l.Name != "smtp_tls" {
		if err := c.StartTLS(secure); err != nil {
			return err
		}
	}
	if err := c.Auth(smtp.PlainAuth("", p.Username, password, "localhost")); err != nil {
		return err
	}
	return sendLetter(c, from, p.Address, probeText(p, from, header))
}

func sendLetter(c *smtp.Client, from, to, text string) error {
	if err := c.Mail(from); err != nil {
		return err
	}
	if err := c.Rcpt(to); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}

func probeText(p *api.Probe, from, header string) string {
	text := "From: " + from + "\r\nTo: " + p.Address + "\r\nSubject: A probe of " + p.Organisation + "/" + p.Source +
		"\r\nDate: " + time.Now().UTC().Format(time.RFC1123Z) + "\r\nMessage-ID: <" + string(mail.NewID(time.Now())) + "@probe.invalid>\r\n"
	if header != "" {
		text += p.SecretHeader + ": " + header + "\r\n"
	}
	return text + "\r\nThis message shows that the source works. It does not leave the relay.\r\n"
}

// localOf is where a listener can be reached from this machine.
func localOf(address string) string {
	at, err := netip.ParseAddrPort(address)
	switch {
	case err != nil || !at.Addr().IsUnspecified():
		return address
	case at.Addr().Is6():
		return netip.AddrPortFrom(netip.IPv6Loopback(), at.Port()).String()
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port()).String()
}

// followProbe asks the relay until all is known, or the time is over.
func (sh *shell) followProbe(ctx context.Context, client *api.Client, p api.Probe, wait time.Duration) (api.Probe, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	poll, remind := time.NewTicker(probePoll), time.NewTicker(probeRemind)
	defer poll.Stop()
	defer remind.Stop()
	var told, refused int
	for {
		now, err := client.Probe(context.WithoutCancel(ctx), p.Token)
		if err != nil {
			return p, err
		}
		p = now
		for _, m := range p.Taken[told:] {
			sh.notef("Taken from %s as %s\n", m.From, m.ID)
		}
		for _, r := range p.Refused[refused:] {
			sh.notef("Refused: %s\n", r.Reply)
		}
		told, refused = len(p.Taken), len(p.Refused)
		if p.Complete || stuck(&p) {
			return p, nil
		}
		select {
		case <-ctx.Done():
			return p, nil
		case <-remind.C:
			sh.notef("Nothing has arrived at %s yet\n", p.Address)
		case <-poll.C:
		}
	}
}

// stuck says that waiting brings nothing: the message was refused, or held.
func stuck(p *api.Probe) bool {
	if len(p.Taken) == 0 {
		return len(p.Refused) > 0
	}
	last := p.Taken[len(p.Taken)-1]
	return last.Held != "" || len(p.Arrivals) == 0 && time.Since(last.At) > probeAfter
}

// printProbe tells of all that came, for people.
func (sh *shell) printProbe(p *api.Probe) {
	for _, r := range p.Refused {
		sh.printf("refused   %s\n", flat(r.Reply))
		if r.Detail != "" {
			sh.printf("          %s\n", flat(r.Detail))
		}
		sh.printf("          what to do: docs/reasons.md#%s, and anechoic log show %s\n", strings.ToLower(string(r.Reason)), r.ID)
	}
	for _, m := range p.Taken {
		sh.printTaken(p, &m)
	}
	for i := range p.Arrivals {
		sh.printArrival(&p.Arrivals[i])
	}
	sh.printSpoofs(p)
	switch {
	case len(p.AtRisk()) > 0:
	case p.Proven():
		sh.printf("%s/%s works: its mail is proven, signed and aligned\n", p.Organisation, p.Source)
	case len(p.Taken) > 0 && len(p.Arrivals) == 0 && p.Taken[len(p.Taken)-1].Held == "":
		sh.printf("It was taken, and has not arrived: anechoic log show %s tells where it is\n", p.Taken[len(p.Taken)-1].ID)
	}
}

func (sh *shell) printTaken(p *api.Probe, m *api.ProbeTaken) {
	if m.Held != "" {
		sh.printf("held      %s from %s: %s\n", m.ID, m.From, flat(m.Held))
		sh.printf("          it was taken, and stays here: anechoic log show %s\n", m.ID)
		return
	}
	sh.printf("proven    %s from %s: as %s/%s, by %s\n", m.ID, m.From, m.Organisation, m.Source, cmp.Or(strings.Join(m.Proofs, ", "), "nothing yet"))
	if m.Organisation != "" && (m.Organisation != p.Organisation || m.Source != p.Source) {
		sh.printf("          that is another source than %s/%s: the message went another way than was to be tried\n", p.Organisation, p.Source)
	}
	if m.Tenant != "" {
		sh.printf("          tenant %s, %s\n", m.Tenant, m.Origin)
	}
}

func (sh *shell) printArrival(a *api.ProbeArrival) {
	if a.Problem != "" {
		sh.printf("arrived   %s: %s\n", a.ID, flat(a.Problem))
		return
	}
	sh.printf("arrived   %s\n", a.ID)
	for _, s := range a.Signatures {
		sh.printf("signed    %s._domainkey.%s (%s): %s %s\n", s.Selector, s.Domain, s.Algorithm, s.Status, flat(s.Detail))
	}
	switch {
	case len(a.Signatures) == 0:
		sh.printf("signed    by nothing\n")
	case a.DMARC == "none" && a.Aligned:
		sh.printf("dmarc     aligned; it would pass if the domain had a DMARC record\n")
	default:
		sh.printf("dmarc     %s\n", a.DMARC)
	}
	if len(a.Leaked) > 0 {
		sh.printf("leaked    %s: evidence that must not leave\n", strings.Join(a.Leaked, ", "))
	}
}

func (sh *shell) printSpoofs(p *api.Probe) {
	for _, s := range p.AtRisk() {
		fmt.Fprintf(sh.out, "%s    %s\n", sh.emphasis("RISK"), printable("taken as the organisation's "+s.Way))
	}
	for _, s := range p.Spoofs {
		if s.Refused {
			sh.printf("spoof     %s: refused, %s\n", s.Way, cmp.Or(string(s.Reason), flat(s.Detail)))
		}
	}
	switch risks := len(p.AtRisk()); {
	case risks > 0:
		sh.printf("Of %d ways to spoof %s/%s, %d succeeded\n", len(p.Spoofs), p.Organisation, p.Source, risks)
	case len(p.Spoofs) > 0:
		sh.printf("We tried to spoof %s/%s in %d ways and failed\n", p.Organisation, p.Source, len(p.Spoofs))
	}
}
