// Command atoll is the one binary that a person runs: the server (atoll up) and
// the commands that speak to it. It only wires the other rooms together.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}

// run is main with everything from outside passed in, so that tests can call
// it. It returns the exit code.
func run(args []string, in io.Reader, out, errw io.Writer, env func(string) string) int {
	// The first signal asks the command to end; a second one ends the process.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop)

	a := &app{in: in, out: out, err: errw, env: env}
	root := newRoot(a)
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errw)
	return a.report(root.ExecuteContext(ctx))
}

// app is what every command shares: the streams, the environment and the
// flags that say where to connect.
type app struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) string

	apiURL, apiKey, sandboxURL, data string // flags; empty when not given
}

// isTerminal reports whether a stream of the app is a terminal, and its
// file descriptor.
func isTerminal(stream any) (fd int, ok bool) {
	f, isFile := stream.(*os.File)
	if !isFile {
		return -1, false
	}
	return int(f.Fd()), term.IsTerminal(int(f.Fd()))
}
