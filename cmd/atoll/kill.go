package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

func newKill(a *app) *cobra.Command {
	var everything, asJSON bool
	cmd := &cobra.Command{
		Use:     "kill ID… | --all",
		Aliases: []string{"rm"},
		Short:   "End sandboxes",
		Long:    "End sandboxes, paused or not, and free what they held. Prints the id of each one that it ended.",
		Example: `  atoll kill i4f
  atoll kill --all`,
		Args: func(_ *cobra.Command, args []string) error {
			if everything == (len(args) > 0) {
				return usage("name sandboxes, or --all")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, ids, err := a.choose(cmd.Context(), args)
			if err != nil {
				return err
			}
			killed, err := forAll("kill", ids, func(_ int, id string) error {
				err := c.Kill(cmd.Context(), id)
				if client.IsNotFound(err) { // gone already is what was asked for
					return nil
				}
				return err
			})
			return errors.Join(err, a.printIDs(killed, asJSON))
		},
	}
	cmd.Flags().BoolVar(&everything, "all", false, "end all sandboxes of the team, paused ones too")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// choose connects and returns the ids that arguments name, or all.
func (a *app) choose(ctx context.Context, args []string) (*client.Client, []string, error) {
	c, err := a.client()
	if err != nil {
		return nil, nil, err
	}
	list, err := c.List(ctx, client.ListFilter{})
	if err != nil {
		return nil, nil, fmt.Errorf("list sandboxes: %w", err)
	}
	ids, err := chosen(args, list)
	return c, ids, err
}

// chosen is the ids that arguments name, or all. Where one of the names is
// wrong there are none.
func chosen(args []string, all []client.Sandbox) ([]string, error) {
	var ids []string
	if len(args) == 0 {
		for _, s := range all {
			ids = append(ids, s.SandboxID)
		}
		return ids, nil
	}
	seen := map[string]bool{}
	for _, arg := range args {
		if arg == "" {
			return nil, usage("the sandbox id is empty")
		}
		id, err := expand(arg, all)
		if err != nil {
			return nil, err
		}
		if !seen[id] {
			seen[id], ids = true, append(ids, id)
		}
	}
	return ids, nil
}
