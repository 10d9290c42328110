package app

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"anechoic/control/config"
	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/org"
	"anechoic/relay/attribution"
	"anechoic/relay/policy"
	"anechoic/relay/smtpd"
	"anechoic/standard/arc"
	"anechoic/standard/dkim"
)

// This file reads a stored message: was it ours, which way did it take, and would it
// be taken today? It signs and keeps nothing, and no relay needs to run.
//
// A file proves nothing about who brought it: whoever wrote the file may have written
// its Received fields and stamps too. So everything in it is Claimed, but for two
// things: what a signature vouches for, whose key is in DNS, is Proven; what our
// ledger says too is Seen.

// Standing says how much is to be believed of something in a file.
type Standing string

// The standings.
const (
	Claimed Standing = "claimed"   // it stands in the file
	Seen    Standing = "seen"      // our ledger says so too
	Vouched Standing = "proven"    // a signature over it verifies
	Broken  Standing = "disproven" // a signature over it does not verify
)

// TraceQuestion is a stored message, with what is known beside it.
type TraceQuestion struct {
	Text     []byte // as it was stored; line ends may be LF
	Peer     netip.Addr
	Clear    bool   // it came without TLS
	Username string // of AUTH
	MailFrom string // empty: as Return-Path or From say
	Rcpt     []mail.Address
	// Ledger gives the facts of an id; nil: no relay runs.
	Ledger func(context.Context, mail.ID) ([]ledger.Fact, error)
}

// Trace is what a stored message shows.
type Trace struct {
	Ours       Standing         `json:"ours,omitempty"` // that this relay sent it; empty: nothing says so
	OursWhy    string           `json:"ours_why"`
	From       string           `json:"from,omitempty"`
	ClaimedOrg string           `json:"claimed_org,omitempty"`
	Path       []TraceHop       `json:"path"` // topmost first
	Signatures []TraceSignature `json:"signatures"`
	Evidence   []string         `json:"evidence"` // what the file shows beside, in words
	Assumed    []string         `json:"assumed"`  // what no file can show, and was taken for so
	Verdict    TraceVerdict     `json:"verdict"`
}

// TraceHop is one Received field.
type TraceHop struct {
	By       string     `json:"by,omitempty"`
	From     netip.Addr `json:"from,omitzero"`
	ID       mail.ID    `json:"id,omitempty"` // where it is ours
	Standing Standing   `json:"standing"`
	Story    []string   `json:"-"`
}

// TraceSignature is a DKIM signature or an ARC set.
type TraceSignature struct {
	Kind     string   `json:"kind"` // dkim, arc
	Domain   string   `json:"domain,omitempty"`
	Selector string   `json:"selector,omitempty"`
	Ours     string   `json:"ours,omitempty"` // the organisation whose key it is
	Standing Standing `json:"standing"`
	Detail   string   `json:"detail,omitempty"`
}

// TraceVerdict is whether the message would be taken today, as an organisation's own.
type TraceVerdict struct {
	WouldPass    bool        `json:"would_pass"`
	Temporary    bool        `json:"temporary,omitempty"` // it would be put off: something could not be found out
	Organisation string      `json:"org,omitempty"`
	Source       string      `json:"source,omitempty"`
	Proofs       []string    `json:"proofs,omitempty"`
	Reason       mail.Reason `json:"reason,omitempty"`
	Reply        string      `json:"reply,omitempty"`
	Detail       string      `json:"detail,omitempty"`
}

// Bounds of what is looked at: those of a message that would be taken by default.
const (
	maxTraceHeader = 256 << 10
	maxTraceHops   = 100
	maxTraceSets   = 50 // RFC 8617 section 4.2.1: more are no valid chain
)

// TraceMessage reads a stored message. An error says that it is none.
func TraceMessage(ctx context.Context, c config.Config, dir *org.Directory, resolver mail.Resolver, q TraceQuestion, now time.Time) (Trace, error) {
	header, body, err := storedMessage(q.Text)
	if err != nil {
		return Trace{}, err
	}
	t := Trace{Path: []TraceHop{}, Signatures: []TraceSignature{}, Evidence: []string{}, Assumed: []string{}}
	hasher := dkim.NewBodyHasher(header)
	_, _ = hasher.Write(body) // a hash takes everything
	hashes := hasher.Sum()
	t.signatures(ctx, dir, resolver, header, hashes, now)
	ours := t.readPath(ctx, c.Hostname, header, q.Ledger)
	t.tellOurs()
	arrived := asItCame(dir, header, ours)
	t.judge(ctx, c, dir, resolver, arrived, hashes, t.peer(q, ours), q, now)
	return t, nil
}

// storedMessage parts a message, and gives it the line ends of mail.
func storedMessage(text []byte) (header mail.Header, body []byte, err error) {
	text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	raw, body, found := bytes.Cut(text, []byte("\r\n\r\n"))
	if !found {
		raw = bytes.TrimSuffix(text, []byte("\r\n"))
	}
	header, err = mail.ParseHeader(append(bytes.Clone(raw), "\r\n"...), mail.HeaderLimits{Bytes: maxTraceHeader, Fields: 10000})
	if err == nil && len(header.Fields) == 0 {
		err = fmt.Errorf("it has no header fields")
	}
	if err != nil {
		return header, nil, fmt.Errorf("this is no stored message: %w: save it with its whole header, as .eml", err)
	}
	return header, body, nil
}

// signatures verifies what is signed.
func (t *Trace) signatures(ctx context.Context, dir *org.Directory, resolver mail.Resolver, header mail.Header, hashes dkim.BodyHashes, now time.Time) {
	for _, r := range dkim.Verify(ctx, resolver, header, hashes, now) {
		t.Signatures = append(t.Signatures, signatureOf("dkim", r, dir))
	}
	chain := arc.Validate(ctx, resolver, header, hashes, now)
	for i := range chain.Instances[:min(len(chain.Instances), maxTraceSets)] {
		set := &chain.Instances[i]
		s := signatureOf("arc", set.Seal, dir)
		s.Detail = strings.TrimSpace(fmt.Sprintf("set %d of a chain that is %s; it saw: %s", set.Number, chain.Status, printable(set.Text)))
		t.Signatures = append(t.Signatures, s)
	}
}

func signatureOf(kind string, r dkim.Result, dir *org.Directory) TraceSignature {
	s := TraceSignature{Kind: kind, Domain: r.Domain.String(), Selector: printable(r.Selector), Standing: Broken}
	if owner, ok := dir.Owner(r.Domain); ok && hasKey(owner, r.Selector) {
		s.Ours = string(owner.Organisation)
	}
	switch {
	case r.Status == dkim.Pass && !r.Testing:
		s.Standing = Vouched
	case r.Status == dkim.TempError || r.Status == dkim.Pass:
		s.Standing = Claimed
	}
	if r.Err != nil {
		s.Detail = printable(r.Err.Error())
	}
	return s
}

func hasKey(d *org.Domain, selector string) bool {
	return slices.ContainsFunc(d.Keys, func(k org.Key) bool { return k.Selector == selector })
}

// ourID is where our Received fields have the message's id.
var ourID = regexp.MustCompile(`\bid ([a-z2-7]{26})\b`)

// readPath lists the Received fields and gives the place, among the header's fields,
// of the lowest that names this relay: what stands below it came to us. -1: there is
// none.
func (t *Trace) readPath(ctx context.Context, hostname mail.Domain, header mail.Header, facts func(context.Context, mail.ID) ([]ledger.Fact, error)) (ours int) {
	ours = -1
	hops := attribution.ReadHeader(nothing, header).Hops
	for i, n := 0, 0; i < len(header.Fields) && n < maxTraceHops; i++ {
		f := header.Fields[i]
		if !f.Is("Received") {
			continue
		}
		hop := TraceHop{By: printable(hops[n].By), From: hops[n].From, Standing: Claimed}
		n++
		if m := ourID.FindStringSubmatch(f.Value()); m != nil && mail.ID(m[1]).Valid() && hop.By == hostname.String() {
			hop.ID, ours = mail.ID(m[1]), i
			hop.confirm(ctx, facts)
		}
		t.Path = append(t.Path, hop)
	}
	return ours
}

// nothing is a Directory of nobody: hops are read the same for everybody.
var nothing = func() *org.Directory {
	dir, _, _ := org.Build(org.Registry{}, org.Providers{}, nil, 0, time.Time{})
	return dir
}()

// confirm asks the ledger about a hop that says it is ours.
func (h *TraceHop) confirm(ctx context.Context, facts func(context.Context, mail.ID) ([]ledger.Fact, error)) {
	if facts == nil {
		return
	}
	known, err := facts(ctx, h.ID)
	if err != nil {
		return
	}
	for _, f := range known {
		if f.Peer == h.From || !f.Peer.IsValid() && !h.From.IsValid() {
			h.Standing = Seen
		}
	}
}

// tellOurs says whether this relay sent the message.
func (t *Trace) tellOurs() {
	t.OursWhy = "no signature of a key here, and no Received field of this relay"
	for _, h := range t.Path {
		switch {
		case h.ID != "" && h.Standing == Seen:
			t.Ours, t.OursWhy = Seen, "the ledger knows message "+string(h.ID)
		case h.ID != "" && t.Ours == "":
			t.Ours, t.OursWhy = Claimed, "a Received field names this relay, and nothing confirms it"
		}
	}
	for _, s := range t.Signatures {
		if s.Ours != "" && s.Standing == Vouched {
			t.Ours, t.OursWhy = Vouched, fmt.Sprintf("a signature by key %s of %s verifies", s.Selector, s.Domain)
		}
	}
}

// asItCame is the header as it came to this relay: without what we and others added
// later. Signatures by keys here are ours; a message that comes with one is an echo, and
// they never count for it.
func asItCame(dir *org.Directory, header mail.Header, ours int) mail.Header {
	if ours < 0 {
		return header
	}
	below := mail.Header{Fields: header.Fields[ours+1:]}
	return below.Without(func(f mail.Field) bool {
		if !f.Is("DKIM-Signature") {
			return false
		}
		for tag := range strings.SplitSeq(f.Value(), ";") {
			name, value, _ := strings.Cut(tag, "=")
			d, err := mail.ParseDomain(strings.TrimSpace(value))
			if strings.TrimSpace(name) == "d" && err == nil {
				owner, ok := dir.Owner(d)
				return ok && signedByKeyOf(owner, f)
			}
		}
		return false
	})
}

func signedByKeyOf(d *org.Domain, f mail.Field) bool {
	for tag := range strings.SplitSeq(f.Value(), ";") {
		if name, value, _ := strings.Cut(tag, "="); strings.TrimSpace(name) == "s" {
			return hasKey(d, strings.TrimSpace(value))
		}
	}
	return false
}

// peer is who brought the message: as was said, else as our own field has it.
func (t *Trace) peer(q TraceQuestion, ours int) netip.Addr {
	if q.Peer.IsValid() {
		t.Assumed = append(t.Assumed, "it came from "+q.Peer.String()+", as --peer says")
		return q.Peer.Unmap()
	}
	for i := len(t.Path) - 1; i >= 0 && ours >= 0; i-- {
		if h := t.Path[i]; h.ID != "" && h.From.IsValid() {
			t.Assumed = append(t.Assumed, fmt.Sprintf("it came from %s, as the Received field of this relay says (%s)", h.From, h.Standing))
			return h.From
		}
	}
	t.Assumed = append(t.Assumed, "nobody knows who brought it: a file proves nothing about its peer; say --peer")
	return netip.Addr{}
}

// judge asks attribution and policy about the message as if it came now.
func (t *Trace) judge(ctx context.Context, c config.Config, dir *org.Directory, resolver mail.Resolver, header mail.Header, hashes dkim.BodyHashes, peer netip.Addr, q TraceQuestion, now time.Time) {
	envelope := mail.Envelope{}
	originators, refusal := envelope.ReadOriginators(header)
	if refusal != nil {
		t.Verdict.refused(refusal)
		return
	}
	from := originators.From.Address
	t.From = from.String()
	if d, ok := dir.Owner(from.Domain()); ok {
		t.ClaimedOrg = string(d.Organisation)
	}
	sender, refusal := t.sender(header, q, from)
	if refusal != nil {
		t.Verdict.refused(refusal)
		return
	}
	ev := attribution.Evidence{Peer: peer, TLS: !q.Clear, Username: q.Username, From: from.Domain(), Header: attribution.ReadHeader(dir, header)}
	t.assume(q)
	in := &intake{resolver: resolver, budgets: newBudgets(c.Limits), log: slog.New(slog.DiscardHandler)}
	proof, refusal := in.attribute(ctx, dir, &ev, &smtpd.Received{Header: header, Hashes: hashes}, now)
	t.tellEvidence(&ev)
	if refusal == nil {
		t.Verdict.Organisation, t.Verdict.Source, t.Verdict.Proofs = string(proof.Organisation()), proof.Source(), proof.Methods().Names()
		in.domains = &org.Proofs{Resolver: resolver, Relay: c.Hostname, Log: in.log}
		if err := in.domains.Start(); err != nil {
			t.Verdict.refused(mail.Internal.Because("%v", err))
			return
		}
		_, refusal = policy.Permit(dir, proof, messageOf(sender, attribution.Strip(dir, header), originators), in.standing(ctx, now))
	}
	if refusal != nil {
		t.Verdict.refused(refusal)
		t.tellInbound(dir, q.Rcpt)
		return
	}
	t.Verdict.WouldPass = true
}

// tellInbound says where the other way in would be asked, for mail that is nobody's
// own here: it rests on what is learned of senders, so it is not rehearsed.
func (t *Trace) tellInbound(dir *org.Directory, rcpt []mail.Address) {
	for _, a := range rcpt {
		if in, ok := dir.InboundFor(a.Domain()); ok {
			t.Assumed = append(t.Assumed, fmt.Sprintf("mail for %s comes in here for %s: what is not proven to be an organisation's own is judged the inbound way, which is not rehearsed here", a.Domain(), in.Organisation))
		}
	}
}

func (v *TraceVerdict) refused(r *mail.Refusal) {
	v.Temporary, v.Reason, v.Reply, v.Detail = r.Temporary(), r.Reason(), r.Text(), printable(r.Detail())
}

// sender is MAIL FROM: as was said, else as the final delivery wrote it down, else From.
func (t *Trace) sender(header mail.Header, q TraceQuestion, from mail.Address) (mail.Address, *mail.Refusal) {
	text, why := q.MailFrom, "--mail-from"
	if f, ok := header.First("Return-Path"); ok && text == "" {
		text, why = strings.TrimSpace(f.Value()), "Return-Path"
	}
	if text == "<>" {
		t.Assumed = append(t.Assumed, "its sender is <>, as "+why+" says")
		return mail.Address{}, nil
	}
	text = strings.Trim(text, "<>")
	if text == "" {
		t.Assumed = append(t.Assumed, "its sender is From: "+from.String())
		return from, nil
	}
	a, err := mail.ParseAddress(text)
	if err != nil {
		return a, mail.SenderSyntax.Because("%v", err)
	}
	t.Assumed = append(t.Assumed, "its sender is "+a.String()+", as "+why+" says")
	return a, nil
}

// assume tells what no file can show.
func (t *Trace) assume(q TraceQuestion) {
	t.Assumed = append(t.Assumed, "it came "+map[bool]string{false: "over TLS", true: "without TLS"}[q.Clear]+", without a client certificate")
	if q.Username != "" {
		t.Assumed = append(t.Assumed, "its client logged in as "+printable(q.Username))
	}
}

// tellEvidence says in words what of the header attribution looks at.
func (t *Trace) tellEvidence(ev *attribution.Evidence) {
	for _, s := range []struct {
		name  string
		stamp attribution.Stamp
	}{
		{"tenant", ev.Header.TenantID}, {"originator", ev.Header.Originator}, {"AuthAs", ev.Header.AuthAs}, {"entity", ev.Header.Entity}, {"connecting address", ev.Header.ConnectingIP},
	} {
		if s.stamp.Count > 0 {
			t.Evidence = append(t.Evidence, fmt.Sprintf("stamp %s: %s%s", s.name, printable(s.stamp.Value), map[bool]string{true: " (more than once)"}[s.stamp.Count > 1]))
		}
	}
	for _, s := range ev.Header.Secrets {
		t.Evidence = append(t.Evidence, "a secret header of an organisation here: "+printable(s.Name)+map[bool]string{true: "", false: ", whose value has not the form of a secret"}[s.WellFormed])
	}
	for _, s := range []struct {
		there bool
		word  string
	}{
		{ev.Header.Looped, "marks of a forwarding loop"}, {ev.Header.Resent, "Resent fields"}, {ev.Header.XForwarded, "X-Forwarded fields"},
		{ev.Header.DeliveredTo, "Delivered-To"}, {ev.Header.ListID, "List-Id"}, {ev.Header.Sealed, "ARC fields"},
	} {
		if s.there {
			t.Evidence = append(t.Evidence, s.word)
		}
	}
	if ev.PeerName != attribution.PeerNameUnknown {
		words := map[attribution.PeerName]string{attribution.PeerNameConfirmed: "has its provider's confirmed name", attribution.PeerNameUnconfirmed: "has no confirmed name of its provider", attribution.PeerNameFailed: "could not be looked up"}
		t.Evidence = append(t.Evidence, "the peer "+cmp.Or(words[ev.PeerName], "is unknown"))
	}
}
