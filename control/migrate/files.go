package migrate

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Bounds of what is read: a table of a million entries fits, a disk image does not.
const (
	maxFile  = 64 << 20
	maxFiles = 10_000
)

// files reads files of the old machine, and remembers which it could not read.
type files struct {
	root   string // the old machine's root; empty: this one's
	count  int
	unread []Unread
}

// path is where a file of the old machine is.
func (f *files) path(name string) string {
	if f.root == "" {
		return name
	}
	return filepath.Join(f.root, filepath.Clean("/"+name))
}

// read gives a file's text, with U+FFFD where it is no UTF-8; at is where it was named.
func (f *files) read(at Place, name string) (string, bool) {
	text, err := f.get(name)
	if err != nil {
		f.unread = append(f.unread, Unread{At: at, What: printable(name), Why: printable(err.Error())})
		return "", false
	}
	return text, true
}

func (f *files) get(name string) (string, error) {
	if f.count++; f.count > maxFiles {
		return "", fmt.Errorf("more than %d files are named: no more are read", maxFiles)
	}
	data, err := readRegular(f.path(name), maxFile)
	if err != nil {
		return "", err
	}
	return strings.ToValidUTF8(string(data), "\uFFFD"), nil
}

// readRegular reads a file of bounded size; pipes and devices would be waited for.
func readRegular(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, reason(err)
	case !info.Mode().IsRegular():
		return nil, errors.New("it is not a regular file")
	case info.Size() > limit:
		return nil, fmt.Errorf("it is larger than %d octets", limit)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, reason(err)
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, limit))
}

// reason is an error of a file without its name, which stands beside it.
func reason(err error) error {
	var at *os.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

// line is a logical line: what was continued is joined, remarks are gone.
type line struct {
	number int // of its first line
	text   string
}

// logicalLines reads the form that main.cf, master.cf and tables share: a line that
// begins with white space continues the one before; empty lines and remarks are
// nothing, in between too (postconf(5), master(5)).
func logicalLines(text string) (lines []line) {
	number := 0
	var joined []string
	flush := func() {
		if len(joined) > 0 {
			lines[len(lines)-1].text = strings.Join(joined, " ")
		}
		joined = nil
	}
	for raw := range strings.Lines(text) {
		number++
		trimmed := strings.TrimSpace(raw)
		switch {
		case trimmed == "" || trimmed[0] == '#':
		case (raw[0] == ' ' || raw[0] == '\t') && len(lines) > 0:
			joined = append(joined, trimmed)
		default:
			flush()
			lines, joined = append(lines, line{number: number}), []string{trimmed}
		}
	}
	flush()
	return lines
}

// split cuts a list at commas and white space; what stands in braces stays together.
func split(s string) (items []string) {
	depth, from := 0, -1
	for i := 0; i <= len(s); i++ {
		end := i == len(s)
		if !end {
			switch s[i] {
			case '{':
				depth++
			case '}':
				depth = max(depth-1, 0)
			}
			end = depth == 0 && (s[i] == ',' || isSpace(s[i]))
		}
		switch {
		case end && from >= 0:
			items, from = append(items, s[from:i]), -1
		case !end && from < 0:
			from = i
		}
	}
	return items
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// unbrace takes off one pair of braces with the space in it.
func unbrace(s string) string {
	s = strings.TrimSpace(s)
	if len(s) >= 2 && s[0] == '{' && s[len(s)-1] == '}' {
		return strings.TrimSpace(s[1 : len(s)-1])
	}
	return s
}
