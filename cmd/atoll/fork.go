package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/atoll-cloud/atoll/client"
)

// maxCopies is the most that the API takes in one request.
const maxCopies = 100

// forked is one copy and how long it took, from the request until the copy
// answered.
type forked struct {
	client.Forked
	TookMS float64 `json:"tookMs,omitempty"`
}

func newFork(a *app) *cobra.Command {
	var count int
	var timeout time.Duration
	var quiet, asJSON bool
	cmd := &cobra.Command{
		Use:   "fork ID",
		Short: "Make copies of a running sandbox, memory and disk",
		Long: `Make copies of a running sandbox, memory and disk, all of one instant. The
sandbox stands still for a moment and goes on. Each copy runs on from there with
an address, tokens and a time-out of its own. The table shows how long each took
until it answered; a copy that fails does not keep the others from succeeding.`,
		Example: `  atoll fork i4f
  atoll fork -n 5 --timeout 1h i4f
  atoll fork -n 5 -q i4f | xargs -I ID atoll exec ID -- hostname`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case count < 1 || count > maxCopies:
				return usage("-n must be 1 to %d", maxCopies)
			case timeout < 0:
				return usage("--timeout must not be negative")
			}
			c, s, err := a.findRunning(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			start := time.Now()
			copies, err := c.Fork(cmd.Context(), s.SandboxID, count, timeout)
			if err != nil {
				return fmt.Errorf("fork %s: %w", s.SandboxID, err)
			}
			return a.showForked(answers(cmd.Context(), c, start, copies), quiet, asJSON)
		},
	}
	f := cmd.Flags()
	f.IntVarP(&count, "count", "n", 1, "how many copies to make")
	f.DurationVar(&timeout, "timeout", 5*time.Minute, "how long each copy lives; 0 is for ever, where the operator allows it")
	f.BoolVarP(&quiet, "quiet", "q", false, "print ids only")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// answers waits until each copy answers, or does not.
func answers(ctx context.Context, c *client.Client, start time.Time, copies []client.Forked) []forked {
	out := make([]forked, len(copies))
	var g errgroup.Group
	for i, f := range copies {
		out[i].Forked = f
		if f.Sandbox == nil {
			continue
		}
		g.Go(func() error {
			if err := c.Guest(*f.Sandbox).Health(ctx); err != nil {
				out[i].Error = &client.Error{Status: client.Status(err), Message: "it does not answer: " + err.Error()}
				return nil
			}
			out[i].TookMS = float64(time.Since(start).Microseconds()) / 1000
			return nil
		})
	}
	g.Wait()
	return out
}

// showForked prints the copies; it is an error if one of them failed.
func (a *app) showForked(copies []forked, quiet, asJSON bool) error {
	var errs []error
	for _, f := range copies {
		if f.Error != nil {
			errs = append(errs, f.Error)
		}
	}
	var err error
	if len(errs) > 0 {
		err = fmt.Errorf("%d of %d copies failed: %w", len(errs), len(copies), errs[0])
	}
	switch {
	case asJSON:
		return errors.Join(err, a.printJSON(copies))
	case quiet:
		var ids []string
		for _, f := range copies {
			if f.Error == nil {
				ids = append(ids, f.Sandbox.SandboxID)
			}
		}
		return errors.Join(err, a.printIDs(ids, false))
	}
	a.forkTable(copies, len(errs) > 0)
	return err
}

func (a *app) forkTable(copies []forked, withErrors bool) {
	cols := []column{{title: "ID"}, {title: "TOOK", right: true}}
	if withErrors {
		cols = append(cols, column{title: "ERROR", min: 20, paint: func(string) style { return red }})
	}
	rows := make([][]string, 0, len(copies))
	for _, f := range copies {
		row := []string{"-", "-"}
		if f.Sandbox != nil {
			row[0] = f.Sandbox.SandboxID
		}
		if f.TookMS > 0 {
			row[1] = millis(time.Duration(f.TookMS * float64(time.Millisecond)))
		}
		if withErrors {
			text := ""
			if f.Error != nil {
				text = f.Error.Error()
			}
			row = append(row, text)
		}
		rows = append(rows, row)
	}
	a.table(cols, rows)
}
