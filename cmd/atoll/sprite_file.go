package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

func newSpriteFile(s *sprites) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "file",
		Aliases: []string{"files"},
		Short:   "Copy files to and from a sprite, and edit them",
		Long:    `Copy files and folders to and from a sprite, and edit them. Relative paths in the sprite begin at the user's home.`,
		Example: `  atoll sprite file push main.py .
  atoll sprite file push ./src /srv/app
  atoll sprite file pull results/. out
  atoll sprite file edit .bashrc`,
		Args: noCommand("atoll sprite file"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSpriteFilePush(s), newSpriteFilePull(s), newSpriteFileEdit(s), newSpriteFileList(s), newSpriteFileRm(s))
	return cmd
}

// spriteCopy is one copy to or from a sprite.
type spriteCopy struct {
	trees
	s *sprites
	g *client.SpriteGuest
}

func (s *sprites) newCopy(g *client.SpriteGuest) *spriteCopy {
	return &spriteCopy{trees: trees{a: s.app, progress: s.newProgress()}, s: s, g: g}
}

func newSpriteFilePush(s *sprites) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "push LOCAL REMOTE",
		Short: "Copy a file or a folder into a sprite",
		Long: `Copy a file or a folder into a sprite. As with cp -r, something copied to a folder
that is there, or to a name that ends in a slash, goes into it; LOCAL/. means what is
in LOCAL, and "-" is standard input. Modes are kept, owners are not.`,
		Example: `  atoll sprite file push main.py .
  atoll sprite file push -s web ./src /srv/app
  pg_dump db | atoll sprite file push - dump.sql`,
		Args: exactly("LOCAL", "REMOTE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var info fs.FileInfo
			if args[0] != "-" {
				var err error
				if info, err = os.Stat(args[0]); err != nil {
					return err
				}
			}
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			c := s.newCopy(g)
			err = c.push(cmd.Context(), args[0], args[1], info)
			c.progress.stop()
			if err != nil || !asJSON {
				return err
			}
			return s.printJSON(copied{g.Name(), args[1], c.progress.done.Load()})
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// copied is what a copy tells programs: of which sprite, where it went, and how
// many bytes passed.
type copied struct {
	Sprite string `json:"sprite"`
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
}

// push copies something here, of which info is nil for standard input, into the
// sprite.
func (c *spriteCopy) push(ctx context.Context, local, remote string, info fs.FileInfo) error {
	if info == nil {
		return c.g.WriteFile(ctx, remote, 0o644, c.progress.reader(c.s.in))
	}
	target, err := c.target(ctx, local, remote)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return c.pushTree(ctx, local, target)
	}
	f, err := os.Open(local)
	if err != nil {
		return err
	}
	defer f.Close()
	c.progress.expect(info.Size())
	return c.g.WriteFile(ctx, target, info.Mode().Perm(), c.progress.reader(f))
}

// target is where in the sprite something goes: into a folder that is there, or
// that a slash at the end says there is to be, else under the name given.
func (c *spriteCopy) target(ctx context.Context, local, remote string) (string, error) {
	name := filepath.Base(local)
	switch {
	case name == "." || name == ".." || strings.HasSuffix(local, "/."):
		return remote, nil
	case strings.HasSuffix(remote, "/"):
		return path.Join(remote, name), nil
	}
	folder, _, err := c.look(ctx, remote)
	switch {
	case client.IsNotFound(err) || err == nil && !folder:
		return remote, nil
	case err != nil:
		return "", fmt.Errorf("look at %s: %w", remote, err)
	}
	return path.Join(remote, name), nil
}

// look tells whether a path in the sprite is a folder, and the mode of a file.
func (c *spriteCopy) look(ctx context.Context, remote string) (folder bool, mode fs.FileMode, err error) {
	entries, err := c.g.Files(ctx, remote)
	if err != nil {
		return false, 0, err
	}
	// A file is listed as itself, a folder as what is in it.
	if len(entries) == 1 && !entries[0].IsDir && path.Base(entries[0].Path) == path.Base(remote) {
		inside, err := c.g.Files(ctx, path.Join(remote, entries[0].Name))
		if err != nil || len(inside) == 0 {
			return false, entries[0].Perm(), nil
		}
	}
	return true, 0, nil
}

// pushTree copies what is in a folder here to one in the sprite.
func (c *spriteCopy) pushTree(ctx context.Context, local, target string) error {
	return c.send(ctx, local, c.tar("unpack", client.SpriteCommand{Stdin: true,
		Args: []string{"sh", "-c", `mkdir -p -- "$1" && exec tar -xpof - -C "$1"`, "sh", target}}))
}

func newSpriteFilePull(s *sprites) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "pull REMOTE [LOCAL]",
		Short: "Copy a file or a folder out of a sprite",
		Long: `Copy a file or a folder out of a sprite, into this folder unless LOCAL says
otherwise; "-" is standard output.`,
		Example: `  atoll sprite file pull report.pdf
  atoll sprite file pull -s web /srv/app/. app
  atoll sprite file pull notes.txt - | less`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("missing argument: REMOTE")
			}
			return atMost("REMOTE", "LOCAL")(nil, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			local := "."
			if len(args) > 1 {
				local = args[1]
			}
			if local == "-" && asJSON {
				return usage("--json and the file itself cannot both go to standard output")
			}
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			c := s.newCopy(g)
			err = c.pull(cmd.Context(), args[0], local)
			c.progress.stop()
			if err != nil || !asJSON {
				return err
			}
			return s.printJSON(copied{g.Name(), local, c.progress.done.Load()})
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// pull copies something in the sprite to this host.
func (c *spriteCopy) pull(ctx context.Context, remote, local string) error {
	if local == "-" {
		return c.read(ctx, remote, c.s.out)
	}
	folder, mode, err := c.look(ctx, remote)
	if err != nil {
		return fmt.Errorf("look at %s: %w", remote, err)
	}
	target := local
	name := path.Base(remote)
	contents := name == "." || name == ".." || strings.HasSuffix(remote, "/.")
	if !contents && (isFolder(local) || strings.HasSuffix(local, "/")) {
		target = filepath.Join(local, name)
	}
	if folder {
		return c.pullTree(ctx, remote, target)
	}
	return c.pullFile(ctx, remote, target, mode)
}

// read passes a file of the sprite to w.
func (c *spriteCopy) read(ctx context.Context, remote string, w io.Writer) error {
	r, size, err := c.g.ReadFile(ctx, remote)
	if err != nil {
		return err
	}
	defer r.Close()
	c.progress.expect(max(size, 0))
	return c.progress.pass(w, r, remote, size)
}

// pullFile writes a file of the sprite to a local name.
func (c *spriteCopy) pullFile(ctx context.Context, remote, target string, mode fs.FileMode) error {
	return replaceFile(target, mode, func(w io.Writer) error { return c.read(ctx, remote, w) })
}

// pullTree copies what is in a folder of the sprite to a local one.
func (c *spriteCopy) pullTree(ctx context.Context, remote, target string) error {
	return c.receive(ctx, target, c.tar("pack", client.SpriteCommand{Args: []string{"tar", "-cf", "-", "-C", remote, "."}}))
}

// tar starts tar in the sprite. The verb says in errors what it is to do.
func (c *spriteCopy) tar(verb string, cmd client.SpriteCommand) func(context.Context) (tarProcess, error) {
	return func(ctx context.Context) (tarProcess, error) {
		p, err := c.g.Start(ctx, cmd)
		return spriteTar{p, verb}, err
	}
}

// spriteTar is tar in a sprite; what it complains of is in its error.
type spriteTar struct {
	*client.SpriteProcess
	verb string
}

func (t spriteTar) wait(ctx context.Context, w io.Writer) (failed, err error) {
	said := &bytes.Buffer{}
	code, err := t.Copy(ctx, w, said)
	if err == nil && code != 0 {
		failed = fmt.Errorf("%s in the sprite: exit code %d: %s", t.verb, code, oneLine(said.String()))
	}
	return failed, err
}

func newSpriteFileEdit(s *sprites) *cobra.Command {
	return &cobra.Command{
		Use:   "edit REMOTE",
		Short: "Edit a file of a sprite with your editor",
		Long: `Edit a file of a sprite with $VISUAL or $EDITOR here. It is written back once the
editor has ended, if it was changed. A file that is not there is made.`,
		Example: `  atoll sprite file edit .bashrc
  EDITOR=nano atoll sprite file edit -s web /srv/app/config.json`,
		Args: exactly("REMOTE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			c := s.newCopy(g)
			c.progress.stop() // the editor has the terminal
			return c.edit(cmd.Context(), args[0])
		},
	}
}

func (c *spriteCopy) edit(ctx context.Context, remote string) error {
	mode := fs.FileMode(0o644)
	folder, had, err := c.look(ctx, remote)
	there := err == nil
	switch {
	case there && folder:
		return fmt.Errorf("%s is a folder", remote)
	case there:
		mode = had
	case !client.IsNotFound(err):
		return fmt.Errorf("look at %s: %w", remote, err)
	}
	dir, err := os.MkdirTemp("", "atoll-edit-*")
	if err != nil {
		return err
	}
	local := filepath.Join(dir, path.Base(remote)) // its name tells editors what it is
	var before []byte
	if there {
		if err := c.pullFile(ctx, remote, local, 0o600); err != nil {
			return errors.Join(err, os.RemoveAll(dir))
		}
		if before, err = os.ReadFile(local); err != nil {
			return err
		}
	}
	editor := first(c.s.env("VISUAL"), c.s.env("EDITOR"), "vi")
	ed := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, "sh", local)
	ed.Stdin, ed.Stdout, ed.Stderr = c.s.in, c.s.out, c.s.err
	if err := ed.Run(); err != nil {
		return fmt.Errorf("run %s: %w; %s is as it was", editor, err, remote)
	}
	after, err := os.ReadFile(local)
	if errors.Is(err, fs.ErrNotExist) || err == nil && there && bytes.Equal(before, after) {
		c.s.note("%s is as it was", remote)
		return os.RemoveAll(dir)
	}
	if err != nil {
		return err
	}
	if err := c.g.WriteFile(ctx, remote, mode, bytes.NewReader(after)); err != nil {
		return fmt.Errorf("%w; what you wrote is in %s", err, local)
	}
	return os.RemoveAll(dir)
}

func newSpriteFileList(s *sprites) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "list [REMOTE]",
		Aliases: []string{"ls"},
		Short:   "List a folder of a sprite",
		Example: `  atoll sprite file list
  atoll sprite file list /srv --json`,
		Args: atMost("REMOTE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			where := first(word(args), ".")
			all, err := g.Files(cmd.Context(), where)
			if err != nil {
				return fmt.Errorf("list %s: %w", where, err)
			}
			if asJSON {
				return s.printJSON(append([]client.SpriteFile{}, all...))
			}
			rows := make([][]string, 0, len(all))
			for _, f := range all {
				name, size := f.Name, bytesText(f.Size)
				if f.IsDir {
					name, size = name+"/", "-"
				}
				rows = append(rows, []string{f.Mode, size, ago(f.ModTime), name})
			}
			s.table([]column{{title: "MODE", drop: 2}, {title: "SIZE", right: true}, {title: "CHANGED", drop: 1}, {title: "NAME", min: 12}}, rows)
			return nil
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newSpriteFileRm(s *sprites) *cobra.Command {
	var recursive, asJSON bool
	cmd := &cobra.Command{
		Use:     "rm REMOTE…",
		Short:   "Remove files of a sprite",
		Example: "  atoll sprite file rm notes.txt\n  atoll sprite file rm -r /srv/app",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("missing argument: REMOTE")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			_, g, err := s.chosen(cmd.Context())
			if err != nil {
				return err
			}
			gone, err := forAll("remove", args, func(_ int, remote string) error { return g.RemoveFile(cmd.Context(), remote, recursive) })
			if err != nil || !asJSON {
				return err
			}
			return s.printJSON(gone)
		},
	}
	jsonFlag(cmd, &asJSON)
	cmd.Flags().BoolVarP(&recursive, "recursive", "r", false, "folders with all in them")
	return cmd
}
