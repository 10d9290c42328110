// Package migrate reads the configuration of a Postfix with OpenDKIM and makes a
// configuration and a registry of it, with a report of what would have been an echo.
//
//	main.cf, master.cf, tables, SASL users, OpenDKIM ─► Read ─► Estate
//	Estate ─► Draft ─► Plan: organisations, sources, keys; holes; what was not taken over
//	Plan ─► Write ─► relay.toml, registry.toml, keys, passwords, report.md
//
// It only reads: nothing of Postfix is run, and nothing outside the folder named to
// Write is changed. What a line of the old configuration became stands beside it, with
// file and line, in the new one.
//
// It guarantees: no source is written that could send as more than the old
// configuration says it owns; an address that strangers share, or too many, becomes no
// source at all; what is not understood is listed, never dropped in silence. What is
// not decided stands in the registry as a remark.
//
// It is not for: mailboxes, aliases and everything else that a relay does not have.
// Tables that only run as programs or servers (SQL, LDAP, regular expressions) are named
// and not asked.
package migrate

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Place is where something stood: a file and a line of it.
type Place struct {
	File string
	Line int // from 1; 0: the file as a whole, or nothing that was written
}

// String is file:line, or says that nothing was written.
func (p Place) String() string {
	switch {
	case p.File == "":
		return "default"
	case p.Line == 0:
		return printable(p.File)
	}
	return printable(p.File) + ":" + strconv.Itoa(p.Line)
}

// MarshalText is String.
func (p Place) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Unread is a file or table that was named and could not be read.
type Unread struct {
	At   Place  `json:"at"`   // where it was named
	What string `json:"what"` // the file or table
	Why  string `json:"why"`
}

func (u Unread) String() string { return fmt.Sprintf("%s: %s: %s", u.At, u.What, u.Why) }

// printable takes out of a file's text what a terminal or an editor would obey, and
// what is no UTF-8.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// maxShown bounds a line of the old configuration where it is shown.
const maxShown = 160

// shown is a line of the old configuration as a report can show it.
func shown(s string) string {
	s = printable(strings.Join(strings.Fields(s), " "))
	if r := []rune(s); len(r) > maxShown {
		return string(r[:maxShown]) + "…"
	}
	return s
}
