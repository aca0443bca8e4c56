package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/atoll-cloud/atoll/client"
)

func newKernel(a *app) *cobra.Command {
	k := repl{show: show{a: a}}
	cmd := &cobra.Command{
		Use:   "kernel [flags] ID",
		Short: "Run code line by line in a sandbox's kernel",
		Long: `Run code line by line in a kernel of a sandbox that has a code interpreter. It is
the kernel that the SDKs' run_code uses, so both see the same variables; --new
takes one of its own.

A line that ends in ":" or "\", or leaves a bracket open, goes on with the next;
an empty line ends it. Ctrl-C interrupts the code that runs, Ctrl-D leaves. The
arrow keys bring back what was typed. Pictures are saved as files.

Without a terminal the code comes from standard input; it ends at the first
error, with exit code 1.`,
		Example: `  atoll kernel i4f
  atoll kernel --language javascript i4f
  echo 'sum(range(10))' | atoll kernel i4f`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			g, err := a.guest(cmd.Context(), args[0], "")
			if err != nil {
				return asOurs(err)
			}
			code, err := k.run(cmd.Context(), g)
			if err != nil {
				return asOurs(err)
			}
			return exitWith(code)
		},
	}
	f := cmd.Flags()
	f.StringVar(&k.language, "language", "", "language of the code (default python)")
	f.StringVar(&k.dir, "save", ".", "folder to save pictures in")
	f.BoolVar(&k.new, "new", false, "use a new kernel, which ends with this command")
	return cmd
}

// repl is one "atoll kernel".
type repl struct {
	show
	language string
	new      bool
	g        *client.Guest
	context  string // the context's id; empty is the language's default
	signals  chan os.Signal
}

// errEnded is reported when a signal asks the command to end.
var errEnded = errors.New("ended by a signal")

func (k *repl) run(ctx context.Context, g *client.Guest) (code int, err error) {
	// From here on Ctrl-C is the code's, so ctx's end must not be ours.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	k.g, k.signals = g, make(chan os.Signal, 8)
	signal.Notify(k.signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(k.signals)
	if k.new {
		c, err := g.CreateCodeContext(ctx, client.NewCodeContext{Language: k.language})
		if err != nil {
			return 0, err
		}
		k.context = c.ID
		defer func() {
			ctx, cancel := context.WithTimeout(ctx, removeWithin)
			defer cancel()
			err = errors.Join(err, g.RemoveCodeContext(ctx, c.ID))
		}()
	}
	if fd, tty := isTerminal(k.a.in); tty {
		err = k.converse(ctx, fd)
	} else {
		code, err = k.script(ctx)
	}
	if errors.Is(err, errEnded) {
		return codeSignal + int(syscall.SIGTERM), nil
	}
	return code, err
}

// execute runs code; Ctrl-C interrupts it.
func (k *repl) execute(ctx context.Context, code string) (e client.Execution, interrupted bool, err error) {
	c := client.Code{Code: code, Language: k.language, ContextID: k.context}
	if k.context != "" {
		c.Language = ""
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		e   client.Execution
		err error
	}
	done := make(chan answer, 1)
	go func() {
		e, err := k.g.RunCode(ctx, c, k.handlers())
		done <- answer{e, err}
	}()
	var sig os.Signal
	for {
		select {
		case sig = <-k.signals:
			cancel() // the request ends, and with it the code
			continue
		case a := <-done:
			if sig != nil && sig != syscall.SIGINT {
				return a.e, true, errEnded
			}
			if sig != nil && errors.Is(a.err, context.Canceled) {
				return a.e, true, nil
			}
			return a.e, false, a.err
		}
	}
}

// script runs standard input, statement by statement in Python, where
// indentation tells where they end, and at once in other languages.
func (k *repl) script(ctx context.Context) (int, error) {
	if b := (&block{language: k.language}); !b.hasSuites() {
		code, err := readCode(k.a.in)
		if err != nil {
			return 0, err
		}
		return k.step(ctx, code)
	}
	in := bufio.NewScanner(k.a.in)
	in.Buffer(make([]byte, 64<<10), maxCode)
	b := &block{language: k.language}
	size := 0
	for in.Scan() {
		line := strings.TrimSuffix(in.Text(), "\r")
		if !b.wants(line) {
			if code, err := k.step(ctx, b.take()); code != 0 || err != nil {
				return code, err
			}
			size = 0
		}
		if size += len(line) + 1; size > maxCode {
			return 0, usage("the code is larger than %s", bytesText(maxCode))
		}
		// A statement that is all of a line need not wait for the next.
		if ready := b.add(line, false); ready && strings.TrimSpace(line) != "" && len(b.lines) == 1 {
			if code, err := k.step(ctx, b.take()); code != 0 || err != nil {
				return code, err
			}
			size = 0
		}
	}
	if err := in.Err(); err != nil {
		return 0, fmt.Errorf("read code: %w", err)
	}
	return k.step(ctx, b.take())
}

// step runs one piece of a script and returns the exit code.
func (k *repl) step(ctx context.Context, code string) (int, error) {
	if strings.TrimSpace(code) == "" {
		return 0, nil
	}
	e, interrupted, err := k.execute(ctx, code)
	switch {
	case err != nil:
		return 0, err
	case interrupted:
		return codeSignal + int(syscall.SIGINT), nil
	case e.Error != nil:
		return codeFailed, nil
	}
	return 0, nil
}

// converse reads from a terminal until Ctrl-D.
func (k *repl) converse(ctx context.Context, fd int) error {
	ed := newEditor(fd, k.a.in, k.a.out)
	b := &block{language: k.language}
	name := first(k.language, "python")
	for n := 1; ; {
		prompt := fmt.Sprintf("%s [%d]: ", name, n)
		if len(b.lines) > 0 {
			prompt = strings.Repeat(" ", len(prompt)-5) + "...: "
		}
		line, pasted, err := ed.line(prompt, k.signals)
		switch {
		case errors.Is(err, errInterrupted):
			b.take()
			continue
		case errors.Is(err, io.EOF):
			fmt.Fprintln(k.a.out)
			return nil
		case err != nil:
			return err
		}
		if !b.add(line, pasted) {
			continue
		}
		code := b.take()
		if code == "" {
			continue
		}
		e, interrupted, err := k.execute(ctx, code)
		if err = k.survives(err); err == nil {
			err = k.finish(interrupted)
		}
		if err != nil {
			return err
		}
		n = max(n, e.Count) + 1
	}
}

// survives reports an error that the conversation cannot go on after, and
// tells the person of any other: a connection that broke is made anew.
func (k *repl) survives(err error) error {
	if err == nil || errors.Is(err, errEnded) || errors.Is(err, client.ErrNoInterpreter) ||
		errors.Is(err, client.ErrUnreachable) || client.Status(err) != 0 {
		return err
	}
	k.a.note("%s", message(err))
	return nil
}

// finish leaves the cursor at the beginning of a line.
func (k *repl) finish(interrupted bool) error {
	switch {
	case interrupted:
		return k.line(k.a.err, "interrupted")
	case k.open:
		return k.write(k.a.out, "\n")
	}
	return nil
}

// editor reads lines from a terminal that is in raw mode only meanwhile, so
// that Ctrl-C is a signal while code runs.
type editor struct {
	fd   int
	keys *keys
	out  io.Writer
	term *term.Terminal
}

func newEditor(fd int, in io.Reader, out io.Writer) *editor {
	e := &editor{fd: fd, keys: &keys{in: in}, out: out}
	e.renew()
	return e
}

// renew takes a new line editor: one that met Ctrl-C keeps the line.
func (e *editor) renew() {
	old := e.term
	e.term = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{e.keys, e.out}, "")
	if old != nil {
		e.term.History = old.History
	}
}

// errInterrupted is reported for a line that Ctrl-C gave up.
var errInterrupted = errors.New("interrupted")

// line reads one line; pasted says that more of the same paste follows.
func (e *editor) line(prompt string, signals <-chan os.Signal) (text string, pasted bool, err error) {
	old, err := term.MakeRaw(e.fd)
	if err != nil {
		return "", false, fmt.Errorf("switch terminal to raw mode: %w", err)
	}
	defer term.Restore(e.fd, old)
	if cols, rows, err := term.GetSize(e.fd); err == nil && cols > 0 {
		e.term.SetSize(cols, rows)
	}
	e.term.SetBracketedPasteMode(true)
	defer e.term.SetBracketedPasteMode(false)
	e.term.SetPrompt(prompt)
	type answer struct {
		text string
		err  error
	}
	done := make(chan answer, 1)
	go func() { // a read of a terminal ends with the process only
		text, err := e.term.ReadLine()
		done <- answer{text, err}
	}()
	for {
		select {
		case sig := <-signals:
			if sig != syscall.SIGINT {
				return "", false, errEnded
			}
		case got := <-done:
			switch {
			case errors.Is(got.err, term.ErrPasteIndicator):
				return got.text, true, nil
			case errors.Is(got.err, io.EOF) && e.keys.interrupted:
				e.keys.interrupted = false
				e.renew()
				_, err = io.WriteString(e.out, "^C\r\n")
				return "", false, errors.Join(errInterrupted, err)
			}
			return got.text, false, got.err
		}
	}
}

// keys passes a terminal's bytes on and notices Ctrl-C, which the line editor
// does not tell apart from Ctrl-D.
type keys struct {
	in          io.Reader
	interrupted bool
}

func (k *keys) Read(b []byte) (int, error) {
	n, err := k.in.Read(b)
	for _, c := range b[:n] {
		if c == 3 || c == 4 {
			k.interrupted = c == 3
		}
	}
	return n, err
}
