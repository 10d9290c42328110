package edit

import (
	"bytes"
	"fmt"
	"strings"
)

// context is how many lines around a change a diff shows, as diff -u does.
const context = 3

// maxCompared bounds the work on what lies between the first line that differs and
// the last: lines of old times lines of new. Past it all of them are shown.
const maxCompared = 1 << 22

// diffLine is one line of a diff: ' ', '-' or '+'.
type diffLine struct {
	sign byte
	text []byte
}

// Diff is the change from one text to another as a unified diff; empty if there is
// none.
func Diff(name string, before, after []byte) string {
	if bytes.Equal(before, after) {
		return ""
	}
	head := samePrefix(before, after)
	a, b := before[head:], after[head:]
	tail := sameSuffix(a, b)
	ours := compare(linesOf(a[:len(a)-tail]), linesOf(b[:len(b)-tail]))
	first := bytes.Count(before[:head], []byte{'\n'})

	around := lastLines(before[:head], context)
	lines := make([]diffLine, 0, len(ours)+2*context)
	for _, l := range around {
		lines = append(lines, diffLine{' ', l})
	}
	lines = append(lines, ours...)
	for i, l := range linesOf(firstLines(a[len(a)-tail:], context)) {
		if i < context {
			lines = append(lines, diffLine{' ', l})
		}
	}
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", name, name)
	writeHunks(&out, lines, first-len(around))
	return out.String()
}

// samePrefix is how many octets of whole lines both begin with, sameSuffix how
// many both end with.
func samePrefix(a, b []byte) int {
	n, line := min(len(a), len(b)), 0
	for i := range n {
		if a[i] != b[i] {
			return line
		}
		if a[i] == '\n' {
			line = i + 1
		}
	}
	return line
}

func sameSuffix(a, b []byte) int {
	n := 0
	for n < min(len(a), len(b)) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	for n > 0 && !(startsLine(a, n) && startsLine(b, n)) {
		n--
	}
	return n
}

func startsLine(text []byte, tail int) bool { return endsLine(text, len(text)-tail) }

func linesOf(text []byte) (lines [][]byte) {
	for len(text) > 0 {
		end := lineEnd(text, 0)
		lines = append(lines, text[:end])
		text = text[end:]
	}
	return lines
}

func lastLines(text []byte, n int) [][]byte {
	at := len(text)
	for range n {
		if at > 0 {
			at = lineStart(text, at-1)
		}
	}
	return linesOf(text[at:])
}

func firstLines(text []byte, n int) []byte {
	at := 0
	for range n {
		at = lineEnd(text, at)
	}
	return text[:at]
}

// compare finds the longest common lines of both, and what is around them.
func compare(a, b [][]byte) (lines []diffLine) {
	if len(a)*len(b) > maxCompared {
		for _, l := range a {
			lines = append(lines, diffLine{'-', l})
		}
		for _, l := range b {
			lines = append(lines, diffLine{'+', l})
		}
		return lines
	}
	common := make([][]int32, len(a)+1) // of what follows line i and line j
	for i := range common {
		common[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if common[i][j] = max(common[i+1][j], common[i][j+1]); bytes.Equal(a[i], b[j]) {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && bytes.Equal(a[i], b[j]):
			lines = append(lines, diffLine{' ', a[i]})
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || common[i+1][j] >= common[i][j+1]):
			lines = append(lines, diffLine{'-', a[i]})
			i++
		default:
			lines = append(lines, diffLine{'+', b[j]})
			j++
		}
	}
	return lines
}

// writeHunks writes the changes with the lines around them; before says how many
// lines stand above the first.
func writeHunks(out *strings.Builder, lines []diffLine, before int) {
	from, to := before, before // lines of old and new that are above
	for i := 0; i < len(lines); {
		end := hunkEnd(lines, i)
		if end == i {
			from, to, i = from+1, to+1, i+1
			continue
		}
		removed, added := 0, 0
		for _, l := range lines[i:end] {
			if l.sign != '+' {
				removed++
			}
			if l.sign != '-' {
				added++
			}
		}
		fmt.Fprintf(out, "@@ -%s +%s @@\n", lineRange(from, removed), lineRange(to, added))
		for _, l := range lines[i:end] {
			writeLine(out, l)
		}
		from, to, i = from+removed, to+added, end
	}
}

// hunkEnd is where a hunk ends that begins at a line; i itself if none does.
func hunkEnd(lines []diffLine, i int) int {
	end, same := i, 0
	for j := i; j < len(lines); j++ {
		if lines[j].sign != ' ' {
			end, same = j+1, 0
			continue
		}
		same++
		if end == i && same > context || same > 2*context {
			break
		}
	}
	if end == i {
		return i
	}
	return min(len(lines), end+context)
}

func lineRange(above, n int) string {
	if n == 0 {
		return fmt.Sprintf("%d,0", above)
	}
	return fmt.Sprintf("%d,%d", above+1, n)
}

func writeLine(out *strings.Builder, l diffLine) {
	out.WriteByte(l.sign)
	text, ended := bytes.CutSuffix(l.text, []byte{'\n'})
	out.Write(text)
	out.WriteByte('\n')
	if !ended {
		out.WriteString("\\ No newline at end of file\n")
	}
}
