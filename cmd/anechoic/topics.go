package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// topic is a page of help that is about no command.
type topic struct{ name, short, text string }

// topics are the pages of help beside those of commands: anechoic help exit-codes.
func topics() []topic {
	return []topic{
		{"exit-codes", "What the exit codes mean", exitCodeText()},
		{"output", "Tables, JSON, colours, progress", outputText},
		{"environment", "Variables that are looked at", environmentText},
		{"configuration", "Which configuration a command is about", configurationText},
		{"input", "What is asked, and how to answer beforehand", inputText},
	}
}

const outputText = `Data goes to standard output; remarks, progress and errors go to standard error. So
what is piped on is data only.

A person gets tables and sentences. --json prints the same as JSON, with names that
stay: one value, or one object a line where it is a stream (log search, log tail).
What strangers wrote is printed without anything that steers a terminal.

Colours are for terminals: --color auto (usual), always or never. NO_COLOR and
TERM=dumb switch them off too. Nothing is said by a colour alone.

What takes long shows on a terminal how far it came, how fast it is and how long the
rest takes; elsewhere it writes a line every ten seconds, and with --json nothing.`

const environmentText = `NO_COLOR   set to anything: no colours
TERM       dumb: no colours
SUDO_USER  who you are, for the ledger, when you are root by sudo`

const configurationText = `Commands find the relay by its configuration: --config FILE, or else anechoic.toml,
then relay.toml in the current folder, then ` + systemConfig + `.

Commands that ask a running relay use the socket control.sock in its data_dir; only
the relay's user and root may. Without a relay these work: config, apply --dry-run,
explain, trace, log verify, version.

anechoic config schema prints a JSON Schema for editors. With its file beside the
configuration, this first line has editors complete and check it:

  #:schema ./relay.schema.json`

const inputText = `Commands ask before they change more than what was named: on a terminal, and the
usual answer is no. --yes answers beforehand. Off a terminal, and with --no-input,
nobody is asked: then such a command needs --yes, and says so.

--dry-run says what would be done and changes nothing.

Secrets are never taken from the command line, where others could see them: they are
read from standard input, or asked for without being shown.`

func exitCodeText() string {
	var b strings.Builder
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "%3d  %s\n", e.code, e.means)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// topicCommands shows topics as cobra has them: commands that cannot be run, whose
// long text help prints.
func topicCommands() (list []*cobra.Command) {
	names := []string{}
	for _, t := range topics() {
		list = append(list, &cobra.Command{Use: t.name, Short: t.short, Long: t.text, DisableFlagsInUseLine: true})
		names = append(names, t.name+"  "+t.short)
	}
	return append(list, &cobra.Command{Use: "topics", Short: "List these pages", Long: strings.Join(names, "\n"), DisableFlagsInUseLine: true})
}
