package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

// spriteCreate are the flags of "atoll sprite create".
type spriteCreate struct {
	skipConsole bool
	from        string
	labels, env []string
	auth        string
	orgAccess   bool
	json        bool
}

func newSpriteCreate(s *sprites) *cobra.Command {
	var f spriteCreate
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a sprite, and open a console in it",
		Long: `Make a sprite. Its name is part of its URL: lower-case letters, digits and
hyphens. At a terminal a console opens in it; --skip-console leaves that out.
With --from it begins as another sprite was at a checkpoint; NAME alone is that
sprite's newest one.

With --org-access programs in it may use the API as your team does, over
/.sprite/api.sock: make, use and destroy sprites of the team. Give it to code that
you would give your token; "atoll sprite config update" takes it away again.`,
		Example: `  atoll sprite create web
  atoll sprite create --skip-console web
  atoll sprite create --from web@v3 web-again
  atoll sprite create web --label team=blue -e TOKEN --json`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), s, args[0]) },
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.skipConsole, "skip-console", false, "do not open a console")
	fl.StringVar(&f.from, "from", "", "begin as another sprite was at a checkpoint: NAME@v3")
	fl.StringArrayVar(&f.labels, "label", nil, "label the sprite (repeatable)")
	fl.StringArrayVarP(&f.env, "env", "e", nil, "set KEY=VALUE for all programs in it, or KEY to pass on yours (repeatable)")
	fl.StringVar(&f.auth, "url-auth", "", "who may use its URL: sprite (your team) or public")
	fl.BoolVar(&f.orgAccess, "org-access", false, "let programs in it use the API as your team")
	jsonFlag(cmd, &f.json)
	return cmd
}

func (f *spriteCreate) run(ctx context.Context, s *sprites, name string) error {
	n := client.NewSprite{Name: name, Labels: listed(f.labels), OrgAccess: f.orgAccess}
	var err error
	if n.Environment, err = pairs("--env", f.env, s.env); err != nil {
		return err
	}
	if f.auth != "" {
		auth, err := urlAuth("--url-auth", f.auth)
		if err != nil {
			return err
		}
		n.URLSettings = &client.SpriteURL{Auth: auth}
	}
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if n.From, err = fromCheckpoint(ctx, c, f.from); err != nil {
		return err
	}
	w := s.begin("creating %s", name)
	defer w.done()
	made, err := c.CreateSprite(ctx, n)
	w.done()
	switch {
	case client.Status(err) == 409:
		return (&failure{err: fmt.Errorf("create sprite %s: %w", name, err), code: codeFailed}).hinted("\"atoll sprite console -s " + name + "\" opens the one that is there")
	case err != nil:
		return fmt.Errorf("create sprite %s: %w", name, err)
	case f.json:
		return s.printJSON(made)
	}
	_, in := isTerminal(s.in)
	_, out := isTerminal(s.out)
	if f.skipConsole || !in || !out {
		_, err := fmt.Fprintln(s.out, made.Name)
		return err
	}
	s.note("created %s in %s; its URL is %s", made.Name, w.took(), made.URL)
	return s.console(ctx, c.SpriteGuest(made.Name), client.SpriteCommand{}, true)
}

// fromCheckpoint reads NAME@v3, or NAME for its newest checkpoint.
func fromCheckpoint(ctx context.Context, c *client.Client, text string) (*client.CheckpointRef, error) {
	if text == "" {
		return nil, nil
	}
	sprite, id, given := strings.Cut(text, "@")
	if sprite == "" || given && id == "" {
		return nil, usage("--from %q must look like NAME@v3", text)
	}
	if !given {
		all, err := c.SpriteGuest(sprite).Checkpoints(ctx, false)
		if err != nil {
			return nil, fmt.Errorf("list checkpoints of %s: %w", sprite, err)
		}
		newest := client.Checkpoint{}
		for _, cp := range all {
			if cp.CreatedAt.After(newest.CreatedAt) && cp.ID != currentCheckpoint {
				newest = cp
			}
		}
		if id = newest.ID; id == "" {
			return nil, (&failure{err: fmt.Errorf("%s has no checkpoint to begin from", sprite), code: codeFailed}).
				hinted("take one: atoll sprite checkpoint create -s " + sprite)
		}
	}
	return &client.CheckpointRef{Sprite: sprite, Checkpoint: id}, nil
}

func newSpriteUse(s *sprites) *cobra.Command {
	var unset, asJSON bool
	cmd := &cobra.Command{
		Use:   "use [NAME]",
		Short: "Choose the sprite that this folder works with",
		Long: `Choose the sprite that commands in this folder, and in those below it, work on
when no -s names one. The choice is kept in the file .sprite. Without a name it
tells which one is chosen.`,
		Example: `  atoll sprite use web
  atoll sprite use
  atoll sprite use --unset`,
		Args: atMost("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := first(word(args), s.name)
			if name == "" && !unset {
				return s.using(asJSON)
			}
			if unset {
				if err := os.Remove(spriteFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
				return nil
			}
			c, err := s.connect(cmd.Context())
			if err != nil {
				return err
			}
			one, err := c.Sprite(cmd.Context(), name)
			if err != nil {
				return fmt.Errorf("use sprite %s: %w", name, err)
			}
			h := here{Organization: one.Organization, Sprite: one.Name}
			b, err := json.MarshalIndent(h, "", "  ")
			if err != nil {
				return err
			}
			if err := os.WriteFile(spriteFile, append(b, '\n'), 0o644); err != nil {
				return err
			}
			if asJSON {
				return s.printJSON(h)
			}
			s.note("this folder works with %s now", one.Name)
			return nil
		},
	}
	cmd.Flags().BoolVar(&unset, "unset", false, "forget this folder's choice")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// using tells which sprite is chosen.
func (s *sprites) using(asJSON bool) error {
	h, err := nearest()
	if err != nil {
		return err
	}
	switch {
	case asJSON:
		return s.printJSON(h)
	case h.Sprite == "":
		return (&failure{err: errors.New("no sprite is chosen for this folder"), code: codeFailed}).hinted("\"atoll sprite use NAME\" chooses one")
	}
	_, err = fmt.Fprintln(s.out, h.Sprite)
	return err
}

func newSpriteDestroy(s *sprites) *cobra.Command {
	var force, asJSON bool
	cmd := &cobra.Command{
		Use:     "destroy [NAME]",
		Aliases: []string{"delete", "rm"},
		Short:   "Remove a sprite, its disk and its checkpoints for ever",
		Example: `  atoll sprite destroy web
  atoll sprite destroy --force -s web`,
		Args: atMost("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			// Not the folder's unless a person is there to see its name.
			c, name, err := s.named(cmd.Context(), args)
			if err != nil {
				return err
			}
			if !force {
				if err := s.confirm(fmt.Sprintf("Destroy sprite %s with its disk and all its checkpoints, for ever?", name)); err != nil {
					return err
				}
			}
			if err := c.DeleteSprite(cmd.Context(), name); err != nil {
				return fmt.Errorf("destroy sprite %s: %w", name, err)
			}
			if h, err := nearest(); err == nil && h.Sprite == name {
				if err := os.Remove(h.path); err == nil {
					s.note("removed %s, which chose it", h.path)
				}
			}
			if asJSON {
				return s.printJSON(map[string]string{"name": name})
			}
			_, err = fmt.Fprintln(s.out, name)
			return err
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// confirm asks the person at the terminal. Where there is none it is refused.
func (s *sprites) confirm(question string) error {
	if _, tty := isTerminal(s.in); !tty {
		return usage("there is nobody to ask").hinted("--force goes ahead without asking")
	}
	fmt.Fprintf(s.err, "%s [y/N] ", oneLine(question))
	answer, err := bufio.NewReader(io.LimitReader(s.in, 1<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return &failure{err: errors.New("left as it is"), code: codeFailed}
}
