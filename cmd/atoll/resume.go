package main

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

func newResume(a *app) *cobra.Command {
	var timeout time.Duration
	var reboot, asJSON bool
	cmd := &cobra.Command{
		Use:   "resume ID…",
		Short: "Wake paused sandboxes",
		Long: `Wake paused sandboxes. Their programs go on where they were. Prints the id of
each one that is awake now; one that was not paused stays as it is.

A sandbox has as long to live as it had left when it was paused, and at least
what --timeout says, counted from now.`,
		Example: `  atoll resume i4f
  atoll resume --timeout 1h i4f
  atoll resume --reboot i4f      its memory cannot be used, or is not wanted`,
		Args: someIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o := client.ResumeOptions{Reboot: reboot}
			if timeout < 0 {
				return usage("--timeout must not be negative")
			}
			if cmd.Flags().Changed("timeout") {
				o.Timeout = &timeout
			}
			c, ids, err := a.choose(cmd.Context(), args)
			if err != nil {
				return err
			}
			resumed := make([]client.Sandbox, len(ids))
			awake, err := forAll("resume", ids, func(i int, id string) error {
				s, woken, err := c.Resume(cmd.Context(), id, o)
				if err == nil && reboot && !woken {
					err = errNotRebooted
				}
				if err != nil {
					return resumeError(id, err)
				}
				resumed[i] = s
				return nil
			})
			if asJSON {
				out := []client.Sandbox{}
				for _, s := range resumed {
					if s.SandboxID != "" {
						out = append(out, s)
					}
				}
				return errors.Join(err, a.printJSON(out))
			}
			return errors.Join(err, a.printIDs(awake, false))
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "let them live for at least this long from now on; 0 is for ever, where the operator allows it")
	cmd.Flags().BoolVar(&reboot, "reboot", false, "start from the disk and forget memory and processes")
	jsonFlag(cmd, &asJSON)
	return cmd
}

var errNotRebooted = errors.New("it runs: only a paused sandbox can be started from its disk")

// resumeError adds what most often mends a refusal.
func resumeError(id string, err error) error {
	f := &failure{err: err, code: codeFailed}
	switch {
	case errors.Is(err, errNotRebooted):
		return f.hinted("\"atoll pause --disk-only\" gives up its memory, then \"atoll resume\" starts it")
	// The server says so where it cannot use the memory that was kept.
	case client.Status(err) == http.StatusConflict && strings.Contains(err.Error(), "reboot"):
		return f.hinted("\"atoll resume --reboot " + id + "\" starts it from its disk, without what was in memory")
	}
	return f
}
