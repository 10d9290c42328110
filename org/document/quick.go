package document

import (
	"bytes"
	"reflect"
	"runtime"
	"strconv"
	"sync/atomic"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"anechoic/mail/background"
)

// The quick way is for texts of many megabytes that have nothing wrong with them:
// a struct that is one list of tables ([[organisation]], again and again) is filled
// in one pass, in pieces, as many at a time as there are processors.
//
// It takes plain texts only. A piece about which it has the least doubt (a fault, a
// key given twice, a form that is rare) is read the careful way, that piece alone; if
// that finds a fault quick gives up, and Decode reads the whole text the careful way,
// which tells what is wrong. So what it takes is what the careful way takes without a
// problem, with the same outcome; a fuzzer compares the two.
//
// A piece begins with a line [[organisation]]. That such a line is a header, and no
// part of a text of several lines or of a list, is known when the piece before it
// was read to its end: what is still open there is a fault.

// pieceSize is about how much text is one piece of work.
const pieceSize = 256 << 10

// quick fills target, which must hold nothing yet, or gives up and leaves it as it
// is.
func quick(data []byte, target any, pieceSize int) bool {
	whole := reflect.ValueOf(target).Elem()
	root, ok := formOf(whole.Type())
	if !ok || len(root.keys) != 1 {
		return false
	}
	var list field
	var name string
	for name, list = range root.keys {
	}
	if list.form.kind != aList || list.form.of.kind != aTable || whole.Field(list.at).Len() > 0 {
		return false
	}
	filled, ok := readPieces(root, name, whole.Type(), cut(data, "[["+name+"]]", pieceSize))
	if ok {
		join(whole.Field(list.at), filled, list.at)
	}
	return ok
}

// cut divides a text at lines that begin with header.
func cut(data []byte, header string, size int) (pieces [][]byte) {
	for len(data) > size {
		at := lineWith(data, header, size)
		if at < 0 {
			break
		}
		pieces = append(pieces, data[:at])
		data = data[at:]
	}
	return append(pieces, data)
}

// lineWith finds the start of the next line after an offset that begins with a
// header, blanks before it not counted; -1 if there is none.
func lineWith(data []byte, header string, from int) int {
	for {
		i := bytes.Index(data[from:], []byte(header))
		if i < 0 {
			return -1
		}
		from += i
		start := len(bytes.TrimRight(data[:from], " \t"))
		if start > 0 && data[start-1] == '\n' {
			return start
		}
		from += len(header)
	}
}

// readPieces fills a struct from each piece; false if there is a fault in one.
func readPieces(root *form, name string, shape reflect.Type, pieces [][]byte) ([]reflect.Value, bool) {
	filled := make([]reflect.Value, len(pieces))
	var next atomic.Int64
	var doubt atomic.Bool
	var work background.Group
	for range min(runtime.GOMAXPROCS(0), len(pieces)) {
		work.Go(func() {
			r := reader{texts: make(map[string]string)}
			for i := next.Add(1) - 1; int(i) < len(pieces) && !doubt.Load(); i = next.Add(1) - 1 {
				filled[i] = reflect.New(shape).Elem()
				if r.read(root, filled[i], pieces[i]) {
					continue
				}
				filled[i] = reflect.New(shape).Elem()
				if !readAlone(name, filled[i], pieces[i]) {
					doubt.Store(true)
				}
			}
		})
	}
	work.Wait()
	return filled, !doubt.Load()
}

// readAlone fills a struct from a piece the careful way; false if there is a fault,
// or anything before the first header, which could be about other pieces too.
func readAlone(name string, value reflect.Value, piece []byte) bool {
	var p unstable.Parser
	p.Reset(piece)
	if !p.NextExpression() || p.Expression().Kind != unstable.ArrayTable {
		return false
	}
	keys := p.Expression().Key()
	if !keys.Next() || !keys.IsLast() || string(keys.Node().Data) != name {
		return false
	}
	d := &Document{clean: piece, shape: value.Type()}
	return len(d.careful(value.Addr().Interface())) == 0
}

// join puts the lists of all pieces behind each other.
func join(list reflect.Value, filled []reflect.Value, at int) {
	total := 0
	for _, piece := range filled {
		total += piece.Field(at).Len()
	}
	if total == 0 {
		return
	}
	list.Grow(total)
	for _, piece := range filled {
		list.Set(reflect.AppendSlice(list, piece.Field(at)))
	}
}

// form is what a type can be filled with.
type form struct {
	kind    formKind
	pointer bool
	keys    map[string]field // of a table
	of      *form            // of a list
}

type formKind uint8

const (
	aText formKind = iota
	aTruth
	aNumber
	aDate
	aTable
	aList
)

// field is a field of a struct; at is its number.
type field struct {
	at   int
	form *form
}

// maxFields is how many fields a table's set of given ones has room for.
const maxFields = 64

// formOf describes a type; false if it is none that the quick way fills.
func formOf(t reflect.Type) (f *form, ok bool) {
	f = &form{}
	if t.Kind() == reflect.Pointer {
		f.pointer, t = true, t.Elem()
	}
	switch {
	case t == localDate:
		f.kind = aDate
	case t.Kind() == reflect.String:
		f.kind = aText
	case t.Kind() == reflect.Bool:
		f.kind = aTruth
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		f.kind = aNumber
	case t.Kind() == reflect.Slice:
		f.kind = aList
		f.of, ok = formOf(t.Elem())
		return f, ok && !f.pointer && !f.of.pointer
	case t.Kind() == reflect.Struct:
		f.kind, f.keys = aTable, make(map[string]field)
		return f, f.describe(t)
	default:
		return nil, false
	}
	return f, true
}

func (f *form) describe(t reflect.Type) bool {
	for i := range t.NumField() {
		name := tag(t.Field(i))
		if name == "" {
			continue
		}
		inner, ok := formOf(t.Field(i).Type)
		if !ok || i >= maxFields {
			return false
		}
		f.keys[name] = field{i, inner}
	}
	return true
}

// reader fills one piece after another.
type reader struct {
	parser unstable.Parser
	at     *table            // that the next keys belong to
	texts  map[string]string // short ones that were seen before: most are the same few
}

// table is one that is being filled.
type table struct {
	form  *form
	value reflect.Value
	given uint64   // the fields that have something, as a set
	last  []*table // by field: what a header began, the newest element if it is a list
}

// read fills a struct from a piece; false if there is doubt.
func (r *reader) read(root *form, value reflect.Value, piece []byte) bool {
	top := &table{form: root, value: value, last: make([]*table, value.NumField())}
	r.at = top
	r.parser.Reset(piece)
	for r.parser.NextExpression() {
		n := r.parser.Expression()
		if n.Kind == unstable.KeyValue {
			if r.at == top || !r.pair(r.at, n) {
				return false
			}
		} else if r.at = r.header(top, n); r.at == nil {
			return false
		}
	}
	return r.parser.Error() == nil
}

// header gives the table that [a.b] or [[a.b]] begins; nil if there is doubt.
func (r *reader) header(t *table, n *unstable.Node) *table {
	for keys := n.Key(); keys.Next(); {
		f, ok := t.form.keys[string(keys.Node().Data)]
		if !ok {
			return nil
		}
		if keys.IsLast() {
			return t.begin(f, n.Kind == unstable.ArrayTable)
		}
		if t = t.last[f.at]; t == nil {
			return nil
		}
	}
	return nil
}

// begin makes the table of a field: a new element if it is a list.
func (t *table) begin(f field, list bool) *table {
	bit := uint64(1) << f.at
	switch {
	case list && f.form.kind == aList && f.form.of.kind == aTable && (t.given&bit == 0 || t.last[f.at] != nil):
		t.given |= bit
		elements := t.value.Field(f.at)
		elements.Grow(1)
		elements.SetLen(elements.Len() + 1)
		return t.enter(f.at, f.form.of, elements.Index(elements.Len()-1))
	case !list && f.form.kind == aTable && t.given&bit == 0:
		t.given |= bit
		return t.enter(f.at, f.form, target(f.form, t.value.Field(f.at)))
	}
	return nil
}

// enter makes a table the newest of a field. The one before it is never looked at
// again: only its value moves, when its list grows.
func (t *table) enter(at int, f *form, value reflect.Value) *table {
	inner := t.last[at]
	if inner == nil {
		inner = &table{last: make([]*table, value.NumField())}
		t.last[at] = inner
	}
	inner.form, inner.value, inner.given = f, value, 0
	clear(inner.last)
	return inner
}

// target follows a pointer, to something new.
func target(f *form, v reflect.Value) reflect.Value {
	if !f.pointer {
		return v
	}
	v.Set(reflect.New(v.Type().Elem()))
	return v.Elem()
}

// pair reads key = value into a table.
func (r *reader) pair(t *table, n *unstable.Node) bool {
	keys := n.Key()
	if !keys.Next() || !keys.IsLast() {
		return false
	}
	f, ok := t.form.keys[string(keys.Node().Data)]
	if bit := uint64(1) << f.at; ok && t.given&bit == 0 {
		t.given |= bit
		return r.fill(f.form, target(f.form, t.value.Field(f.at)), n.Value())
	}
	return false
}

// fill puts a value into its place.
func (r *reader) fill(f *form, v reflect.Value, n *unstable.Node) bool {
	switch {
	case f.kind == aText && n.Kind == unstable.String:
		v.SetString(r.text(n.Data))
	case f.kind == aTruth && n.Kind == unstable.Bool:
		v.SetBool(n.Data[0] == 't')
	case f.kind == aNumber && n.Kind == unstable.Integer:
		return number(v, n.Data)
	case f.kind == aDate && n.Kind == unstable.LocalDate:
		return v.Addr().Interface().(*toml.LocalDate).UnmarshalText(n.Data) == nil
	case f.kind == aTable && n.Kind == unstable.InlineTable:
		return r.inline(f, v, n)
	case f.kind == aList && n.Kind == unstable.Array:
		return r.list(f, v, n)
	default:
		return false
	}
	return true
}

func (r *reader) inline(f *form, v reflect.Value, n *unstable.Node) bool {
	t := table{form: f, value: v}
	for pairs := n.Children(); pairs.Next(); {
		if !r.pair(&t, pairs.Node()) {
			return false
		}
	}
	return true
}

func (r *reader) list(f *form, v reflect.Value, n *unstable.Node) bool {
	count := 0
	for elements := n.Children(); elements.Next(); {
		count++
	}
	v.Set(reflect.MakeSlice(v.Type(), count, count))
	i := 0
	for elements := n.Children(); elements.Next(); i++ {
		if !r.fill(f.of, v.Index(i), elements.Node()) {
			return false
		}
	}
	return true
}

// maxDigits is how long a number can be without a thought of its size; longer
// ones, and those with signs, are for the careful way.
const maxDigits = 9

func number(v reflect.Value, digits []byte) bool {
	if len(digits) > maxDigits {
		return false
	}
	n, err := strconv.ParseUint(string(digits), 10, 63) // neither sign nor _ nor 0x
	v.SetInt(int64(n))
	return err == nil
}

// What texts are remembered for their next time.
const (
	maxRemembered       = 1 << 10
	maxRememberedLength = 16
)

// text makes a string, the same one for short texts that come again and again.
func (r *reader) text(data []byte) string {
	if len(data) > maxRememberedLength {
		return string(data)
	}
	s, known := r.texts[string(data)]
	if !known {
		s = string(data)
		if len(r.texts) < maxRemembered {
			r.texts[s] = s
		}
	}
	return s
}
