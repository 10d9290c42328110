package lab

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// print writes the result.
func (d *demo) print() error {
	if d.o.JSON {
		return json.NewEncoder(d.o.Out).Encode(d.result)
	}
	lines := []line{nil}
	if c := d.result.Comparison; c != nil {
		lines = append(append(lines, c.lines(d.screen.columns())...), nil)
	}
	lines = append(lines, d.result.table()...)
	lines = append(append(lines, nil), d.result.kindTable()...)
	if len(d.result.Example) > 0 {
		lines = append(lines, line{{strong, "The refused one, as its sender and as the ledger saw it:"}}, nil)
		lines = append(lines, indented(d.result.Example, d.screen.columns())...)
		lines = append(lines, nil)
	}
	lines = append(lines, d.verdict(d.screen.columns())...)
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintln(&b, l.render(d.o.Colour))
	}
	_, err := io.WriteString(d.o.Out, b.String())
	return err
}

func indented(texts []string, width int) (lines []line) {
	for _, text := range texts {
		for _, part := range wrap(text, width-2) {
			lines = append(lines, textLine("  "+part))
		}
	}
	return lines
}

// Widths of the tables' columns.
const (
	whatWidth  = 42
	countWidth = 24
)

// row is one line of a table.
func row(what string, old, new string, t tone) line {
	return line{{plain, fmt.Sprintf("  %-*s", whatWidth, what)}, {plain, fmt.Sprintf("%-*s", countWidth, old)}, {t, new}}
}

// table is what came out of both doors.
func (r *DemoResult) table() []line {
	p, n := r.Permissive, r.Anechoic
	head := line{{plain, fmt.Sprintf("  %-*s", whatWidth, "")}, {strong, fmt.Sprintf("%-*s", countWidth, oldDoor)}, {strong, newDoor}}
	lines := []line{head,
		row("legitimate messages delivered", ratio(p.LegitDelivered, p.LegitSent), ratio(n.LegitDelivered, n.LegitSent), good),
		row("  of them DMARC pass, in the inbox", fmt.Sprint(p.LegitInbox), fmt.Sprint(n.LegitInbox), good),
		row("spoofs delivered", ratio(p.SpoofsArrived, p.SpoofsSent), ratio(n.SpoofsArrived, n.SpoofsSent), good),
		row("  of them signed as the victim", fmt.Sprint(p.SpoofsSigned), fmt.Sprint(n.SpoofsSigned), good),
		row("  of them DMARC pass", fmt.Sprint(p.SpoofsAligned), fmt.Sprint(n.SpoofsAligned), good),
		row("  where receivers put them", places(p), places(n), good),
	}
	return lines
}

// places is where spoofs went that arrived.
func places(r DoorResult) string {
	if r.SpoofsArrived == 0 {
		return "nowhere"
	}
	var parts []string
	for _, p := range []struct {
		place Place
		n     int
	}{{Inbox, r.SpoofsInbox}, {Spam, r.SpoofsSpam}, {Rejected, r.SpoofsRejected}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", p.place, p.n))
		}
	}
	return strings.Join(parts, ", ")
}

// kindTable tells the kinds apart where there is more than the campaign.
func (r *DemoResult) kindTable() (lines []line) {
	if len(r.Kinds) <= 2 {
		return nil
	}
	lines = append(lines, line{{strong, "  by kind: in the inbox"}})
	for _, k := range r.Kinds {
		lines = append(lines, textLine("  "+k.Title))
		lines = append(lines, row("", ratio(k.Permissive.Inbox, k.Permissive.Sent), ratio(k.Anechoic.Inbox, k.Anechoic.Sent)+k.Anechoic.rest(), plain))
	}
	return append(lines, nil)
}

// rest says what became of those that are not in an inbox.
func (c Counts) rest() string {
	var parts []string
	for _, p := range []struct {
		n    int
		word string
	}{{c.Refused, "refused"}, {c.PutOff, "put off"}, {c.Rejected, "rejected by the receiver"}, {c.Spam, "in spam"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// verdict is the checks, and what is left to say.
func (d *demo) verdict(width int) (lines []line) {
	for _, c := range d.result.Checks {
		word, t := "ok      ", good
		if !c.OK {
			word, t = "FAILED  ", bad
		}
		for i, part := range wrap(c.String(), width-10) {
			if i > 0 {
				word = strings.Repeat(" ", len(word))
			}
			lines = append(lines, line{{t, "  " + word}, {plain, part}})
		}
	}
	lines = append(lines, nil)
	for _, f := range d.result.Findings {
		lines = append(lines, wrapped("The relay's status warns: "+f, width, plain)...)
	}
	if d.result.Remark != "" {
		lines = append(lines, wrapped(d.result.Remark, width, plain)...)
	}
	lines = append(lines, line{{strong, d.result.sentence()}})
	if d.o.Keep != "" {
		lines = append(lines, wrapped("The relay's configuration and data are in "+d.o.Keep+".", width, plain)...)
	}
	return append(lines, d.next(width)...)
}

// sentence is the result in one, with the time it took.
func (r *DemoResult) sentence() string {
	return fmt.Sprintf("%s %.1f seconds.", r.figures(), r.Seconds)
}

// figures is the result in one sentence that is the same for every run.
func (r *DemoResult) figures() string {
	n := r.Anechoic
	figures := fmt.Sprintf("Spoofs signed: %d of %d. Legitimate messages lost: %d of %d.", n.SpoofsSigned, n.SpoofsSent, n.LegitSent-n.LegitDelivered, n.LegitSent)
	if !r.OK {
		return fmt.Sprintf("FAILED: %d of %d checks did not hold. %s", len(r.Failures), len(r.Checks), figures)
	}
	return figures
}

// next says what to do after the demo.
func (d *demo) next(width int) []line {
	var others []string
	for _, s := range Scenarios() {
		if s.Name != d.scenario.Name {
			others = append(others, s.Name)
		}
	}
	return wrapped("Next: the README's \"Ten minutes: your own message, and a spoof of it\"; or anechoic demo --scenario with "+strings.Join(others, ", ")+".", width, faint)
}
