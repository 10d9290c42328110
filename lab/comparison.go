package lab

import (
	"fmt"
	"net/netip"
	"strings"

	"anechoic/ledger"
	"anechoic/mail"
	"anechoic/standard/spf"
)

// Comparison is one spoof at both doors: what the mailbox behind the permissive
// relay saw of it, and how it was refused here.
type Comparison struct {
	From    string   `json:"from"`
	To      string   `json:"to"`
	Inbox   []string `json:"permissive_relay"` // what the receiver found; what the relay said, if it refused too
	Refusal string   `json:"refusal"`          // as the sender was told
	Path    []Hop    `json:"path"`
}

// Standing is how far what is said of a hop can be relied on.
type Standing string

// The standings.
const (
	Claimed Standing = "Claimed"    // somebody wrote it; nothing stands for it
	Seen    Standing = "Seen by us" // it is what our own connection showed
	Proven  Standing = "Proven"     // somebody who can be relied on stands for it
)

// Hop is one station of a message on its way.
type Hop struct {
	Name     string   `json:"name"`
	Text     string   `json:"text"`
	Standing Standing `json:"standing"`
	Failed   bool     `json:"failed,omitempty"` // it is why the message was refused
}

// compare puts a spoof side by side. Inbox is what became of it at the other door,
// nil if it was refused there too.
func compare(inbox *Judgement, reply Reply, f ledger.Fact) Comparison {
	c := Comparison{From: printable(f.From), Refusal: printable(fmt.Sprintf("%d %s", reply.Code, reply.Text)), Path: hops(f)}
	if len(f.Rcpt) > 0 {
		c.To = printable(f.Rcpt[0])
	}
	c.Inbox = []string{"refused there too"}
	if inbox != nil {
		c.Inbox = found(inbox)
	}
	return c
}

// found is what a receiver noted about a message.
func found(j *Judgement) []string {
	list := []string{fmt.Sprintf("SPF %s (%s)", j.SPF.Status, printable(j.SPF.Domain))}
	if j.SPF.Status != spf.Pass {
		list[0] = fmt.Sprintf("SPF %s", j.SPF.Status)
	}
	if len(j.SignedBy) > 0 {
		list = append(list, fmt.Sprintf("DKIM pass (d=%s)", j.SignedBy[0]))
	} else {
		list = append(list, "DKIM none that verifies")
	}
	place := map[Place]string{Inbox: "in the inbox", Spam: "in the spam folder", Rejected: "rejected by the receiver"}[j.Place]
	return append(list, fmt.Sprintf("DMARC %s: %s", j.DMARC.Status, place))
}

// hops are the stations of a refused message, from whoever wrote it to this relay.
func hops(f ledger.Fact) []Hop {
	failed := failedAt(f.Reason)
	text := fmt.Sprintf("From %s", f.From)
	if f.ClaimedOrg != "" {
		text += fmt.Sprintf(", a domain of %s", f.ClaimedOrg)
	}
	path := []Hop{{Name: "author", Text: text, Standing: Claimed, Failed: failed == atAuthor}}
	if f.ConnectingIP != "" {
		path = append(path, Hop{Name: "first server", Text: fmt.Sprintf("%s handed it to the provider, as the provider says", addressIn(f.ConnectingIP)), Standing: Claimed})
	}
	if f.Tenant != "" && isProvider(f.Peer) {
		path = append(path, Hop{Name: "tenant", Text: tenantText(f), Standing: Seen, Failed: failed == atTenant})
	}
	path = append(path, peerHop(f, failed == atPeer))
	path = append(path, Hop{Name: "here", Text: "refused; nothing was signed or kept", Standing: Seen, Failed: failed == atHere})
	for i := range path {
		path[i].Text = printable(path[i].Text)
	}
	return path
}

// addressIn is the address in "TenantId=…;Ip=[192.0.2.1];Helo=[…]", or the whole.
func addressIn(stamp string) string {
	if _, rest, ok := strings.Cut(stamp, "Ip=["); ok {
		address, _, _ := strings.Cut(rest, "]")
		return address
	}
	return stamp
}

func tenantText(f ledger.Fact) string {
	text := fmt.Sprintf("%s (%s), stamped by the provider", f.Tenant, f.Originator)
	if failedAt(f.Reason) == atTenant {
		text += fmt.Sprintf(": no source of %s", orSomebody(f.ClaimedOrg))
	}
	return text
}

func orSomebody(organisation string) string {
	if organisation == "" {
		return "anybody here"
	}
	return organisation
}

func peerHop(f ledger.Fact, failed bool) Hop {
	if isProvider(f.Peer) {
		return Hop{Name: "peer", Text: fmt.Sprintf("%s is a server of Microsoft 365, by address and name: whose mail it carries, that does not say", f.Peer), Standing: Proven, Failed: failed}
	}
	text := fmt.Sprintf("%s connected", f.Peer)
	if failed {
		text += ": no source of anybody here"
	}
	return Hop{Name: "peer", Text: text, Standing: Seen, Failed: failed}
}

func isProvider(peer netip.Addr) bool { return ProviderRange.Contains(peer.Unmap()) }

// station is where a message failed.
type station int

const (
	atHere station = iota
	atAuthor
	atTenant
	atPeer
)

// failedAt is the station that a reason speaks of.
func failedAt(r mail.Reason) station {
	switch r {
	case mail.ReasonTenantNotAuthorized, mail.ReasonAttributionConflict, mail.ReasonTenantReserved:
		return atTenant
	case mail.ReasonRelayDenied, mail.ReasonPeerNotEOP:
		return atPeer
	case mail.ReasonFromNotOwned, mail.ReasonSenderNotOwned, mail.ReasonSourceNotAllowed:
		return atAuthor
	}
	return atHere
}

// mark stands before the hop that failed, in words beside it.
const (
	mark      = "✗ "
	noMark    = "  "
	failedTag = " <- here it failed"
)

// lines draws the comparison in two columns, or one under the other where there
// is no room.
func (c Comparison) lines(width int) []line {
	out := []line{
		{{strong, "One spoof, at both doors"}},
		textLine(fit(fmt.Sprintf("From %s to %s", c.From, c.To), width)),
		nil,
	}
	if width < wideEnough {
		out = append(out, line{{strong, oldDoor}})
		out = append(out, c.left(width)...)
		out = append(out, nil, line{{strong, newDoor}})
		return append(out, c.right(width)...)
	}
	leftWidth := width*2/5 - 2
	left := append([]line{{{strong, oldDoor}}}, c.left(leftWidth)...)
	right := append([]line{{{strong, newDoor}}}, c.right(width-leftWidth-2)...)
	for i := range max(len(left), len(right)) {
		l := at(left, i).padded(leftWidth + 2)
		out = append(out, append(l, at(right, i)...))
	}
	return out
}

func at(lines []line, i int) line {
	if i < len(lines) {
		return lines[i]
	}
	return nil
}

func (c Comparison) left(width int) (out []line) {
	for i, text := range c.Inbox {
		t := plain
		if i == len(c.Inbox)-1 {
			t = bad
		}
		out = append(out, wrapped(text, width, t)...)
	}
	return out
}

func (c Comparison) right(width int) []line {
	out := append(wrapped(c.Refusal, width, good), nil)
	for _, h := range c.Path {
		out = append(out, h.lines(width)...)
	}
	return out
}

// lines is the hop with its name, standing and, if it did, that it failed.
func (h Hop) lines(width int) []line {
	head := line{{plain, noMark}, {strong, h.Name}, {plain, ": " + string(h.Standing)}}
	if h.Failed {
		head = line{{bad, mark}, {strong, h.Name}, {plain, ": " + string(h.Standing)}, {bad, failedTag}}
	}
	out := []line{head}
	for _, part := range wrap(h.Text, width-4) {
		out = append(out, line{{faint, strings.Repeat(" ", 4) + part}})
	}
	return out
}

func wrapped(text string, width int, t tone) (out []line) {
	for _, part := range wrap(text, width) {
		out = append(out, line{{t, part}})
	}
	return out
}
