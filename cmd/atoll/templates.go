package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

func newTemplates(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "templates",
		Aliases: []string{"template"},
		Short:   "List what sandboxes can be made from",
		Example: `  atoll templates
  atoll templates --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			all, err := c.Templates(cmd.Context())
			if err != nil {
				return fmt.Errorf("list templates: %w", err)
			}
			if asJSON {
				return a.printJSON(append([]client.Template{}, all...))
			}
			rows := make([][]string, 0, len(all))
			for _, t := range all {
				names := t.Names
				if len(names) == 0 {
					names = t.Aliases
				}
				rows = append(rows, []string{
					strings.Join(names, ","), t.TemplateID, t.BuildStatus, strconv.Itoa(t.CPUCount),
					bytesText(int64(t.MemoryMB) << 20), bytesText(int64(t.DiskSizeMB) << 20),
					ago(t.UpdatedAt), strconv.FormatInt(t.SpawnCount, 10),
				})
			}
			a.table([]column{
				{title: "NAME", min: 8},
				{title: "ID", min: 12},
				{title: "STATUS"},
				{title: "CPUS", right: true},
				{title: "MEMORY", right: true},
				{title: "DISK", right: true, drop: 2},
				{title: "BUILT", drop: 1},
				{title: "USED", right: true, drop: 3},
			}, rows)
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
