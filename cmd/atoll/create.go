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
}

func (c *createFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.template, "template", defaultTemplate, "what to make the sandbox from; \"atoll templates\" lists them")
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
	return n, nil
}

// createError adds what most often mends a refusal.
func createError(err error) error {
	f := &failure{err: fmt.Errorf("create sandbox: %w", err), code: codeFailed}
	if client.IsNotFound(err) {
		return f.hinted("\"atoll templates\" lists what sandboxes can be made from")
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
	cmd.Flags().DurationVar(&c.timeout, "timeout", 5*time.Minute, "how long the sandbox lives; 0 is for ever, where the operator allows it")
	cmd.Flags().StringArrayVarP(&env, "env", "e", nil, "set KEY=VALUE for all programs in it, or KEY to pass on yours (repeatable)")
	jsonFlag(cmd, &asJSON)
	return cmd
}
