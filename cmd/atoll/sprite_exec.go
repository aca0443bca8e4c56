package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/atoll-cloud/atoll/client"
)

// spriteProgram are the flags that say how a program is started in a sprite.
type spriteProgram struct {
	env   []string
	dir   string
	ports bool // do not forward
}

func (p *spriteProgram) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&p.env, "env", "e", nil, "set KEY=VALUE for the program, or KEY to pass on yours (repeatable, or A=1,B=2)")
	f.StringVar(&p.dir, "dir", "", "folder to start in (default: the user's home)")
	f.BoolVar(&p.ports, "no-port-forward", false, "do not forward ports that the program opens")
	f.SetInterspersed(false) // flags after the first word are the program's
}

func (p *spriteProgram) command(a *app, words []string) (client.SpriteCommand, error) {
	env, err := pairs("--env", splitEnv(p.env), a.env)
	return client.SpriteCommand{Args: words, Env: env, Dir: p.dir}, err
}

// nextVariable is where another variable begins in one --env: a comma, and a
// name as environment variables have it by custom.
var nextVariable = regexp.MustCompile(`,([A-Z_][A-Z0-9_]*=)`)

// splitEnv reads A=1,B=2 as two variables, as the vendor's tool does.
func splitEnv(values []string) []string {
	var all []string
	for _, v := range values {
		all = append(all, strings.Split(nextVariable.ReplaceAllString(v, "\x00$1"), "\x00")...)
	}
	return all
}

func newSpriteExec(s *sprites) *cobra.Command {
	var p spriteProgram
	var tty, detach, asJSON bool
	var files []string
	cmd := &cobra.Command{
		Use:     "exec [flags] [--] CMD [ARG…]",
		Aliases: []string{"x"},
		Short:   "Run a program in a sprite",
		Long: `Run a program in a sprite. Standard input, output and error and the exit code are
passed through. The program is not given to a shell. Ctrl-C and other signals are
the program's, too; the third one kills it.

With --tty it gets a terminal, and Ctrl+\ leaves it running; "atoll sprite attach"
comes back to it. Ports that it opens are forwarded to the same ports here.`,
		Example: `  atoll sprite exec -- ls -la
  atoll sprite exec -s web --dir /srv --env DEBUG=1 -- npm test
  atoll sprite exec --file ./data.csv:/tmp/data.csv -- wc -l /tmp/data.csv
  atoll sprite exec --tty -- htop
  atoll sprite exec --detach -- ./train.sh`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("say what to run: atoll sprite exec -- CMD")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := p.command(s.app, args)
			if err != nil {
				return err
			}
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			if err := s.pushAll(cmd.Context(), g, files); err != nil {
				return err
			}
			if detach {
				return s.startDetached(cmd.Context(), g, c, tty, asJSON)
			}
			return s.runProgram(cmd.Context(), g, c, tty, !p.ports)
		},
	}
	p.register(cmd)
	f := cmd.Flags()
	f.BoolVarP(&tty, "tty", "t", false, "give the program a terminal")
	f.BoolVarP(&detach, "detach", "d", false, "start the program, print its session's id and leave it running")
	f.StringArrayVar(&files, "file", nil, "copy LOCAL:REMOTE into the sprite first (repeatable)")
	f.BoolVar(&asJSON, "json", false, "with --detach: print JSON for programs")
	return cmd
}

// spriteShell is what a console runs.
var spriteShell = []string{"bash", "-l"}

func newSpriteConsole(s *sprites) *cobra.Command {
	var p spriteProgram
	cmd := &cobra.Command{
		Use:     "console [NAME]",
		Aliases: []string{"c", "shell"},
		Short:   "Open a shell in a sprite",
		Long: `Open a shell in a sprite, in your terminal. Ctrl+\ leaves it running, and "atoll
sprite attach" comes back to it; its exit code becomes this command's.`,
		Example: `  atoll sprite console
  atoll sprite console -s web --dir /srv`,
		Args: atMost("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := s.choose(word(args))
			if err != nil {
				return err
			}
			cmdline, err := p.command(s.app, nil)
			if err != nil {
				return err
			}
			if _, tty := isTerminal(s.in); !tty {
				return usage("a console needs a terminal").hinted("to run commands from a script: atoll sprite exec -s " + name + " -- bash")
			}
			c, err := s.connect(cmd.Context())
			if err != nil {
				return err
			}
			return s.console(cmd.Context(), c.SpriteGuest(name), cmdline, !p.ports)
		},
	}
	p.register(cmd)
	return cmd
}

// console runs a shell in the terminal.
func (s *sprites) console(ctx context.Context, g *client.SpriteGuest, c client.SpriteCommand, ports bool) error {
	c.Args = spriteShell
	return s.runProgram(ctx, g, c, true, ports)
}

// runProgram runs a program joined to this process's streams.
func (s *sprites) runProgram(ctx context.Context, g *client.SpriteGuest, c client.SpriteCommand, tty, ports bool) error {
	if tty {
		s.terminal(&c)
	} else {
		c.Stdin = true
	}
	return s.join(ctx, g, ports, func(ctx context.Context) (*client.SpriteProcess, error) { return g.Start(ctx, c) })
}

// terminal gives a command a terminal like the one here.
func (s *sprites) terminal(c *client.SpriteCommand) {
	c.TTY = &client.Size{Cols: 80, Rows: 24}
	env := map[string]string{"TERM": first(s.env("TERM"), "xterm-256color")}
	if fd, ok := isTerminal(s.in); ok {
		if cols, rows, err := term.GetSize(fd); err == nil && cols > 0 && rows > 0 {
			c.TTY = &client.Size{Cols: uint32(cols), Rows: uint32(rows)}
		}
	}
	if color := s.env("COLORTERM"); color != "" {
		env["COLORTERM"] = color
	}
	for k, v := range c.Env {
		env[k] = v
	}
	c.Env = env
}

// startDetached starts a program and leaves.
func (s *sprites) startDetached(ctx context.Context, g *client.SpriteGuest, c client.SpriteCommand, tty, asJSON bool) error {
	if c.Stay = true; tty {
		s.terminal(&c)
	}
	p, err := g.Start(ctx, c)
	if err != nil {
		return fmt.Errorf("start %s in %s: %w", c.Args[0], g.Name(), err)
	}
	defer p.Close()
	if p.ID == "" { // it did not start, and why is told where it would have written
		code, err := p.Copy(ctx, s.err, s.err)
		if err != nil {
			return err
		}
		return exitWith(code)
	}
	if asJSON {
		return s.printJSON(map[string]string{"id": p.ID, "command": p.Command})
	}
	_, err = fmt.Fprintln(s.out, p.ID)
	return err
}

func newSpriteAttach(s *sprites) *cobra.Command {
	var ports bool
	cmd := &cobra.Command{
		Use:   "attach [SESSION]",
		Short: "Come back to a program that was left running",
		Long: `Come back to a program that was left running in a sprite; what it wrote lately is
shown again. Without a session's id it is the newest one with a terminal. Ctrl+\
leaves it running once more.`,
		Example: `  atoll sprite attach
  atoll sprite attach 1042 -s web`,
		Args: atMost("SESSION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			id := word(args)
			if id == "" {
				if id, err = newestTerminal(cmd.Context(), g); err != nil {
					return err
				}
			}
			return s.join(cmd.Context(), g, !ports, func(ctx context.Context) (*client.SpriteProcess, error) {
				p, err := g.Attach(ctx, id)
				if client.IsNotFound(err) {
					return nil, noSession(id, err)
				}
				return p, err
			})
		},
	}
	cmd.Flags().BoolVar(&ports, "no-port-forward", false, "do not forward ports that the program opens")
	return cmd
}

// newestTerminal is the session that was started last, of those with a terminal.
func newestTerminal(ctx context.Context, g *client.SpriteGuest) (string, error) {
	all, err := g.Sessions(ctx)
	if err != nil {
		return "", fmt.Errorf("list sessions of %s: %w", g.Name(), err)
	}
	all = slices.DeleteFunc(all, func(one client.SpriteSession) bool { return !one.TTY })
	if len(all) == 0 {
		return "", (&failure{err: fmt.Errorf("nothing was left running with a terminal in %s", g.Name()), code: codeFailed}).
			hinted("\"atoll sprite console\" opens a shell")
	}
	return slices.MaxFunc(all, func(a, b client.SpriteSession) int { return a.Created.Compare(b.Created) }).ID, nil
}

func noSession(id string, err error) error {
	return (&failure{err: fmt.Errorf("session %s: %w", id, err), code: codeFailed}).hinted("\"atoll sprite sessions list\" shows those that run")
}

// pushAll copies the files of --file into the sprite.
func (s *sprites) pushAll(ctx context.Context, g *client.SpriteGuest, files []string) error {
	for _, f := range files {
		local, remote, ok := strings.Cut(f, ":")
		if !ok || local == "" || remote == "" {
			return usage("--file %q must look like LOCAL:REMOTE", f)
		}
		info, err := os.Stat(local)
		if err != nil {
			return err
		}
		c := s.newCopy(g)
		err = c.push(ctx, local, remote, info)
		c.progress.stop()
		if err != nil {
			return err
		}
	}
	return nil
}
