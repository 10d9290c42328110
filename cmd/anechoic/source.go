package main

import "github.com/spf13/cobra"

func (sh *shell) sourceCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "source",
		Short: "Look after the ways in, and what they prove themselves with",
		Long: `Look after the sources in the registry, each one way in of one organisation: add,
change and remove them, make their secrets and passwords, and see which tenants
sent mail that are nobody's source. The registry holds only hashes: a secret is
shown once, when it is made.`,
		Example: `  anechoic source list acme
  anechoic source add acme office --kind microsoft365 --tenant-id 11111111-1111-4111-8111-111111111111
  anechoic source test acme office
  anechoic source seen`,
	}
	c.AddCommand(sh.sourceListCommand(), sh.sourceShowCommand(), sh.sourceAddCommand(), sh.sourceSetCommand(), sh.sourceRemoveCommand())
	c.AddCommand(sh.sourceSecretCommand(), sh.sourcePasswordCommand(), sh.sourceSeenCommand(), sh.sourceTestCommand())
	return sh.group(c)
}
