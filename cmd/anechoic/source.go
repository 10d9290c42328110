package main

import "github.com/spf13/cobra"

func (sh *shell) sourceCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "source",
		Short: "Make what sources prove themselves with, and see who is none",
		Long: `Make the secrets and password hashes that the registry's sources need, and see which
tenants sent mail that are nobody's source. The registry holds only hashes: a
secret is shown once, when it is made.`,
		Example: `  anechoic source secret new --org acme
  anechoic source password new
  anechoic source password hash < password.txt
  anechoic source seen`,
	}
	c.AddCommand(sh.sourceSecretCommand(), sh.sourcePasswordCommand(), sh.sourceSeenCommand())
	return sh.group(c)
}
