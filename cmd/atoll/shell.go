package main

import (
	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

// loginShell is bash where the template has it, else what is there.
var loginShell = []string{"/bin/sh", "-c", "command -v bash >/dev/null && exec bash -il; exec sh -il"}

func newShell(a *app) *cobra.Command {
	var p programFlags
	cmd := &cobra.Command{
		Use:   "shell [flags] ID",
		Short: "Open a shell in a sandbox",
		Long: `Open a shell in a sandbox, in your terminal. It follows your terminal's size;
its exit code becomes this command's.`,
		Example: `  atoll shell i4f
  atoll shell -u root -w /etc i4f`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.command(a, loginShell)
			if err != nil {
				return err
			}
			if _, tty := isTerminal(a.in); !tty {
				return usage("a shell needs a terminal").hinted("to run commands from a script: atoll exec " + args[0] + " -- sh")
			}
			g, err := a.guest(cmd.Context(), args[0], p.user)
			if err != nil {
				return asOurs(err)
			}
			return a.shell(cmd, g, c)
		},
	}
	p.register(cmd)
	cmd.Flags().MarkHidden("tty") // a shell always has one
	return cmd
}

func (a *app) shell(cmd *cobra.Command, g *client.Guest, c client.Command) error {
	code, err := a.attach(cmd.Context(), g, c, true)
	if err != nil {
		return asOurs(err)
	}
	return exitWith(code)
}
