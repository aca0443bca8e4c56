package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

func newKeys(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "keys",
		Aliases: []string{"key"},
		Short:   "List, create and delete API keys",
		Long:    `List, create and delete API keys of the team that the present key belongs to.`,
		Example: `  atoll keys list
  atoll keys create ci
  atoll keys delete 6f9619ff-8b86-d011-b42d-00c04fc964ff`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("unknown command %q for \"atoll keys\"", args[0]).hinted("\"atoll keys --help\" lists the commands")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKeysList(a), newKeysCreate(a), newKeysDelete(a))
	return cmd
}

// keysError adds what most often mends a refusal.
func keysError(what string, err error) error {
	f := &failure{err: fmt.Errorf("%s: %w", what, err), code: codeFailed}
	switch client.Status(err) {
	case http.StatusNotFound, http.StatusBadRequest:
		return f.hinted("\"atoll keys list\" shows the keys and their ids")
	}
	return f
}

func newKeysList(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List API keys",
		Example: "  atoll keys list --json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			keys, err := c.Keys(cmd.Context())
			if err != nil {
				return keysError("list keys", err)
			}
			if asJSON {
				return a.printJSON(append([]client.APIKey{}, keys...))
			}
			rows := make([][]string, 0, len(keys))
			for _, k := range keys {
				used := "never"
				if k.LastUsed != nil && !k.LastUsed.IsZero() {
					used = ago(*k.LastUsed)
				}
				rows = append(rows, []string{k.ID, k.Name, k.Mask.String(), ago(k.CreatedAt), used})
			}
			a.table([]column{
				{title: "ID"}, {title: "NAME", min: 8}, {title: "KEY", min: 12},
				{title: "CREATED", drop: 1}, {title: "USED", drop: 2},
			}, rows)
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newKeysCreate(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make an API key and print it",
		Long:  "Make an API key and print it. It is shown this once: the server keeps only a hash.",
		Example: `  atoll keys create ci
  E2B_API_KEY=$(atoll keys create laptop)`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			k, err := c.CreateKey(cmd.Context(), args[0])
			if err != nil {
				return keysError("create key", err)
			}
			if asJSON {
				return a.printJSON(k)
			}
			if _, tty := isTerminal(a.out); tty {
				a.note("made key %s (%s); it is shown this once", k.Name, k.ID)
			}
			_, err = fmt.Fprintln(a.out, k.Key)
			return err
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newKeysDelete(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "delete ID",
		Aliases: []string{"rm"},
		Short:   "Make an API key worthless",
		Example: "  atoll keys delete 6f9619ff-8b86-d011-b42d-00c04fc964ff",
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			if err := c.DeleteKey(cmd.Context(), args[0]); err != nil {
				return keysError("delete key", err)
			}
			return nil
		},
	}
}
