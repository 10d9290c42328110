package app

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"anechoic/control/api"
	"anechoic/mail"
	"anechoic/mail/background"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/custody"
	"anechoic/relay/delivery"
	"anechoic/relay/policy"
	"anechoic/relay/smtpd"
	"anechoic/standard/dkim"
	"anechoic/standard/dmarc"
)

// Bounds of probes. They live in memory: a restart ends them.
const (
	probeFor      = time.Hour
	probesAtMost  = 100 // at a time
	probeHeard    = 20  // messages told of, of one probe
	probePrefix   = "probe-"
	probeTokenLen = 12 // base32: 60 bits, for an hour
	probeJudging  = 30 * time.Second
	probeDomains  = 50 // of an organisation that DNS is asked about anew
	probeLookups  = 16 // at a time
)

// probes are the one-time recipients at the relay's own name by which a person sees
// whether a source works. A message to one takes the whole way of any other message:
// it is attributed, permitted, counted, screened, signed and kept. Only its delivery
// ends here, where the app looks at it as a receiver would.
//
// So a probe opens nothing: who can send to one could send to anybody. A recipient
// of that form that is no probe is unknown.
type probes struct {
	app *App

	mu      sync.Mutex // guards what follows
	pending map[string]*pendingProbe
	risks   map[looked][]org.Finding // spoofs that succeeded at the last look
}

// looked is one of the two looks at a source: with a message of its own that was changed,
// or in sessions without any proof.
type looked struct {
	source  string // organisation/source
	session bool
}

// pendingProbe is one, or the decoy beside it to which strangers try to send.
type pendingProbe struct {
	told     api.Probe
	judged   int  // messages whose spoofs were tried
	sessions bool // the spoofs over SMTP were tried
	decoy    bool
}

var _ api.Probing = (*probes)(nil)

func newProbes(a *App) *probes {
	return &probes{app: a, pending: map[string]*pendingProbe{}, risks: map[looked][]org.Finding{}}
}

// Begin implements api.Probing.
func (p *probes) Begin(ctx context.Context, source *org.Source) (api.Probe, error) {
	if p.takesMailItself() {
		return api.Probe{}, fmt.Errorf("%w: the relay's host name %s takes mail of its own, so no probe can be told apart there", api.ErrConflict, p.app.config.Hostname)
	}
	p.lookAgain(ctx, source)
	now := time.Now().UTC()
	told := api.Probe{
		Organisation: string(source.Organisation), Source: source.ID, Kind: string(source.Kind), Username: source.Username, From: p.sendersOf(source),
		Expires: now.Add(probeFor), Listeners: p.app.node().Listeners, Certificate: p.app.tls.fingerprint(),
		Taken: []api.ProbeTaken{}, Refused: []api.ProbeRefusal{}, Arrivals: []api.ProbeArrival{}, Spoofs: []api.Spoof{},
	}
	if source.Secret != nil {
		told.SecretHeader = source.Secret.Name
	}
	if source.Kind == org.Credential {
		for _, network := range source.Addresses {
			told.LockedTo = append(told.LockedTo, network.String())
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep(now)
	if len(p.pending)+2 > probesAtMost {
		return api.Probe{}, fmt.Errorf("%w: %d probes are under way: wait until one of them is an hour old", api.ErrConflict, len(p.pending))
	}
	decoy := p.add(api.Probe{Expires: told.Expires, Organisation: told.Organisation, Source: told.Source}, true)
	made := p.add(told, false)
	from := p.impersonated(source)
	background.Go(&p.app.running, p.app.log, "probe: spoofs over smtp", func() { p.spoofOverSMTP(made.told.Token, decoy.told.Address, from) })
	return copyOf(made), nil
}

// lookAgain asks DNS about the organisation's domains and keys: who tries a source has
// often published a record a moment ago.
func (p *probes) lookAgain(ctx context.Context, source *org.Source) {
	o, ok := p.app.directory.Load().Organisation(source.Organisation)
	if !ok {
		return
	}
	now := time.Now().UTC()
	work := background.Limit(probeLookups)
	for _, d := range o.Domains[:min(len(o.Domains), probeDomains)] {
		work.Go(func() { p.app.domains.Check(ctx, d, now) })
		work.Go(func() { p.app.signer.ListDomain(ctx, d, now) })
	}
	work.Wait()
}

// add makes a token for a probe. The lock is held.
func (p *probes) add(told api.Probe, decoy bool) *pendingProbe {
	told.Token = strings.ToLower(rand.Text()[:probeTokenLen])
	told.Address = probePrefix + told.Token + "@" + p.app.config.Hostname.String()
	made := &pendingProbe{told: told, decoy: decoy}
	p.pending[told.Token] = made
	return made
}

// Probe implements api.Probing.
func (p *probes) Probe(token string) (api.Probe, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep(time.Now())
	one, ok := p.pending[token]
	if !ok || one.decoy {
		return api.Probe{}, false
	}
	return copyOf(one), true
}

// copyOf is a probe as it stands. The lock is held.
func copyOf(one *pendingProbe) api.Probe {
	told := one.told
	told.Taken, told.Refused = slices.Clone(told.Taken), slices.Clone(told.Refused)
	told.Arrivals, told.Spoofs = slices.Clone(told.Arrivals), slices.Clone(told.Spoofs)
	told.Complete = len(told.Arrivals) > 0 && one.judged >= len(told.Taken) && one.sessions
	return told
}

// sweep forgets what is over. The lock is held.
func (p *probes) sweep(now time.Time) {
	for token, one := range p.pending {
		if now.After(one.told.Expires) {
			delete(p.pending, token)
		}
	}
}

// takesMailItself says that mail for the relay's own name goes another way.
func (p *probes) takesMailItself() bool {
	dir, name := p.app.directory.Load(), p.app.config.Hostname
	_, back := dir.ReturnPath(name)
	_, in := dir.InboundFor(name)
	return back || in || p.app.intake.forwarding.domain() == name
}

// sendersOf lists what a source may send as.
func (p *probes) sendersOf(source *org.Source) (list []string) {
	for _, pattern := range source.From {
		list = append(list, pattern.Local+"@"+pattern.Domain.String())
	}
	if list != nil {
		return list
	}
	if o, ok := p.app.directory.Load().Organisation(source.Organisation); ok {
		for _, d := range o.Domains {
			list = append(list, "*@"+d.Name.String())
		}
	}
	return append([]string{}, list...)
}

// impersonated is an address of the organisation's that a stranger would write; empty:
// it has no domain.
func (p *probes) impersonated(source *org.Source) string {
	o, ok := p.app.directory.Load().Organisation(source.Organisation)
	if !ok || len(o.Domains) == 0 {
		return ""
	}
	return "anechoic-probe@" + o.Domains[0].Name.String()
}

// any says that a probe is under way: only then is mail for the relay's own name
// looked at here.
func (p *probes) any() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep(time.Now())
	return len(p.pending) > 0
}

// tokenOf is the token in a recipient that has the form of a probe.
func (p *probes) tokenOf(rcpt mail.Address) (token string, ok bool) {
	if rcpt.Domain() != p.app.config.Hostname {
		return "", false
	}
	token, ok = strings.CutPrefix(strings.ToLower(rcpt.Local()), probePrefix)
	return token, ok && len(token) == probeTokenLen
}

// find gives the probe of a recipient. known is false for one that has the form and
// is none.
func (p *probes) find(rcpt mail.Address) (one *pendingProbe, form bool) {
	token, form := p.tokenOf(rcpt)
	if !form {
		return nil, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep(time.Now())
	return p.pending[token], true
}

// probed is the intake with an ear for what comes to probes.
type probed struct {
	*intake
	probes *probes
}

// Rcpt implements smtpd.Handler. Who may not send to anybody hears the same here.
func (h probed) Rcpt(ctx context.Context, tx *smtpd.Transaction, rcpt mail.Recipient) *mail.Refusal {
	refusal := h.intake.Rcpt(ctx, tx, rcpt)
	one, form := h.probes.find(rcpt.Address)
	if !form || h.probes.takesMailItself() {
		return refusal
	}
	if refusal == nil && one == nil {
		refusal = mail.RecipientNotFound.Because("%s is no probe, or was one", rcpt.Address)
		fact := transactionFact(tx, time.Now())
		fact.Rcpt = []string{rcpt.Address.String()}
		h.recorder.refused(fact, refusal)
	}
	if refusal != nil && one != nil {
		h.probes.refused(one, tx.ID, refusal)
	}
	return refusal
}

// Data implements smtpd.Handler.
func (h probed) Data(ctx context.Context, tx *smtpd.Transaction, r *smtpd.Received) (custody.Receipt, *mail.Refusal) {
	receipt, refusal := h.intake.Data(ctx, tx, r)
	for _, rcpt := range tx.Envelope.Recipients {
		one, _ := h.probes.find(rcpt.Address)
		switch {
		case one == nil:
		case refusal != nil:
			h.probes.refused(one, tx.ID, refusal)
		default:
			h.probes.taken(one, tx, r)
		}
	}
	return receipt, refusal
}

// refused notes that a message to a probe was refused.
func (p *probes) refused(one *pendingProbe, id mail.ID, refusal *mail.Refusal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(one.told.Refused) < probeHeard {
		one.told.Refused = append(one.told.Refused, api.ProbeRefusal{ID: id, At: time.Now().UTC(), Reply: refusal.Line(id), Reason: refusal.Reason(), Detail: printable(refusal.Detail())})
	}
}

// taken notes a message that was kept, and has it tried whether others could have
// sent it.
func (p *probes) taken(one *pendingProbe, tx *smtpd.Transaction, r *smtpd.Received) {
	now := time.Now().UTC()
	dir := p.app.directory.Load()
	originators, refusal := tx.Envelope.ReadOriginators(r.Header)
	p.mu.Lock()
	full := len(one.told.Taken) >= probeHeard || one.decoy
	p.mu.Unlock()
	if refusal != nil || full {
		return
	}
	t := trialOf{
		dir: dir, evidence: evidenceOf(dir, tx, r.Header, originators, now),
		message: *messageOf(tx.Envelope.From, attribution.Strip(dir, r.Header), originators),
	}
	told := api.ProbeTaken{ID: tx.ID, At: now, From: originators.From.Address.String(), Proofs: []string{}}
	p.mu.Lock()
	one.told.Taken = append(one.told.Taken, told)
	at := len(one.told.Taken) - 1
	p.mu.Unlock()
	header := smtpd.Received{Header: r.Header, Hashes: r.Hashes} // the body is the session's
	background.Go(&p.app.running, p.app.log, "probe: spoofs", func() {
		ctx, cancel := context.WithTimeout(context.Background(), probeJudging)
		defer cancel()
		p.judge(ctx, one, at, &t, &header, now)
	})
}

// judge tells how the message was proven, then asks of each way in which a stranger
// would try the same.
func (p *probes) judge(ctx context.Context, one *pendingProbe, at int, t *trialOf, r *smtpd.Received, now time.Time) {
	var spoofs []api.Spoof
	told, held := api.ProbeTaken{Proofs: []string{}}, ""
	if refusal := p.app.intake.lookUp(ctx, t.dir, &t.evidence, r, now); refusal != nil {
		held = refusal.Text()
	} else if proof, refusal := p.permit(ctx, t, now); refusal != nil {
		held = string(refusal.Reason()) + ": " + refusal.Text()
	} else {
		told.Organisation, told.Source, told.Proofs = string(proof.Organisation()), proof.Source(), slices.Clip(proof.Methods().Names())
		told.Origin, told.Tenant = string(proof.Origin()), proof.Tenant()
		spoofs = p.spoof(ctx, t, proof, now)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := &one.told.Taken[at]
	told.ID, told.At, told.From, told.Held = kept.ID, kept.At, kept.From, held
	*kept = told
	one.judged++
	p.tellSpoofs(one, false, spoofs, len(spoofs) > 0)
}

// tellSpoofs adds spoofs to a probe, and makes those that succeeded findings: in place of
// those of the look before, if this one was whole. The lock is held.
func (p *probes) tellSpoofs(one *pendingProbe, session bool, spoofs []api.Spoof, whole bool) {
	one.told.Spoofs = append(one.told.Spoofs, spoofs...)
	key := looked{one.told.Organisation + "/" + one.told.Source, session}
	if whole {
		delete(p.risks, key)
	}
	for _, s := range spoofs {
		if s.Refused {
			continue
		}
		f := org.Finding{
			Organisation: org.ID(one.told.Organisation), Source: one.told.Source, Opens: true,
			Text: "RISK: a probe was taken as the organisation's " + s.Way + ": run anechoic source test " + key.source + " again, and tell the project",
		}
		if !slices.Contains(p.risks[key], f) {
			p.risks[key] = append(p.risks[key], f)
		}
		p.app.log.Error("RISK: a spoof was not refused", "org", one.told.Organisation, "source", one.told.Source, "way", s.Way)
	}
}

// permit asks attribution and policy. What it makes is looked at and dropped.
func (p *probes) permit(ctx context.Context, t *trialOf, now time.Time) (attribution.Proof, *mail.Refusal) {
	proof, refusal := attribution.Attribute(t.dir, &t.evidence, now)
	if refusal != nil {
		return proof, refusal
	}
	_, refusal = policy.Permit(t.dir, proof, &t.message, p.app.intake.standing(ctx, now))
	return proof, refusal
}

// findings are the spoofs that were not refused, of sources that are still there.
func (p *probes) findings(dir *org.Directory) (list []org.Finding) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, some := range p.risks {
		if _, ok := dir.Source(some[0].Organisation, some[0].Source); !ok {
			delete(p.risks, key)
			continue
		}
		list = append(list, some...)
	}
	slices.SortFunc(list, func(a, b org.Finding) int { return strings.Compare(a.Text, b.Text) })
	return list
}

// deliver is the end of the way of messages to the relay's own name, while a probe is
// under way: those to probes are looked at, the others go where they would go without.
func (p *probes) deliver(ctx context.Context, beyond delivery.Transport, a delivery.Attempt) []delivery.Result {
	results := make([]delivery.Result, len(a.Envelope.Recipients))
	var others []int
	for i, rcpt := range a.Envelope.Recipients {
		one, form := p.find(rcpt.Address)
		switch {
		case one != nil:
			results[i] = p.arrived(ctx, one, &a)
		case form:
			results[i] = delivery.Result{Status: delivery.Failed, Enhanced: "5.1.1", Reply: "no such probe here", Reason: mail.ReasonRecipientUnknown}
		default:
			others = append(others, i)
		}
	}
	if len(others) == 0 {
		return results
	}
	for n, result := range p.passOn(ctx, beyond, a, others) {
		results[others[n]] = result
	}
	return results
}

// passOn is the ordinary way for some recipients of an attempt.
func (p *probes) passOn(ctx context.Context, beyond delivery.Transport, a delivery.Attempt, which []int) []delivery.Result {
	router := *p.app.dispatcher.Router
	router.Inner = nil
	all := a.Envelope.Recipients
	a.Envelope.Recipients = nil
	for _, i := range which {
		a.Envelope.Recipients = append(a.Envelope.Recipients, all[i])
	}
	route, end := router.Route(ctx, p.app.config.Hostname)
	if end != nil {
		return slices.Repeat([]delivery.Result{*end}, len(which))
	}
	a.Route = route
	return beyond.Deliver(ctx, a)
}

// arrived looks at a message as its receiver would.
func (p *probes) arrived(ctx context.Context, one *pendingProbe, a *delivery.Attempt) delivery.Result {
	arrival, err := p.examine(ctx, a)
	if err != nil {
		arrival.Problem = printable(err.Error())
	}
	p.mu.Lock()
	if len(one.told.Arrivals) < probeHeard {
		one.told.Arrivals = append(one.told.Arrivals, arrival)
	}
	p.mu.Unlock()
	return delivery.Result{Status: delivery.Delivered, Enhanced: "2.1.5", Reply: "a probe: looked at here, and not sent on", Relayed: true}
}

func (p *probes) examine(ctx context.Context, a *delivery.Attempt) (api.ProbeArrival, error) {
	now := time.Now().UTC()
	arrival := api.ProbeArrival{ID: a.ID, At: now, Signatures: []api.ProbeSignature{}, Leaked: []string{}}
	if a.Message.Kind != custody.KindProven {
		return arrival, errors.New("it was not kept as the organisation's own mail, so it is not signed")
	}
	header, err := mail.ParseHeader(a.Content.Header(), mail.HeaderLimits{})
	if err != nil {
		return arrival, fmt.Errorf("its header: %w", err)
	}
	originators, refusal := a.Envelope.ReadOriginators(header)
	if refusal != nil {
		return arrival, errors.New(refusal.Text())
	}
	body, hashes, err := p.app.intake.spooled(header, a.Content.Body())
	if err != nil {
		return arrival, err
	}
	defer body.Close()
	dir := p.app.directory.Load()
	for _, f := range header.Fields {
		if attribution.IsEvidence(dir, f) {
			arrival.Leaked = append(arrival.Leaked, f.Name())
		}
	}
	results := dkim.Verify(ctx, p.app.resolver, header, hashes, now)
	tellSignatures(&arrival, results)
	verdict := dmarc.Evaluate(ctx, p.app.resolver, dmarc.Method{}, dmarcOf(originators.From.Address.Domain(), results))
	for _, alignment := range verdict.DKIM {
		arrival.Aligned = arrival.Aligned || alignment.Aligned && alignment.Outcome == dmarc.Authenticated
	}
	arrival.DMARC = verdict.Status.String()
	if verdict.Status == dmarc.None { // no record: alignment is all there is to say
		from := originators.From.Address.Domain()
		for _, r := range results {
			arrival.Aligned = arrival.Aligned || r.Status == dkim.Pass && !r.Testing && from.Within(r.Domain)
		}
	}
	return arrival, nil
}

func tellSignatures(arrival *api.ProbeArrival, results []dkim.Result) {
	for _, r := range results {
		s := api.ProbeSignature{Domain: r.Domain.String(), Selector: r.Selector, Algorithm: r.Algorithm.String(), Status: r.Status.String()}
		if r.Err != nil {
			s.Detail = printable(r.Err.Error())
		}
		arrival.Signatures = append(arrival.Signatures, s)
	}
}

func dmarcOf(from mail.Domain, results []dkim.Result) dmarc.Message {
	m := dmarc.Message{From: []mail.Domain{from}}
	for _, r := range results {
		id := dmarc.Identifier{Domain: r.Domain}
		switch {
		case r.Status == dkim.Pass && !r.Testing:
			id.Outcome = dmarc.Authenticated
		case r.Status == dkim.TempError:
			id.Outcome = dmarc.Undetermined
		}
		m.DKIM = append(m.DKIM, id)
	}
	return m
}

// fingerprint is the SHA-256 of the certificate that listeners show, in hex.
func (c *certificate) fingerprint() string {
	pair := c.current.Load()
	if pair == nil || len(pair.Certificate) == 0 {
		return ""
	}
	sum := sha256.Sum256(pair.Certificate[0])
	return hex.EncodeToString(sum[:])
}
