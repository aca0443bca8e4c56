package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func newEnv(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print the lines that point SDKs at this Atoll",
		Long: `Print the lines that point SDKs at the Atoll of a data directory: E2B's, and
those of Sprites.
They hold the API key: give them to people who may use it.`,
		Example: `  eval "$(atoll env)"
  atoll env --data /srv/atoll
  atoll env --json`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			c, err := readCredentials(a.dataDir())
			if err != nil {
				return noCredentials(a.dataDir(), err)
			}
			if asJSON {
				return a.printJSON(exports(c))
			}
			printExports(a.out, c)
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// exports is what E2B's SDKs, and programs that use those of Sprites, read from
// the environment.
func exports(c credentials) map[string]string {
	return map[string]string{
		"E2B_API_KEY":     c.APIKey,
		"E2B_API_URL":     c.APIURL,
		"E2B_SANDBOX_URL": first(c.SandboxURL, c.APIURL),
		"SPRITE_TOKEN":    c.APIKey,
		"SPRITES_API_URL": c.APIURL,
	}
}

// printExports writes the lines for a shell to read.
func printExports(w io.Writer, c credentials) {
	m := exports(c)
	for _, k := range []string{"E2B_API_KEY", "E2B_API_URL", "E2B_SANDBOX_URL", "SPRITE_TOKEN", "SPRITES_API_URL"} {
		fmt.Fprintf(w, "export %s=%s\n", k, shellWord(m[k]))
	}
}

// shellWord quotes a word for a shell where it must be.
func shellWord(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:@%+,=", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
