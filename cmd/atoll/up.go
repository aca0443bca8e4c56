package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
)

// upConfig is what "atoll up" was asked for.
type upConfig struct {
	Data   string // data directory
	Listen string // address of the one port
	Domain string // guests are reached at <port>-<id>.<Domain>; empty: .localhost
	Demo   bool   // show the main job once the server is ready
}

// serve runs the server until ctx ends.
var serve = func(ctx context.Context, cfg upConfig) error { return errors.New("not wired yet") }

func newUp(a *app) *cobra.Command {
	var cfg upConfig
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start the server",
		Example: `  atoll up
  atoll up --data /srv/atoll --listen 0.0.0.0:3000 --domain sandboxes.example.com
  atoll up --demo        start, then show the main job`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Data = a.dataDir()
			return serve(cmd.Context(), cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Listen, "listen", "127.0.0.1:3000", "address and port to listen on; the only one")
	f.StringVar(&cfg.Domain, "domain", "", "domain under which sandboxes are reached")
	f.BoolVar(&cfg.Demo, "demo", false, "show the main job once the server is ready")
	return cmd
}
