package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

// programFlags are what run and exec have in common: how the program is started.
type programFlags struct {
	env  []string
	user string
	dir  string
	tty  bool
}

func (p *programFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&p.env, "env", "e", nil, "set KEY=VALUE for the program, or KEY to pass on yours (repeatable)")
	f.StringVarP(&p.user, "user", "u", "", "user in the sandbox (default: the sandbox's default user)")
	f.StringVarP(&p.dir, "workdir", "w", "", "folder to start in (default: the template's, else the user's home)")
	f.BoolVarP(&p.tty, "tty", "t", false, "give the program a terminal")
	f.SetInterspersed(false) // flags after the first word are the program's
}

// command reads the program's words.
func (p *programFlags) command(a *app, words []string) (client.Command, error) {
	env, err := pairs("--env", p.env, a.env)
	if err != nil {
		return client.Command{}, err
	}
	c := client.Command{Env: env, Dir: p.dir}
	if len(words) > 0 {
		c.Path, c.Args = words[0], words[1:]
	}
	return c, nil
}

// startError gives the exit codes that shells give for programs that cannot be started.
func startError(cmd client.Command, err error) error {
	s := err.Error()
	switch {
	case errors.Is(err, client.ErrUnreachable):
		return err
	case strings.Contains(s, "not an executable in PATH"), strings.Contains(s, "executable file not found"),
		strings.Contains(s, "no such file or directory"):
		return &failure{err: err, code: codeNotFound, hint: fmt.Sprintf("is %q installed in the sandbox's template?", cmd.Path)}
	case strings.Contains(s, "permission denied"), strings.Contains(s, "exec format error"), strings.Contains(s, "is a directory"):
		return &failure{err: err, code: codeNotExecutable}
	}
	return err
}

func newExec(a *app) *cobra.Command {
	var p programFlags
	cmd := &cobra.Command{
		Use:   "exec [flags] ID -- CMD [ARG…]",
		Short: "Run a program in a sandbox that is there",
		Long: `Run a program in a sandbox that is there. Standard input, output and error and
the exit code are passed through. The program is not given to a shell. Ctrl-C and
other signals are the program's, too; the third one kills it.`,
		Example: `  atoll exec i4f -- ls -l
  atoll exec -u root i4f -- apt-get install -y jq
  echo hello | atoll exec i4f -- tr a-z A-Z
  atoll exec -t i4f -- vim notes.txt`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usage("say in which sandbox, and what to run: atoll exec ID -- CMD")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			words := args[1:]
			// ID ends the reading of flags, so a -- after it is still there.
			if words[0] == "--" {
				words = words[1:]
			}
			if len(words) == 0 {
				return usage("%v", errNoCommand)
			}
			c, err := p.command(a, words)
			if err != nil {
				return err
			}
			g, err := a.guest(cmd.Context(), args[0], p.user)
			if err != nil {
				return asOurs(err)
			}
			code, err := a.attach(cmd.Context(), g, c, p.tty)
			if err != nil {
				return asOurs(err)
			}
			return exitWith(code)
		},
	}
	p.register(cmd)
	return cmd
}
