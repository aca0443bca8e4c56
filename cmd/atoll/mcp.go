package main

import (
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/mcp"
)

func newMCP(a *app) *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "mcp",
		Short: "Offer sandboxes to agents over the Model Context Protocol",
		Long: `Serve the Model Context Protocol: tools with which an agent makes sandboxes, runs
code and commands in them, and reads and writes their files.

Without flags it speaks over standard input and output, as agents start it
themselves. With --listen it serves streamable HTTP at ` + mcp.Path + ` to those who send
the API key as a bearer token; the way there should be encrypted, or local.`,
		Example: `  atoll mcp
  atoll mcp --listen 127.0.0.1:3010`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := a.target()
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			s := mcp.New(c, version())
			if listen == "" {
				return s.Pipe(cmd.Context(), a.in, a.out)
			}
			l, err := net.Listen("tcp", listen)
			if err != nil {
				return fmt.Errorf("listen for agents: %w", err)
			}
			a.note("serving agents at http://%s%s; they must send the API key as a bearer token", l.Addr(), mcp.Path)
			return s.Serve(cmd.Context(), l, t.APIKey)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "", "serve HTTP on this address, such as 127.0.0.1:3010")
	return cmd
}
