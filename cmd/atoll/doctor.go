package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/doctor"
)

// Verdicts of a check.
const (
	verdictOK   = "OK"
	verdictWarn = "WARN"
	verdictFail = "FAIL"
)

// check is what doctor found out about one thing.
type check struct {
	Name    string `json:"name"`
	Verdict string `json:"verdict"`
	Found   string `json:"found"`
	Mend    string `json:"mend,omitempty"` // a command or a sentence; empty when OK
}

func okay(name, format string, args ...any) check {
	return check{Name: name, Verdict: verdictOK, Found: fmt.Sprintf(format, args...)}
}

func warn(name, found, mend string) check {
	return check{Name: name, Verdict: verdictWarn, Found: found, Mend: mend}
}

func fail(name, found, mend string) check {
	return check{Name: name, Verdict: verdictFail, Found: found, Mend: mend}
}

// checks are a room's findings; without any, all is well. The effect is said
// behind each.
func (h *host) checks(name, well, effect string, problems []doctor.Problem) []check {
	if len(problems) == 0 {
		return []check{okay(name, "%s", well)}
	}
	found := make([]check, 0, len(problems))
	for _, p := range problems {
		verdict := warn
		if p.Fatal {
			verdict = fail
		}
		found = append(found, verdict(name, p.What+effect, h.mend(p.Mend)))
	}
	return found
}

func newDoctor(a *app) *cobra.Command {
	var asJSON bool
	var listen string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this host lacks to run Atoll, and how to mend it",
		Long: `Say what this host lacks to run "atoll up", and how to mend it. Nothing is
changed on the host. FAIL: Atoll does not run, and the exit code is 1. WARN: it
runs, with less.`,
		Example: `  sudo atoll doctor
  sudo atoll doctor --data /srv/atoll --listen 0.0.0.0:3000
  sudo atoll doctor --json | jq '.[] | select(.verdict != "OK")'`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks := a.examine(cmd.Context(), listen)
			failed := 0
			for _, c := range checks {
				if c.Verdict == verdictFail {
					failed++
				}
			}
			if asJSON {
				if err := a.printJSON(checks); err != nil {
					return err
				}
			} else {
				a.doctorTable(checks, failed)
			}
			if failed > 0 {
				return exitWith(codeFailed)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:3000", "address that the server is to listen on")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// examine makes all checks, in the order in which a person would mend things.
func (a *app) examine(ctx context.Context, listen string) []check {
	h := thisHost()
	data := a.dataDir()
	all := []check{h.root(), h.capabilities(), h.kernel(), h.systrap(), h.seccomp(), h.cgroups(), h.space(data), h.memory()}
	if h.euid == 0 {
		all = append(all, h.disks(data)...)
		all = append(all, h.network()...)
		all = append(all, h.base()...)
	} else {
		all = append(all, warn("disks and network", "not known before this runs as root", "sudo atoll doctor"))
	}
	return append(all, a.port(ctx, listen), h.limits(), h.clock())
}

func (a *app) doctorTable(checks []check, failed int) {
	rows := make([][]string, 0, len(checks))
	for _, c := range checks {
		rows = append(rows, []string{c.Verdict, c.Name, c.Found})
	}
	a.table([]column{
		{title: "VERDICT", paint: verdictStyle},
		{title: "CHECK"},
		{title: "FOUND", min: 20},
	}, rows)
	// Commands to paste stand on lines of their own and are never cut.
	heading := false
	for _, c := range checks {
		if c.Mend == "" {
			continue
		}
		if !heading {
			fmt.Fprintf(a.out, "\n%s\n", a.paint(a.out, bold, "How to mend it:"))
			heading = true
		}
		fmt.Fprintf(a.out, "  %s\n%s\n      %s\n", a.paint(a.out, verdictStyle(c.Verdict), c.Name),
			wrapped(printable(c.Found), "    ", width(a.out)), c.Mend)
	}
	if failed == 0 {
		fmt.Fprintf(a.out, "\n%s\n", a.paint(a.out, green, "Atoll can run here."))
		return
	}
	fmt.Fprintf(a.out, "\n%s\n", a.paint(a.out, red, fmt.Sprintf("Atoll cannot run here yet: %d to mend.", failed)))
}

func verdictStyle(v string) style {
	switch v {
	case verdictOK:
		return green
	case verdictWarn:
		return yellow
	case verdictFail:
		return red
	}
	return ""
}
