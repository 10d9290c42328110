package main

import "github.com/spf13/cobra"

func (sh *shell) sourceCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "source",
		Short: "Make what sources prove themselves with",
		Long: `Make the secrets and password hashes that the registry's sources need. The registry
holds only hashes: a secret is shown once, when it is made.`,
		Example: `  anechoic source secret new --org acme
  anechoic source password new
  anechoic source password hash < password.txt`,
	}
	c.AddCommand(sh.sourceSecretCommand(), sh.sourcePasswordCommand())
	return sh.group(c)
}
