package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// exactly demands the named arguments and no others.
func exactly(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usage("missing argument: %s", strings.Join(names[len(args):], " "))
		}
		if len(args) > len(names) {
			return usage("too many arguments, beginning with %q", args[len(names)])
		}
		return nil
	}
}
