package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

func newSnapshot(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "snapshot",
		Aliases: []string{"snapshots"},
		Short:   "Keep sandboxes as templates: create, list and remove snapshots",
		Long: `Keep memory and disk of a running sandbox, as they are at one instant, as a
template. Any number of sandboxes can be made from it, and each begins where the
snapshot was taken, its programs running. Snapshots stay until they are removed.`,
		Example: `  atoll snapshot create i4f --name ready
  atoll create --template ready
  atoll snapshot ls
  atoll snapshot rm ready`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("unknown command %q for \"atoll snapshot\"", args[0]).hinted("\"atoll snapshot --help\" lists the commands")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSnapshotCreate(a), newSnapshotLs(a), newSnapshotRm(a))
	return cmd
}

func newSnapshotCreate(a *app) *cobra.Command {
	var name string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create ID",
		Short: "Take a snapshot of a running sandbox and print its id",
		Long: `Take a snapshot of a running sandbox and print its id, which create and run take
as --template. The sandbox stands still for a moment and goes on. A name that
another snapshot has moves on to this one.`,
		Example: `  atoll snapshot create i4f
  atoll snapshot create i4f --name ready
  atoll run --template "$(atoll snapshot create i4f)" -- ps aux`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, s, err := a.findRunning(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			taken, err := c.Snapshot(cmd.Context(), s.SandboxID, name)
			if err != nil {
				return fmt.Errorf("take snapshot of %s: %w", s.SandboxID, err)
			}
			if asJSON {
				return a.printJSON(taken)
			}
			_, err = fmt.Fprintln(a.out, taken.SnapshotID)
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "what to call it (default: it has an id alone)")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newSnapshotLs(a *app) *cobra.Command {
	var f client.SnapshotFilter
	var quiet, asJSON bool
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List snapshots",
		Example: `  atoll snapshot ls
  atoll snapshot ls --sandbox i4f
  atoll snapshot ls -q | xargs atoll snapshot rm`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			if f.SandboxID != "" {
				if f.SandboxID, err = whole(cmd.Context(), c, f.SandboxID); err != nil {
					return err
				}
			}
			found, err := c.Snapshots(cmd.Context(), f)
			if err != nil {
				return fmt.Errorf("list snapshots: %w", err)
			}
			switch {
			case asJSON:
				return a.printJSON(append([]client.Snapshot{}, found...))
			case quiet:
				for _, s := range found {
					fmt.Fprintln(a.out, s.SnapshotID)
				}
			default:
				a.snapshotTable(found)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&f.SandboxID, "sandbox", "", "only those taken of this sandbox")
	cmd.Flags().StringVar(&f.Name, "name", "", "only those of this name or id")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print ids only")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (a *app) snapshotTable(found []client.Snapshot) {
	rows := make([][]string, 0, len(found))
	for _, s := range found {
		taken := "-"
		if !s.CreatedAt.IsZero() {
			taken = ago(s.CreatedAt)
		}
		rows = append(rows, []string{s.SnapshotID, taken, first(s.SandboxID, "-"), sizeText(s.MemoryStoredBytes), sizeText(s.DiskUsedBytes)})
	}
	a.table([]column{
		{title: "SNAPSHOT", min: 16},
		{title: "TAKEN", drop: 1},
		{title: "OF", drop: 4},
		{title: "SAVED", right: true, drop: 3},
		{title: "DISK", right: true, drop: 2},
	}, rows)
}

func newSnapshotRm(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "rm NAME…",
		Aliases: []string{"remove", "delete"},
		Short:   "Remove snapshots",
		Long: `Remove snapshots by name or id, and print the id of each one that is gone.
Sandboxes that were made from them go on.`,
		Example: `  atoll snapshot rm ready
  atoll snapshot rm tk3f9x2m1:default`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("missing argument: NAME")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			found, err := c.Snapshots(cmd.Context(), client.SnapshotFilter{})
			if err != nil {
				return fmt.Errorf("list snapshots: %w", err)
			}
			ids, err := chosenSnapshots(args, found)
			if err != nil {
				return err
			}
			removed, err := forAll("remove snapshot", ids, func(_ int, id string) error {
				err := c.DeleteSnapshot(cmd.Context(), id)
				if client.IsNotFound(err) { // gone already is what was asked for
					return nil
				}
				return err
			})
			return errors.Join(err, a.printIDs(removed, asJSON))
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// chosenSnapshots is the ids that arguments name. None is removed where one of
// the names is wrong.
func chosenSnapshots(args []string, found []client.Snapshot) ([]string, error) {
	var ids []string
	seen := map[string]bool{}
	for _, arg := range args {
		id := ""
		for _, s := range found {
			if answersTo(s, arg) {
				id = s.SnapshotID
				break
			}
		}
		if id == "" {
			return nil, (&failure{err: fmt.Errorf("there is no snapshot %q", arg), code: codeFailed}).
				hinted("\"atoll snapshot ls\" shows the snapshots")
		}
		if !seen[id] {
			seen[id], ids = true, append(ids, id)
		}
	}
	return ids, nil
}

// answersTo reports whether a snapshot can be called by a name: its id or one
// of its names, with or without the team's name in front and the tag behind.
func answersTo(s client.Snapshot, name string) bool {
	for _, full := range append([]string{s.SnapshotID}, s.Names...) {
		_, short, _ := strings.Cut(full, "/")
		for _, n := range []string{full, short} {
			bare, _ := strings.CutSuffix(n, ":default")
			if n != "" && (n == name || bare == name) {
				return true
			}
		}
	}
	return false
}
