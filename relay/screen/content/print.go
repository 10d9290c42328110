package content

import (
	"hash/fnv"
	"io"
	"math/bits"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"anechoic/ledger"
	"anechoic/mail"
)

// What PrintOf looks at. They are ours: the beginning of a message is what its reader
// looks at, and every message pays for it, refused ones too.
const (
	printOctets = 4 << 10 // of the body, as it came
	printWords  = 300
	fewWords    = 8 // with fewer a text is like any other
	shingle     = 3 // words that are summed together
	printLinks  = 20
)

// PrintOf is what a message has in common with others like it: alike texts, the same
// links, the same subject but for numbers, the same signature. It looks at the header
// and the first 4 KiB of the body, and shows nothing of what they say. A body that
// cannot be read has nothing in common with any.
func PrintOf(m mail.Message) ledger.Print {
	w := walk{limits: Limits{Text: printOctets, KeptText: printOctets, Links: printLinks, Files: 1, ArchiveDepth: 1, Parts: 10, Depth: 5}.orDefault()}
	w.budget = budget{files: 1, memory: 0, unpacked: 0, text: printOctets}
	var p ledger.Print
	if m.Body != nil && w.read(m.Header, io.LimitReader(m.Body.Reader(), printOctets)) == nil {
		p.Text = sumOf(w.content.Texts)
		p.Hosts = hostsOf(w.content.Links)
	}
	if f, ok := m.Header.First("Subject"); ok {
		p.Shape = shapeOf(decodeWords(f.Value()))
	}
	if f, ok := m.Header.First("DKIM-Signature"); ok {
		p.Signature = signatureOf(f.Value())
	}
	if f, ok := m.Header.First("Message-ID"); ok {
		id := strings.Trim(f.Value(), " \t<>")
		if d, err := mail.ParseDomain(id[strings.LastIndexByte(id, '@')+1:]); err == nil {
			p.IDHost = d.String()
		}
	}
	return p
}

// hostsOf is the names that links lead to, the same ones whatever their order.
func hostsOf(links []Link) (hosts []string) {
	for _, l := range links {
		if !l.Domain.IsZero() {
			hosts = append(hosts, l.Domain.String())
		}
	}
	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	return hosts[:min(len(hosts), ledger.MaxPrintHosts)]
}

// shapeOf is a sum of a subject in which case and numbers do not count.
func shapeOf(subject string) uint32 {
	h := fnv.New32a()
	number := false
	for _, r := range clip(subject, printOctets) {
		digit := unicode.IsDigit(r)
		if digit && number {
			continue
		}
		if number = digit; digit {
			r = '0'
		}
		_, _ = io.WriteString(h, string(unicode.ToLower(r)))
	}
	return h.Sum32()
}

// signatureOf is a sum of the b= of a DKIM signature (RFC 6376 section 3.5): who
// replays a message cannot change it.
func signatureOf(field string) uint64 {
	for tag := range strings.SplitSeq(field, ";") {
		name, value, _ := strings.Cut(tag, "=")
		if strings.TrimSpace(name) == "b" {
			h := fnv.New64a()
			for word := range strings.FieldsSeq(value) {
				_, _ = io.WriteString(h, word)
			}
			return h.Sum64()
		}
	}
	return 0
}

// sumOf is the similarity sum (Charikar 2002) of what a reader sees: each three words
// in a row vote for the bits of their sum. Texts that differ in a few words differ in
// a few bits. Words with digits or of one letter are left out: names, numbers and
// tokens change from message to message.
func sumOf(texts []Text) uint64 {
	var poll votes
	var last [shingle]uint64
	seen := 0
	for _, t := range texts {
		for word := range visibleWords(t) {
			if seen++; seen > printWords {
				break
			}
			copy(last[:], last[1:])
			last[shingle-1] = word
			if seen >= shingle {
				poll.add(last[0]*31 + bits.RotateLeft64(last[1], 21)*17 + bits.RotateLeft64(last[2], 42))
			}
		}
	}
	if seen < fewWords {
		return 0
	}
	return poll.majority()
}

// votes counts for each bit in how many sums it is set.
type votes struct {
	sums  int
	early [8]uint64 // eight counts of eight bits each, until one may be full
	total [64]int
}

// spread has bit i of its index in octet i.
var spread = func() (t [256]uint64) {
	for b := range t {
		for i := range 8 {
			t[b] |= uint64(b>>i&1) << (8 * i)
		}
	}
	return t
}()

func (v *votes) add(h uint64) {
	h ^= h >> 33 // so that each bit depends on all words
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	for i := range v.early {
		v.early[i] += spread[byte(h>>(8*i))]
	}
	if v.sums++; v.sums%255 == 0 {
		v.carry()
	}
}

func (v *votes) carry() {
	for i := range v.total {
		v.total[i] += int(byte(v.early[i/8] >> (i % 8 * 8)))
	}
	v.early = [8]uint64{}
}

// majority has the bits that are set in more than half of the sums.
func (v *votes) majority() (sum uint64) {
	v.carry()
	for i, n := range v.total {
		if 2*n > v.sums {
			sum |= 1 << i
		}
	}
	return sum
}

// visibleWords gives sums of the words of a text, without markup.
func visibleWords(t Text) func(yield func(uint64) bool) {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a
	return func(yield func(uint64) bool) {
		sum, letters, odd, tag := uint64(offset), 0, false, false
		end := func() bool {
			keep := letters > 1 && !odd
			word := sum
			sum, letters, odd = offset, 0, false
			return !keep || yield(word)
		}
		for _, r := range t.Text {
			switch kind := letterKind(r); {
			case tag:
				tag = r != '>'
			case t.HTML && r == '<':
				tag = true
				if !end() {
					return
				}
			case kind == isWord:
				letters++
				if r < utf8.RuneSelf {
					r |= 0x20
				} else {
					r = unicode.ToLower(r)
				}
				sum = (sum ^ uint64(r)) * prime
			case kind == isOdd, r == '.' && letters > 0:
				odd = odd || r != '.'
			default:
				if !end() {
					return
				}
			}
		}
		end()
	}
}

// What a character does to a word.
const (
	isBreak = iota
	isWord
	isOdd // it makes the word one that changes from message to message
)

func letterKind(r rune) uint8 {
	if r < utf8.RuneSelf {
		return asciiKinds[r]
	}
	switch {
	case unicode.IsLetter(r):
		return isWord
	case unicode.IsDigit(r):
		return isOdd
	}
	return isBreak
}

var asciiKinds = func() (kinds [utf8.RuneSelf]uint8) {
	for r := range kinds {
		switch {
		case unicode.IsLetter(rune(r)):
			kinds[r] = isWord
		case unicode.IsDigit(rune(r)), r == '/', r == '@':
			kinds[r] = isOdd
		}
	}
	return kinds
}()
