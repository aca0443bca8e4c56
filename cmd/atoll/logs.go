package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

func newLogs(a *app) *cobra.Command {
	var follow, asJSON bool
	var q client.LogQuery
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Print a sandbox's log",
		Example: `  atoll logs i4f
  atoll logs -f i4f             go on until the sandbox ends
  atoll logs --since 10m --level warn i4f
  atoll logs --json i4f         one JSON object a line`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			id, err := whole(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if since > 0 {
				q.Cursor = time.Now().Add(-since).UnixMilli()
			}
			lines := json.NewEncoder(a.out)
			lines.SetEscapeHTML(false)
			err = c.FollowLogs(cmd.Context(), id, q, follow, func(e client.LogEntry) error {
				if asJSON {
					return lines.Encode(e)
				}
				return a.logLine(e)
			})
			if follow && cmd.Context().Err() != nil {
				return nil // Ctrl-C is how following ends
			}
			if err != nil {
				return fmt.Errorf("read log: %w", err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on printing new lines")
	f.DurationVar(&since, "since", 0, "only lines of this last while")
	f.StringVar(&q.Level, "level", "", "least level: debug, info, warn, error")
	f.StringVar(&q.Search, "search", "", "only lines with this text")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// logLine prints an entry; what a program wrote may be several lines.
func (a *app) logLine(e client.LogEntry) error {
	level := strings.ToUpper(e.Level)
	colour := dim
	switch e.Level {
	case "warn":
		colour = yellow
	case "error":
		colour = red
	}
	fields := ""
	if len(e.Fields) > 0 {
		fields = "  " + a.paint(a.out, dim, printable(labels(e.Fields)))
	}
	for line := range strings.SplitSeq(strings.TrimRight(e.Message, "\n"), "\n") {
		_, err := fmt.Fprintf(a.out, "%s %s %s%s\n",
			a.paint(a.out, dim, e.Timestamp.Local().Format("2006-01-02 15:04:05.000")),
			a.paint(a.out, colour, fmt.Sprintf("%-5s", cut(printable(level), 5))), printable(line), fields)
		if err != nil {
			return err
		}
	}
	return nil
}
