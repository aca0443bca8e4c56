package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

func newSpriteSessions(s *sprites) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "sessions",
		Aliases: []string{"session"},
		Short:   "List, attach to and kill programs that run in a sprite",
		Example: `  atoll sprite sessions list
  atoll sprite sessions attach 1042
  atoll sprite sessions kill 1042`,
		Args: noCommand("atoll sprite sessions"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSpriteSessionsList(s), newSpriteAttach(s), newSpriteSessionsKill(s))
	return cmd
}

func newSpriteSessionsList(s *sprites) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List programs that were started through exec and run",
		Example: `  atoll sprite sessions list
  atoll sprite sessions list -s web --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			all, err := g.Sessions(cmd.Context())
			if err != nil {
				return fmt.Errorf("list sessions of %s: %w", g.Name(), err)
			}
			if asJSON {
				return s.printJSON(append([]client.SpriteSession{}, all...))
			}
			rows := make([][]string, 0, len(all))
			for _, one := range all {
				kind, last := "-", one.LastActivity
				if one.TTY {
					kind = "tty"
				}
				if last.IsZero() {
					last = one.Created
				}
				rows = append(rows, []string{one.ID, one.Command, kind, age(one.Created), ago(last), one.Workdir})
			}
			s.table([]column{
				{title: "SESSION"},
				{title: "COMMAND", min: 12},
				{title: "TTY", drop: 2},
				{title: "AGE", drop: 1},
				{title: "LAST OUTPUT", drop: 3},
				{title: "FOLDER", min: 8, drop: 4},
			}, rows)
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newSpriteSessionsKill(s *sprites) *cobra.Command {
	var signal string
	var within time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "kill SESSION…",
		Short: "End programs that run in a sprite",
		Long: `End programs that run in a sprite: each gets a signal, and is killed if it has not
ended in time. With --timeout 0 the signal is sent and no more.`,
		Example: `  atoll sprite sessions kill 1042
  atoll sprite sessions kill --signal HUP --timeout 0 1042`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("missing argument: SESSION")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if within < 0 {
				return usage("--timeout must not be negative")
			}
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(strings.ToUpper(signal), "SIG")
			ended, err := forAll("end session", args, func(_ int, id string) error {
				err := g.KillSession(cmd.Context(), id, name, within, nil)
				if client.IsNotFound(err) {
					return noSession(id, err)
				}
				return err
			})
			return errors.Join(err, s.printIDs(ended, asJSON))
		},
	}
	cmd.Flags().StringVar(&signal, "signal", "TERM", "the signal, such as TERM, INT or HUP")
	cmd.Flags().DurationVar(&within, "timeout", 10*time.Second, "how long to wait before it is killed")
	jsonFlag(cmd, &asJSON)
	return cmd
}
