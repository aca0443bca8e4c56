package main

import (
	"github.com/spf13/cobra"
)

// newRoot builds the tree of commands.
func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "atoll",
		Short: "Isolated machines for AI agents, on your own Linux host",
		Long: `Atoll runs isolated machines that E2B's SDKs can use unchanged.

Start the server with "atoll up". The other commands talk to a running server.
They look for it in this order: the flags --api-url and --api-key; the
environment (E2B_API_URL, E2B_API_KEY, E2B_SANDBOX_URL); the file
credentials.json that "atoll up" writes into its data directory.`,
		Example: `  atoll up                               start the server
  atoll run -- python3 -c 'print(6*7)'   run one command in a fresh sandbox
  atoll create                           make a sandbox and print its id
  atoll shell i4f                        a shell in it (ids may be shortened)
  atoll pause i4f; atoll resume i4f      let it sleep, and go on where it was
  atoll sprite create web                a machine that keeps everything
  eval "$(atoll env)"                    point the SDKs at this Atoll`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := root.PersistentFlags()
	f.StringVar(&a.apiURL, "api-url", "", "address of the server, such as http://127.0.0.1:3000")
	f.StringVar(&a.apiKey, "api-key", "", "API key; other users can see flags, E2B_API_KEY they cannot")
	f.StringVar(&a.sandboxURL, "sandbox-url", "", "address at which sandboxes are reached (default: the server's)")
	f.StringVar(&a.data, "data", "", "data directory of the server (default $ATOLL_DATA, "+defaultDataHelp+")")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%v", err).hinted("see \"" + cmd.CommandPath() + " --help\"")
	})

	root.AddGroup(
		&cobra.Group{ID: "server", Title: "Server:"},
		&cobra.Group{ID: "sandbox", Title: "Sandboxes:"},
		&cobra.Group{ID: "sprite", Title: "Sprites:"},
		&cobra.Group{ID: "account", Title: "Account:"},
	)
	for group, cmds := range map[string][]*cobra.Command{
		"server": {newUp(a), newEnv(a), newDoctor(a)},
		"sandbox": {newRun(a), newCreate(a), newLs(a), newKill(a), newExec(a), newShell(a), newKernel(a), newMCP(a), newCp(a), newLogs(a), newTemplates(a),
			newPause(a), newResume(a), newFork(a), newSnapshot(a)},
		"sprite":  {newSprite(a)},
		"account": {newKeys(a), newUsage(a)},
	} {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	root.AddCommand(newVersion(a), exitCodesTopic())
	return root
}

// exitCodesTopic is "atoll help exit-codes".
func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: `Exit codes:

  0    success
  1    the command failed; for doctor: something needed is missing
  2    wrong use: an unknown flag, a missing argument

run, exec and shell pass on the exit code of the program in the sandbox, and add:

  125  Atoll itself failed (no connection, no such sandbox, …)
  126  the program cannot be executed
  127  the program was not found
  128+n  the program was ended by signal n

sprite exec and sprite console do as exec does, but end with 1 where Atoll itself
failed.

run --code and kernel end with 1 where the code failed, with 130 where Ctrl-C
interrupted it, and with 125 where Atoll itself failed.`,
	}
}
