package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

func newSpriteServices(s *sprites) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "services",
		Aliases: []string{"service", "svc"},
		Short:   "Programs that a sprite keeps running",
		Long: `Programs that a sprite keeps running: they start with it, in the order in which
they need each other, and again when they fail. The one with an HTTP port is
where the sprite's URL leads.`,
		Example: `  atoll sprite services create web --http-port 3000 -- npm start
  atoll sprite services list
  atoll sprite services logs -f web
  atoll sprite services restart web`,
		Args: noCommand("atoll sprite services"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSpriteServicesList(s), newSpriteServicesGet(s), newSpriteServicesCreate(s),
		spriteServiceAct(s, "start", "Start a service", (*client.SpriteGuest).StartService),
		spriteServiceAct(s, "restart", "End and start a service", (*client.SpriteGuest).RestartService),
		newSpriteServicesStop(s), newSpriteServicesLogs(s), newSpriteServicesSignal(s), newSpriteServicesDelete(s))
	return cmd
}

func newSpriteServicesList(s *sprites) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List a sprite's services",
		Example: `  atoll sprite services list
  atoll sprite services list -s web --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			all, err := g.Services(cmd.Context())
			if err != nil {
				return fmt.Errorf("list services of %s: %w", g.Name(), err)
			}
			if asJSON {
				return s.printJSON(append([]client.Service{}, all...))
			}
			rows := make([][]string, 0, len(all))
			for _, v := range all {
				st := stateOfService(v)
				port, pid, up := "-", "-", "-"
				if v.HTTPPort != nil {
					port = strconv.Itoa(*v.HTTPPort)
				}
				if st.PID > 0 {
					pid, up = strconv.Itoa(st.PID), age(st.StartedAt)
				}
				rows = append(rows, []string{v.Name, st.Status, up, strconv.Itoa(st.RestartCount), port, pid,
					first(strings.Join(v.Needs, ","), "-"), strings.Join(append([]string{v.Cmd}, v.Args...), " ")})
			}
			s.table([]column{
				{title: "SERVICE", min: 10},
				{title: "STATUS", paint: serviceStyle},
				{title: "UP", drop: 1},
				{title: "RESTARTS", right: true, drop: 3},
				{title: "HTTP PORT", right: true, drop: 2},
				{title: "PID", right: true, drop: 6},
				{title: "NEEDS", min: 8, drop: 5},
				{title: "COMMAND", min: 12, drop: 4},
			}, rows)
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func stateOfService(v client.Service) client.ServiceState {
	if v.State == nil {
		return client.ServiceState{Status: "-"}
	}
	return *v.State
}

func serviceStyle(status string) style {
	switch status {
	case "running":
		return green
	case "failed":
		return red
	case "stopped":
		return dim
	}
	return yellow
}

func newSpriteServicesGet(s *sprites) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "get NAME",
		Aliases: []string{"info"},
		Short:   "Show one service",
		Example: `  atoll sprite services get web
  atoll sprite services get web --json`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			v, err := g.Service(cmd.Context(), args[0])
			if err != nil {
				return noService(g, "show", args[0], err)
			}
			if asJSON {
				return s.printJSON(v)
			}
			st := stateOfService(v)
			all := []fact{{"Service", v.Name}, {"Status", st.Status}, {"Error", st.Error}, {"Command", strings.Join(append([]string{v.Cmd}, v.Args...), " ")},
				{"Folder", v.Dir}, {"Environment", labels(v.Env)}, {"Needs", strings.Join(v.Needs, ", ")}, {"Restarts", strconv.Itoa(st.RestartCount)}}
			if v.HTTPPort != nil {
				all = append(all, fact{"HTTP port", strconv.Itoa(*v.HTTPPort)})
			}
			if !st.StartedAt.IsZero() {
				all = append(all, fact{"Started", ago(st.StartedAt)})
			}
			if wait := time.Until(st.NextRestartAt); wait > 0 {
				all = append(all, fact{"Starts again", "in " + span(wait)})
			}
			s.facts(all)
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// noService adds the way to find out what there is.
func noService(g *client.SpriteGuest, doing, name string, err error) error {
	err = fmt.Errorf("%s service %s of %s: %w", doing, name, g.Name(), err)
	if client.IsNotFound(err) {
		return (&failure{err: err, code: codeFailed}).hinted("\"atoll sprite services list\" shows them")
	}
	return err
}

// following are the flags of commands that show what a service does.
type following struct {
	watch    time.Duration
	noStream bool
	json     bool
}

func (f *following) register(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.watch, "duration", 5*time.Second, "how long to show what it does")
	cmd.Flags().BoolVar(&f.noStream, "no-stream", false, "do not show what it does")
	jsonFlag(cmd, &f.json)
}

// show prints what a service does. The error is one that an event told of.
func (s *sprites) show(f *following, e client.ServiceEvent) error {
	if f.json {
		return s.printLine(e)
	}
	text := strings.TrimSuffix(e.Data, "\n")
	switch e.Type {
	case "stdout", "stderr":
		if f.noStream {
			return nil
		}
		out := s.out
		if e.Type == "stderr" {
			out = s.err
		}
		for line := range strings.SplitSeq(text, "\n") {
			fmt.Fprintln(out, printable(line))
		}
	case "error":
		return errors.New(first(text, "the service failed"))
	case "exit":
		if e.ExitCode != nil {
			s.note("it ended with exit code %d", *e.ExitCode)
		}
	case "complete":
	default:
		if !f.noStream {
			s.note("%s", first(text, e.Type))
		}
	}
	return nil
}

// printLine writes v as one line of JSON.
func (s *sprites) printLine(v any) error {
	e := json.NewEncoder(s.out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func newSpriteServicesCreate(s *sprites) *cobra.Command {
	var n client.NewService
	var args, env, needs []string
	var port int
	f := &following{}
	cmd := &cobra.Command{
		Use:     "create NAME [--] CMD [ARG…]",
		Aliases: []string{"put"},
		Short:   "Make or replace a service and start it",
		Long: `Make or replace a service and start it. It is a program, not a line for a shell.
For some seconds it is shown what the service does.`,
		Example: `  atoll sprite services create web --http-port 3000 -- npm start
  atoll sprite services create db --dir /srv/db -- postgres -D data
  atoll sprite services create web --needs db --env A=1 --cmd npm --args run,start`,
		Args: func(_ *cobra.Command, words []string) error {
			switch {
			case len(words) == 0:
				return usage("missing argument: NAME")
			case len(words) == 1 && n.Cmd == "":
				return usage("say what to run: atoll sprite services create %s -- CMD", words[0])
			case len(words) > 1 && n.Cmd != "":
				return usage("the command is named twice, with --cmd and as %q", words[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, words []string) error {
			n.Args = listed(args)
			if len(words) > 1 {
				n.Cmd, n.Args = words[1], words[2:]
			}
			var err error
			if n.Env, err = pairs("--env", splitEnv(env), s.env); err != nil {
				return err
			}
			n.Needs = listed(needs)
			if cmd.Flags().Changed("http-port") {
				n.HTTPPort = &port
			}
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			err = g.PutService(cmd.Context(), words[0], n, f.watch, func(e client.ServiceEvent) error { return s.show(f, e) })
			if err != nil {
				return fmt.Errorf("create service %s of %s: %w", words[0], g.Name(), err)
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&n.Cmd, "cmd", "", "the program")
	fl.StringArrayVar(&args, "args", nil, "its arguments: a,b (repeatable)")
	fl.StringArrayVarP(&env, "env", "e", nil, "set KEY=VALUE for it, or KEY to pass on yours (repeatable, or A=1,B=2)")
	fl.StringVar(&n.Dir, "dir", "", "folder to start in (default: the user's home)")
	fl.StringArrayVar(&needs, "needs", nil, "services to start before it: a,b (repeatable)")
	fl.IntVar(&port, "http-port", 0, "the port that the sprite's URL leads to")
	f.register(cmd)
	return cmd
}

// spriteServiceAct is a command that starts a service.
func spriteServiceAct(s *sprites, verb, short string,
	act func(*client.SpriteGuest, context.Context, string, time.Duration, func(client.ServiceEvent) error) error) *cobra.Command {
	f := &following{}
	cmd := &cobra.Command{
		Use:     verb + " NAME",
		Short:   short,
		Example: "  atoll sprite services " + verb + " web\n  atoll sprite services " + verb + " web --duration 30s",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			err = act(g, cmd.Context(), args[0], f.watch, func(e client.ServiceEvent) error { return s.show(f, e) })
			if err != nil {
				return noService(g, verb, args[0], err)
			}
			return nil
		},
	}
	f.register(cmd)
	return cmd
}

func newSpriteServicesStop(s *sprites) *cobra.Command {
	f := &following{}
	var within time.Duration
	cmd := &cobra.Command{
		Use:     "stop NAME",
		Short:   "End a service until it is started again",
		Example: "  atoll sprite services stop web\n  atoll sprite services stop web --timeout 30s",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			err = g.StopService(cmd.Context(), args[0], within, func(e client.ServiceEvent) error { return s.show(f, e) })
			if err != nil {
				return noService(g, "stop", args[0], err)
			}
			return nil
		},
	}
	cmd.Flags().DurationVar(&within, "timeout", 10*time.Second, "how long to wait before it is killed")
	jsonFlag(cmd, &f.json)
	return cmd
}

// followFor is how long "logs -f" goes on: in effect until Ctrl-C.
const followFor = 30 * 24 * time.Hour

func newSpriteServicesLogs(s *sprites) *cobra.Command {
	f := &following{}
	var follow bool
	var lines int
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Show what a service wrote",
		Example: `  atoll sprite services logs web
  atoll sprite services logs -n 20 -f web`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			if follow {
				f.watch = followFor
			}
			err = g.ServiceLogs(cmd.Context(), args[0], lines, f.watch, func(e client.ServiceEvent) error { return s.show(f, e) })
			if follow && cmd.Context().Err() != nil {
				return nil // Ctrl-C is how it ends
			}
			if err != nil {
				return noService(g, "read the log of", args[0], err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until Ctrl-C")
	cmd.Flags().IntVarP(&lines, "lines", "n", 100, "how many of the last lines")
	jsonFlag(cmd, &f.json)
	return cmd
}

func newSpriteServicesSignal(s *sprites) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "signal NAME SIGNAL",
		Short:   "Send a signal to a service",
		Example: "  atoll sprite services signal web HUP",
		Args:    exactly("NAME", "SIGNAL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(strings.ToUpper(args[1]), "SIG")
			if err := g.SignalService(cmd.Context(), args[0], name); err != nil {
				return noService(g, "signal", args[0], err)
			}
			if asJSON {
				return s.printJSON(map[string]string{"name": args[0], "signal": name})
			}
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newSpriteServicesDelete(s *sprites) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "delete NAME…",
		Aliases: []string{"rm"},
		Short:   "Stop and remove services",
		Long:    `Stop and remove services. Their logs stay.`,
		Example: "  atoll sprite services delete web",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("missing argument: NAME")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			gone, err := forAll("delete service", args, func(_ int, name string) error { return g.DeleteService(cmd.Context(), name) })
			if client.IsNotFound(err) {
				err = (&failure{err: err, code: codeFailed}).hinted("\"atoll sprite services list\" shows them")
			}
			return errors.Join(err, s.printIDs(gone, asJSON))
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}
