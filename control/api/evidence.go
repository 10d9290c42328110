package api

import (
	"fmt"
	"strings"

	"anechoic/relay/attribution"
)

// maxHopsTold bounds how many Received fields are told one by one.
const maxHopsTold = 10

// evidenceInWords tells what was seen of a message, a sentence a line. It never
// shows a secret, nor the digest of one.
func evidenceInWords(ev *attribution.Evidence) []string {
	told := []string{peerInWords(ev)}
	say := func(format string, args ...any) { told = append(told, fmt.Sprintf(format, args...)) }
	if ev.Username != "" {
		say("The client authenticated as %s.", ev.Username)
	}
	if ev.ClientKey.Present {
		say("The client showed a certificate with key %x%s.", ev.ClientKey.SPKI, ifTrue(ev.ClientKey.Expired, ", which was not valid then"))
	}
	h := &ev.Header
	for _, s := range []struct {
		what  string
		stamp attribution.Stamp
	}{
		{"tenant", h.TenantID}, {"originator organisation", h.Originator}, {"AuthAs", h.AuthAs}, {"FromEntityHeader", h.Entity},
		{"connecting server", h.ConnectingIP}, {"SenderADCheck", h.ADCheck},
	} {
		if s.stamp.Count > 0 {
			say("Stamped %s: %s%s.", s.what, shown(s.stamp.Value), ifTrue(s.stamp.Count > 1, fmt.Sprintf(" (%d times, so it counts for nothing)", s.stamp.Count)))
		}
	}
	if signs := forwardingSigns(h); len(signs) > 0 {
		say("It shows that it was forwarded or passed on: %s.", strings.Join(signs, ", "))
	}
	for i, hop := range h.Hops {
		if i == maxHopsTold {
			say("… and %d Received fields more.", len(h.Hops)-i)
			break
		}
		say("Received %d: %s.", i+1, hopInWords(hop))
	}
	for _, s := range h.Secrets {
		say("There is a secret header %s; its value is %s.", s.Name, map[bool]string{true: "well formed", false: "not of the form of a secret"}[s.WellFormed])
	}
	for _, s := range ev.Signatures {
		say("A DKIM signature of %s (selector %s) held.", s.Domain, s.Selector)
	}
	return told
}

func peerInWords(ev *attribution.Evidence) string {
	name := map[attribution.PeerName]string{
		attribution.PeerNameConfirmed:   ", a confirmed host of its provider",
		attribution.PeerNameUnconfirmed: ", whose name is not its provider's",
		attribution.PeerNameFailed:      ", whose name could not be looked up",
	}[ev.PeerName]
	return fmt.Sprintf("It came from %s%s%s, with From in %s.", ev.Peer, map[bool]string{true: " over TLS", false: " without TLS"}[ev.TLS], name, ev.From)
}

func forwardingSigns(h *attribution.HeaderEvidence) (signs []string) {
	for _, s := range []struct {
		there bool
		name  string
	}{
		{h.Looped, "a forwarding stamp of the provider"}, {h.Resent, "Resent-*"}, {h.XForwarded, "X-Forwarded-*"}, {h.DeliveredTo, "Delivered-To"},
		{h.ListID, "List-Id"}, {h.Sealed, "ARC-*"}, {h.Authres, "Authentication-Results"},
	} {
		if s.there {
			signs = append(signs, s.name)
		}
	}
	return signs
}

func hopInWords(h attribution.Hop) string {
	by := "an unnamed host"
	if h.By != "" {
		by = shown(h.By)
	}
	switch {
	case h.From.IsValid():
		return fmt.Sprintf("%s had it from %s", by, h.From)
	case h.Over:
		return by + " had it from elsewhere and does not say from where"
	}
	return "it began at " + by
}

// shown is a stranger's text, cut to what a line can bear.
func shown(s string) string {
	const most = 200
	return fmt.Sprintf("%q", s[:min(len(s), most)])
}

func ifTrue(yes bool, text string) string {
	if yes {
		return text
	}
	return ""
}
