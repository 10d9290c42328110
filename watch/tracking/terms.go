package tracking

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"

	"anechoic/ledger"
)

// Bounds of what is indexed of one fact; a query is cut alike, so that what is
// longer is found by its beginning.
const (
	maxTerm  = 400 // octets: an address fits (RFC 5321 section 4.5.3.1 allows 64+1+255)
	maxWord  = 64
	maxWords = 128 // of one reply and detail
)

// A term is what a fact is found by: the letter of its kind, and the value in small
// letters. Domains are written from their end ("example.acme."), so that names below
// one are neighbours; addresses of peers as 32 hexadecimal digits, so that a network
// is a range.
const (
	kindID             = "i"
	kindMessageID      = "m"
	kindMailFrom       = "f"
	kindFrom           = "h"
	kindRcpt           = "r"
	kindMailFromDomain = "F"
	kindFromDomain     = "H"
	kindRcptDomain     = "R"
	kindOrg            = "o"
	kindClaimed        = "c"
	kindSource         = "s"
	kindPeer           = "p"
	kindTenant         = "t"
	kindOriginator     = "g"
	kindDisposition    = "d"
	kindIdentity       = "y"
	kindReason         = "n"
	kindEvent          = "e"
	kindDirection      = "q"
	kindSite           = "x"
	kindClass          = "k"
	kindWord           = "w"
)

// appendTerms adds the terms of a fact; some may come twice.
func appendTerms(list []string, f *ledger.Fact) []string {
	add := func(kind, value string) {
		if value != "" {
			list = append(list, term(kind, value))
		}
	}
	add(kindID, string(f.ID))
	add(kindMessageID, messageID(f.MessageID))
	list = appendAddress(list, kindMailFrom, kindMailFromDomain, f.MailFrom)
	list = appendAddress(list, kindFrom, kindFromDomain, f.From)
	for _, r := range f.Rcpt {
		list = appendAddress(list, kindRcpt, kindRcptDomain, r)
	}
	add(kindOrg, f.Org)
	add(kindClaimed, f.ClaimedOrg)
	add(kindSource, f.Source)
	if f.Peer.IsValid() {
		add(kindPeer, peerDigits(f.Peer))
	}
	add(kindTenant, f.Tenant)
	add(kindOriginator, f.Originator)
	add(kindDisposition, string(f.Disposition))
	add(kindIdentity, string(f.Identity))
	add(kindReason, string(f.Reason))
	add(kindEvent, string(f.Event))
	add(kindDirection, f.Direction)
	add(kindSite, backwards(f.Site))
	add(kindClass, f.Class)
	return appendWords(appendWords(list, f.Reply, maxWords), f.Detail, maxWords)
}

func term(kind, value string) string {
	return kind + cut(strings.ToLower(value), maxTerm)
}

// cut shortens a text to n octets.
func cut(s string, n int) string { return s[:min(len(s), n)] }

func appendAddress(list []string, kind, domainKind, address string) []string {
	if address == "" {
		return list
	}
	list = append(list, term(kind, address))
	if at := strings.LastIndexByte(address, '@'); at >= 0 && at+1 < len(address) {
		list = append(list, term(domainKind, backwards(address[at+1:])))
	}
	return list
}

// messageID is a Message-ID without its brackets.
func messageID(s string) string {
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(s), "<"), ">")
}

// backwards writes a name from its end: "mx.acme.example" is "example.acme.mx.".
func backwards(name string) string {
	name = strings.TrimSuffix(name, ".")
	if name == "" {
		return ""
	}
	labels := strings.Split(name, ".")
	slices.Reverse(labels)
	return strings.Join(labels, ".") + "."
}

// peerDigits is an address as 32 digits; IPv4 stands where RFC 4291 section 2.5.5.2
// maps it.
func peerDigits(a netip.Addr) string {
	b := a.As16()
	return hex.EncodeToString(b[:])
}

// appendWords adds the words of a text: letters, digits and what joins them.
func appendWords(list []string, text string, most int) []string {
	for _, w := range wordsOf(text, most) {
		list = append(list, kindWord+w)
	}
	return list
}

// wordsOf takes a text apart, in small letters. Signs at the edges of a word do not
// count: "<bob@example.org>:" is bob@example.org.
func wordsOf(text string, most int) (words []string) {
	split := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return r <= ' ' || strings.ContainsRune(`<>()[]{}"',;|`, r)
	})
	for _, w := range split {
		if w = strings.Trim(w, `.:!?=-_/\*&%$+~^`+"`"); w == "" {
			continue
		}
		if words = append(words, cut(w, maxWord)); len(words) == most {
			break
		}
	}
	return words
}
