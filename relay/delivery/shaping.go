package delivery

import (
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"anechoic/mail"
	"anechoic/org/document"
)

// Shaping is how much a site takes, and what its answers mean: one file that
// comes with the program, and one of the operator's in front of it. It is read
// once and never changes; a reload makes another.
//
// A question goes from the special to the general: the operator's entry for the
// domain, for the longest pattern of the site's name, the program's for both,
// the operator's [default], the program's. Each number is taken from the first
// that has it, and what an answer means from the first rule that fits it.
type Shaping struct {
	files []*shapingRules // the operator's first
}

// Advice is what an answer of a site means for it as a whole. The zero Advice is
// nothing: the answer is about one message.
type Advice struct {
	Pause time.Duration // nothing goes there for that long
	Slow  int           // 2 or more: connections and rate are divided by it; zero: not at all
	For   time.Duration // how long Slow counts
}

// Bounds of what a shaping file may say.
const (
	maxShapingFile        = 1 << 20
	maxShapingConnections = 1000
	maxShapingPerSession  = 100_000
	maxShapingRecipients  = 1000 // what smtp.max_recipients is by default
	maxShapingMessages    = 10_000_000
	minShapingSpan        = time.Second
	maxShapingSpan        = 24 * time.Hour
	maxShapingSlow        = 100
	maxShapingText        = 200 // octets of `contains`
)

//go:embed shaping.toml
var builtinShaping []byte

// BuiltinShaping is what comes with the program.
func BuiltinShaping() *Shaping {
	s, problems := parseShaping("shaping.toml", builtinShaping)
	if len(problems) > 0 {
		panic("delivery: the built-in shaping file: " + problems[0].String()) // a test reads it too
	}
	return &Shaping{files: []*shapingRules{s}}
}

// ParseShaping reads an operator's file. What it does not say is as in
// BuiltinShaping, unless it says `builtin = false`. Every problem is told, with
// line and column; with one there is no Shaping.
func ParseShaping(file string, data []byte) (*Shaping, []document.Problem) {
	if len(data) > maxShapingFile {
		return nil, []document.Problem{{File: file, Message: "the shaping file is larger than 1 MiB", Hint: "name the right file"}}
	}
	own, problems := parseShaping(file, data)
	if len(problems) > 0 {
		return nil, problems
	}
	s := &Shaping{files: []*shapingRules{own}}
	if !own.withoutBuiltin {
		s.files = append(s.files, BuiltinShaping().files...)
	}
	return s, nil
}

// For gives the limits of a site, as one of the domains that lead there wants
// them. What no file says is left zero. It implements Limits.
func (s *Shaping) For(site string, domain mail.Domain) SiteLimits {
	var l SiteLimits
	s.each(site, domain, func(r *shapingEntry) bool {
		l.fill(r.limits)
		return true
	})
	return l
}

// Advise says what an answer to a message means for its site.
func (s *Shaping) Advise(site string, domain mail.Domain, r Result) (advice Advice) {
	if !r.Said || r.Status == Delivered {
		return Advice{}
	}
	lower := strings.ToLower(r.Reply)
	s.each(site, domain, func(e *shapingEntry) bool {
		i := slices.IndexFunc(e.replies, func(rule replyRule) bool { return rule.fits(lower, r.Enhanced) })
		if i >= 0 {
			advice = e.replies[i].advice
		}
		return i < 0
	})
	return advice
}

// each goes through the entries that are about a site or domain, special ones
// first, until yield has enough.
func (s *Shaping) each(site string, domain mail.Domain, yield func(*shapingEntry) bool) {
	if s == nil {
		return
	}
	for _, f := range s.files {
		if !f.each(site, domain, yield) {
			return
		}
	}
	for _, f := range s.files {
		if !yield(&f.standard) {
			return
		}
	}
}

// fill takes the numbers that are not there yet. A rate is one thing: its number
// and its span come from one place.
func (l *SiteLimits) fill(from SiteLimits) {
	fillInt(&l.Connections, from.Connections)
	fillInt(&l.MessagesPerConnection, from.MessagesPerConnection)
	fillInt(&l.RecipientsPerTransaction, from.RecipientsPerTransaction)
	if l.Messages == 0 {
		l.Messages, l.Span = from.Messages, from.Span
	}
}

func fillInt(n *int, from int) {
	if *n == 0 {
		*n = from
	}
}

// shapingRules is one file, checked.
type shapingRules struct {
	withoutBuiltin bool
	standard       shapingEntry // of every site
	domains        map[mail.Domain]*shapingEntry
	exact          map[string]*shapingEntry // by site name
	below          map[string]*shapingEntry // by the name after "*."
}

// shapingEntry is what one table of a file says.
type shapingEntry struct {
	limits  SiteLimits
	replies []replyRule
}

// replyRule says what an answer means. Every condition that is set must hold.
type replyRule struct {
	code     string // "421"; empty: any
	enhanced string // "4.7" fits 4.7.0 and 4.7.28; empty: any
	contains string // in lower case; empty: any
	advice   Advice
}

func (r *replyRule) fits(reply, enhanced string) bool {
	class := r.enhanced == "" || enhanced == r.enhanced || strings.HasPrefix(enhanced, r.enhanced+".")
	return strings.HasPrefix(reply, r.code) && class && strings.Contains(reply, r.contains)
}

// each goes through the entries of one file: the domain's, then the site's by
// name, then those of the names around it, the longest first.
func (f *shapingRules) each(site string, domain mail.Domain, yield func(*shapingEntry) bool) bool {
	if e := f.domains[domain]; e != nil && !yield(e) {
		return false
	}
	name, _, _ := strings.Cut(site, ":") // a smart host has a port
	if e := f.exact[name]; e != nil && !yield(e) {
		return false
	}
	for more := name != ""; more; _, name, more = strings.Cut(name, ".") {
		if e := f.below[name]; e != nil && !yield(e) {
			return false
		}
	}
	return true
}

// shapingFile is a file as it is written.
type shapingFile struct {
	Builtin *bool         `toml:"builtin"`
	Default shapingTable  `toml:"default"`
	Sites   []shapingSite `toml:"site"`
}

type shapingTable struct {
	Connections              *int         `toml:"connections"`
	MessagesPerConnection    *int         `toml:"messages_per_connection"`
	RecipientsPerTransaction *int         `toml:"recipients_per_transaction"`
	Messages                 *int         `toml:"messages"`
	Per                      *string      `toml:"per"`
	Replies                  []replyTable `toml:"reply"`
}

// shapingSite repeats the keys of shapingTable: a file's form is told from the
// fields of one struct.
type shapingSite struct {
	MX                       []string     `toml:"mx"`
	Domains                  []string     `toml:"domains"`
	Connections              *int         `toml:"connections"`
	MessagesPerConnection    *int         `toml:"messages_per_connection"`
	RecipientsPerTransaction *int         `toml:"recipients_per_transaction"`
	Messages                 *int         `toml:"messages"`
	Per                      *string      `toml:"per"`
	Replies                  []replyTable `toml:"reply"`
}

func (s *shapingSite) table() shapingTable {
	return shapingTable{s.Connections, s.MessagesPerConnection, s.RecipientsPerTransaction, s.Messages, s.Per, s.Replies}
}

type replyTable struct {
	Code     *int    `toml:"code"`
	Enhanced *string `toml:"enhanced"`
	Contains *string `toml:"contains"`
	Pause    *string `toml:"pause"`
	Slow     *int    `toml:"slow"`
	For      *string `toml:"for"`
}

// shapingChecker turns what is written into what counts, and notes problems.
type shapingChecker struct {
	text     *document.Document
	problems []document.Problem
	first    map[string]string // where each domain or pattern was claimed
}

func parseShaping(file string, data []byte) (*shapingRules, []document.Problem) {
	var written shapingFile
	text, problems := document.Decode(file, data, &written)
	c := shapingChecker{text: text, first: make(map[string]string)}
	rules := &shapingRules{
		withoutBuiltin: written.Builtin != nil && !*written.Builtin,
		standard:       c.entry("default", written.Default),
		domains:        make(map[mail.Domain]*shapingEntry), exact: make(map[string]*shapingEntry), below: make(map[string]*shapingEntry),
	}
	for i := range written.Sites {
		c.site(rules, indexed("site", i), &written.Sites[i])
	}
	if !text.Broken() { // what seems to be missing may be there
		problems = append(problems, text.Place(c.problems)...)
	}
	document.Sort(problems)
	return rules, problems
}

func indexed(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }

func (c *shapingChecker) refuse(where, hint, format string, args ...any) {
	c.problems = append(c.problems, document.Problem{Where: where, Hint: hint, Message: fmt.Sprintf(format, args...)})
}

// unread says that one of the keys stands there with a value of the wrong type:
// it is wrong, but not missing.
func (c *shapingChecker) unread(where string, keys ...string) bool {
	return slices.ContainsFunc(keys, func(key string) bool { return c.text.Unread(where + "." + key) })
}

func (c *shapingChecker) site(rules *shapingRules, where string, s *shapingSite) {
	entry := c.entry(where, s.table())
	if len(s.MX)+len(s.Domains) == 0 && !c.unread(where, "mx", "domains") {
		c.refuse(where, `mx = ["*.mx.example"] or domains = ["example"]`, "nothing says which site is meant")
	}
	for i, pattern := range s.MX {
		at := indexed(where+".mx", i)
		name, wild := strings.CutPrefix(pattern, "*.")
		domain, err := mail.ParseDomain(name)
		switch {
		case err != nil:
			c.refuse(at, `the end of host names, "*.mx.example", or one name, "mx.example"`, "%q is no pattern", pattern)
		case wild && domain.IsPublicSuffix():
			c.refuse(at, "add the name that belongs to one operator; what is for all stands in [default]", "%q would be for the sites of many operators", pattern)
		case !c.claim(at, strings.ToLower(pattern)):
		case wild:
			rules.below[domain.String()] = &entry
		default:
			rules.exact[domain.String()] = &entry
		}
	}
	for i, name := range s.Domains {
		at := indexed(where+".domains", i)
		domain, err := mail.ParseDomain(name)
		if err != nil {
			c.refuse(at, "the domain of the recipients, as globex.example", "%v", err)
			continue
		}
		if c.claim(at, "@"+domain.String()) {
			rules.domains[domain] = &entry
		}
	}
}

// claim refuses a second entry for the same name.
func (c *shapingChecker) claim(where, name string) bool {
	if first, taken := c.first[name]; taken {
		c.problems = append(c.problems, document.Problem{Where: where, Also: first, Message: fmt.Sprintf("there is an entry for %q already", strings.TrimPrefix(name, "@")), Hint: "write all about it in one"})
		return false
	}
	c.first[name] = where
	return true
}

func (c *shapingChecker) entry(where string, t shapingTable) shapingEntry {
	e := shapingEntry{limits: SiteLimits{
		Connections:              c.number(where+".connections", t.Connections, maxShapingConnections),
		MessagesPerConnection:    c.number(where+".messages_per_connection", t.MessagesPerConnection, maxShapingPerSession),
		RecipientsPerTransaction: c.number(where+".recipients_per_transaction", t.RecipientsPerTransaction, maxShapingRecipients),
		Messages:                 c.number(where+".messages", t.Messages, maxShapingMessages),
		Span:                     c.span(where+".per", t.Per),
	}}
	if (t.Messages == nil) != (t.Per == nil) && !c.unread(where, "messages", "per") {
		c.refuse(where, `messages = 100 and per = "1m", or neither`, "a rate has two parts and one is missing")
	}
	for i := range t.Replies {
		e.replies = append(e.replies, c.reply(indexed(where+".reply", i), &t.Replies[i]))
	}
	return e
}

func (c *shapingChecker) reply(where string, t *replyTable) replyRule {
	r := replyRule{advice: Advice{Pause: c.span(where+".pause", t.Pause), For: c.span(where+".for", t.For)}}
	if t.Code == nil && t.Enhanced == nil && t.Contains == nil && !c.unread(where, "code", "enhanced", "contains") {
		c.refuse(where, `code = 421, enhanced = "4.7" or contains = "rate"`, "nothing says which answer is meant")
	}
	if t.Code != nil {
		if *t.Code < 400 || *t.Code > 559 {
			c.refuse(where+".code", "from 400 to 559", "%d is no code of a refusal", *t.Code)
		}
		r.code = strconv.Itoa(*t.Code)
	}
	if t.Enhanced != nil {
		if r.enhanced = *t.Enhanced; !isStatusPrefix(r.enhanced) {
			c.refuse(where+".enhanced", `the begin of an enhanced status code: "4.7" or "4.7.28"`, "%q is none", r.enhanced)
		}
	}
	if t.Contains != nil {
		if r.contains = strings.ToLower(*t.Contains); r.contains == "" || len(r.contains) > maxShapingText || printable(r.contains, maxShapingText) != r.contains {
			c.refuse(where+".contains", "1 to 200 printable ASCII characters of the answer, any case", "%q is in no answer", *t.Contains)
		}
	}
	switch {
	case c.unread(where, "pause", "slow", "for"):
	case t.Pause == nil && t.Slow == nil:
		c.refuse(where, `pause = "15m", or slow = 2 with for = "1h"`, "nothing says what the answer means")
	case (t.Slow == nil) != (t.For == nil):
		c.refuse(where, `slow = 2 and for = "1h", or neither`, "how much slower and for how long go together, and one is missing")
	case t.Slow != nil && (*t.Slow < 2 || *t.Slow > maxShapingSlow):
		c.refuse(where+".slow", "from 2 to 100: connections and rate are divided by it", "%d is out of bounds", *t.Slow)
	case t.Slow != nil:
		r.advice.Slow = *t.Slow
	}
	return r
}

// isStatusPrefix takes "4", "4.7" and "4.7.28" (RFC 3463 section 2).
func isStatusPrefix(s string) bool {
	parts := strings.Split(s, ".")
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n > 999 || i == 0 && n != 4 && n != 5 {
			return false
		}
	}
	return len(parts) <= 3
}

// number reads a count that may be missing.
func (c *shapingChecker) number(where string, n *int, top int) int {
	if n == nil {
		return 0
	}
	if *n < 1 || *n > top {
		c.refuse(where, fmt.Sprintf("from 1 to %d", top), "%d is out of bounds", *n)
	}
	return *n
}

// span reads a time span that may be missing.
func (c *shapingChecker) span(where string, s *string) time.Duration {
	if s == nil {
		return 0
	}
	d, err := time.ParseDuration(*s)
	switch {
	case err != nil:
		c.refuse(where, `a number and its unit: "1s", "1m", "24h"`, "%q is no time span", *s)
	case d < minShapingSpan || d > maxShapingSpan:
		c.refuse(where, "from 1s to 24h", "%s is out of bounds", *s)
	}
	return d
}
