// Package command is sprite-env: the machine's own API on the command line, for
// people and agents who work inside a sprite.
package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// Name is what the program is called when it is to be this.
const Name = "sprite-env"

// Socket is where the machine's own API is served.
const Socket = "/.sprite/api.sock"

const usage = `sprite-env: what this sprite can do for itself

  sprite-env info                       name, URL and id of this sprite
  sprite-env version                    its version
  sprite-env policy                     the network policy in force (read only)
  sprite-env curl ARGS… PATH            curl on the API, as in: sprite-env curl /v1/tasks

  sprite-env services list
  sprite-env services get NAME
  sprite-env services create NAME --cmd PROGRAM [--args A,B] [--env K=V,L=W] [--dir DIR]
                      [--needs NAME,NAME] [--http-port PORT] [--duration 5s] [--no-stream]
  sprite-env services start NAME        [--duration 5s] [--no-stream]
  sprite-env services restart NAME      [--duration 5s] [--no-stream]
  sprite-env services stop NAME         [--timeout 10s] [--no-stream]
  sprite-env services logs NAME         [--lines 100] [--duration 0]
  sprite-env services signal NAME SIGNAL
  sprite-env services delete NAME

  sprite-env checkpoints list           [--include-auto]
  sprite-env checkpoints get ID
  sprite-env checkpoints create         [--comment TEXT]
  sprite-env checkpoints restore ID     goes back to it: all sessions end
  sprite-env checkpoints delete ID

  sprite-env tasks list                 what keeps this sprite awake
  sprite-env tasks create NAME          [--expire 5m], at most 1h
  sprite-env tasks refresh NAME         [--expire 5m]
  sprite-env tasks delete NAME
`

// Config is what the program works with.
type Config struct {
	Socket         string
	Stdout, Stderr io.Writer
}

// Run does what the arguments (without the program's name) say and returns the
// exit code: 0, 1 when it was refused or failed, 2 when it was asked wrongly.
func Run(config Config, args []string) int {
	c := &client{config: config, http: overSocket(config.Socket)}
	err := c.run(args)
	var wrong *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &wrong):
		fmt.Fprintf(config.Stderr, "sprite-env: %v\nRun sprite-env help to see what there is.\n", err)
		return 2
	}
	fmt.Fprintln(config.Stderr, "sprite-env:", err)
	return 1
}

// usageError is reported for commands that do not exist or lack something.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func wrong(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

func (c *client) run(args []string) error {
	if len(args) == 0 || args[0] != "curl" && hasHelp(args) {
		_, err := io.WriteString(c.config.Stdout, usage)
		return err
	}
	command, rest := args[0], args[1:]
	switch command {
	case "info":
		return c.show("GET", "/info", nil)
	case "version":
		return c.version()
	case "policy":
		return c.show("GET", "/policy/network", nil)
	case "curl":
		return c.curl(rest)
	case "services", "service":
		return c.services(rest)
	case "checkpoints", "checkpoint":
		return c.checkpoints(rest)
	case "tasks", "task":
		return c.tasks(rest)
	}
	return wrong("there is no command %q", command)
}

func hasHelp(args []string) bool {
	for _, arg := range args {
		if arg == "--help" || arg == "-h" {
			return true
		}
	}
	return args[0] == "help"
}

// curl becomes curl on the socket; paths of the API get a host.
func (c *client) curl(args []string) error {
	program, err := exec.LookPath("curl")
	if err != nil {
		return fmt.Errorf("curl is not installed: %w", err)
	}
	all := []string{"curl", "--unix-socket", c.config.Socket}
	for _, arg := range args {
		for _, prefix := range []string{"/v1/", "/info", "/policy/"} {
			if strings.HasPrefix(arg, prefix) {
				arg = "http://sprite" + arg
				break
			}
		}
		all = append(all, arg)
	}
	return fmt.Errorf("start curl: %w", syscall.Exec(program, all, os.Environ()))
}
