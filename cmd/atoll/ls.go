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
		Example: `  atoll ls
  atoll ls --metadata project=demo
  atoll ls -q | xargs atoll kill
  atoll ls --json | jq -r '.[].sandboxID'`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := pairs("--metadata", metadata, nil)
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			all, err := c.List(cmd.Context(), client.ListFilter{States: states, Metadata: m})
			if err != nil {
				return fmt.Errorf("list sandboxes: %w", err)
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
	cmd.Flags().StringSliceVar(&states, "state", nil, "only sandboxes in this state: running, paused (repeatable)")
	cmd.Flags().StringArrayVar(&metadata, "metadata", nil, "only sandboxes labelled KEY=VALUE (repeatable)")
	return cmd
}

func (a *app) sandboxTable(all []client.Sandbox) {
	rows := make([][]string, 0, len(all))
	for _, s := range all {
		ends := "never"
		if !s.EndAt.IsZero() {
			ends = span(max(time.Until(s.EndAt).Truncate(time.Second), time.Second))
		}
		if time.Until(s.EndAt) > 10*365*24*time.Hour {
			ends = "never"
		}
		rows = append(rows, []string{
			s.SandboxID, first(s.Alias, s.TemplateID), s.State, age(s.StartedAt), ends,
			strconv.Itoa(s.CPUCount), bytesText(int64(s.MemoryMB) << 20), labels(s.Metadata),
		})
	}
	a.table([]column{
		{title: "ID"},
		{title: "TEMPLATE", min: 8},
		{title: "STATE", paint: stateStyle},
		{title: "AGE", drop: 1},
		{title: "ENDS IN", drop: 2},
		{title: "CPUS", right: true, drop: 4},
		{title: "MEMORY", right: true, drop: 5},
		{title: "METADATA", min: 12, drop: 3},
	}, rows)
}

func stateStyle(state string) style {
	if state == "running" {
		return green
	}
	return yellow
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
