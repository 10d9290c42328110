package tracking

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode"

	"anechoic/ledger"
	"anechoic/mail/jsonobject"
)

// The formats of an export.
const (
	JSONL = "jsonl" // a fact on each line, as the ledger writes it; what does not print is escaped
	CSV   = "csv"   // RFC 4180, with a line of names; a spreadsheet takes no cell for a formula
)

// Exporter writes facts in a format. Flush is called at the end.
type Exporter struct {
	to    *bufio.Writer
	cells *csv.Writer // nil: JSONL
}

// NewExporter begins an export.
func NewExporter(w io.Writer, format string) (*Exporter, error) {
	e := &Exporter{to: bufio.NewWriter(w)}
	switch format {
	case JSONL:
		return e, nil
	case CSV:
		e.cells = csv.NewWriter(e.to)
		e.cells.UseCRLF = true
		names := make([]string, len(columns))
		for i, c := range columns {
			names[i] = c.name
		}
		return e, e.cells.Write(names)
	}
	return nil, fmt.Errorf("%q is no format: write jsonl or csv", format)
}

// Write adds a fact.
func (e *Exporter) Write(f ledger.Fact) error {
	if e.cells == nil {
		text, err := json.Marshal(f)
		if err == nil {
			_, err = e.to.Write(append(jsonobject.Printable(text), '\n'))
		}
		return err
	}
	row := make([]string, len(columns))
	for i, c := range columns {
		row[i] = Cell(c.text(&f))
	}
	return e.cells.Write(row)
}

// Flush writes what is buffered.
func (e *Exporter) Flush() error {
	if e.cells != nil {
		if e.cells.Flush(); e.cells.Error() != nil {
			return e.cells.Error()
		}
	}
	return e.to.Flush()
}

// column is one of a CSV export.
type column struct {
	name string
	text func(f *ledger.Fact) string
}

var columns = []column{
	{"offset", func(f *ledger.Fact) string { return strconv.FormatUint(f.Offset, 10) }},
	{"time", func(f *ledger.Fact) string { return f.Time.UTC().Format(time.RFC3339Nano) }},
	{"id", func(f *ledger.Fact) string { return string(f.ID) }},
	{"event", func(f *ledger.Fact) string { return string(f.Event) }},
	{"org", func(f *ledger.Fact) string { return f.Org }},
	{"claimed_org", func(f *ledger.Fact) string { return f.ClaimedOrg }},
	{"source", func(f *ledger.Fact) string { return f.Source }},
	{"direction", func(f *ledger.Fact) string { return f.Direction }},
	{"peer", func(f *ledger.Fact) string {
		if !f.Peer.IsValid() {
			return ""
		}
		return f.Peer.String()
	}},
	{"helo", func(f *ledger.Fact) string { return f.Helo }},
	{"mail_from", func(f *ledger.Fact) string { return f.MailFrom }},
	{"from", func(f *ledger.Fact) string { return f.From }},
	{"rcpt", func(f *ledger.Fact) string { return strings.Join(f.Rcpt, " ") }},
	{"message_id", func(f *ledger.Fact) string { return f.MessageID }},
	{"size", func(f *ledger.Fact) string { return number(f.Size) }},
	{"disposition", func(f *ledger.Fact) string { return string(f.Disposition) }},
	{"identity", func(f *ledger.Fact) string { return string(f.Identity) }},
	{"reason", func(f *ledger.Fact) string { return string(f.Reason) }},
	{"class", func(f *ledger.Fact) string { return f.Class }},
	{"origin", func(f *ledger.Fact) string { return f.Origin }},
	{"tenant", func(f *ledger.Fact) string { return f.Tenant }},
	{"originator", func(f *ledger.Fact) string { return f.Originator }},
	{"site", func(f *ledger.Fact) string { return f.Site }},
	{"attempt", func(f *ledger.Fact) string { return number(int64(f.Attempt)) }},
	{"reply", func(f *ledger.Fact) string { return f.Reply }},
	{"detail", func(f *ledger.Fact) string { return f.Detail }},
	{"count", func(f *ledger.Fact) string { return number(int64(f.Count)) }},
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// Cell makes a text of strangers fit for a cell: what does not print is replaced, and a
// spreadsheet is not to take it for a formula (an apostrophe in front says: text).
func Cell(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\r' {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
	if strings.IndexAny(strings.TrimSpace(s), "=+-@＝＋－＠|%") == 0 {
		return "'" + s
	}
	return s
}

// Progress is how far an export came.
type Progress struct {
	Facts   int    // written
	Covered uint64 // offsets that were looked at
	Of      uint64
}

// Export writes all facts of a query, oldest first, page by page, and gives the
// statement of the whole. It covers what was in the ledger when it began.
func (i *Index) Export(ctx context.Context, q Query, page Page, e *Exporter, progress func(Progress)) (whole Statement, err error) {
	page.Ascending, page.Limit, page.After = true, MaxPage, ""
	written, end := 0, uint64(0)
	for first := true; ; first = false {
		a, err := i.Search(ctx, q, page)
		if err != nil {
			return whole, err
		}
		if first {
			whole, end = a.Statement, a.Statement.AsOf
		}
		for _, f := range a.Facts {
			if f.Offset >= end {
				break
			}
			if err := e.Write(f); err != nil {
				return whole, err
			}
			written++
		}
		whole.To, whole.Ended = min(a.Statement.To, end), EndedComplete
		if !first {
			whole.Scanned += a.Statement.Scanned
			whole.Gaps = append(whole.Gaps, a.Statement.Gaps...)
		}
		if progress != nil {
			progress(Progress{Facts: written, Covered: whole.To - whole.From, Of: end - whole.From})
		}
		if a.Next == "" || a.Statement.To >= end {
			return whole, e.Flush()
		}
		page.After = a.Next
	}
}
