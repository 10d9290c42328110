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
	if m.Body != nil && w.read(m.Header, beginning(m.Body)) == nil {
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

// beginning is the first octets of a body.
func beginning(b *mail.Body) *lines {
	if octets, ok := b.InMemory(); ok {
		return linesIn(octets[:min(len(octets), printOctets)])
	}
	return newLines(io.LimitReader(b.Reader(), printOctets))
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
	var room [256]byte
	plain, number := room[:0], false
	for _, r := range clip(subject, printOctets) {
		digit := unicode.IsDigit(r)
		if digit && number {
			continue
		}
		if number = digit; digit {
			r = '0'
		}
		plain = utf8.AppendRune(plain, unicode.ToLower(r))
	}
	h := fnv.New32a()
	_, _ = h.Write(plain)
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
		words := visibleWords{text: t.Text, html: t.HTML}
		for word, ok := words.next(); ok; word, ok = words.next() {
			if seen++; seen > printWords {
				break
			}
			last[0], last[1], last[2] = last[1], last[2], word
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

// votes counts for each bit in how many sums it is set: 64 counters side by side, bit
// k of all of them in counts[k].
type votes struct {
	sums   int
	counts [9]uint64 // 2⁹ is more than printWords
}

func (v *votes) add(h uint64) {
	h ^= h >> 33 // so that each bit depends on all words
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	for k, count := range v.counts { // h is what is carried
		v.counts[k], h = count^h, count&h
	}
	v.sums++
}

// majority has the bits that are set in more than half of the sums.
func (v *votes) majority() (more uint64) {
	half, equal := v.sums/2, ^uint64(0)
	for k := len(v.counts) - 1; k >= 0; k-- { // the first digit that differs decides
		if half>>k&1 == 0 {
			more |= equal & v.counts[k]
			equal &^= v.counts[k]
		} else {
			equal &= v.counts[k]
		}
	}
	return more
}

// visibleWords reads the words of a text, without markup.
type visibleWords struct {
	text string
	html bool
	at   int // where the next one is looked for
}

// next gives the sum of the next word that counts (FNV-1a of its letters, in lower
// case); false: there is none.
func (v *visibleWords) next() (word uint64, ok bool) {
	const offset, prime = 14695981039346656037, 1099511628211
	sum, letters, odd := uint64(offset), 0, false
	text, at := v.text, v.at
	for at < len(text) {
		c := text[at]
		kind, lower, size := octetKinds[c], rune(c|0x20), 1
		if kind == isWide {
			kind, lower, size = wideKind(text[at:])
		}
		at += size
		switch {
		case kind == isWord:
			letters++
			sum = (sum ^ uint64(lower)) * prime
			continue
		case kind == isOdd:
			odd = true
			continue
		case c == '.' && letters > 0:
			continue
		case c == '<' && v.html:
			at += tagEnd(text[at:])
		}
		if letters > 1 && !odd {
			v.at = at
			return sum, true
		}
		sum, letters, odd = offset, 0, false
	}
	v.at = at
	return sum, letters > 1 && !odd
}

// tagEnd gives where the tag ends in which text begins.
func tagEnd(text string) int {
	if i := strings.IndexByte(text, '>'); i >= 0 {
		return i + 1
	}
	return len(text)
}

// What a character does to a word.
const (
	isBreak = iota
	isWord
	isOdd  // it makes the word one that changes from message to message
	isWide // an octet of a character that is not in ASCII
)

// wideKind reads the first character of text.
func wideKind(text string) (kind uint8, lower rune, size int) {
	r, size := utf8.DecodeRuneInString(text)
	switch {
	case unicode.IsLetter(r):
		return isWord, unicode.ToLower(r), size
	case unicode.IsDigit(r):
		return isOdd, r, size
	}
	return isBreak, r, size
}

var octetKinds = func() (kinds [256]uint8) {
	for c := range kinds {
		switch r := rune(c); {
		case r >= utf8.RuneSelf:
			kinds[c] = isWide
		case unicode.IsLetter(r):
			kinds[c] = isWord
		case unicode.IsDigit(r), r == '/', r == '@':
			kinds[c] = isOdd
		}
	}
	return kinds
}()
