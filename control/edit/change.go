package edit

import (
	"fmt"
	"slices"
	"strings"

	"anechoic/mail"
	"anechoic/org"
)

// replacement puts a text in the place of a part of another.
type replacement struct {
	span
	text string
}

// replaced gives the text with all replacements, which do not overlap.
func replaced(data []byte, all ...replacement) []byte {
	slices.SortStableFunc(all, func(a, b replacement) int { return a.from - b.from })
	more := 0
	for _, r := range all {
		more += len(r.text) - (r.to - r.from)
	}
	text, at := make([]byte, 0, len(data)+max(more, 0)), 0
	for _, r := range all {
		text = append(append(text, data[at:r.from]...), r.text...)
		at = r.to
	}
	return append(text, data[at:]...)
}

// AddOrganisation writes an organisation behind all others: its id, name and
// security contact.
func AddOrganisation(text []byte, o org.OrganisationEntry) ([]byte, error) {
	l, err := find(text, o.ID)
	if err != nil {
		return nil, err
	}
	if l.found != nil {
		return nil, fmt.Errorf("organisation %s is %w", o.ID, ErrThere)
	}
	lines := organisationLines(o)
	for _, p := range l.root.pairs {
		if len(p.key) == 1 && p.key[0] == organisations {
			return replaced(text, l.appended(p.val, string(inlineTable(lines)))...), nil
		}
	}
	n := newBlock{header: "[[" + organisations + "]]", lines: lines}
	if l.last == nil {
		return replaced(text, l.written(lastContent(text), n)), nil
	}
	n.like(l, l.last.blocks[0])
	n.tight = n.tight && l.count > 1
	return replaced(text, l.written(attached(text, l.last.blocks[len(l.last.blocks)-1].end(text)), n)), nil
}

// lastContent is where the last line ends that is not blank.
func lastContent(data []byte) int {
	at := len(data)
	for at > 0 && strings.IndexByte(" \t\r\n", data[at-1]) >= 0 {
		at--
	}
	if at == 0 {
		return 0
	}
	return lineEnd(data, at)
}

// RemoveOrganisation takes an organisation out, with all that is below it.
func RemoveOrganisation(text []byte, id org.ID) ([]byte, error) {
	l, err := find(text, string(id))
	if err != nil {
		return nil, err
	}
	if l.found == nil {
		return nil, fmt.Errorf("organisation %s is %w", id, ErrNotFound)
	}
	if len(l.found.blocks) == 0 {
		return replaced(text, l.withoutElement(&l.found.table)...), nil
	}
	return replaced(text, l.withoutBlocks(l.found.blocks)), nil
}

// AddDomain writes a domain behind the others of its organisation.
func AddDomain(text []byte, id org.ID, d org.DomainEntry) ([]byte, error) {
	return addMember(text, id, domains, "name", d.Name, sameDomain(d.Name), domainLines(d))
}

// AddSource writes a source behind the others of its organisation. remark stands
// behind single_proof_until, if that is set.
func AddSource(text []byte, id org.ID, s org.SourceEntry, remark string) ([]byte, error) {
	lines := sourceLines(s)
	for i := range lines {
		if lines[i].key == "single_proof_until" {
			lines[i].remark = remark
		}
	}
	return addMember(text, id, sources, "id", s.ID, func(other string) bool { return other == s.ID }, lines)
}

// RemoveDomain takes a domain out of its organisation.
func RemoveDomain(text []byte, id org.ID, name string) ([]byte, error) {
	return removeMember(text, id, domains, "name", name, sameDomain(name))
}

// RemoveSource takes a source out of its organisation.
func RemoveSource(text []byte, id org.ID, source string) ([]byte, error) {
	return removeMember(text, id, sources, "id", source, func(other string) bool { return other == source })
}

// sameDomain compares names as DNS does.
func sameDomain(name string) func(string) bool {
	d, err := mail.ParseDomain(name)
	return func(other string) bool {
		o, e := mail.ParseDomain(other)
		return other == name || err == nil && e == nil && d == o
	}
}

func addMember(text []byte, id org.ID, list, key, name string, same func(string) bool, lines []line) ([]byte, error) {
	l, o, err := organisationIn(text, id)
	if err != nil {
		return nil, err
	}
	there, err := l.member(o, list, key, same)
	if err != nil {
		return nil, err
	}
	if there != nil {
		return nil, fmt.Errorf("%s %s of organisation %s is %w", list, name, id, ErrThere)
	}
	for _, p := range o.pairs {
		if len(p.key) == 1 && p.key[0] == list {
			return replaced(text, l.appended(p.val, string(inlineTable(lines)))...), nil
		}
	}
	if len(o.blocks) == 0 {
		return replaced(text, l.insertedPair(&o.table, line{key: list, value: "[ " + inlineTable(lines) + " ]"})), nil
	}
	members, err := l.members(o, list)
	if err != nil {
		return nil, err
	}
	return replaced(text, l.memberBlock(o, members, newBlock{header: "[[" + organisations + "." + list + "]]", lines: lines})), nil
}

// memberBlock writes a table behind the others of its list, or right below the
// organisation's own keys.
func (l *layout) memberBlock(o *organisation, members []table, n newBlock) replacement {
	end := o.blocks[0].end(l.data)
	var model *block
	for _, m := range members {
		model = m.blocks[0]
		for _, b := range m.blocks {
			end = max(end, b.end(l.data))
		}
	}
	for _, b := range o.blocks[1:] {
		if model == nil && len(b.path) == 1 {
			model = b
		}
	}
	if model != nil {
		n.like(l, model)
	} else {
		n.headerIndent, n.keyIndent, n.tight = l.style.header, l.style.key, l.style.tight
		if own := indent(l.data, o.blocks[0].header.from); !l.style.known {
			n.headerIndent, n.keyIndent = own+n.headerIndent, own+n.keyIndent
		}
	}
	return l.written(attached(l.data, end), n)
}

func removeMember(text []byte, id org.ID, list, key, name string, same func(string) bool) ([]byte, error) {
	l, o, err := organisationIn(text, id)
	if err != nil {
		return nil, err
	}
	m, err := l.memberOrFault(o, list, key, name, same)
	if err != nil {
		return nil, err
	}
	if len(m.blocks) == 0 {
		return replaced(text, l.withoutElement(m)...), nil
	}
	var cuts []replacement
	for run := range o.runs(m.blocks) {
		cuts = append(cuts, l.withoutBlocks(run))
	}
	return replaced(text, cuts...), nil
}

func organisationIn(text []byte, id org.ID) (*layout, *organisation, error) {
	l, err := find(text, string(id))
	if err == nil && l.found == nil {
		err = fmt.Errorf("organisation %s is %w", id, ErrNotFound)
	}
	if err != nil {
		return nil, nil, err
	}
	return l, l.found, nil
}

func (l *layout) memberOrFault(o *organisation, list, key, name string, same func(string) bool) (*table, error) {
	m, err := l.member(o, list, key, same)
	if err == nil && m == nil {
		err = fmt.Errorf("%s %s of organisation %s is %w", list, name, o.id, ErrNotFound)
	}
	return m, err
}

// runs groups some of an organisation's blocks by what stands together.
func (o *organisation) runs(some []*block) func(func([]*block) bool) {
	return func(yield func([]*block) bool) {
		var run []*block
		for _, b := range append(slices.Clone(o.blocks), nil) {
			if b != nil && slices.Contains(some, b) {
				run = append(run, b)
				continue
			}
			if len(run) > 0 && !yield(run) {
				return
			}
			run = nil
		}
	}
}

// newBlock is a table to be written.
type newBlock struct {
	header                  string
	headerIndent, keyIndent string
	tight, aligned          bool
	lines                   []line
}

// like takes the manner of a table that is there.
func (n *newBlock) like(l *layout, model *block) {
	n.headerIndent = indent(l.data, model.header.from)
	n.keyIndent = n.headerIndent
	if len(model.pairs) > 0 {
		n.keyIndent = indent(l.data, model.pairs[0].from)
	}
	n.tight = !blankBefore(l.data, model.lead(l.data))
	n.aligned = column(model.pairs) > 0
}

// written puts a table at the start of a line, behind what stands before.
func (l *layout) written(at int, n newBlock) replacement {
	width := 0
	if n.aligned {
		for _, k := range n.lines {
			width = max(width, len(k.key))
		}
	}
	texts := []string{n.headerIndent + n.header}
	for _, k := range n.lines {
		texts = append(texts, n.keyIndent+k.text(width))
	}
	whole, open := strings.Join(texts, l.style.eol), !endsLine(l.data, at)
	if open {
		whole = l.style.eol + whole
	} else {
		whole += l.style.eol
	}
	if at > 0 && (!n.tight || isComment(l.data[lineStart(l.data, at-1):at])) {
		whole = l.style.eol + whole
	}
	return replacement{span{at, at}, whole}
}

// text is the line, with its = in a column.
func (k line) text(width int) string {
	text := k.key + strings.Repeat(" ", max(0, width-len(k.key))) + " = " + string(k.value)
	if k.remark != "" {
		text += " # " + k.remark
	}
	return text
}

// withoutBlocks takes out tables that stand together, with the comments right
// above and below, and one blank line.
func (l *layout) withoutBlocks(run []*block) replacement {
	return l.withoutLines(run[0].lead(l.data), attached(l.data, run[len(run)-1].end(l.data)))
}

func (l *layout) withoutLines(from, to int) replacement {
	switch {
	case blankBefore(l.data, from):
		from = lineStart(l.data, from-1)
	case from == 0 && to < lastContent(l.data) && isBlank(l.data[to:lineEnd(l.data, to)]):
		to = lineEnd(l.data, to)
	}
	return l.cut(from, to)
}

// cut takes lines out; at the end of a text whose last line is open, the line
// before is open then.
func (l *layout) cut(from, to int) replacement {
	if to == len(l.data) && !endsLine(l.data, to) && from > 0 {
		if from--; from > 0 && l.data[from-1] == '\r' {
			from--
		}
	}
	return replacement{span{from, to}, ""}
}
