package tracking

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

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

// kinds is a set of kinds.
type kinds uint64

func (k kinds) and(kind string) kinds { return k | 1<<(kind[0]-'A') }

func (k kinds) has(kind string) bool { return k&(1<<(kind[0]-'A')) != 0 }

const everyKind = ^kinds(0)

// speller writes the terms of facts, one after another into the same memory.
type speller struct {
	wanted kinds
	visit  func(term []byte) // the term is the speller's again when it returns
	b      []byte
}

// fact visits the terms of a fact; some may come twice.
func (s *speller) fact(f *ledger.Fact) {
	s.add(kindID, string(f.ID))
	s.add(kindMessageID, messageID(f.MessageID))
	s.address(kindMailFrom, kindMailFromDomain, f.MailFrom)
	s.address(kindFrom, kindFromDomain, f.From)
	for _, r := range f.Rcpt {
		s.address(kindRcpt, kindRcptDomain, r)
	}
	s.add(kindOrg, f.Org)
	s.add(kindClaimed, f.ClaimedOrg)
	s.add(kindSource, f.Source)
	if f.Peer.IsValid() && s.wanted.has(kindPeer) {
		digits := f.Peer.As16()
		s.b = hex.AppendEncode(append(s.b[:0], kindPeer...), digits[:])
		s.visit(s.b)
	}
	s.add(kindTenant, f.Tenant)
	s.add(kindOriginator, f.Originator)
	s.add(kindDisposition, string(f.Disposition))
	s.add(kindIdentity, string(f.Identity))
	s.add(kindReason, string(f.Reason))
	s.add(kindEvent, string(f.Event))
	s.add(kindDirection, f.Direction)
	s.name(kindSite, f.Site)
	s.add(kindClass, f.Class)
	if s.wanted.has(kindWord) {
		s.words(f.Reply)
		s.words(f.Detail)
	}
}

// add visits the term of a value, as term has it.
func (s *speller) add(kind, value string) {
	if value == "" || !s.wanted.has(kind) {
		return
	}
	s.b = append(s.b[:0], kind...)
	s.lower(value)
}

// lower adds a text in small letters to the term begun, and visits it.
func (s *speller) lower(value string) {
	if !isASCII(value) {
		s.b = append(s.b, strings.ToLower(value)...)
	} else {
		s.b = appendLower(s.b, value)
	}
	s.visit(s.b[:min(len(s.b), 1+maxTerm)])
}

// appendLower appends ASCII in small letters.
func appendLower(b []byte, text string) []byte {
	for _, c := range []byte(text) {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

func isASCII(s string) bool {
	for _, c := range []byte(s) {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func (s *speller) address(kind, domainKind, address string) {
	s.add(kind, address)
	if at := strings.LastIndexByte(address, '@'); at >= 0 && at+1 < len(address) {
		s.name(domainKind, address[at+1:])
	}
}

// name visits the term of a domain, which is written from its end.
func (s *speller) name(kind, name string) {
	name = strings.TrimSuffix(name, ".")
	if name == "" || !s.wanted.has(kind) {
		return
	}
	if !isASCII(name) {
		s.add(kind, backwards(name))
		return
	}
	s.b = append(s.b[:0], kind...)
	for dot := len(name); dot >= 0; {
		name = name[:dot]
		dot = strings.LastIndexByte(name, '.')
		s.b = append(appendLower(s.b, name[dot+1:]), '.')
	}
	s.visit(s.b[:min(len(s.b), 1+maxTerm)])
}

// words visits the words of a text, as wordsOf has them.
func (s *speller) words(text string) {
	if !isASCII(text) {
		for _, w := range wordsOf(text, maxWords) {
			s.b = append(append(s.b[:0], kindWord...), w...)
			s.visit(s.b)
		}
		return
	}
	for at, left := 0, maxWords; at < len(text) && left > 0; at++ {
		start := at
		for at < len(text) && !breaks[text[at]] {
			at++
		}
		w := text[start:at]
		for w != "" && edges[w[0]] {
			w = w[1:]
		}
		for w != "" && edges[w[len(w)-1]] {
			w = w[:len(w)-1]
		}
		if w != "" {
			s.b = appendLower(append(s.b[:0], kindWord...), cut(w, maxWord))
			s.visit(s.b)
			left--
		}
	}
}

func term(kind, value string) string {
	return kind + cut(strings.ToLower(value), maxTerm)
}

// cut shortens a text to n octets.
func cut(s string, n int) string { return s[:min(len(s), n)] }

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

// wordsOf takes a text apart, in small letters. Signs at the edges of a word do not
// count: "<bob@example.org>:" is bob@example.org.
func wordsOf(text string, most int) (words []string) {
	split := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return r < utf8.RuneSelf && breaks[r] })
	for _, w := range split {
		if w = strings.Trim(w, edgeSigns); w == "" {
			continue
		}
		if words = append(words, cut(w, maxWord)); len(words) == most {
			break
		}
	}
	return words
}

// edgeSigns do not count at the edges of a word, breakSigns stand between two.
const (
	edgeSigns  = `.:!?=-_/\*&%$+~^` + "`"
	breakSigns = `<>()[]{}"',;|`
)

// breaks and edges are the octets that are such signs; what does not print breaks too.
var breaks, edges = func() (breaks, edges [256]bool) {
	for c := range ' ' + 1 {
		breaks[c] = true
	}
	for _, c := range []byte(breakSigns) {
		breaks[c] = true
	}
	for _, c := range []byte(edgeSigns) {
		edges[c] = true
	}
	return breaks, edges
}()
