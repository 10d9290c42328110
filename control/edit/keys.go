package edit

import (
	"fmt"
	"strings"

	"anechoic/org"
)

// Set gives a key of a source a value: the old one is replaced where it stands,
// a new key stands behind the source's others. key may be dotted, as in
// limits.messages_per_hour. remark, if any, stands behind the value.
func Set(text []byte, id org.ID, source, key string, value Value, remark string) ([]byte, error) {
	l, s, err := sourceKey(text, id, source, key)
	if err != nil {
		return nil, err
	}
	k := line{key: key, value: value, remark: remark}
	if s.pair >= 0 {
		return replaced(text, l.exchanged(&s.table, s.pair, k)...), nil
	}
	if k.key = dotted(s.rest); len(s.rest) > 1 && !s.words {
		k = line{key: s.rest[0], value: inlineTable([]line{{key: dotted(s.rest[1:]), value: value}}), remark: remark}
	}
	return replaced(text, l.insertedPair(&s.table, k)), nil
}

// exchanged puts another value in a key's place, and another remark if there is a
// new one.
func (l *layout) exchanged(t *table, pair int, k line) []replacement {
	p := t.pairs[pair]
	all := []replacement{{p.val, string(k.value)}}
	if k.remark == "" || len(t.blocks) == 0 {
		return all
	}
	end := lineEnd(l.data, p.to)
	for end > p.to && (l.data[end-1] == '\n' || l.data[end-1] == '\r') {
		end--
	}
	return append(all, replacement{span{p.to, end}, " # " + k.remark})
}

// Unset takes a key of a source out, and what is below it.
func Unset(text []byte, id org.ID, source, key string) ([]byte, error) {
	l, s, err := sourceKey(text, id, source, key)
	if err != nil {
		return nil, err
	}
	if s.pair >= 0 {
		return replaced(text, l.withoutPair(&s.table, s.pair)), nil
	}
	var cuts []replacement
	for i, p := range s.table.pairs {
		if hasPath(p.key, s.rest...) && len(s.table.blocks) > 0 {
			cuts = append(cuts, l.withoutPair(&s.table, i))
		}
	}
	for i, b := range s.table.blocks {
		if i > 0 && hasPath(b.path[min(s.table.depth, len(b.path)):], s.rest...) {
			cuts = append(cuts, l.withoutBlocks([]*block{b}))
		}
	}
	if len(cuts) == 0 {
		return nil, fmt.Errorf("%s of source %s is %w", key, source, ErrNotFound)
	}
	return replaced(text, cuts...), nil
}

// Append puts a value at the end of a list of a source.
func Append(text []byte, id org.ID, source, key string, value Value) ([]byte, error) {
	l, s, err := sourceKey(text, id, source, key)
	if err != nil {
		return nil, err
	}
	if s.pair < 0 {
		return nil, fmt.Errorf("%s of source %s is %w", key, source, ErrNotFound)
	}
	p := s.table.pairs[s.pair]
	if text[p.val.from] != '[' {
		return nil, formFault(text, p.from)
	}
	return replaced(text, l.appended(p.val, string(value))...), nil
}

// Take takes texts out of a list of a source.
func Take(text []byte, id org.ID, source, key string, gone func(string) bool) ([]byte, error) {
	for {
		l, s, err := sourceKey(text, id, source, key)
		if err != nil {
			return nil, err
		}
		if s.pair < 0 || text[s.table.pairs[s.pair].val.from] != '[' {
			return nil, fmt.Errorf("%s of source %s is %w", key, source, ErrNotFound)
		}
		list := s.table.pairs[s.pair].val
		all, ok := elements(text, list)
		if !ok {
			return nil, formFault(text, list.from)
		}
		at := -1
		for i, e := range all {
			if item, ok := textOf(text[e.from:e.to]); ok && gone(item) {
				at = i
			}
		}
		if at < 0 {
			return text, nil
		}
		text = replaced(text, l.taken(list, all, at)...)
	}
}

func sourceKey(text []byte, id org.ID, source, key string) (*layout, spot, error) {
	l, o, err := organisationIn(text, id)
	if err != nil {
		return nil, spot{}, err
	}
	m, err := l.memberOrFault(o, sources, "id", source, func(other string) bool { return other == source })
	if err != nil {
		return nil, spot{}, err
	}
	s, err := l.locate(*m, strings.Split(key, "."))
	return l, s, err
}

// insertedPair writes a key behind the others of a table.
func (l *layout) insertedPair(t *table, k line) replacement {
	if len(t.blocks) == 0 {
		return l.insertedInline(t, k)
	}
	b := t.blocks[0]
	at, before := b.end(l.data), indent(l.data, b.header.from)
	if n := len(b.pairs); n > 0 {
		before = indent(l.data, b.pairs[n-1].from)
	}
	text := before + k.text(max(0, column(b.pairs)-1))
	if endsLine(l.data, at) {
		return replacement{span{at, at}, text + l.style.eol}
	}
	return replacement{span{at, at}, l.style.eol + text}
}

// insertedInline writes a key into an inline table, where no remark can stand.
func (l *layout) insertedInline(t *table, k line) replacement {
	k.remark = ""
	n := len(t.pairs)
	if n == 0 {
		at, text := t.inline.from+1, " "+k.text(0)
		if l.data[at] == '}' {
			text += " "
		}
		return replacement{span{at, at}, text}
	}
	last := t.pairs[n-1]
	at := last.to
	if comma := skipSpace(l.data, at); comma < t.inline.to && l.data[comma] == ',' {
		return replacement{span{comma + 1, comma + 1}, " " + k.text(0) + ","}
	}
	return replacement{span{at, at}, ", " + k.text(0)}
}

// withoutPair takes a key out. An inline table that would be empty goes with it.
func (l *layout) withoutPair(t *table, i int) replacement {
	p := t.pairs[i]
	switch {
	case len(t.blocks) > 0 || t.inline == span{}: // a line of its own; the root has no block
		return l.cut(lineStart(l.data, p.from), lineEnd(l.data, p.to))
	case len(t.pairs) == 1 && t.owner != nil:
		return l.withoutPair(t.owner, t.place)
	case i > 0:
		return replacement{span{t.pairs[i-1].to, p.to}, ""}
	case len(t.pairs) > 1:
		return replacement{span{p.from, t.pairs[1].from}, ""}
	}
	return replacement{p.span, ""}
}

// Has says that a source has a key.
func Has(text []byte, id org.ID, source, key string) (bool, error) {
	_, s, err := sourceKey(text, id, source, key)
	return err == nil && s.pair >= 0, err
}
