// Command anechoic is the relay and everything that steers it: flags and
// sub-commands, nothing else. What they do lives in app (serve) and control (the
// rest).
//
// Data goes to standard output, progress and errors to standard error. Exit
// codes are in exit.go.
package main

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the program, with its exit code.
func run(args []string, in io.Reader, out, errs io.Writer) int {
	sh := &shell{in: in, out: out, errs: errs}
	root := sh.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	failed, err := root.ExecuteContextC(context.Background())
	return sh.leave(failed, err)
}

// shell is what every command shares: the streams and the global flags.
type shell struct {
	in      io.Reader
	out     io.Writer // data
	errs    io.Writer // everything else
	config  string    // --config
	asJSON  bool      // --json
	colour  string    // --color
	noInput bool      // --no-input
	begun   bool      // flags and arguments were right: an error is none of usage any more
}

// root is the tree of commands.
func (sh *shell) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "anechoic",
		Short: "A mail relay that signs nothing it cannot prove",
		Long: `Anechoic is a mail relay that gives no echo: nothing is DKIM-signed, and nothing
leaves, in an organisation's name unless that organisation proved that the
message is its own.`,
		Example: `  anechoic config validate --config relay.toml
  anechoic serve --config relay.toml
  anechoic status
  anechoic log search --address bob@example.org --since 24h`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return sh.begin() },
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.PersistentFlags().StringVar(&sh.config, "config", "", "configuration `file` (default: anechoic.toml or relay.toml here, then "+systemConfig+")")
	root.PersistentFlags().BoolVar(&sh.asJSON, "json", false, "print JSON")
	root.PersistentFlags().StringVar(&sh.colour, "color", colourAuto, "colours: `when` is auto, always or never")
	root.PersistentFlags().BoolVar(&sh.noInput, "no-input", false, "never ask: what would be asked needs --yes")
	root.AddCommand(
		sh.demoCommand(),
		sh.labCommand(),
		sh.serveCommand(),
		sh.configCommand(),
		sh.applyCommand(),
		sh.exportCommand(),
		sh.explainCommand(),
		sh.statusCommand(),
		sh.doctorCommand(),
		sh.readyCommand(),
		sh.topCommand(),
		sh.keyCommand(),
		sh.sourceCommand(),
		sh.queueCommand(),
		sh.quarantineCommand(),
		sh.orgCommand(),
		sh.domainCommand(),
		sh.userCommand(),
		sh.inboundCommand(),
		sh.importCommand(),
		sh.echoCommand(),
		sh.suppressionCommand(),
		sh.findingCommand(),
		sh.campaignCommand(),
		sh.responseCommand(),
		sh.limitCommand(),
		sh.logCommand(),
		sh.alertCommand(),
		sh.traceCommand(),
		sh.backupCommand(),
		sh.restoreCommand(),
		sh.upgradeCommand(),
		sh.manCommand(),
		sh.versionCommand(),
	)
	root.AddCommand(topicCommands()...)
	sh.complete(root)
	return sh.group(root)
}

// begin is what comes before any command, once its flags and arguments were read.
func (sh *shell) begin() error {
	if err := sh.settle(); err != nil {
		return err
	}
	sh.begun = true
	return nil
}
