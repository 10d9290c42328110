package evaluate

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"anechoic/watch/detect"
)

// The comments between which docs/detection.md has what was measured.
const (
	beginMark = "<!-- measured by `anechoic lab evaluate`: begin -->"
	endMark   = "<!-- measured by `anechoic lab evaluate`: end -->"
)

// Replace puts tables where a page has the marks.
func Replace(page, tables string) (string, error) {
	before, rest, found := strings.Cut(page, beginMark)
	_, after, closed := strings.Cut(rest, endMark)
	if !found || !closed {
		return "", errors.New("evaluate: the page has no place for tables: it needs the two comments " + beginMark + " and " + endMark)
	}
	return before + beginMark + "\n\n" + strings.TrimSpace(tables) + "\n\n" + endMark + after, nil
}

// Tables are all reports as Markdown: over all sets, then set by set.
func Tables(reports []Report) string {
	var b strings.Builder
	overview(&b, reports)
	for _, r := range reports {
		r.section(&b)
	}
	return b.String()
}

func overview(b *strings.Builder, reports []Report) {
	b.WriteString("### All sets\n\n| set | seeds | organisation-months | recall | precision | false alarms per organisation and month | each finding counted | with the stresses | wanted mail put off |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range reports {
		fmt.Fprintf(b, "| %s | %d | %.0f | %s | %s | %s | %s | %s | %.2f %% |\n", r.Set, len(r.Seeds), r.OrgMonths, r.Recall.text(2), r.Precision.text(2),
			r.Episodes.text(2), r.Findings.text(2), r.WithStresses.text(2), 100*r.Stopped.Value)
	}
	b.WriteString("\n")
}

func (r Report) section(b *strings.Builder) {
	fmt.Fprintf(b, "### %s\n\n%s Measured over %d seeds with %s events.\n\n", r.Set, r.About, len(r.Seeds), grouped(r.Events))
	b.WriteString("| aim | measured | |\n|---|---|---|\n")
	for _, a := range r.Aims {
		fmt.Fprintf(b, "| %s | %s | %s |\n", a.Aim, a.Measured, map[bool]string{true: "met", false: "**not met**"}[a.Met])
	}
	b.WriteString("\n| attack | messages | noticed | time to alarm | 90 of 100 | messages until then | contained | in | left until then | at most | left in all | noticed by |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, a := range r.Attacks {
		fmt.Fprintf(b, "| %s | %.0f | %s | %s | %s | %s | %s | %s | %s | %.0f | %.0f | %s |\n", a.Kind, a.Messages.Value, a.Recall.text(2), span(a.Seconds), seconds(a.Slowest, a.Seconds.Of),
			a.AfterSent.text(0), a.Contained.text(2), span(a.ContainedIn), a.LeftUntil.text(0), a.MostLeft, a.Left.Value, tally(a.By))
	}
	b.WriteString("\n| stress | cases | with an alarm | strongest step proposed | beyond throttling |\n|---|---|---|---|---|\n")
	for _, s := range r.Stresses {
		fmt.Fprintf(b, "| %s | %d | %s | %s | %d |\n", s.Kind, s.Cases, s.Alarmed.text(2), stepName(s.Step), s.Beyond)
	}
	fmt.Fprintf(b, "\nFalse alarms by signal: %s.\n\n", tally(r.FalseKinds))
}

// span is an interval of seconds in words.
func span(i Interval) string {
	if i.Of == 0 {
		return "-"
	}
	return fmt.Sprintf("%s (%s–%s)", seconds(i.Value, i.Of), seconds(i.Low, i.Of), seconds(i.High, i.Of))
}

func seconds(s float64, of int) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case of == 0:
		return "-"
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.1f h", d.Hours())
	}
	return fmt.Sprintf("%.1f d", d.Hours()/24)
}

func stepName(s detect.Step) string {
	names := []string{"none", "throttle", "hold", "suspend the source", "stop the domain"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprint(int(s))
}

func tally(counts map[string]int) string {
	var words []string
	for _, name := range byCount(counts) {
		words = append(words, fmt.Sprintf("%s %d", name, counts[name]))
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}

// grouped writes a number with its thousands apart.
func grouped(n int) string {
	text := fmt.Sprint(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
