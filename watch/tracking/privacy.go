package tracking

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"anechoic/ledger"
	"anechoic/org"
)

// Mode is how the index keeps what is personal in facts: addresses, replies, details
// and Message-ID. The ledger keeps it whatever the mode.
type Mode string

// The modes.
const (
	Full   Mode = "full"   // as it is
	Hashed Mode = "hashed" // addresses and Message-IDs as keyed sums: found by the whole address alone; domains stay
	Off    Mode = "off"    // not at all
)

// Modes lists them.
func Modes() []Mode { return []Mode{Full, Hashed, Off} }

// Rule is what holds for facts of an organisation.
type Rule struct {
	Mode Mode
	Keep time.Duration // how long a fact is found; zero: for ever
}

// Policy is the rules in force. Facts without an organisation go by Default.
type Policy struct {
	Default Rule
	Of      map[org.ID]Rule
}

// rule is what holds for a fact.
func (p *Policy) rule(f *ledger.Fact) Rule {
	if r, ok := p.Of[owner(f)]; ok {
		return r
	}
	return p.Default
}

// longest is how long the oldest fact is found; zero: for ever.
func (p *Policy) longest() time.Duration {
	keep := p.Default.Keep
	for _, r := range p.Of {
		if r.Keep == 0 || keep == 0 {
			return 0
		}
		keep = max(keep, r.Keep)
	}
	return keep
}

// mark names what a partition was made under: the modes, and whose facts, all older
// than is kept, were left out.
func (p *Policy) mark(newest, now time.Time) string {
	rules := []string{"default=" + p.Default.mark(newest, now)}
	for _, id := range slices.Sorted(maps.Keys(p.Of)) {
		rules = append(rules, string(id)+"="+p.Of[id].mark(newest, now))
	}
	return strings.Join(rules, " ")
}

// hashes says that somebody's data are kept as sums.
func (p *Policy) hashes() bool {
	return p.Default.Mode == Hashed || slices.ContainsFunc(slices.Collect(maps.Values(p.Of)), func(r Rule) bool { return r.Mode == Hashed })
}

func (r Rule) mark(newest, now time.Time) string {
	if r.ended(newest, now) {
		return "ended"
	}
	return string(r.Mode)
}

// ended says that what happened at t is not found any more.
func (r Rule) ended(t, now time.Time) bool { return r.Keep > 0 && t.Before(now.Add(-r.Keep)) }

// owner is whose a fact is: the organisation that was proven, or, if none was, the one
// that was claimed.
func owner(f *ledger.Fact) org.ID {
	if f.Org != "" {
		return org.ID(f.Org)
	}
	return org.ID(f.ClaimedOrg)
}

// hashMark begins what is a sum: no address begins so unless it was quoted.
const hashMark = "#"

// sumSize is how many octets of a sum are kept: enough that two addresses have not
// the same one.
const sumSize = 12

// hashKey is the key of the sums of one index.
type hashKey []byte

// sum is the keyed sum of a text, without regard to case.
func (k hashKey) sum(text string) string {
	m := hmac.New(sha256.New, k)
	m.Write([]byte(strings.ToLower(text)))
	return hashMark + hex.EncodeToString(m.Sum(nil)[:sumSize])
}

// address is the sum in place of an address; its domain stays.
func (k hashKey) address(address string) string {
	at := strings.LastIndexByte(address, '@')
	if address == "" || isSum(address) {
		return address
	}
	if at < 0 {
		return k.sum(address)
	}
	return k.sum(address) + strings.ToLower(address[at:])
}

func isSum(s string) bool {
	digits, ok := strings.CutPrefix(s, hashMark)
	digits, _, _ = strings.Cut(digits, "@")
	_, err := hex.DecodeString(digits)
	return ok && len(digits) == 2*sumSize && err == nil
}

// cover gives a fact as its mode has it. Covering twice changes nothing.
func (k hashKey) cover(f ledger.Fact, mode Mode) ledger.Fact {
	switch mode {
	case Off:
		f.MailFrom, f.From, f.Rcpt, f.Reply, f.Detail, f.MessageID, f.Print = "", "", nil, "", "", "", ledger.Print{}
	case Hashed:
		f.Reply, f.Detail = k.text(f.Reply, &f), k.text(f.Detail, &f)
		f.MailFrom, f.From, f.Print = k.address(f.MailFrom), k.address(f.From), ledger.Print{}
		f.Rcpt = slices.Clone(f.Rcpt)
		for i, r := range f.Rcpt {
			f.Rcpt[i] = k.address(r)
		}
		if f.MessageID != "" && !isSum(f.MessageID) {
			f.MessageID = k.sum(messageID(f.MessageID))
		}
	}
	return f
}

// text covers addresses in a reply or detail: every word with an @, and every word
// that is the local part of an address of the fact.
func (k hashKey) text(s string, f *ledger.Fact) string {
	if s == "" {
		return s
	}
	locals := map[string]bool{}
	for _, a := range slices.Concat([]string{f.MailFrom, f.From}, f.Rcpt) {
		if at := strings.LastIndexByte(a, '@'); at > 0 && !isSum(a) {
			locals[strings.ToLower(a[:at])] = true
		}
	}
	var b strings.Builder
	for start := 0; start < len(s); {
		end := start
		for end < len(s) && isWordByte(s[end]) {
			end++
		}
		if end == start {
			b.WriteByte(s[start])
			start++
			continue
		}
		b.WriteString(k.word(s[start:end], locals))
		start = end
	}
	return b.String()
}

// isWordByte says that an octet may be part of an address without quotes.
func isWordByte(c byte) bool { return c > ' ' && !strings.ContainsRune(`<>()[]{}"',;:|=`, rune(c)) }

func (k hashKey) word(w string, locals map[string]bool) string {
	bare := strings.TrimRight(w, ".!?")
	switch {
	case isSum(bare):
		return w
	case strings.Contains(bare, "@"):
		return k.address(bare) + w[len(bare):]
	case locals[strings.ToLower(bare)]:
		return k.sum(bare) + w[len(bare):]
	}
	return w
}

// covered is a query that finds sums too: where it asks for a whole address or
// Message-ID.
func (k hashKey) covered(q Query) Query {
	q.conditions = slices.Clone(q.conditions)
	for i, c := range q.conditions {
		for _, v := range c.values {
			if len(c.field.hashed) == 0 || strings.Contains(v, "*") {
				continue
			}
			sum := k.address(v)
			if c.field.name == "message_id" {
				sum = k.sum(messageID(v))
			} else if at := strings.IndexByte(v, '@'); at <= 0 {
				continue // a domain, which stays
			}
			c.spans = slices.Clone(c.spans)
			for _, kind := range c.field.hashed {
				c.spans = append(c.spans, exactly(term(kind, sum)))
			}
		}
		q.conditions[i] = c
	}
	return q
}

// ParseMode reads a mode.
func ParseMode(s string) (Mode, error) {
	if !slices.Contains(Modes(), Mode(s)) {
		return "", fmt.Errorf("%q is none of full, hashed, off", s)
	}
	return Mode(s), nil
}
