package edit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// The errors that callers tell apart.
var (
	ErrNotFound = errors.New("not in the registry")
	ErrThere    = errors.New("in the registry already")

	// errForm says that the text is not TOML, or has a form this package does not
	// know. Callers who checked the text first do not see it.
	errForm = errors.New("the registry's text cannot be taken apart")
)

// The words of the registry that are lists of tables below an organisation.
const (
	organisations = "organisation"
	domains       = "domain"
	sources       = "source"
)

// block is a header with the keys below it.
type block struct {
	header expression
	path   []string // without "organisation"
	pairs  []expression
	floor  int // where the line ends of what stands before
}

// end is where its last line ends, without comments below it.
func (b *block) end(data []byte) int {
	last := b.header.to
	if n := len(b.pairs); n > 0 {
		last = b.pairs[n-1].to
	}
	return lineEnd(data, last)
}

// table is what has keys: blocks (its own first, then those below it), or an
// inline table.
type table struct {
	blocks []*block
	inline span // where blocks is empty
	pairs  []expression
	depth  int // how many words of its blocks' paths are its own

	list  span // the inline list it is an element of
	index int  // which
	owner *table
	place int // which pair of owner holds the list
}

// organisation is where one organisation stands.
type organisation struct {
	table
	id string
}

// layout is where things stand in a registry.
type layout struct {
	data  []byte
	found *organisation // nil: there is none with this id
	last  *organisation // nil: there is none at all
	root  table         // what stands above all headers
	count int           // of organisations
	style style
}

// place is where the text of one organisation is.
type place struct {
	from, to int // from its header to the next organisation's
	floor    int // where the line ends of what stands before
	id       string
	below    bool // there are headers below its own
}

// find reads a text twice: once for where organisations are, and then, all the
// way, those that matter: the one that is looked for, the last, and the first that
// shows how its author writes.
func find(data []byte, id string) (*layout, error) {
	l := &layout{data: data}
	var now, found, model place
	s, last := newScanner(data), 0
	s.forget = true
	done := func(to int) {
		if now.to = to; l.count > 0 && now.id == id && found.to == 0 {
			found = now
		}
		if now.below && model.to == 0 {
			model = now
		}
	}
	for e, ok := s.next(); ok; e, ok = s.next() {
		switch {
		case !e.head && l.count == 0:
			e.key = slices.Clone(e.key)
			l.root.pairs = append(l.root.pairs, e)
		case !e.head:
			if len(e.key) == 1 && e.key[0] == "id" && !now.below {
				now.id, _ = textOf(data[e.val.from:e.val.to])
			}
		case len(e.key) == 1 && e.list && e.key[0] == organisations:
			done(e.from)
			l.count++
			now = place{from: e.from, floor: lineEnd(data, last)}
			if last == 0 {
				now.floor = 0
			}
		case l.count > 0 && hasPath(e.key, organisations):
			now.below = true
		default:
			return nil, formFault(data, e.from)
		}
		last = e.to
	}
	if s.wrong {
		return nil, formFault(data, s.at)
	}
	done(len(data))
	if l.count > 0 {
		l.found, l.last = l.organisationAt(found), l.organisationAt(now)
		l.style.learn(data, l.organisationAt(model))
	}
	if err := l.inlineOrganisations(id); err != nil {
		return nil, err
	}
	l.style.settle(data)
	return l, nil
}

// organisationAt reads one organisation; nil if there is none.
func (l *layout) organisationAt(p place) *organisation {
	if p.to == 0 {
		return nil
	}
	o, floor := &organisation{id: p.id}, p.floor
	s := scanner{data: l.data[:p.to], at: p.from}
	for e, ok := s.next(); ok; e, ok = s.next() {
		if e.head {
			o.blocks = append(o.blocks, &block{header: e, path: e.key[1:], floor: floor})
		} else {
			b := o.blocks[len(o.blocks)-1]
			b.pairs = append(b.pairs, e)
		}
		floor = lineEnd(l.data, e.to)
	}
	o.pairs = o.blocks[0].pairs
	return o
}

func formFault(data []byte, at int) error {
	return fmt.Errorf("%w: line %d", errForm, bytes.Count(data[:min(at, len(data))], []byte{'\n'})+1)
}

// lead is where the comment right above the header begins; where that is the top
// of the file it is no table's.
func (b *block) lead(data []byte) int {
	start := lineStart(data, b.header.from)
	top := start
	for top > b.floor {
		before := lineStart(data, top-1)
		if !isComment(data[before:top]) {
			return top
		}
		top = before
	}
	if top == 0 {
		return start
	}
	return top
}

// inlineOrganisations finds them where they are one list of inline tables.
func (l *layout) inlineOrganisations(id string) error {
	all, err := l.elementsOf(&l.root, organisations)
	for i := range all {
		o := &organisation{table: all[i]}
		o.id = l.text(&o.table, "id")
		if l.last = o; o.id == id && l.found == nil {
			l.found = o
		}
	}
	return err
}

// elementsOf gives the inline tables of a list that stands as one value.
func (l *layout) elementsOf(t *table, list string) (all []table, err error) {
	for place, p := range t.pairs {
		if len(p.key) != 1 || p.key[0] != list || l.data[p.val.from] != '[' {
			continue
		}
		parts, ok := elements(l.data, p.val)
		if !ok {
			return nil, formFault(l.data, p.from)
		}
		for i, e := range parts {
			if l.data[e.from] != '{' {
				return nil, formFault(l.data, e.from)
			}
			below, ok := pairs(l.data, e.span)
			if !ok {
				return nil, formFault(l.data, e.from)
			}
			all = append(all, table{inline: e.span, pairs: below, list: p.val, index: i, owner: t, place: place})
		}
	}
	return all, nil
}

// members gives the domains or sources of an organisation, in order.
func (l *layout) members(o *organisation, list string) ([]table, error) {
	all, err := l.elementsOf(&o.table, list)
	for i := 1; i < len(o.blocks); i++ {
		b := o.blocks[i]
		switch {
		case len(b.path) == 1 && b.path[0] == list && b.header.list:
			all = append(all, table{blocks: []*block{b}, pairs: b.pairs, depth: 1})
		case hasPath(b.path, list) && len(all) > 0:
			last := &all[len(all)-1]
			last.blocks = append(last.blocks, b)
		}
	}
	return all, err
}

// text is what a key of a table says; empty where there is none.
func (l *layout) text(t *table, key string) string {
	for _, p := range t.pairs {
		if len(p.key) == 1 && p.key[0] == key {
			text, _ := textOf(l.data[p.val.from:p.val.to])
			return text
		}
	}
	return ""
}

// member finds the one for which same is true.
func (l *layout) member(o *organisation, list, key string, same func(string) bool) (*table, error) {
	all, err := l.members(o, list)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if same(l.text(&all[i], key)) {
			return &all[i], nil
		}
	}
	return nil, nil
}

// spot is where a key of a table is, or would be.
type spot struct {
	table table
	rest  []string // of the path, below table
	pair  int      // which of table's; -1: it is not there
	words bool     // the table has dotted keys with the first word of rest
}

// locate follows a path down from a table.
func (l *layout) locate(t table, path []string) (spot, error) {
	for i, p := range t.pairs {
		switch {
		case len(p.key) == len(path) && hasPath(p.key, path...):
			return spot{table: t, rest: path, pair: i}, nil
		case len(p.key) < len(path) && hasPath(path, p.key...) && l.data[p.val.from] == '{':
			below, ok := pairs(l.data, p.val)
			if !ok {
				return spot{}, formFault(l.data, p.from)
			}
			return l.locate(table{inline: p.val, pairs: below, owner: &t, place: i}, path[len(p.key):])
		}
	}
	for i, b := range t.blocks {
		own := b.path[min(t.depth, len(b.path)):]
		if i > 0 && !b.header.list && len(own) < len(path) && hasPath(path, own...) {
			return l.locate(table{blocks: []*block{b}, pairs: b.pairs, depth: len(b.path)}, path[len(own):])
		}
	}
	s := spot{table: t, rest: path, pair: -1}
	for _, p := range t.pairs {
		s.words = s.words || len(p.key) > 1 && p.key[0] == path[0]
	}
	return s, nil
}
