package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"anechoic/control/api"
)

// Escape sequences of a terminal (ECMA-48), the only ones that are ever written.
const (
	screenOther = "\x1b[?1049h\x1b[?25l" // the other screen, no cursor
	screenBack  = "\x1b[?25h\x1b[?1049l"
	screenHome  = "\x1b[H"
	eraseLine   = "\x1b[K"
	eraseBelow  = "\x1b[J"
)

// Size of a terminal that does not tell its own.
const (
	defaultWidth  = 100
	defaultHeight = 40
)

func (sh *shell) topCommand() *cobra.Command {
	var once bool
	c := &cobra.Command{
		Use:   "top",
		Short: "Watch what flows and what does not",
		Long: `Watch what comes in and goes out, what waits for which site and how that takes it,
what waits of which organisation, and the latest answers that were no success. It is
drawn again every second. Keys:

  q, Ctrl-C      leave
  left, right    sort by the column before, or after
  s, o, e        show sites, organisations, or errors

Off a terminal, and with --once or --json, it tells how things stand and leaves.`,
		Example: `  anechoic top
  anechoic top --once
  anechoic top --json`,
		Args: arguments(""),
		RunE: func(c *cobra.Command, _ []string) error { return sh.top(c.Context(), once) },
	}
	c.Flags().BoolVar(&once, "once", false, "tell once how things stand, and leave")
	return c
}

func (sh *shell) top(ctx context.Context, once bool) error {
	client, err := sh.client()
	if err != nil {
		return err
	}
	ask := func() (api.Top, error) {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		return client.Top(ctx)
	}
	if !once && !sh.asJSON && isTerminal(sh.out) && isTerminal(sh.in) {
		return sh.watch(ctx, ask)
	}
	now, err := ask()
	switch {
	case err != nil:
		return err
	case sh.asJSON:
		return sh.printJSON(now)
	}
	v := topView{now: now}
	for _, v.page = range []topPage{pageSites, pageOrganisations, pageErrors} {
		rows := v.lines(defaultWidth, defaultHeight)
		if v.page != pageSites {
			rows = rows[topHead:]
		}
		fmt.Fprintln(sh.out, strings.Join(rows, "\n"))
	}
	return nil
}

// topEvery is how often the view is drawn again.
const topEvery = time.Second

// watch draws again and again, until a key or a signal ends it.
func (sh *shell) watch(ctx context.Context, ask func() (api.Top, error)) (err error) {
	in, out := sh.in.(*os.File), sh.out.(*os.File)
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("top: the terminal cannot be read key by key: %w", err)
	}
	fmt.Fprint(out, screenOther)
	defer func() {
		fmt.Fprint(out, screenBack)
		_ = term.Restore(int(in.Fd()), before) // there is nothing to be done about it
	}()
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	keys := readKeys(ctx, in)
	tick := time.NewTicker(topEvery)
	defer tick.Stop()
	var v topView
	for again := true; ; {
		if again {
			var now api.Top
			if now, err = ask(); err != nil {
				return err
			}
			v.last, v.now = v.now, now
		}
		draw(out, &v)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			again = true
		case k, open := <-keys:
			if !open || v.press(k) {
				return nil
			}
			again = false
		}
	}
}

// key is one key that was pressed.
type key string

// readKeys gives keys until the stream or the context ends. The read that waits then
// ends with the program.
func readKeys(ctx context.Context, in io.Reader) <-chan key {
	keys := make(chan key)
	go func() {
		defer close(keys)
		b := make([]byte, 16)
		for {
			n, err := in.Read(b)
			if err != nil {
				return
			}
			select {
			case keys <- key(b[:n]):
			case <-ctx.Done():
				return
			}
		}
	}()
	return keys
}

func draw(out *os.File, v *topView) {
	width, height, err := term.GetSize(int(out.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		width, height = defaultWidth, defaultHeight
	}
	fmt.Fprint(out, screenHome+strings.Join(v.lines(width, height), eraseLine+"\r\n")+eraseLine+eraseBelow)
}

// topPage is what the view shows.
type topPage int

const (
	pageSites topPage = iota
	pageOrganisations
	pageErrors
)

// topView is what is drawn: two answers, which make rates, and what a person chose.
type topView struct {
	last, now api.Top
	page      topPage
	sorted    int // column, from 0
}

// press takes a key and says whether it is the end.
func (v *topView) press(k key) (end bool) {
	columns := len(topColumns[v.page])
	switch k {
	case "q", "Q", "\x03":
		return true
	case "\x1b[C", "\x1bOC", "l":
		v.sorted = (v.sorted + 1) % columns
	case "\x1b[D", "\x1bOD", "h":
		v.sorted = (v.sorted + columns - 1) % columns
	case "s":
		v.page, v.sorted = pageSites, 0
	case "o":
		v.page, v.sorted = pageOrganisations, 0
	case "e":
		v.page, v.sorted = pageErrors, 0
	}
	return false
}

// topColumns are the columns of each page; a minus aligns to the left.
var topColumns = map[topPage][]string{
	pageSites:         {"-SITE", "-STATE", "QUEUED", "READY", "UNDER WAY", "OUT/S", "DEFERRED", "BOUNCED", "OLDEST"},
	pageOrganisations: {"-ORGANISATION", "QUEUED", "SUSPENDED", "IN/S", "OUT/S", "DEFERRED", "BOUNCED", "OLDEST"},
	pageErrors:        {"-SITE", "AGO", "-LAST ANSWER THAT WAS NO SUCCESS"},
}

// topHead is how many lines stand above the table.
const topHead = 4

// lines draws the view as it fits. What strangers wrote is made printable here, and
// lines are cut here: nothing else is written to the terminal.
func (v *topView) lines(width, height int) []string {
	q := v.now.Queue
	out := []string{
		fmt.Sprintf("anechoic top   %s   up %s", stamp(v.now.At), span(v.now.At.Sub(v.now.Started))),
		fmt.Sprintf("in %s/s   refused %s/s   attempts %s/s   delivered %s/s   deferred %s/s   bounced %s/s",
			v.rate(v.now.All.Accepted, v.last.All.Accepted), v.rate(v.now.Refused, v.last.Refused), v.rate(v.now.All.Attempts, v.last.All.Attempts),
			v.rate(v.now.All.Delivered, v.last.All.Delivered), v.rate(v.now.All.Deferred, v.last.All.Deferred), v.rate(v.now.All.Bounced, v.last.All.Bounced)),
		"queue " + queueSentence(q),
		"",
	}
	if v.now.Suspensions > 0 {
		out[2] += fmt.Sprintf("; %s", count(v.now.Suspensions, "suspension", "suspensions"))
	}
	out = append(out, v.table(width, max(height-topHead-1, 1))...)
	for i, line := range out {
		out[i] = cut(oneLine(line), width)
	}
	return out
}

// rate is how much more there is a second; off a terminal there is one answer, and
// the rate is that since the start.
func (v *topView) rate(now, before uint64) string {
	since := v.last.At
	if since.IsZero() {
		since, before = v.now.Started, 0
	}
	seconds := v.now.At.Sub(since).Seconds()
	if seconds <= 0 || now < before {
		return "0"
	}
	return fmt.Sprintf("%.4g", float64(now-before)/seconds)
}

// topRow is one row: what is shown, and what it is sorted by.
type topRow struct {
	cells []string
	keys  []float64 // of cells that are numbers; for texts 0
}

func (r *topRow) text(s string)              { r.cells, r.keys = append(r.cells, oneLine(s)), append(r.keys, 0) }
func (r *topRow) number(s string, n float64) { r.cells, r.keys = append(r.cells, s), append(r.keys, n) }
func (r *topRow) count(n int)                { r.number(fmt.Sprint(n), float64(n)) }
func (r *topRow) total(n uint64)             { r.number(fmt.Sprint(n), float64(n)) }

// table draws the page's rows under a header.
func (v *topView) table(width, height int) []string {
	rows := map[topPage]func() []topRow{pageSites: v.sites, pageOrganisations: v.organisations, pageErrors: v.errors}[v.page]()
	if v.sorted > 0 {
		slices.SortStableFunc(rows, func(a, b topRow) int {
			if d := b.keys[v.sorted] - a.keys[v.sorted]; d != 0 {
				return map[bool]int{true: 1, false: -1}[d > 0]
			}
			return strings.Compare(a.cells[v.sorted], b.cells[v.sorted])
		})
	}
	columns := topColumns[v.page]
	widths := make([]int, len(columns))
	header := topRow{}
	for i, name := range columns {
		name = strings.TrimPrefix(name, "-")
		if i == v.sorted && i > 0 {
			name += "*"
		}
		header.text(name)
	}
	rows = append([]topRow{header}, rows[:min(len(rows), height)]...)
	for _, r := range rows {
		for i, c := range r.cells {
			widths[i] = min(max(widths[i], len([]rune(c))), max(width/2, 1))
		}
	}
	var out []string
	for _, r := range rows {
		var line strings.Builder
		for i, c := range r.cells {
			line.WriteString(pad(cut(c, widths[i]), widths[i], strings.HasPrefix(columns[i], "-")) + "  ")
		}
		out = append(out, strings.TrimRight(line.String(), " "))
	}
	return out
}

// before finds what a name had in the answer before.
func before[T any](list []T, same func(T) bool) (found T) {
	if i := slices.IndexFunc(list, same); i >= 0 {
		return list[i]
	}
	return found
}

func (v *topView) sites() (rows []topRow) {
	for _, s := range v.now.Sites {
		old := before(v.last.Sites, func(o api.TopSite) bool { return o.Name == s.Name })
		state := string(s.State)
		if s.Until != nil {
			state += " until " + s.Until.UTC().Format(time.TimeOnly)
		}
		var r topRow
		r.text(s.Name)
		r.text(state)
		r.count(s.Queued)
		r.count(s.Ready)
		r.number(fmt.Sprintf("%d/%d", s.UnderWay, s.Window), float64(s.UnderWay))
		r.number(v.rate(s.Delivered, old.Delivered), float64(s.Delivered-min(old.Delivered, s.Delivered)))
		r.total(s.Deferred)
		r.total(s.Bounced)
		v.age(&r, s.OldestDue)
		rows = append(rows, r)
	}
	return rows
}

func (v *topView) organisations() (rows []topRow) {
	for _, o := range v.now.Organisations {
		old := before(v.last.Organisations, func(other api.TopOrg) bool { return other.ID == o.ID })
		var r topRow
		r.text(o.ID)
		r.count(o.Queued)
		r.count(o.Suspended)
		r.number(v.rate(o.Accepted, old.Accepted), float64(o.Accepted-min(old.Accepted, o.Accepted)))
		r.number(v.rate(o.Delivered, old.Delivered), float64(o.Delivered-min(old.Delivered, o.Delivered)))
		r.total(o.Deferred)
		r.total(o.Bounced)
		v.age(&r, o.OldestDue)
		rows = append(rows, r)
	}
	return rows
}

func (v *topView) errors() (rows []topRow) {
	sites := slices.DeleteFunc(slices.Clone(v.now.Sites), func(s api.TopSite) bool { return s.LastAt == nil })
	slices.SortFunc(sites, func(a, b api.TopSite) int { return b.LastAt.Compare(*a.LastAt) })
	for _, s := range sites {
		var r topRow
		r.text(s.Name)
		v.age(&r, s.LastAt)
		r.text(s.LastReply)
		rows = append(rows, r)
	}
	return rows
}

// age adds how long ago a time is.
func (v *topView) age(r *topRow, t *time.Time) {
	if t == nil || t.After(v.now.At) {
		r.number("-", 0)
		return
	}
	d := v.now.At.Sub(*t)
	r.number(span(d), d.Seconds())
}

// oneLine makes text printable on one line.
func oneLine(s string) string {
	return printable(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\r' {
			return ' '
		}
		return r
	}, s))
}

// cut leaves so many characters of a text.
func cut(s string, width int) string {
	if runes := []rune(s); len(runes) > width {
		return string(runes[:width])
	}
	return s
}

func pad(s string, width int, left bool) string {
	space := strings.Repeat(" ", max(width-len([]rune(s)), 0))
	if left {
		return s + space
	}
	return space + s
}
