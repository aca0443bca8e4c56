package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

func newSpriteList(s *sprites) *cobra.Command {
	var asJSON, quiet, watch bool
	var prefix string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List sprites",
		Long: `List sprites. Their states are

  running  it is awake
  warm     asleep, its memory in the host's; any use wakes it
  cold     asleep on the disk; any use wakes it

With --watch each change is told until Ctrl-C.`,
		Example: `  atoll sprite list
  atoll sprite list --prefix web-
  atoll sprite list -w
  atoll sprite list --json | jq -r '.[].url'`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.connect(cmd.Context())
			if err != nil {
				return err
			}
			if watch {
				return s.watch(cmd.Context(), c, prefix, asJSON)
			}
			all, _, err := c.Sprites(cmd.Context(), prefix)
			if err != nil {
				return fmt.Errorf("list sprites: %w", err)
			}
			switch {
			case asJSON:
				return s.printJSON(append([]client.Sprite{}, all...))
			case quiet:
				for _, one := range all {
					fmt.Fprintln(s.out, one.Name)
				}
			default:
				s.spriteTable(all)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&prefix, "prefix", "", "only those whose names begin so")
	f.BoolVarP(&quiet, "quiet", "q", false, "print names only")
	f.BoolVarP(&watch, "watch", "w", false, "go on and tell of changes")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func (s *sprites) spriteTable(all []client.Sprite) {
	h, _ := nearest() // only marks a row
	rows := make([][]string, 0, len(all))
	for _, one := range all {
		mark := ""
		if one.Name == h.Sprite {
			mark = "*"
		}
		rows = append(rows, []string{one.Name + mark, one.Status, ago(one.CreatedAt), lastUse(one), sizeText(one.DiskUsedBytes),
			first(one.URLSettings.Auth, "-"), strings.Join(one.Labels, ","), one.URL})
	}
	s.table([]column{
		{title: "NAME", min: 10},
		{title: "STATUS", paint: spriteStyle},
		{title: "CREATED", drop: 3},
		{title: "LAST USE", drop: 1},
		{title: "DISK", right: true, drop: 4},
		{title: "AUTH", drop: 5},
		{title: "LABELS", min: 8, drop: 6},
		{title: "URL", min: 20, drop: 2},
	}, rows)
}

// lastUse is when a sprite was last awake.
func lastUse(one client.Sprite) string {
	switch {
	case one.Status == client.SpriteRunning:
		return "now"
	case one.LastWarmingAt != nil:
		return ago(*one.LastWarmingAt)
	case one.LastRunningAt != nil:
		return ago(*one.LastRunningAt)
	}
	return "never"
}

func spriteStyle(status string) style {
	switch status {
	case client.SpriteRunning:
		return green
	case client.SpriteWarm:
		return yellow
	}
	return dim
}

// watch prints a line for each change.
func (s *sprites) watch(ctx context.Context, c *client.Client, prefix string, asJSON bool) error {
	err := c.WatchSprites(ctx, prefix, func(ch client.SpriteChange) error {
		if ch.Type == "heartbeat" || ch.Name == "" {
			return nil
		}
		if asJSON {
			return s.printLine(ch)
		}
		at := ch.Timestamp
		if at.IsZero() {
			at = time.Now()
		}
		_, err := fmt.Fprintf(s.out, "%s  %s  %s\n", s.paint(s.out, dim, at.Local().Format(time.TimeOnly)),
			s.paint(s.out, spriteStyle(ch.Status), fmt.Sprintf("%-7s", oneLine(first(ch.Status, ch.Type)))), oneLine(ch.Name))
		return err
	})
	if ctx.Err() != nil {
		return nil // Ctrl-C is how it ends
	}
	if err != nil {
		return fmt.Errorf("watch sprites: %w", err)
	}
	return nil
}

func newSpriteInfo(s *sprites) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "info [NAME]",
		Short: "Show one sprite",
		Long:  `Show one sprite. To look at it does not wake it.`,
		Example: `  atoll sprite info
  atoll sprite info -s web --json`,
		Args: atMost("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, name, err := s.named(cmd.Context(), args)
			if err != nil {
				return err
			}
			one, err := c.Sprite(cmd.Context(), name)
			if err != nil {
				return fmt.Errorf("show sprite %s: %w", name, err)
			}
			if asJSON {
				return s.printJSON(one)
			}
			s.facts(spriteFacts(one))
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// fact is one line about something.
type fact struct{ name, value string }

// facts prints those that have a value.
func (s *sprites) facts(all []fact) {
	for _, f := range all {
		if f.value != "" {
			fmt.Fprintf(s.out, "%s %s\n", s.paint(s.out, bold, fmt.Sprintf("%-13s", f.name)), oneLine(f.value))
		}
	}
}

func spriteFacts(one client.Sprite) []fact {
	all := []fact{
		{"Name", one.Name}, {"ID", one.ID}, {"Organisation", one.Organization}, {"Status", one.Status},
		{"URL", one.URL}, {"URL auth", one.URLSettings.Auth}, {"Access", one.URLSettings.PrivateAccess},
		{"Created", ago(one.CreatedAt)}, {"Last use", lastUse(one)}, {"Labels", strings.Join(one.Labels, ", ")}, {"Version", one.Version},
	}
	if c := one.Config; c != nil {
		all = append(all, fact{"Size", fmt.Sprintf("%s, %s, disk up to %d GB", counted(c.CPUs, "processor", "processors"), bytesText(int64(c.RAMMB)<<20), c.StorageGB)})
	}
	if one.OrgAccess {
		all = append(all, fact{"Org access", "its programs may use the API as your team"})
	}
	if one.DiskUsedBytes > 0 {
		all = append(all, fact{"Disk used", bytesText(one.DiskUsedBytes)})
	}
	return append(all, fact{"Started anew", one.Fresh})
}
