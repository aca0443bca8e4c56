package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

// currentCheckpoint is how a listing may name the disk as it is now.
const currentCheckpoint = "Current"

func newSpriteCheckpoint(s *sprites) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "checkpoint",
		Aliases: []string{"checkpoints", "cp"},
		Short:   "Keep a sprite's disk as it is, and go back to it",
		Long: `Keep a sprite's disk as it is at one instant; the sprite goes on. "atoll sprite
restore" goes back to it. The newest five can be read in the sprite below
/.sprite/checkpoints.`,
		Example: `  atoll sprite checkpoint create --comment "before the upgrade"
  atoll sprite checkpoint list
  atoll sprite restore v3`,
		Args: noCommand("atoll sprite checkpoint"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSpriteCheckpointCreate(s), newSpriteCheckpointList(s), newSpriteCheckpointInfo(s), newSpriteCheckpointDelete(s))
	return cmd
}

func newSpriteCheckpointCreate(s *sprites) *cobra.Command {
	var n client.NewCheckpoint
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Take a checkpoint and print its id",
		Long: `Take a checkpoint and print its id. The sprite stands still for a moment and goes
on. With --memory its programs are kept too, and go on where they were after a
restore.`,
		Example: `  atoll sprite checkpoint create
  atoll sprite checkpoint create -s web --comment "before the upgrade"
  atoll sprite checkpoint create --memory`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			w := s.begin("taking a checkpoint of %s", g.Name())
			defer w.done()
			id, err := g.Checkpoint(cmd.Context(), n, w.event)
			w.done()
			if err != nil {
				return fmt.Errorf("take checkpoint of %s: %w", g.Name(), err)
			}
			if asJSON {
				made, err := g.CheckpointInfo(cmd.Context(), id)
				if err != nil {
					return fmt.Errorf("show checkpoint %s: %w", id, err)
				}
				return s.printJSON(made)
			}
			if w.tty {
				s.note("took %s", w.took())
			}
			_, err = fmt.Fprintln(s.out, id)
			return err
		},
	}
	cmd.Flags().StringVarP(&n.Comment, "comment", "m", "", "what to remember it by")
	cmd.Flags().BoolVar(&n.Memory, "memory", false, "keep the programs that run, too")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newSpriteCheckpointList(s *sprites) *cobra.Command {
	var auto, history, asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List a sprite's checkpoints",
		Long: `List a sprite's checkpoints, the newest first. Automatic ones, which are taken
before each restore, are left out unless --include-auto asks for them.`,
		Example: `  atoll sprite checkpoint list
  atoll sprite checkpoint list --include-auto
  atoll sprite checkpoint list --history --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			all, err := g.Checkpoints(cmd.Context(), auto)
			if err != nil {
				return fmt.Errorf("list checkpoints of %s: %w", g.Name(), err)
			}
			slices.SortStableFunc(all, func(a, b client.Checkpoint) int { return b.CreatedAt.Compare(a.CreatedAt) })
			if asJSON {
				return s.printJSON(append([]client.Checkpoint{}, all...))
			}
			s.checkpointTable(all, history)
			return nil
		},
	}
	cmd.Flags().BoolVar(&auto, "include-auto", false, "those taken automatically, too")
	cmd.Flags().BoolVar(&history, "history", false, "which checkpoints each one goes back to")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (s *sprites) checkpointTable(all []client.Checkpoint, history bool) {
	rows := make([][]string, 0, len(all))
	for _, cp := range all {
		keeps := "disk"
		if cp.Memory {
			keeps = "disk, memory"
		}
		row := []string{cp.ID, ago(cp.CreatedAt), sizeText(cp.SizeBytes), keeps, first(cp.SourceID, "-"), first(cp.Comment, "-")}
		if history {
			row = append(row, first(strings.Join(cp.History, " ← "), "-"))
		}
		rows = append(rows, row)
	}
	cols := []column{
		{title: "CHECKPOINT", min: 12},
		{title: "TAKEN", drop: 1},
		{title: "SIZE", right: true, drop: 2},
		{title: "KEEPS", drop: 4},
		{title: "AFTER", min: 8, drop: 3},
		{title: "COMMENT", min: 12},
	}
	if history {
		cols = append(cols, column{title: "HISTORY", min: 12})
	}
	s.table(cols, rows)
}

// noCheckpoint adds the way to find out what there is.
func noCheckpoint(g *client.SpriteGuest, id, doing string, err error) error {
	err = fmt.Errorf("%s %s of %s: %w", doing, id, g.Name(), err)
	if client.IsNotFound(err) {
		return (&failure{err: err, code: codeFailed}).hinted("\"atoll sprite checkpoint list --include-auto\" shows them all")
	}
	return err
}

func newSpriteCheckpointInfo(s *sprites) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "info ID",
		Short: "Show one checkpoint",
		Example: `  atoll sprite checkpoint info v3
  atoll sprite checkpoint info v3 -s web --json`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			cp, err := g.CheckpointInfo(cmd.Context(), args[0])
			if err != nil {
				return noCheckpoint(g, args[0], "show checkpoint", err)
			}
			if asJSON {
				return s.printJSON(cp)
			}
			all := []fact{{"Checkpoint", cp.ID}, {"Taken", ago(cp.CreatedAt)}, {"Comment", cp.Comment}, {"After", cp.SourceID},
				{"History", strings.Join(cp.History, " ← ")}, {"Health", first(cp.Health, "good")}}
			if cp.SizeBytes > 0 {
				all = append(all, fact{"Size", bytesText(cp.SizeBytes)})
			}
			if cp.Memory {
				all = append(all, fact{"Keeps", "disk and memory"})
			}
			s.facts(all)
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newSpriteCheckpointDelete(s *sprites) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "delete ID…",
		Aliases: []string{"rm"},
		Short:   "Remove checkpoints for ever",
		Example: `  atoll sprite checkpoint delete v1
  atoll sprite checkpoint delete v1 v2 -s web`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("missing argument: ID")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			gone, err := forAll("delete checkpoint", args, func(_ int, id string) error { return g.DeleteCheckpoint(cmd.Context(), id) })
			if client.IsNotFound(err) {
				err = (&failure{err: err, code: codeFailed}).hinted("\"atoll sprite checkpoint list --include-auto\" shows them all")
			}
			return errors.Join(err, s.printIDs(gone, asJSON))
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newSpriteRestore(s *sprites) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "restore ID",
		Short: "Put a sprite back to a checkpoint",
		Long: `Put a sprite back to a checkpoint. What runs in it ends; it starts anew with the
disk and the services of the checkpoint. As it was before, it is kept in an
automatic checkpoint, so that this can be undone.`,
		Example: `  atoll sprite restore v3
  atoll sprite restore -s web v3
  atoll sprite checkpoint list --include-auto`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			w := s.begin("restoring %s to %s", g.Name(), args[0])
			defer w.done()
			err = g.Restore(cmd.Context(), args[0], w.event)
			w.done()
			if err != nil {
				return noCheckpoint(g, args[0], "restore checkpoint", err)
			}
			if asJSON {
				return s.printJSON(map[string]string{"sprite": g.Name(), "checkpoint": args[0]})
			}
			s.note("%s is as it was at %s; took %s", g.Name(), args[0], w.took())
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
