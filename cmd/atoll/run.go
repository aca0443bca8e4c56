package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

const (
	// runTTL is how long a sandbox of "atoll run" outlives a command line that
	// vanished; while the command line is there it is put off again and again.
	runTTL = 5 * time.Minute
	// removeWithin bounds the clean-up after a run, whatever ended it.
	removeWithin = 15 * time.Second
)

func newRun(a *app) *cobra.Command {
	var r runner
	cmd := &cobra.Command{
		Use:   "run [flags] -- CMD [ARG…]",
		Short: "Run a program in a fresh sandbox",
		Long: `Make a sandbox, run a program in it and remove it. Standard input, output and
error and the exit code are passed through. The program is not given to a shell.
Ctrl-C and other signals are the program's, too; the third one kills it. Without
a program, and in a terminal, a shell is opened.

With --code, code runs in a kernel of the template code-interpreter-v1 instead:
what it prints comes as it is printed, results as text, pictures as files
(result-1.png, …; none that is there is written over). The exit code is 1 when
the code failed; its traceback is on standard error.

Without --timeout the sandbox lives as long as the program.`,
		Example: `  atoll run -- python3 -c 'print(6*7)'
  atoll run -v --template base -e LANG=C -- sh -c 'echo $LANG; exit 3'
  tar c src | atoll run -- sh -c 'tar x && make -C src'
  atoll run -t -- top
  atoll run --rm=false -- true       keep the sandbox afterwards
  atoll run --code 'import pandas; pandas.DataFrame({"a": [1, 2]})'
  atoll run --code - --save plots < analysis.py`,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.a = a
			r.fixedTTL = cmd.Flags().Changed("timeout")
			if err := r.codes.check(a, cmd, args); err != nil {
				return asOurs(err)
			}
			if r.codes.given && !cmd.Flags().Changed("template") {
				r.create.template = interpreterTemplate
			}
			code, err := r.run(cmd.Context(), args)
			if r.verbose {
				for _, l := range r.timing.lines() {
					fmt.Fprintln(a.err, a.paint(a.err, dim, l))
				}
			}
			if err != nil {
				return asOurs(err)
			}
			return exitWith(code)
		},
	}
	r.create.register(cmd)
	r.program.register(cmd)
	r.codes.register(cmd)
	f := cmd.Flags()
	f.BoolVar(&r.remove, "rm", true, "remove the sandbox afterwards; --rm=false keeps it until its time-out")
	f.BoolVarP(&r.verbose, "verbose", "v", false, "say how long each step took")
	f.DurationVar(&r.create.timeout, "timeout", runTTL, "end the sandbox, and the program, after this long")
	return cmd
}

// runner is one "atoll run".
type runner struct {
	a        *app
	create   createFlags
	program  programFlags
	codes    codeFlags
	remove   bool
	verbose  bool
	fixedTTL bool
	timing   timing
}

func (r *runner) run(ctx context.Context, words []string) (int, error) {
	if len(words) == 0 && !r.codes.given {
		if _, tty := isTerminal(r.a.in); !tty {
			return 0, usage("%v", errNoCommand)
		}
		words, r.program.tty = loginShell, true
	}
	command, err := r.program.command(r.a, words)
	if err != nil {
		return 0, err
	}
	// The variables are the program's alone; others in the sandbox do without.
	n, err := r.create.request(nil, r.a.env)
	if err != nil {
		return 0, err
	}
	seconds := client.Seconds(r.create.timeout)
	n.Timeout = &seconds
	c, err := r.a.client()
	if err != nil {
		return 0, err
	}
	s, err := r.make(ctx, c, n)
	if err != nil {
		return 0, err
	}
	keep, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if !r.fixedTTL {
		go r.prolong(keep, c, s.SandboxID)
	}
	var code int
	err = r.timing.measure("run program", func() (err error) {
		if ctx.Err() != nil { // interrupted while it was made
			return context.Cause(ctx)
		}
		if r.codes.given {
			code, err = r.runCode(ctx, c.Guest(s), client.Code{Code: r.codes.code, Language: r.codes.language, Env: command.Env})
			return err
		}
		code, err = r.a.attach(ctx, c.Guest(s).As(r.program.user), command, r.program.tty)
		return err
	})
	stop()
	if errors.Is(err, errPaused) {
		return 0, err // whoever paused it wants to keep it
	}
	return code, errors.Join(err, r.finish(ctx, c, s.SandboxID))
}

// make creates the sandbox. It is not cut short by a signal, because a request
// given up half-way may leave a sandbox that nobody knows of.
func (r *runner) make(ctx context.Context, c *client.Client, n client.NewSandbox) (s client.Sandbox, err error) {
	err = r.timing.measure("create sandbox", func() error {
		s, err = c.Create(context.WithoutCancel(ctx), n)
		if err != nil {
			return createError(err)
		}
		return nil
	})
	if r.verbose && err == nil {
		r.a.note("sandbox %s", s.SandboxID)
	}
	return s, err
}

// prolong puts the sandbox's end off while the program runs. A failure is
// tried again long before it matters.
func (r *runner) prolong(ctx context.Context, c *client.Client, id string) {
	t := time.NewTicker(runTTL / 5)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			c.SetTimeout(ctx, id, runTTL)
		}
	}
}

// finish removes the sandbox, or says where it is.
func (r *runner) finish(ctx context.Context, c *client.Client, id string) error {
	if !r.remove {
		r.a.note("sandbox %s stays until its time-out; \"atoll kill %s\" ends it", id, id)
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeWithin)
	defer cancel()
	return r.timing.measure("remove sandbox", func() error {
		// One that is gone already ended by its time-out.
		if err := c.Kill(ctx, id); err != nil && !client.IsNotFound(err) {
			return fmt.Errorf("remove sandbox %s: %w", id, err)
		}
		return nil
	})
}
