package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

// defaultTemplate is what the server builds at its first start.
const defaultTemplate = "base"

// createFlags are what create and run have in common.
type createFlags struct {
	template   string
	timeout    time.Duration
	metadata   []string
	secure     bool
	noInternet bool
	idle       idleFlags
}

// idleFlags are create's alone: what becomes of a sandbox when nobody uses it.
type idleFlags struct {
	onTimeout  string
	autoResume bool
	diskOnly   bool
}

func (i *idleFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&i.onTimeout, "on-timeout", "kill", "what to do at the time-out: kill, or pause until a resume")
	f.BoolVar(&i.autoResume, "auto-resume", false, "let any request or command wake the sandbox after it was paused")
	f.BoolVar(&i.diskOnly, "disk-only", false, "keep the disk alone when the time-out pauses the sandbox")
}

// request adds the flags to the body of the create call.
func (i *idleFlags) request(n *client.NewSandbox) error {
	switch i.onTimeout {
	case "", "kill":
		if i.autoResume || i.diskOnly {
			return usage("--auto-resume and --disk-only are for sandboxes that pause at their time-out").hinted("add --on-timeout pause")
		}
		return nil
	case "pause":
	default:
		return usage("--on-timeout %q: use kill or pause", i.onTimeout)
	}
	n.AutoPause = true
	switch {
	case i.autoResume && i.diskOnly:
		return usage("--auto-resume needs the memory that --disk-only gives up; use one of them")
	case i.autoResume:
		n.AutoResume = &client.AutoResume{Enabled: true}
	case i.diskOnly:
		n.AutoPauseMemory = new(bool)
	}
	return nil
}

func (c *createFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.template, "template", defaultTemplate, "what to make the sandbox from, a template or a snapshot")
	f.StringArrayVar(&c.metadata, "metadata", nil, "label the sandbox with KEY=VALUE (repeatable)")
	f.BoolVar(&c.secure, "secure", true, "ask for an access token on every request to the sandbox")
	f.BoolVar(&c.noInternet, "no-internet", false, "give the sandbox no way out to the internet")
}

// request is the body of the create call, without its time-out.
func (c *createFlags) request(env []string, getenv func(string) string) (client.NewSandbox, error) {
	n := client.NewSandbox{TemplateID: c.template, Secure: c.secure}
	var err error
	if n.Metadata, err = pairs("--metadata", c.metadata, nil); err != nil {
		return n, err
	}
	if n.EnvVars, err = pairs("--env", env, getenv); err != nil {
		return n, err
	}
	if c.noInternet {
		n.AllowInternetAccess = new(bool)
	}
	if c.timeout < 0 {
		return n, usage("--timeout must not be negative")
	}
	return n, c.idle.request(&n)
}

// createError adds what most often mends a refusal.
func createError(err error) error {
	f := &failure{err: fmt.Errorf("create sandbox: %w", err), code: codeFailed}
	if client.IsNotFound(err) {
		return f.hinted("\"atoll templates\" and \"atoll snapshot ls\" list what sandboxes can be made from")
	}
	return f
}

func newCreate(a *app) *cobra.Command {
	var c createFlags
	var env []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a sandbox and print its id",
		Example: `  atoll create
  id=$(atoll create --timeout 1h --metadata project=demo -e TOKEN)
  atoll create --on-timeout pause --auto-resume
  atoll create --template base --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := c.request(env, a.env)
			if err != nil {
				return err
			}
			seconds := client.Seconds(c.timeout)
			n.Timeout = &seconds
			cl, err := a.client()
			if err != nil {
				return err
			}
			s, err := cl.Create(cmd.Context(), n)
			if err != nil {
				return createError(err)
			}
			if asJSON {
				return a.printJSON(s)
			}
			_, err = fmt.Fprintln(a.out, s.SandboxID)
			return err
		},
	}
	c.register(cmd)
	c.idle.register(cmd)
	cmd.Flags().DurationVar(&c.timeout, "timeout", 5*time.Minute, "how long the sandbox lives; 0 is for ever, where the operator allows it")
	cmd.Flags().StringArrayVarP(&env, "env", "e", nil, "set KEY=VALUE for all programs in it, or KEY to pass on yours (repeatable)")
	jsonFlag(cmd, &asJSON)
	return cmd
}
