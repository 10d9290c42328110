package main

import (
	"os"
	"strings"

	"golang.org/x/term"
)

// The values of --color.
const (
	colourAuto   = "auto"
	colourAlways = "always"
	colourNever  = "never"
)

// style is a way to write words. What it says stands in the words too: nobody needs
// colours to tell good from bad.
type style string

// The styles: parameters of ECMA-48's SGR.
const (
	bold   style = "1"
	good   style = "32"
	doubt  style = "33"
	danger style = "1;31"
	faint  style = "2"
)

// paint writes text for a stream in a style, where colours are wanted there. What
// strangers wrote in it cannot steer a terminal.
func (sh *shell) paint(stream any, s style, text string) string {
	if !sh.coloured(stream) {
		return printable(text)
	}
	return "\x1b[" + string(s) + "m" + printable(text) + "\x1b[0m"
}

// coloured says whether a stream gets colours: with --color as it says; else on a
// terminal that is not dumb, without NO_COLOR (no-color.org).
func (sh *shell) coloured(stream any) bool {
	switch sh.colour {
	case colourAlways:
		return true
	case colourNever:
		return false
	}
	return isTerminal(stream) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// emphasis writes text in bold where that is wanted.
func (sh *shell) emphasis(text string) string { return sh.paint(sh.out, bold, text) }

// isTerminal says that a stream is a person's.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// settle takes the global flags as they were given, before a command begins.
func (sh *shell) settle() error {
	switch sh.colour {
	case "", colourAuto, colourAlways, colourNever:
	default:
		return usagef("--color %q: say auto, always or never", sh.colour)
	}
	if sh.noInput && isTerminal(sh.in) {
		sh.in = strings.NewReader("") // nobody is there to answer
	}
	return nil
}
