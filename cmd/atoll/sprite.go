package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

// spriteFile is the file that says which sprite a folder, and those in it, work
// with. "atoll sprite use" writes it.
const spriteFile = ".sprite"

// sprites is what all sprite commands share.
type sprites struct {
	*app
	name, org string // flags; empty when not given
}

func newSprite(a *app) *cobra.Command {
	s := &sprites{app: a}
	cmd := &cobra.Command{
		Use:     "sprite",
		Aliases: []string{"sprites"},
		Short:   "Machines with a name that keep everything",
		Long: `Sprites are machines with a name, a disk that stays, checkpoints and a URL. One
that nobody uses falls asleep; any command wakes it.

The commands work on the sprite that -s names, else on the one that "atoll sprite
use" chose for this folder or one above it (in the file .sprite).

They look for the server in this order: the flags --api-url and --api-key;
SPRITES_API_URL and SPRITE_TOKEN; E2B_API_URL and E2B_API_KEY; the file that
"atoll up" writes into its data directory.`,
		Example: `  atoll sprite create web                a sprite, and a console in it
  atoll sprite use web                   the sprite of this folder
  atoll sprite exec -- npm test
  atoll sprite checkpoint create --comment "before the upgrade"
  atoll sprite restore v1
  atoll sprite proxy 8080                localhost:8080 is the sprite's
  atoll sprite url update --auth public`,
		Args: noCommand("atoll sprite"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := cmd.PersistentFlags()
	f.StringVarP(&s.name, "sprite", "s", "", "the sprite (default: this folder's, see \"atoll sprite use\")")
	f.StringVarP(&s.org, "org", "o", "", "fail unless the API key belongs to this organisation")
	cmd.AddCommand(
		newSpriteCreate(s), newSpriteUse(s), newSpriteList(s), newSpriteInfo(s), newSpriteDestroy(s),
		newSpriteExec(s), newSpriteConsole(s), newSpriteAttach(s), newSpriteSessions(s),
		newSpriteCheckpoint(s), newSpriteRestore(s),
		newSpriteProxy(s), newSpriteURL(s), newSpriteConfig(s), newSpritePolicy(s),
		newSpriteServices(s), newSpriteFile(s),
		newSpriteUpgrade(s), newSpriteRestart(s),
	)
	explained(cmd)
	return cmd
}

// noCommand refuses words that are no command of a group.
func noCommand(group string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usage("unknown command %q for \"%s\"", args[0], group).hinted("\"" + group + " --help\" lists the commands")
		}
		return nil
	}
}

// explained gives the errors of all commands below cmd the hints that are for
// sprites.
func explained(cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		explained(c)
		if run := c.RunE; run != nil {
			c.RunE = func(cmd *cobra.Command, args []string) error { return spriteError(run(cmd, args)) }
		}
	}
}

// spriteError adds what usually mends an error.
func spriteError(err error) error {
	var f *failure
	if err == nil || errors.As(err, &f) {
		return err
	}
	f = &failure{err: err, code: codeFailed}
	switch client.Status(err) {
	case http.StatusNotFound:
		return f.hinted("\"atoll sprite list\" shows the sprites")
	case http.StatusUnauthorized:
		return f.hinted("\"atoll env\" prints the SPRITE_TOKEN of a server on this host")
	case http.StatusTooManyRequests:
		return f.hinted("destroy some sprites (atoll sprite list, atoll sprite destroy) or raise the team's limit")
	}
	return f
}

// here is what the file of a folder says.
type here struct {
	Organization string `json:"organization"`
	Sprite       string `json:"sprite"`
	path         string
}

// nearest finds the file in this folder or one above it; without one Sprite is
// empty.
func nearest() (here, error) {
	dir, err := os.Getwd()
	if err != nil {
		return here{}, err
	}
	for {
		h := here{path: filepath.Join(dir, spriteFile)}
		b, err := os.ReadFile(h.path)
		switch {
		case err == nil:
			if err := json.Unmarshal(b, &h); err != nil {
				return here{}, fmt.Errorf("read %s: %w", h.path, err)
			}
			return h, nil
		case !errors.Is(err, fs.ErrNotExist) && !isFolder(h.path):
			return here{}, err
		}
		up := filepath.Dir(dir)
		if up == dir {
			return here{}, nil
		}
		dir = up
	}
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// choose is the one place that decides which sprite a command works on: the
// word where the command takes one, else -s, else the folder's.
func (s *sprites) choose(word string) (string, error) {
	if word != "" && s.name != "" && word != s.name {
		return "", usage("-s says %q and the argument %q: name one sprite", s.name, word)
	}
	if name := first(word, s.name); name != "" {
		return name, nil
	}
	h, err := nearest()
	if err != nil {
		return "", err
	}
	if h.Sprite == "" {
		return "", usage("which sprite?").hinted("name it with -s, or choose one for this folder with \"atoll sprite use NAME\"")
	}
	return h.Sprite, nil
}

// connect returns a client of the Sprites API.
func (s *sprites) connect(ctx context.Context) (*client.Client, error) {
	t, err := s.targetOf("SPRITES_API_URL", "SPRITE_TOKEN")
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.Config{APIURL: t.APIURL, APIKey: t.APIKey, UserAgent: "atoll/" + version()})
	if err != nil {
		return nil, usage("%v", err)
	}
	if s.org == "" {
		return c, nil
	}
	_, org, err := c.Sprites(ctx, "")
	if err == nil && org.Name != s.org {
		err = usage("the API key belongs to the organisation %q, not to %q", org.Name, s.org)
	}
	return c, err
}

// chosen connects, and returns the way into the sprite that the command is for.
func (s *sprites) chosen(ctx context.Context) (*client.Client, *client.SpriteGuest, error) {
	c, name, err := s.named(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	return c, c.SpriteGuest(name), nil
}

// named is the sprite of a command that may be told its name, with a client.
func (s *sprites) named(ctx context.Context, args []string) (*client.Client, string, error) {
	name, err := s.choose(word(args))
	if err != nil {
		return nil, "", err
	}
	c, err := s.connect(ctx)
	return c, name, err
}

// word is the only argument of a command that may have one.
func word(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// atMost allows the named arguments, and to leave them out.
func atMost(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return usage("too many arguments, beginning with %q", args[len(names)])
		}
		return nil
	}
}

// counted counts things for people.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// listed splits values that may be given several times and with commas.
func listed(values []string) []string {
	var all []string
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if part = strings.TrimSpace(part); part != "" {
				all = append(all, part)
			}
		}
	}
	return all
}
