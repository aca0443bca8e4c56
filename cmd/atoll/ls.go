package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

func newLs(a *app) *cobra.Command {
	var asJSON, quiet bool
	var states, metadata []string
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list", "ps"},
		Short:   "List sandboxes",
		Long: `List sandboxes, the newest first. Their states are

  running  it is awake
  frozen   asleep for being idle, its memory in the host's; any use wakes it
  stored   asleep for being idle, its memory on the disk; any use wakes it
  paused   asleep until "atoll resume", or by its owner's choice until it is used

Of those that sleep, SAVED is what their memory takes on the disk, and DISK what
they have written beyond their template.`,
		Example: `  atoll ls
  atoll ls --state paused
  atoll ls --metadata project=demo
  atoll ls -q | xargs atoll kill
  atoll ls --json | jq -r '.[].sandboxID'`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := pairs("--metadata", metadata, nil)
			if err != nil {
				return err
			}
			asked, err := apiStates(states)
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			all, err := c.List(cmd.Context(), client.ListFilter{States: asked, Metadata: m})
			if err != nil {
				return fmt.Errorf("list sandboxes: %w", err)
			}
			if len(states) > 0 {
				all = slices.DeleteFunc(all, func(s client.Sandbox) bool { return !slices.Contains(states, stateOf(s)) })
			}
			switch {
			case asJSON:
				return a.printJSON(append([]client.Sandbox{}, all...))
			case quiet:
				for _, s := range all {
					fmt.Fprintln(a.out, s.SandboxID)
				}
			default:
				a.sandboxTable(all)
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print ids only")
	cmd.Flags().StringSliceVar(&states, "state", nil, "only sandboxes in this state: running, frozen, stored, paused (repeatable)")
	cmd.Flags().StringArrayVar(&metadata, "metadata", nil, "only sandboxes labelled KEY=VALUE (repeatable)")
	return cmd
}

// stateOf is the state that people are told of.
func stateOf(s client.Sandbox) string {
	if s.State == client.StateRunning {
		return first(s.Sleep, s.State)
	}
	return s.State
}

// apiStates is the states that the API must be asked for to find those that
// people ask for: sandboxes asleep for being idle count as running there.
func apiStates(states []string) ([]string, error) {
	var asked []string
	for _, s := range states {
		switch s {
		case client.SleepFrozen, client.SleepStored:
			s = client.StateRunning
		case client.StateRunning, client.StatePaused:
		default:
			return nil, usage("--state %q: use running, frozen, stored or paused", s)
		}
		if !slices.Contains(asked, s) {
			asked = append(asked, s)
		}
	}
	return asked, nil
}

func (a *app) sandboxTable(all []client.Sandbox) {
	rows := make([][]string, 0, len(all))
	for _, s := range all {
		ends := "never"
		if !s.EndAt.IsZero() {
			ends = span(max(time.Until(s.EndAt).Truncate(time.Second), time.Second))
		}
		if time.Until(s.EndAt) > 10*365*24*time.Hour || s.State == client.StatePaused {
			ends = "never"
		}
		rows = append(rows, []string{
			s.SandboxID, first(s.Alias, s.TemplateID), stateOf(s), age(s.StartedAt), ends,
			sizeText(s.MemoryStoredBytes), sizeText(s.DiskUsedBytes),
			strconv.Itoa(s.CPUCount), bytesText(int64(s.MemoryMB) << 20), labels(s.Metadata),
		})
	}
	a.table([]column{
		{title: "ID"},
		{title: "TEMPLATE", min: 8},
		{title: "STATE", paint: stateStyle},
		{title: "AGE", drop: 1},
		{title: "ENDS IN", drop: 2},
		{title: "SAVED", right: true, drop: 3},
		{title: "DISK", right: true, drop: 4},
		{title: "CPUS", right: true, drop: 6},
		{title: "MEMORY", right: true, drop: 7},
		{title: "METADATA", min: 12, drop: 5},
	}, rows)
}

func stateStyle(state string) style {
	if state == "running" {
		return green
	}
	return yellow
}

// sizeText is a size for a table; nothing, or not told, is a dash.
func sizeText(n int64) string {
	if n <= 0 {
		return "-"
	}
	return bytesText(n)
}

// labels is metadata on one line, in a fixed order.
func labels(m map[string]string) string {
	var l []string
	for k, v := range m {
		l = append(l, k+"="+v)
	}
	slices.Sort(l)
	return strings.Join(l, ",")
}
