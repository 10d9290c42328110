// Package document reads a TOML file into a struct and remembers where
// everything in it stands.
//
// Decode tells everything that is wrong with a file's form in one go: what is
// not TOML, keys nobody knows, values of the wrong type. It fills the struct
// with the rest, so that the reader can go on and tell what is wrong with the
// content too; Place then gives those problems their line and column.
//
// Three steps: passages that are not TOML are blanked out; each key is held
// against the shape of the struct; what has that shape is decoded. A file
// without faults is read twice, one with faults as often as it has some. A plain
// file that is one long list of tables is read once, by all processors (quick.go).
//
// Keys are taken as they are written in the struct's tags, with case. What is
// not here: defaults, meaning, other formats.
package document

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// maxFaults bounds how many passages are blanked out before the rest of a file
// is given up: such a file is no TOML file.
const maxFaults = 20

// Document is a file that was read by Decode.
type Document struct {
	file    string
	clean   []byte // the file, with blanks where it was not TOML or had the wrong shape
	lines   []int  // where each line starts; made when first wanted
	shape   reflect.Type
	spoiled []string // paths whose values were not decoded
	broken  bool     // some passage was not TOML: what stood there is not known
}

// span is a part of a file.
type span struct{ from, to int }

// Decode reads a file's text into target, a pointer to a struct with `toml`
// tags. The problems are those of form; target holds all that was well formed.
func Decode(file string, data []byte, target any) (*Document, []Problem) {
	d := &Document{file: file, clean: data, shape: reflect.TypeOf(target).Elem()}
	if quick(data, target, pieceSize) {
		return d, nil
	}
	return d, d.careful(target)
}

// careful decodes and tells what is wrong.
func (d *Document) careful(target any) (problems []Problem) {
	w := walk{shape: d.shape, data: d.clean}
	if w.run(nil) != nil {
		problems = d.blankSyntaxErrors()
		w = walk{shape: d.shape, data: d.clean}
		w.run(nil)
	}
	for _, f := range w.faults {
		problems = append(problems, d.problem(f.offset, f.where, f.message, f.hint))
	}
	d.blank(w.spoiled...)
	d.spoiled = append(d.spoiled, w.spoiledPaths...)
	problems = append(problems, d.decode(target)...)
	Sort(problems)
	return problems
}

// Broken says that some passage was not TOML, so that what seems to be missing
// may be there.
func (d *Document) Broken() bool { return d != nil && d.broken }

// Place gives each problem the line and column of what its Where names, or of
// the nearest thing around it, and sorts. Problems about values that Decode
// already complained of are left out.
func (d *Document) Place(problems []Problem) []Problem {
	kept := slices.DeleteFunc(slices.Clone(problems), func(p Problem) bool { return d.Unread(p.Where) })
	offsets := d.find(kept)
	for i := range kept {
		p := &kept[i]
		p.File = d.file
		if offset, ok := nearest(offsets, p.Where); ok {
			p.Line, p.Column = d.position(offset)
		}
		if p.Also == "" {
			continue
		}
		if offset, ok := nearest(offsets, p.Also); ok {
			line, column := d.position(offset)
			p.Also = fmt.Sprintf("%s:%d:%d", d.file, line, column)
		}
	}
	Sort(kept)
	return kept
}

// find gives the offset of every path the problems name, and of what is around
// them.
func (d *Document) find(problems []Problem) map[string]int {
	wanted := make(map[string]int)
	for _, p := range problems {
		for _, where := range []string{p.Where, p.Also} {
			for ; where != ""; where = around(where) {
				wanted[where] = -1
			}
		}
	}
	if len(wanted) == 0 {
		return wanted
	}
	w := walk{shape: d.shape, data: d.clean}
	w.run(func(path []byte, offset int) {
		if at, ok := wanted[string(path)]; ok && at < 0 {
			wanted[string(path)] = offset
		}
	})
	return wanted
}

func nearest(offsets map[string]int, where string) (int, bool) {
	for ; where != ""; where = around(where) {
		if offset, ok := offsets[where]; ok && offset >= 0 {
			return offset, true
		}
	}
	return 0, false
}

// around cuts the last part off a path: a.b[1].c, a.b[1], a.b, a.
func around(path string) string { return path[:max(0, strings.LastIndexAny(path, ".["))] }

// Unread says that a value stands at this path, or around it, that Decode
// complained of and did not take: it is wrong, but not missing.
func (d *Document) Unread(where string) bool {
	return d != nil && slices.ContainsFunc(d.spoiled, func(path string) bool {
		rest, ok := strings.CutPrefix(where, path)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

func (d *Document) problem(offset int, where, message, hint string) Problem {
	p := Problem{File: d.file, Where: where, Message: message, Hint: hint}
	p.Line, p.Column = d.position(offset)
	return p
}

// position counts from 1, columns in octets.
func (d *Document) position(offset int) (line, column int) {
	if d.lines == nil {
		d.lines = lineStarts(d.clean)
	}
	line = sort.SearchInts(d.lines, offset+1)
	return line, offset - d.lines[line-1] + 1
}

// lineStarts gives the offset of each line.
func lineStarts(data []byte) []int {
	starts := []int{0}
	for i, c := range data {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

// blank puts spaces in place of passages and keeps line ends, so that all else
// stays where it was.
func (d *Document) blank(passages ...span) {
	if len(passages) == 0 {
		return
	}
	d.clean = bytes.Clone(d.clean)
	for _, s := range passages {
		for i := s.from; i < s.to; i++ {
			if d.clean[i] != '\n' {
				d.clean[i] = ' '
			}
		}
	}
}

// resume finds the next line that begins like a key or a table's header;
// resumeTable the next header.
var (
	resume      = regexp.MustCompile(`\n[ \t]*(\[[\[A-Za-z0-9_" -]|[A-Za-z0-9_-]+[ \t]*=)`)
	resumeTable = regexp.MustCompile(`\n[ \t]*\[[\[A-Za-z0-9_" -]`)
)

// blankSyntaxErrors takes out what is not TOML: from the end of the last
// expression that was right to the next line that looks like the start of one.
// After a header that is wrong nobody knows whose the keys are: they go with it.
func (d *Document) blankSyntaxErrors() (problems []Problem) {
	last := -1
	for {
		good, fault := scan(d.clean)
		if fault == nil {
			return problems
		}
		d.broken = true
		problems = append(problems, d.problem(fault.from, "", fault.message, fault.hint))
		end, again := len(d.clean), fault.from == last
		next := resume
		if rest := bytes.TrimLeft(d.clean[good:], " \t\r\n"); len(rest) > 0 && rest[0] == '[' {
			next = resumeTable
		}
		if at := next.FindIndex(d.clean[fault.from:]); at != nil && len(problems) < maxFaults && !again {
			end = fault.from + at[0]
		}
		last = fault.from
		d.blank(span{good, end})
	}
}

type syntaxFault struct {
	from          int
	message, hint string
}

// scan reads all expressions up to the first that is not TOML, and says where
// the last right one ended.
func scan(data []byte) (good int, fault *syntaxFault) {
	var p unstable.Parser
	p.Reset(data)
	for p.NextExpression() {
		good = endOf(p.Expression())
		for p.Expression().Kind != unstable.KeyValue && good < len(data) && data[good] != '\n' {
			good++ // to the end of a header's line
		}
	}
	if p.Error() == nil {
		return good, nil
	}
	fault = &syntaxFault{from: good, message: "not TOML: " + p.Error().Error(), hint: "texts stand in double quotes, lists in [ ]"}
	var at *unstable.ParserError
	if errors.As(p.Error(), &at) {
		fault.from = max(good, min(cap(data)-cap(at.Highlight), len(data)))
	}
	return good, fault
}

// endOf is where an expression ends: after its value, or its header's last key.
func endOf(n *unstable.Node) int {
	if n.Kind == unstable.KeyValue {
		return int(n.Raw.Offset + n.Raw.Length)
	}
	end := 0
	for keys := n.Key(); keys.Next(); {
		raw := keys.Node().Raw
		end = int(raw.Offset + raw.Length)
	}
	return end
}

// decode fills target. What go-toml refuses of a text that has the right shape
// (a key given twice, an impossible date) is blanked out, and told.
func (d *Document) decode(target any) (problems []Problem) {
	zero := reflect.ValueOf(target).Elem()
	initial := reflect.New(zero.Type()).Elem()
	initial.Set(zero)
	for len(problems) < maxFaults {
		zero.Set(initial)
		err := toml.Unmarshal(d.clean, target)
		if err == nil {
			return problems
		}
		var at *toml.DecodeError
		if !errors.As(err, &at) {
			return append(problems, d.problem(0, "", err.Error(), ""))
		}
		line, column := at.Position()
		where, around := d.expressionAt(d.offset(line, column))
		p := Problem{File: d.file, Line: line, Column: column, Where: where, Message: plain(at), Hint: "write it once, in a form TOML knows"}
		problems = append(problems, p)
		if around.to <= around.from {
			return problems
		}
		d.spoiled = append(d.spoiled, where)
		d.blank(around)
	}
	return problems
}

func plain(err *toml.DecodeError) string {
	return strings.TrimPrefix(strings.ReplaceAll(err.Error(), "toml: ", ""), "strict mode: ")
}

// offset is what position was made from.
func (d *Document) offset(line, column int) int {
	if d.lines == nil {
		d.lines = lineStarts(d.clean)
	}
	return d.lines[min(max(line, 1), len(d.lines))-1] + column - 1
}

// expressionAt finds the expression around an offset, with its path.
func (d *Document) expressionAt(offset int) (string, span) {
	w := walk{shape: d.shape, data: d.clean, want: offset}
	w.run(nil)
	return w.wantPath, w.wantSpan
}
