package tracking

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"anechoic/ledger"
)

// postings are the terms of a batch in the making, each with the rows that have it.
type postings struct {
	terms  speller
	row    int
	places map[string]int // of terms in lists
	lists  []posting
	spare  []byte // memory for the rows of terms to come
}

// posting is a term, and its rows as distances from the row before.
type posting struct {
	term string
	rows []byte
	last int
}

// sheet is some postings in the order of their terms, as they are stored one after
// another:
//
//	octets shared with the term before | octets of the rest | the rest | octets of the rows | rows
//
// where numbers and distances of rows are varints.
type sheet struct {
	first string // term
	data  []byte
}

// Sizes of what is made in one piece.
const (
	sheetSize   = 3900 // octets: a sheet fits into one page of SQLite, unless a term has many rows
	usualRows   = 4    // octets of the rows of a term at first
	spareSize   = 1 << 16
	termsAFact  = 3   // new ones, as is usual
	longestTerm = 512 // octets, to begin with
)

func newPostings(facts int) *postings {
	p := &postings{places: make(map[string]int, facts*termsAFact), lists: make([]posting, 0, facts*termsAFact)}
	p.terms = speller{wanted: everyKind, b: make([]byte, 0, longestTerm), visit: p.post}
	return p
}

// add notes the terms of a row. Rows are added in their order.
func (p *postings) add(f *ledger.Fact, row int) {
	p.row = row
	p.terms.fact(f)
}

// post notes that the row has a term.
func (p *postings) post(term []byte) {
	if n, known := p.places[string(term)]; known {
		if one := &p.lists[n]; one.last != p.row {
			one.rows, one.last = binary.AppendUvarint(one.rows, uint64(p.row-one.last)), p.row
		}
		return
	}
	if len(p.spare) < usualRows {
		p.spare = make([]byte, spareSize)
	}
	rows := p.spare[:0:usualRows]
	p.spare = p.spare[usualRows:]
	text := string(term)
	p.places[text] = len(p.lists)
	p.lists = append(p.lists, posting{term: text, rows: binary.AppendUvarint(rows, uint64(p.row)), last: p.row})
}

// sheets puts all postings in order.
func (p *postings) sheets() (list []sheet) {
	slices.SortFunc(p.lists, func(a, b posting) int { return strings.Compare(a.term, b.term) })
	var s sheet
	before := ""
	for _, one := range p.lists {
		if len(s.data) > 0 && len(s.data)+len(one.term)+len(one.rows) > sheetSize {
			list, s = append(list, s), sheet{}
		}
		if s.data == nil {
			s, before = sheet{first: one.term, data: make([]byte, 0, sheetSize)}, ""
		}
		shared := sharedPrefix(before, one.term)
		s.data = binary.AppendUvarint(s.data, uint64(shared))
		s.data = appendCounted(s.data, one.term[shared:])
		s.data = appendCounted(s.data, one.rows)
		before = one.term
	}
	if s.data != nil {
		list = append(list, s)
	}
	return list
}

func appendCounted[T string | []byte](b []byte, text T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// sharedPrefix is how many octets two terms begin with alike.
func sharedPrefix(a, b string) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// errSheet says that a sheet is not as it was written.
var errSheet = errors.New("a sheet of postings is malformed")

// within visits the rows of the terms from low to below high that a sheet has.
func within(data []byte, low, high string, visit func(rows []byte) error) error {
	term := make([]byte, 0, longestTerm)
	for len(data) > 0 {
		shared, n := binary.Uvarint(data)
		if n <= 0 || shared > uint64(len(term)) {
			return errSheet
		}
		rest, after, ok := counted(data[n:])
		if !ok {
			return errSheet
		}
		rows, after, ok := counted(after)
		if !ok {
			return errSheet
		}
		term, data = append(term[:shared], rest...), after
		if string(term) >= high {
			return nil
		}
		if string(term) >= low {
			if err := visit(rows); err != nil {
				return err
			}
		}
	}
	return nil
}

// counted reads what appendCounted wrote.
func counted(b []byte) (text, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return nil, nil, false
	}
	return b[n : n+int(size)], b[n+int(size):], true
}

// appendFirsts writes the first terms of sheets, readFirsts reads them.
func appendFirsts(b []byte, firsts []string) []byte {
	for _, term := range firsts {
		b = appendCounted(b, term)
	}
	return b
}

func readFirsts(b []byte) (firsts []string, err error) {
	for len(b) > 0 {
		term, rest, ok := counted(b)
		if !ok || len(firsts) > 0 && firsts[len(firsts)-1] >= string(term) {
			return nil, errSheet
		}
		firsts, b = append(firsts, string(term)), rest
	}
	return firsts, nil
}

// sheetsOf are the ids of the sheets of a batch that may have terms from low to below
// high: from the first to before next.
func (b batch) sheetsOf(low, high string) (first, next int) {
	from, exact := slices.BinarySearch(b.firsts, low)
	if !exact && from > 0 {
		from--
	}
	to, _ := slices.BinarySearch(b.firsts, high)
	return b.sheet + from, b.sheet + max(from, to)
}
