package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/atoll-cloud/atoll/client"
)

func newKill(a *app) *cobra.Command {
	var everything, asJSON bool
	cmd := &cobra.Command{
		Use:     "kill ID… | --all",
		Aliases: []string{"rm"},
		Short:   "End sandboxes",
		Long:    "End sandboxes and free what they held. Prints the id of each one that it ended.",
		Example: `  atoll kill i4f
  atoll kill --all`,
		Args: func(_ *cobra.Command, args []string) error {
			if everything == (len(args) > 0) {
				return usage("name sandboxes, or --all")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			all, err := c.List(cmd.Context(), client.ListFilter{})
			if err != nil {
				return fmt.Errorf("list sandboxes: %w", err)
			}
			ids, err := chosen(args, all)
			if err != nil {
				return err
			}
			killed, err := a.killAll(cmd.Context(), c, ids, !asJSON)
			if asJSON {
				err = errors.Join(err, a.printJSON(killed))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&everything, "all", false, "end all sandboxes of the team")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// chosen is the ids that arguments name, or all. Nothing is ended where one of
// the names is wrong.
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

// killAll ends sandboxes, several at a time, goes on where one fails, and
// returns those that it ended.
func (a *app) killAll(ctx context.Context, c *client.Client, ids []string, say bool) ([]string, error) {
	errs := make([]error, len(ids))
	var g errgroup.Group
	g.SetLimit(16)
	for i, id := range ids {
		g.Go(func() error {
			err := c.Kill(ctx, id)
			if !client.IsNotFound(err) { // gone already is what was asked for
				errs[i] = err
			}
			return nil
		})
	}
	g.Wait()
	killed := []string{}
	for i, id := range ids {
		if errs[i] != nil {
			errs[i] = fmt.Errorf("kill %s: %w", id, errs[i])
			continue
		}
		killed = append(killed, id)
		if say {
			fmt.Fprintln(a.out, id)
		}
	}
	return killed, errors.Join(errs...)
}
