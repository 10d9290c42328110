package lab

import (
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	defaultWidth = 100 // columns where nobody tells
	pictureWidth = 92  // columns of the picture
	wideEnough   = 80  // columns for two columns; below, one door stands under the other
	labelWidth   = 26  // of an act's name
	shortestBar  = 6
	mostBar      = 24
)

// redrawEvery bounds how often bars are drawn again.
const redrawEvery = 80 * time.Millisecond

// Names of the doors over their columns.
const (
	oldDoor = "permissive relay (2024)"
	newDoor = "anechoic"
)

// actView is how far an act is.
type actView struct {
	title string
	spoof bool
	doors [2]doorView // the permissive relay, anechoic
}

// doorView counts what one door said.
type doorView struct{ total, taken, refused int }

func (v *doorView) count(r Reply) {
	if r.Accepted() {
		v.taken++
		return
	}
	v.refused++
}

func (v doorView) sent() int { return v.taken + v.refused }

// quarter is how far both doors are, in quarters.
func (v actView) quarter() int {
	sent, total := v.doors[0].sent()+v.doors[1].sent(), v.doors[0].total+v.doors[1].total
	return sent * 4 / max(total, 1)
}

// screen shows progress: bars that are drawn again and again on a terminal, plain
// lines elsewhere. It also notes the frames of the picture.
type screen struct {
	out    io.Writer
	live   bool
	colour bool
	width  func() int

	drawn   int // lines of the bars that stand there
	last    time.Time
	quarter int // up to which lines and frames were made of the act

	history []line // what stands above the bars, in the picture
	frames  []frame
}

func newScreen(o DemoOptions) *screen {
	s := &screen{out: o.Progress, live: o.Live, colour: o.Colour, width: o.Width}
	if s.width == nil {
		s.width = func() int { return defaultWidth }
	}
	return s
}

// columns is the width that is written to.
func (s *screen) columns() int {
	if w := s.width(); w > 0 {
		return w
	}
	return defaultWidth
}

// note writes a text that stays; its tone is plain.
func (s *screen) note(text string, t tone) {
	for _, part := range wrap(text, s.columns()) {
		s.write(line{{t, part}})
	}
}

func (s *screen) write(l line) { fmt.Fprintln(s.out, l.render(s.colour)) }

// heading names the columns.
func (s *screen) heading() {
	s.write(nil)
	for _, l := range headingLines(s.columns()) {
		s.write(l)
	}
	s.history = headingLines(pictureWidth)
}

// show shows an act under way.
func (s *screen) show(v actView) {
	for s.quarter < v.quarter() {
		s.quarter++
		s.frame(v)
		if !s.live {
			s.draw(v)
			s.drawn = 0 // plain lines stay
		}
	}
	if now := time.Now(); s.live && now.Sub(s.last) >= redrawEvery {
		s.last = now
		s.draw(v)
	}
}

// finish shows the end of an act.
func (s *screen) finish(v actView) {
	if s.live {
		s.draw(v)
	}
	s.history = append(s.history, v.lines(pictureWidth)...)
	s.drawn, s.quarter = 0, 0
}

// end leaves what stands there.
func (s *screen) end() { s.drawn = 0 }

// draw writes the bars over those that stand there.
func (s *screen) draw(v actView) {
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn)
	}
	lines := v.lines(s.columns())
	for _, l := range lines {
		b.WriteString(l.render(s.colour))
		if s.live {
			b.WriteString("\x1b[K")
		}
		b.WriteByte('\n')
	}
	io.WriteString(s.out, b.String())
	s.drawn = len(lines)
}

// frame notes how the act stands, for the picture.
func (s *screen) frame(v actView) {
	hold := frameShort
	if s.quarter == 4 {
		hold = frameAct
	}
	s.frames = append(s.frames, frame{
		title: fmt.Sprintf("%s, %d of 4", v.title, s.quarter), hold: hold,
		lines: append(s.history[:len(s.history):len(s.history)], v.lines(pictureWidth)...),
	})
}

// headingLines name the two columns; where they stand under each other, each
// line does.
func headingLines(width int) []line {
	if width < wideEnough {
		return nil
	}
	cell := cellWidth(width)
	return []line{append(line{{plain, strings.Repeat(" ", labelWidth)}},
		append(line{{strong, oldDoor}}.padded(cell+2), span{strong, newDoor})...)}
}

func cellWidth(width int) int { return (width - labelWidth - 2) / 2 }

// lines draws an act. It is a function of the counts and the width alone.
func (v actView) lines(width int) []line {
	if width >= wideEnough {
		cell := cellWidth(width)
		l := line{{strong, fit(v.title, labelWidth-2)}}.padded(labelWidth)
		l = append(l, v.doors[0].cell(cell, v.spoof).padded(cell+2)...)
		return []line{append(l, v.doors[1].cell(cell, v.spoof)...)}
	}
	lines := []line{{{strong, fit(v.title, width)}}}
	for i, name := range []string{"permissive", "anechoic"} {
		l := line{{plain, fmt.Sprintf("  %-11s", name)}}
		lines = append(lines, append(l, v.doors[i].cell(max(width-l.length(), 1), v.spoof)...))
	}
	return lines
}

// cell is a bar, █ for what was taken and ░ for what was refused, and the figures;
// without room only the figures.
func (v doorView) cell(width int, isSpoof bool) line {
	figures := fmt.Sprintf("%d of %d taken", v.taken, v.sent())
	room := min(width-len(figures)-1, mostBar)
	longest := len(fmt.Sprintf(" %d of %[1]d taken", v.total))
	room = min(room, width-longest) // the bar keeps its length while the figures grow
	taken, refused := good, bad
	if isSpoof {
		taken, refused = bad, good
	}
	if room < shortestBar {
		return line{{taken, fit(figures, width)}}
	}
	full := func(n int) int { return n * room / max(v.total, 1) }
	a := full(v.taken)
	b := full(v.taken+v.refused) - a
	return line{
		{taken, strings.Repeat("█", a)}, {refused, strings.Repeat("░", b)}, {faint, strings.Repeat("·", room-a-b)},
		{plain, " " + figures},
	}
}
