package document

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// fault is something in a file that does not have the shape of the struct.
type fault struct {
	offset               int
	where, message, hint string
}

// walk goes through a file's expressions beside the struct they are meant for.
// It keeps the path of keys it is at, with indexes, in one buffer.
type walk struct {
	shape reflect.Type
	data  []byte
	want  int // an offset whose expression is looked for

	faults       []fault
	spoiled      []span   // expressions that decoding must not see
	spoiledPaths []string // their paths
	wantPath     string
	wantSpan     span

	parser unstable.Parser
	seen   func(path []byte, offset int)
	counts map[string]int // elements so far of each list of tables, within the current elements around it
	path   []byte
	prefix int          // length of the path of the current table
	table  reflect.Type // nil: nobody knows this table, and that was said
	fields map[reflect.Type]map[string]reflect.Type
	lost   bool // the current table's header had the wrong form
	clash  bool // a key goes on below something that is no table
}

// run visits everything up to the first passage that is not TOML, which is the
// error; seen is told each path and where it stands.
func (w *walk) run(seen func(path []byte, offset int)) error {
	w.seen, w.table, w.counts = seen, w.shape, make(map[string]int)
	w.fields = make(map[reflect.Type]map[string]reflect.Type)
	w.parser.Reset(w.data)
	for w.parser.NextExpression() {
		n := w.parser.Expression()
		switch n.Kind {
		case unstable.Table, unstable.ArrayTable:
			w.header(n)
		case unstable.KeyValue:
			w.topLevel(n)
		}
	}
	return w.parser.Error()
}

// header enters a table: [a.b] or [[a.b]].
func (w *walk) header(n *unstable.Node) {
	w.path, w.table, w.lost, w.clash = w.path[:0], w.shape, false, false
	name, start := "", len(w.data)
	for keys := n.Key(); keys.Next(); {
		key := keys.Node()
		start = min(start, int(key.Raw.Offset))
		name += "." + string(key.Data)
		w.enter(key)
		w.tell(int(key.Raw.Offset))
		if keys.IsLast() {
			w.listed(n, key, name)
		} else if count, ok := w.counts[name]; ok {
			w.index(count - 1)
		}
		if w.table != nil && w.table.Kind() == reflect.Slice {
			w.table = pointed(w.table.Elem())
		}
	}
	w.prefix = len(w.path)
	w.tell(start)
	w.note(span{start, endOf(n)})
	w.lost = w.lost || w.clash || w.table == nil // decoding would take [[Site]] for [[site]]
	if w.lost {
		w.spoiledPaths = append(w.spoiledPaths, string(w.path))
		w.spoil(w.lineOf(start, endOf(n)))
	}
}

// listed ends a header: it counts the elements of a list of tables, and holds
// [a] and [[a]] against what the struct has there.
func (w *walk) listed(n, key *unstable.Node, name string) {
	list := n.Kind == unstable.ArrayTable
	if list {
		w.index(w.counts[name])
		w.counts[name]++
		for other := range w.counts {
			if strings.HasPrefix(other, name+".") {
				delete(w.counts, other)
			}
		}
	}
	switch {
	case w.table == nil:
	case list && !isTableList(w.table), !list && w.table.Kind() != reflect.Struct:
		w.fault(int(key.Raw.Offset), fmt.Sprintf("%s is %s", key.Data, describe(w.table)), headerHint(w.table, key.Data))
		w.table, w.lost = nil, true
	}
}

func headerHint(t reflect.Type, key []byte) string {
	switch {
	case isTableList(t):
		return fmt.Sprintf("write [[%s]], once for each", key)
	case t.Kind() == reflect.Struct:
		return fmt.Sprintf("write [%s]", key)
	}
	return fmt.Sprintf("write %s = …", key)
}

func isTableList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && pointed(t.Elem()).Kind() == reflect.Struct
}

// topLevel reads key = value below the current header.
func (w *walk) topLevel(n *unstable.Node) {
	w.path = w.path[:w.prefix]
	table, faults := w.table, len(w.faults)
	w.clash = false
	wrong := w.lost || !w.keyValue(n) || w.clash || w.table == nil
	w.table = table
	whole := span{int(n.Raw.Offset), endOf(n)}
	w.note(whole)
	if wrong {
		w.spoil(whole)
		if len(w.faults) > faults {
			w.spoiledPaths = append(w.spoiledPaths, string(w.path))
		}
	}
}

// keyValue reads one key and its value; false if decoding must not see it. It
// leaves path and table at the key.
func (w *walk) keyValue(n *unstable.Node) bool {
	at, known := 0, w.table != nil
	for keys := n.Key(); keys.Next(); {
		at = int(keys.Node().Raw.Offset)
		w.enter(keys.Node())
		w.tell(at)
	}
	if w.table == nil {
		return known // an unknown key is told
	}
	return w.value(n.Value(), w.table, at)
}

// value holds a value against a type.
func (w *walk) value(n *unstable.Node, t reflect.Type, at int) bool {
	t = pointed(t)
	if n.Raw.Length > 0 && n.Kind != unstable.InlineTable {
		at = int(n.Raw.Offset)
	}
	if !fits(n.Kind, t) {
		w.fault(at, fmt.Sprintf("%s is wanted here, not %s", describe(t), kinds[n.Kind]), "")
		return false
	}
	switch n.Kind {
	case unstable.Array:
		return w.array(n, t, at)
	case unstable.InlineTable:
		return w.inline(n, t)
	}
	return true
}

func (w *walk) array(n *unstable.Node, t reflect.Type, at int) bool {
	good, back, i := true, len(w.path), 0
	for elements := n.Children(); elements.Next(); i++ {
		w.index(i)
		if raw := elements.Node().Raw; raw.Length > 0 {
			at = int(raw.Offset)
		}
		w.tell(at)
		good = w.value(elements.Node(), t.Elem(), at) && good
		w.path = w.path[:back]
	}
	return good
}

func (w *walk) inline(n *unstable.Node, t reflect.Type) bool {
	good, back, table := true, len(w.path), w.table
	for pairs := n.Children(); pairs.Next(); {
		w.table = t
		good = w.keyValue(pairs.Node()) && good
		w.path = w.path[:back]
	}
	w.table = table
	return good
}

// enter goes down one key, and says so if the struct has none of that name.
func (w *walk) enter(key *unstable.Node) {
	if len(w.path) > 0 {
		w.path = append(w.path, '.')
	}
	w.path = append(w.path, key.Data...)
	if w.table == nil {
		return
	}
	around := w.table
	if t, ok := w.known(around)[string(key.Data)]; ok {
		w.table = t
		return
	}
	w.clash = w.clash || around.Kind() != reflect.Struct
	w.table = nil
	w.fault(int(key.Raw.Offset), fmt.Sprintf("unknown key %q", key.Data), suggestion(string(key.Data), w.known(around)))
}

// known gives the keys that can stand in a table, and their types.
func (w *walk) known(table reflect.Type) map[string]reflect.Type {
	keys, ok := w.fields[table]
	if !ok {
		keys = make(map[string]reflect.Type)
		if table.Kind() == reflect.Struct {
			for i := range table.NumField() {
				if name := tag(table.Field(i)); name != "" {
					keys[name] = pointed(table.Field(i).Type)
				}
			}
		}
		w.fields[table] = keys
	}
	return keys
}

func (w *walk) fault(offset int, message, hint string) {
	w.faults = append(w.faults, fault{offset, string(w.path), message, hint})
}

func (w *walk) spoil(s span) { w.spoiled = append(w.spoiled, s) }

func (w *walk) tell(offset int) {
	if w.seen != nil {
		w.seen(w.path, offset)
	}
}

// note remembers the expression the wanted offset lies in. The expressions come
// in order, so the last that starts before it is the one.
func (w *walk) note(s span) {
	if s.from <= w.want && w.want <= s.to {
		w.wantPath, w.wantSpan = string(w.path), w.lineOf(s.from, s.to)
	}
}

// lineOf widens a header to its brackets; a value stays as it is.
func (w *walk) lineOf(from, to int) span {
	for from > 0 && strings.IndexByte("[ \t", w.data[from-1]) >= 0 {
		from--
	}
	for to < len(w.data) && strings.IndexByte("] \t", w.data[to]) >= 0 {
		to++
	}
	return span{from, to}
}

func (w *walk) index(i int) {
	w.path = append(w.path, '[')
	w.path = strconv.AppendInt(w.path, int64(i), 10)
	w.path = append(w.path, ']')
}

// kinds are TOML's kinds of value, for people.
var kinds = map[unstable.Kind]string{
	unstable.Array:         "a list",
	unstable.InlineTable:   "a table",
	unstable.String:        "a text",
	unstable.Bool:          "true or false",
	unstable.Float:         "a number with a fraction",
	unstable.Integer:       "a whole number",
	unstable.LocalDate:     "a date",
	unstable.LocalTime:     "a time of day",
	unstable.LocalDateTime: "a date and time",
	unstable.DateTime:      "a date and time",
}

var localDate = reflect.TypeFor[toml.LocalDate]()

// fits says that a value of this kind can go into a type.
func fits(k unstable.Kind, t reflect.Type) bool {
	switch {
	case t == localDate:
		return k == unstable.LocalDate
	case t.Kind() == reflect.Struct:
		return k == unstable.InlineTable
	case t.Kind() == reflect.Slice:
		return k == unstable.Array
	case t.Kind() == reflect.String:
		return k == unstable.String
	case t.Kind() == reflect.Bool:
		return k == unstable.Bool
	}
	return k == unstable.Integer
}

func describe(t reflect.Type) string {
	switch {
	case t == localDate:
		return "a date such as 2027-01-31"
	case t.Kind() == reflect.Struct:
		return "a table"
	case isTableList(t):
		return "a list of tables"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.String:
		return "a text in double quotes"
	case t.Kind() == reflect.Bool:
		return "true or false, without quotes,"
	}
	return "a whole number, without quotes,"
}

func pointed(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

func tag(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
	return name
}

// suggestion is the known key most like an unknown one, or all of them.
func suggestion(unknown string, keys map[string]reflect.Type) string {
	known := slices.Sorted(maps.Keys(keys))
	for _, name := range known {
		if distance(strings.ToLower(unknown), name) <= (len(name)+2)/3 {
			return fmt.Sprintf("did you mean %q?", name)
		}
	}
	if len(known) == 0 {
		return "no keys can stand here"
	}
	return "known here: " + strings.Join(known, ", ")
}

// maxSuggested bounds the work of distance on a key that is no key.
const maxSuggested = 40

// distance is the number of letters to add, take away or change (Levenshtein).
func distance(a, b string) int {
	if len(a) > maxSuggested {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
