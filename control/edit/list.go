package edit

import "bytes"

// withoutElement takes an inline table out of its list; the last one takes the
// list with it.
func (l *layout) withoutElement(t *table) []replacement {
	all, _ := elements(l.data, t.list) // it was taken apart before
	if len(all) == 1 {
		return []replacement{l.withoutPair(t.owner, t.place)}
	}
	return l.taken(t.list, all, t.index)
}

// appended puts a value at the end of a list, on a line of its own where the last
// one has that.
func (l *layout) appended(list span, value string) []replacement {
	all, _ := elements(l.data, list)
	if len(all) == 0 {
		return []replacement{l.firstOf(list, value)}
	}
	last := all[len(all)-1]
	comma := replacement{span{last.to, last.to}, ","}
	if lines, alone := l.linesOf(list, all, len(all)-1); alone {
		text := indent(l.data, last.from) + value
		if last.comma >= 0 {
			return []replacement{{span{lines.to, lines.to}, text + "," + l.style.eol}}
		}
		return []replacement{comma, {span{lines.to, lines.to}, text + l.style.eol}}
	}
	if last.comma >= 0 {
		return []replacement{{span{last.comma + 1, last.comma + 1}, " " + value + ","}}
	}
	comma.text = ", " + value
	return []replacement{comma}
}

// firstOf puts a value into an empty list.
func (l *layout) firstOf(list span, value string) replacement {
	at := list.from + 1
	if end := lineEnd(l.data, at); end < list.to {
		before := indentOfLine(l.data, list.from)
		return replacement{span{end, end}, before + "  " + value + "," + l.style.eol}
	}
	return replacement{span{at, at}, value}
}

// taken takes a value out of a list, with its lines where they are its alone.
func (l *layout) taken(list span, all []element, i int) []replacement {
	e := all[i]
	var cuts []replacement
	lastOpen := i == len(all)-1 && e.comma < 0
	if lastOpen && i > 0 {
		cuts = append(cuts, replacement{span{all[i-1].comma, all[i-1].comma + 1}, ""})
	}
	if lines, alone := l.linesOf(list, all, i); alone {
		return append(cuts, replacement{lines, ""})
	}
	from, to := e.from, e.to
	if i < len(all)-1 {
		to = skipBlank(l.data, e.comma+1)
		return append(cuts, replacement{span{from, to}, ""})
	}
	floor := list.from + 1
	if i > 0 {
		floor = max(floor, all[i-1].comma+1)
	}
	for from > floor && (l.data[from-1] == ' ' || l.data[from-1] == '\t') {
		from--
	}
	if e.comma >= 0 {
		to = e.comma + 1
	}
	return append(cuts, replacement{span{from, to}, ""})
}

// linesOf is the lines of a value with its comma and comment; false if something
// else stands there too.
func (l *layout) linesOf(list span, all []element, i int) (span, bool) {
	e := all[i]
	from := lineStart(l.data, e.from)
	if from <= list.from || len(bytes.TrimSpace(l.data[from:e.from])) > 0 {
		return span{}, false
	}
	end := e.to
	if e.comma >= 0 {
		if between := l.data[e.to:e.comma]; bytes.IndexByte(between, '\n') >= 0 {
			return span{}, false
		}
		end = e.comma + 1
	}
	to := lineEnd(l.data, end)
	rest := l.data[end:to]
	if to >= list.to || len(bytes.TrimSpace(rest)) > 0 && !isComment(rest) {
		return span{}, false
	}
	return span{from, to}, true
}

// indentOfLine is what the line of an offset begins with.
func indentOfLine(data []byte, at int) string {
	start := lineStart(data, at)
	return string(data[start:skipBlank(data, start)])
}
