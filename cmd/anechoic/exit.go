package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"anechoic/control/api"
)

// Exit codes, stable.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitFindings    = 3 // findings, or a configuration that is not valid
	exitNotAllowed  = 4
	exitNotFound    = 5
	exitConflict    = 6
	exitTimeout     = 7
	exitWouldRefuse = 10 // the verdict of trace, or what a relay said to lab send
)

// exitCodes is what each means, for help, man pages and the manual.
var exitCodes = []struct {
	code  int
	means string
}{
	{exitOK, "all is well"},
	{exitError, "it failed: the message says what, and what to do"},
	{exitUsage, "the command line is not understood"},
	{exitFindings, "the answer is bad news: a configuration that is not valid, a ledger that was changed, somebody else who can send as you"},
	{exitNotAllowed, "you may not ask the relay: only its own user and root may"},
	{exitNotFound, "not found"},
	{exitConflict, "cannot be done now: a change that needs a restart, a reload under way, keys that do not stand so, a second person who has to agree"},
	{exitTimeout, "no answer in time"},
	{exitWouldRefuse, "the verdict of `trace`, or the answer to `lab send`: the message is refused"},
}

// usageError is a command line that is not understood.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// errFindings says that the answer was printed, and is no good news.
var errFindings = errors.New("findings")

// errWouldRefuse is errFindings for a verdict: the message would be refused.
var errWouldRefuse = errors.New("it would be refused")

// leave prints an error and gives the exit code.
func (sh *shell) leave(failed *cobra.Command, err error) int {
	code := sh.codeOf(err)
	if err == nil || errors.Is(err, errFindings) || errors.Is(err, errWouldRefuse) {
		return code
	}
	fmt.Fprintf(sh.errs, "%s %s\n", sh.paint(sh.errs, danger, "anechoic:"), printable(advised(err)))
	var told *api.Problem
	switch {
	case code == exitUsage:
		fmt.Fprintf(sh.errs, "See: %s --help\n", failed.CommandPath())
	case errors.As(err, &told) && told.Reason != "":
		fmt.Fprintf(sh.errs, "See: anechoic explain %s\n", printable(string(told.Reason)))
	}
	return code
}

// codeOf is the exit code for an error.
func (sh *shell) codeOf(err error) int {
	var usage usageError
	var told *api.Problem
	switch {
	case err == nil:
		return exitOK
	case !sh.begun, errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, errWouldRefuse):
		return exitWouldRefuse
	case errors.Is(err, api.ErrNotAllowed):
		return exitNotAllowed
	case errors.Is(err, errFindings), len(api.ListProblems(err)) > 0:
		return exitFindings
	case errors.As(err, &told):
		return codeOfProblem(told)
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	}
	return exitError
}

func codeOfProblem(p *api.Problem) int {
	switch p.Code {
	case api.CodeBadRequest:
		return exitUsage
	case api.CodeNotFound:
		return exitNotFound
	case api.CodeConflict:
		return exitConflict
	case api.CodeInvalid:
		return exitFindings
	case api.CodeTimeout:
		return exitTimeout
	}
	return exitError
}

// group makes a command that only has commands below it: alone it is an error
// that lists them, with an unknown word one that says what was meant.
func (sh *shell) group(c *cobra.Command) *cobra.Command {
	c.Args = cobra.ArbitraryArgs
	c.SuggestionsMinimumDistance = 2
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 && !c.HasParent() {
			return c.Help()
		}
		if len(args) == 0 {
			return usagef("%s needs one of: %s", c.CommandPath(), strings.Join(verbsOf(c), ", "))
		}
		if meant := c.SuggestionsFor(args[0]); len(meant) > 0 {
			return usagef("%s has no command %q; did you mean %s?", c.CommandPath(), args[0], strings.Join(meant, " or "))
		}
		return usagef("%s has no command %q, but: %s", c.CommandPath(), args[0], strings.Join(verbsOf(c), ", "))
	}
	return c
}

// arguments wants as many as are named: "[ORG] DOMAIN SELECTOR" is two or three.
func arguments(names string) cobra.PositionalArgs {
	most := strings.Fields(names)
	least := slices.DeleteFunc(slices.Clone(most), func(name string) bool { return name[0] == '[' })
	return func(c *cobra.Command, args []string) error {
		if len(args) < len(least) || len(args) > len(most) {
			return usagef("%s takes %s; %s given", c.CommandPath(), cmp.Or(names, "no arguments"), count(len(args), "is", "are"))
		}
		return nil
	}
}

func verbsOf(c *cobra.Command) (verbs []string) {
	for _, below := range c.Commands() {
		if below.IsAvailableCommand() && below.Name() != "completion" {
			verbs = append(verbs, below.Name())
		}
	}
	slices.Sort(verbs)
	return verbs
}
