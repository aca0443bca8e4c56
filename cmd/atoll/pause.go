package main

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/atoll-cloud/atoll/client"
)

func newPause(a *app) *cobra.Command {
	var diskOnly, asJSON bool
	cmd := &cobra.Command{
		Use:   "pause ID…",
		Short: "Put sandboxes to sleep until they are resumed",
		Long: `Put sandboxes to sleep until they are resumed. Memory, processes and disk stay as
they are, on the disk of the host, for as long as you want: a paused sandbox has
no time-out, takes no memory, and does not count against the team's limit.
Connections to it end. Prints the id of each one that is paused.

With --disk-only memory is given up: a resume starts the sandbox anew from its
disk, as a computer that was switched off.`,
		Example: `  atoll pause i4f
  atoll pause --disk-only i4f
  atoll ls -q --state running | xargs atoll pause`,
		Args: someIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, ids, err := a.choose(cmd.Context(), args)
			if err != nil {
				return err
			}
			paused, err := forAll("pause", ids, func(_ int, id string) error {
				err := c.Pause(cmd.Context(), id, !diskOnly)
				if client.Status(err) != http.StatusConflict {
					return err
				}
				// Paused already is what was asked for.
				if s, getErr := c.Get(cmd.Context(), id); getErr != nil || s.State != client.StatePaused {
					return errors.Join(err, getErr)
				}
				return nil
			})
			return errors.Join(err, a.printIDs(paused, asJSON))
		},
	}
	cmd.Flags().BoolVar(&diskOnly, "disk-only", false, "keep the disk alone, not memory and processes")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// someIDs demands at least one sandbox.
func someIDs(_ *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usage("missing argument: ID")
	}
	return nil
}

// forAll does one thing to several sandboxes, some at a time, goes on where one
// fails, and returns those with which it went well.
func forAll(what string, ids []string, do func(i int, id string) error) ([]string, error) {
	errs := make([]error, len(ids))
	var g errgroup.Group
	g.SetLimit(16)
	for i, id := range ids {
		g.Go(func() error {
			errs[i] = do(i, id)
			return nil
		})
	}
	g.Wait()
	done := []string{}
	for i, id := range ids {
		if errs[i] != nil {
			errs[i] = fmt.Errorf("%s %s: %w", what, id, errs[i])
			continue
		}
		done = append(done, id)
	}
	return done, errors.Join(errs...)
}

// printIDs prints ids, one a line or as JSON.
func (a *app) printIDs(ids []string, asJSON bool) error {
	if asJSON {
		return a.printJSON(ids)
	}
	for _, id := range ids {
		if _, err := fmt.Fprintln(a.out, id); err != nil {
			return err
		}
	}
	return nil
}

// errPaused is wrapped by failures whose cause is that a sandbox is paused.
var errPaused = errors.New("is paused")

// pausedError says of a sandbox that it is paused, and what wakes it.
func pausedError(id string) error {
	return (&failure{err: fmt.Errorf("sandbox %s %w", id, errPaused), code: codeFailed}).
		hinted("\"atoll resume " + id + "\" wakes it")
}
