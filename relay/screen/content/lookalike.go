package content

import (
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"

	"anechoic/mail"
)

// Trick is how a domain imitates another. The set is closed.
type Trick string

// The tricks, the surest first.
const (
	TrickNone      Trick = ""
	TrickLetters   Trick = "letters"    // it looks the same: other letters, rn for m, 0 for o
	TrickSubdomain Trick = "sub-domain" // the whole name stands in front of another domain
	TrickHyphen    Trick = "hyphen"     // hyphens more or less
	TrickEnding    Trick = "ending"     // another top-level domain
	TrickWord      Trick = "word"       // the name and a word more: acme-login
)

// In which short names tricks are not looked for, in characters: every other short
// name is somebody's own.
const (
	minLetters = 3
	minEnding  = 5
	minWord    = 6
)

// Protected is a set of domains that nobody may imitate, indexed by what they look
// like: a look-up costs the same for one and for thousands. The zero value protects
// nothing. It does not change once it is made.
type Protected struct {
	more   *Protected               // as well; nil: none
	own    map[mail.Domain]bool     // organisational domains
	whole  map[string]mail.Domain   // by the likeness of name and ending
	names  map[string][]mail.Domain // by the likeness of the name before its ending, without hyphens
	joined map[string]mail.Domain   // by the domain with hyphens for its dots
}

// Protect makes the set. Of sub-domains the organisational domain counts, as the
// public suffix list has it.
func Protect(domains []mail.Domain) *Protected {
	p := &Protected{own: map[mail.Domain]bool{}, whole: map[string]mail.Domain{}, names: map[string][]mail.Domain{}, joined: map[string]mail.Domain{}}
	for _, d := range domains {
		d = organisational(d)
		if d.IsZero() || p.own[d] {
			continue
		}
		name, ending := splitEnding(d)
		p.own[d] = true
		p.whole[likeness(name+"."+ending)] = d
		key := bare(name)
		p.names[key] = append(p.names[key], d)
		p.joined[strings.ReplaceAll(d.String(), ".", "-")] = d
	}
	return p
}

// And is p and some domains more. It shares p, so that a large set serves many.
func (p *Protected) And(domains []mail.Domain) *Protected {
	if len(domains) == 0 {
		return p
	}
	both := Protect(domains)
	both.more = p
	return both
}

// Has says that d is one of the protected domains, or under one.
func (p *Protected) Has(d mail.Domain) bool { return p != nil && p.has(organisational(d)) }

func (p *Protected) has(registered mail.Domain) bool {
	for ; p != nil; p = p.more {
		if p.own[registered] {
			return true
		}
	}
	return false
}

// LookAlike says which protected domain d imitates, and how. A protected domain and
// its sub-domains imitate nobody.
func (p *Protected) LookAlike(d mail.Domain) (mail.Domain, Trick) {
	if p == nil || d.IsZero() {
		return mail.Domain{}, TrickNone
	}
	registered := organisational(d)
	if p.has(registered) {
		return mail.Domain{}, TrickNone
	}
	s := suspectOf(d, registered)
	for ; p != nil; p = p.more {
		if found, trick := p.lookAlike(&s); trick != TrickNone {
			return found, trick
		}
	}
	return mail.Domain{}, TrickNone
}

// suspect is a domain that may imitate another, taken apart.
type suspect struct {
	registered   mail.Domain
	front        string // what stands in front of it
	name, ending string // of what is registered
	looks        string // the likeness of both
	bare         string // the likeness of the name, without hyphens
}

func suspectOf(d, registered mail.Domain) suspect {
	s := suspect{registered: registered}
	s.front = strings.TrimSuffix(strings.TrimSuffix(d.String(), registered.String()), ".")
	s.name, s.ending = splitEnding(registered)
	s.looks, s.bare = likeness(s.name+"."+s.ending), bare(s.name)
	return s
}

// lookAlike is LookAlike of p alone, for what is none of the protected.
func (p *Protected) lookAlike(s *suspect) (mail.Domain, Trick) {
	if len(p.own) == 0 {
		return mail.Domain{}, TrickNone
	}
	if found, ok := p.whole[s.looks]; ok && len(s.name) >= minLetters {
		return found, TrickLetters
	}
	if found, ok := p.inFront(s); ok {
		return found, TrickSubdomain
	}
	if found, trick := p.named(s); trick != TrickNone {
		return found, trick
	}
	return p.word(s.name)
}

// LookAlike is Protect and LookAlike in one, for a few domains.
func LookAlike(d mail.Domain, protected []mail.Domain) (mail.Domain, Trick) {
	return Protect(protected).LookAlike(d)
}

// inFront finds a whole protected name in front of another domain:
// acme.example.evil.example, acme-example.evil.example.
func (p *Protected) inFront(s *suspect) (mail.Domain, bool) {
	labels := strings.Split(s.front, ".")
	for i := range labels {
		if found, ok := p.joined[labels[i]]; ok {
			return found, true
		}
		for j := i + 2; j <= len(labels) && j <= i+4; j++ {
			if found, ok := p.joined[strings.Join(labels[i:j], "-")]; ok {
				return found, true
			}
		}
	}
	label, _, _ := strings.Cut(s.registered.String(), ".")
	found, ok := p.joined[label]
	return found, ok
}

// named finds the same name with other hyphens or another ending.
func (p *Protected) named(s *suspect) (mail.Domain, Trick) {
	best := TrickNone
	var found mail.Domain
	for _, d := range p.names[s.bare] {
		own, end := splitEnding(d)
		if end == s.ending && len(own) >= minLetters {
			return d, TrickHyphen
		}
		if end != s.ending && len(own) >= minEnding {
			found, best = d, TrickEnding
		}
	}
	return found, best
}

// word finds a protected name among the words of a longer one.
func (p *Protected) word(name string) (mail.Domain, Trick) {
	words := strings.Split(name, "-")
	if len(words) < 2 {
		return mail.Domain{}, TrickNone
	}
	for _, w := range words {
		for _, d := range p.names[bare(w)] {
			if own, _ := splitEnding(d); len(own) >= minWord {
				return d, TrickWord
			}
		}
	}
	return mail.Domain{}, TrickNone
}

// bare is the likeness of a name without hyphens.
func bare(name string) string { return strings.ReplaceAll(likeness(name), "-", "") }

// organisational is the domain that somebody registered: one label more than the
// public suffix. A public suffix is itself.
func organisational(d mail.Domain) mail.Domain {
	suffix, _ := publicsuffix.PublicSuffix(d.String())
	if d.IsZero() || suffix == d.String() {
		return d
	}
	if strings.IndexByte(suffix, '.') >= 0 && !isSuffix(suffix) {
		return climb(d)
	}
	for parent := d.Parent(); parent.String() != suffix; parent = d.Parent() {
		d = parent
	}
	return d
}

func isSuffix(name string) bool {
	suffix, _ := publicsuffix.PublicSuffix(name)
	return suffix == name
}

// climb is organisational for what an exception of the list leaves, which by itself
// is no public suffix: of city.kawasaki.jp, kawasaki.jp.
func climb(d mail.Domain) mail.Domain {
	for parent := d.Parent(); !parent.IsZero() && !parent.IsPublicSuffix(); parent = d.Parent() {
		d = parent
	}
	return d
}

// splitEnding splits an organisational domain into its name, in letters as they are
// shown, and its public suffix.
func splitEnding(d mail.Domain) (name, ending string) {
	name, ending, _ = strings.Cut(d.String(), ".")
	return displayed(name), ending
}

// displayed gives a name with U-labels. A label that is none stays.
func displayed(name string) string {
	if !strings.Contains(name, "xn--") {
		return name
	}
	u, err := idna.Punycode.ToUnicode(name)
	if err != nil || u == "" {
		return name
	}
	return u
}

// disguised says what is strange about the letters of a domain, whomever it
// imitates: scripts that are mixed in a label, or a label of another script whose
// letters all look like Latin ones.
func disguised(d mail.Domain) (label string, mixed, whole bool) {
	if !strings.Contains(d.String(), "xn--") {
		return "", false, false
	}
	for l := range strings.SplitSeq(d.String(), ".") {
		u := displayed(l)
		if isASCII(u) {
			continue
		}
		if MixesScripts(u) {
			return u, true, false
		}
		if scripts := scriptsOf(u); len(scripts) == 1 && scripts[0] != "Latin" && isASCII(Skeleton(u)) && !ownScript(d, scripts[0]) {
			return u, false, true
		}
	}
	return "", false, false
}

// ownScript says that the top-level domain is written in that script, so that its
// letters are at home.
func ownScript(d mail.Domain, script string) bool {
	top := displayed(d.String()[strings.LastIndexByte(d.String(), '.')+1:])
	found := scriptsOf(top)
	return len(found) == 1 && found[0] == script
}
