package migrate

import (
	"path/filepath"
	"slices"
	"strings"
)

// Entry is one entry of a table.
type Entry struct {
	Key, Value string
	At         Place
	Pattern    bool // the key is a regular expression, or holds only under a condition
}

// Table is a look-up table that some parameter names.
type Table struct {
	Type, Name string
	Entries    []Entry
	At         Place // where it was named
	Read       bool  // its entries are known
}

// String is the table as Postfix writes it.
func (t *Table) String() string { return printable(t.Type + ":" + t.Name) }

// indexed are the types whose source is a text file beside the index, or the file itself.
var indexed = []string{"hash", "btree", "lmdb", "cdb", "dbm", "sdbm", "texthash"}

// patterned are the types whose text file has a pattern in each line.
var patterned = []string{"regexp", "pcre"}

// isTable says that an item of a list is a table.
func isTable(item string) bool {
	kind, _, ok := strings.Cut(item, ":")
	if !ok || kind == "" {
		return false
	}
	return strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz0123456789_-") == ""
}

// tables reads every table that a parameter names.
func (f *files) tables(s *Settings, name string) (list []Table) {
	v := s.Get(name)
	for _, item := range split(v.Text) {
		if isTable(item) {
			list = append(list, f.table(v.At, item))
		}
	}
	return list
}

// table reads one table. What it cannot read is remembered as unread.
func (f *files) table(at Place, spec string) Table {
	spec = strings.TrimPrefix(spec, "proxy:")
	kind, name, _ := strings.Cut(spec, ":")
	t := Table{Type: kind, Name: name, At: at}
	switch {
	case kind == "inline":
		t.Entries, t.Read = inline(name, at), true
	case kind == "static":
		t.Entries, t.Read = []Entry{{Key: "*", Value: name, At: at, Pattern: true}}, true
	case kind == "cidr" && strings.HasPrefix(name, "{"):
		t.Entries, t.Read = inlineRules(name, at), true
	case kind == "cidr" || slices.Contains(indexed, kind):
		f.tableFile(&t, false)
	case slices.Contains(patterned, kind):
		f.tableFile(&t, true)
	default:
		f.unread = append(f.unread, Unread{At: at, What: t.String(), Why: "a table of type " + printable(kind) + " is not a text: what it answers is not known here"})
	}
	return t
}

// tableFile reads a table's text. The index beside it, which Postfix uses, may be older:
// nobody can tell from the text.
func (f *files) tableFile(t *Table, patterns bool) {
	if !filepath.IsAbs(t.Name) {
		f.unread = append(f.unread, Unread{At: t.At, What: t.String(), Why: "it is not named by its whole path"})
		return
	}
	text, ok := f.read(t.At, t.Name)
	if !ok {
		return
	}
	t.Entries, t.Read = parseTable(t.Name, text, patterns), true
}

// parseTable reads lines of a key and a value. In tables of patterns the key is a
// regular expression between two equal signs, with flags.
func parseTable(file, text string, patterns bool) (entries []Entry) {
	conditions := 0
	for _, l := range logicalLines(text) {
		key, value := cutSpace(l.text)
		switch {
		case strings.EqualFold(key, "if"):
			conditions++
			continue
		case strings.EqualFold(key, "endif"):
			conditions = max(conditions-1, 0)
			continue
		case patterns:
			key, value = cutPattern(l.text)
		}
		entries = append(entries, Entry{Key: key, Value: value, At: Place{file, l.number}, Pattern: patterns || conditions > 0 || strings.HasPrefix(key, "!")})
	}
	return entries
}

// cutPattern cuts /pattern/flags from the result.
func cutPattern(s string) (pattern, result string) {
	at := 0
	if strings.HasPrefix(s, "!") {
		at = 1
	}
	if at >= len(s) {
		return s, ""
	}
	for i := at + 1; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case s[i] == s[at]:
			flags, value := cutSpace(s[i+1:])
			return s[:i+1] + flags, value
		}
	}
	return cutSpace(s)
}

// cutSpace cuts at the first white space.
func cutSpace(s string) (before, after string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimSpace(s[i:])
}

// inline reads inline:{key=value, {key = a longer value}}.
func inline(text string, at Place) (entries []Entry) {
	for _, item := range split(unbrace(text)) {
		key, value, _ := strings.Cut(unbrace(item), "=")
		entries = append(entries, Entry{Key: strings.TrimSpace(key), Value: strings.TrimSpace(value), At: at})
	}
	return entries
}

// inlineRules reads cidr:{ {rule}, {rule} }.
func inlineRules(text string, at Place) (entries []Entry) {
	for _, item := range split(unbrace(text)) {
		key, value := cutSpace(unbrace(item))
		entries = append(entries, Entry{Key: key, Value: value, At: at, Pattern: strings.HasPrefix(key, "!")})
	}
	return entries
}
