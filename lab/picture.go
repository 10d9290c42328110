package lab

import (
	"encoding/xml"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// frame is the terminal at one moment of the run.
type frame struct {
	title string
	hold  time.Duration
	lines []line
}

// How long frames stand.
const (
	frameIntro   = 3 * time.Second
	frameShort   = 500 * time.Millisecond
	frameAct     = 2 * time.Second
	frameCompare = 9 * time.Second
)

// Sizes of the picture, in its own units.
const (
	columnWide = 8
	lineHigh   = 18
	margin     = 16
)

// picture is the run as an animated SVG.
func (d *demo) picture() []byte {
	intro := append([]line{{{strong, "$ anechoic demo --scenario " + d.scenario.Name}}, nil}, wrapped(d.scenario.Story, pictureWidth, plain)...)
	frames := append([]frame{{"The scenario", frameIntro, intro}}, d.screen.frames...)
	if c := d.result.Comparison; c != nil {
		frames = append(frames, frame{"One spoof, at both doors", frameCompare, c.lines(pictureWidth)})
	}
	last := append([]line{{{strong, "What came of it: " + d.scenario.Title}}, nil}, d.result.table()...)
	last = append(append(last, nil), wrapped(d.result.figures(), pictureWidth, strong)...)
	frames = append(frames, frame{"What came of it", 0, last})
	return drawPicture("anechoic demo: "+d.scenario.Title, d.scenario.Story+" "+d.result.figures(), frames)
}

// drawPicture writes frames as an SVG that plays once and stands at the last one,
// which is also what a reader sees whose viewer does not animate, or who asked
// for less motion. There is no script in it, its text is text, and its colours
// follow the reader's scheme.
func drawPicture(title, description string, frames []frame) []byte {
	rows := 0
	for _, f := range frames {
		rows = max(rows, len(f.lines))
	}
	wide, high := pictureWidth*columnWide+2*margin, rows*lineHigh+2*margin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" role="img" aria-labelledby="title description">`+"\n", wide, high)
	fmt.Fprintf(&b, "<title id=\"title\">%s</title>\n<desc id=\"description\">%s</desc>\n", escaped(title), escaped(description))
	b.WriteString(pictureStyle)
	b.WriteString("<style>\n")
	start := time.Duration(0)
	for i, f := range frames {
		if i == len(frames)-1 {
			fmt.Fprintf(&b, "#f%d { visibility: visible; animation: wait %.1fs step-end 1 }\n", i, start.Seconds())
			break
		}
		fmt.Fprintf(&b, "#f%d { animation: show %.1fs step-end %.1fs 1 forwards }\n", i, f.hold.Seconds(), start.Seconds())
		start += f.hold
	}
	b.WriteString("@media (prefers-reduced-motion: reduce) { .frame { animation: none !important } }\n</style>\n")
	fmt.Fprintf(&b, `<rect class="ground" width="%d" height="%d" rx="8"/>`+"\n", wide, high)
	for i, f := range frames {
		f.draw(&b, i)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// pictureStyle are colours of a light and a dark terminal; all have a contrast of
// at least 4.5 to the ground.
const pictureStyle = `<style>
.ground { fill: #ffffff; stroke: #d0d7de }
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328; white-space: pre }
.strong { font-weight: bold }
.good { fill: #116329 }
.bad { fill: #b3202c }
.faint { fill: #59636e }
.frame { visibility: hidden }
@keyframes show { from { visibility: visible } to { visibility: hidden } }
@keyframes wait { from { visibility: hidden } to { visibility: visible } }
@media (prefers-color-scheme: dark) {
.ground { fill: #0d1117; stroke: #30363d }
text { fill: #e6edf3 }
.good { fill: #56d364 }
.bad { fill: #ff8b85 }
.faint { fill: #9198a1 }
}
</style>
`

var toneNames = [...]string{plain: "", strong: "strong", good: "good", bad: "bad", faint: "faint"}

// draw writes one frame. Each span has its place and its length, so that columns
// stand in line in every font.
func (f frame) draw(b *strings.Builder, number int) {
	fmt.Fprintf(b, "<g class=\"frame\" id=\"f%d\"><title>%s</title>\n", number, escaped(f.title))
	for row, l := range f.lines {
		column := 0
		for _, s := range l {
			trimmed := strings.TrimLeft(s.text, " ")
			x := column + utf8.RuneCountInString(s.text) - utf8.RuneCountInString(trimmed)
			column += utf8.RuneCountInString(s.text)
			if trimmed = strings.TrimRight(trimmed, " "); trimmed == "" {
				continue
			}
			class := ""
			if name := toneNames[s.tone]; name != "" {
				class = fmt.Sprintf(` class="%s"`, name)
			}
			fmt.Fprintf(b, `<text%s x="%d" y="%d" textLength="%d">%s</text>`+"\n", class,
				margin+x*columnWide, margin+(row+1)*lineHigh-5, utf8.RuneCountInString(trimmed)*columnWide, escaped(trimmed))
		}
	}
	b.WriteString("</g>\n")
}

// escaped is printable text as XML.
func escaped(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(printable(text))) // a Builder takes everything
	return b.String()
}
