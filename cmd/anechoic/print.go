package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"anechoic/mail/jsonobject"
)

// printJSON writes a value for machines, indented for people all the same; what would
// steer their terminal is escaped.
func (sh *shell) printJSON(value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err == nil {
		_, err = sh.out.Write(append(jsonobject.Printable(text), '\n'))
	}
	return err
}

// table writes rows in aligned columns under a header.
func (sh *shell) table(header string, rows [][]string) error {
	w := tabwriter.NewWriter(sh.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(header, " ", "\t"))
	for _, row := range rows {
		for i, cell := range row {
			row[i] = printable(strings.ReplaceAll(cell, "\n", " "))
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// printf writes a line of text for people; what strangers wrote cannot steer
// their terminal.
func (sh *shell) printf(format string, args ...any) {
	fmt.Fprint(sh.out, printable(fmt.Sprintf(format, args...)))
}

// notef writes progress and remarks.
func (sh *shell) notef(format string, args ...any) {
	fmt.Fprint(sh.errs, printable(fmt.Sprintf(format, args...)))
}

// printable replaces what a terminal would obey: control characters, and marks
// that turn the direction of text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// confirm asks a person, who has to say yes. Off a terminal, and with --no-input,
// nobody can: then --yes is needed.
func (sh *shell) confirm(question string) error {
	if !isTerminal(sh.in) {
		return usagef("%s Say --yes to go on, or --dry-run to see what it would do", question)
	}
	fmt.Fprintf(sh.errs, "%s Go on? [y/N] ", question)
	answer, err := readLine(sh.in)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	if answer = strings.ToLower(answer); answer != "y" && answer != "yes" {
		return fmt.Errorf("nothing was done")
	}
	return nil
}

func readLine(r io.Reader) (string, error) {
	var line strings.Builder
	var b [1]byte
	for {
		if _, err := r.Read(b[:]); err != nil {
			return "", err
		}
		if b[0] == '\n' {
			return strings.TrimSpace(line.String()), nil
		}
		line.WriteByte(b[0])
	}
}

// count writes a number with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// span writes a duration as people say it, with its two largest units.
func span(d time.Duration) string {
	d = d.Round(time.Second)
	days, hours, minutes, seconds := int(d/(24*time.Hour)), int(d/time.Hour)%24, int(d/time.Minute)%60, int(d/time.Second)%60
	switch {
	case days > 0:
		return fmt.Sprintf("%d d %d h", days, hours)
	case hours > 0:
		return fmt.Sprintf("%d h %d min", hours, minutes)
	case minutes > 0:
		return fmt.Sprintf("%d min %d s", minutes, seconds)
	}
	return fmt.Sprintf("%d s", seconds)
}

// stamp is a time in tables.
func stamp(t time.Time) string { return t.UTC().Format(time.DateTime) }

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
