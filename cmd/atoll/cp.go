package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/wire/filesystem"
)

func newCp(a *app) *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use:   "cp SRC DST",
		Short: "Copy files and folders into and out of a sandbox",
		Long: `Copy a file or a folder into or out of a sandbox. One of the two is in a
sandbox and written ID:PATH; a relative PATH begins at the user's home. The other
is local; "-" is standard input or output. As with cp -r, something copied to a
folder that is there goes into it under its own name; SRC/. means what is in SRC.
Modes are kept, and in folders times and symbolic links; owners are not.`,
		Example: `  atoll cp main.py i4f:                      into the home folder
  atoll cp ./src i4f:/srv/app                 a folder
  atoll cp i4f:results/. out                  what is in results, to out
  atoll cp i4f:report.pdf -  | lp             to standard output
  pg_dump db | atoll cp - i4f:dump.sql        from standard input`,
		Args: exactly("SRC", "DST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			src, dst := parseLocation(args[0]), parseLocation(args[1])
			if (src.id == "") == (dst.id == "") {
				return usage("one of SRC and DST must be in a sandbox: ID:PATH").hinted("a local path with a colon is written ./NAME")
			}
			g, err := a.guest(cmd.Context(), first(src.id, dst.id), user)
			if err != nil {
				return err
			}
			c := &copier{trees: trees{a: a, progress: a.newProgress()}, g: g}
			defer c.progress.stop()
			if src.id == "" {
				return c.in(cmd.Context(), src.path, dst.path)
			}
			return c.out(cmd.Context(), src.path, dst.path)
		},
	}
	cmd.Flags().StringVarP(&user, "user", "u", "", "user in the sandbox, who will own what is copied there")
	return cmd
}

// location is a path on this host, or in a sandbox where id is not empty.
type location struct{ id, path string }

func parseLocation(s string) location {
	id, p, ok := strings.Cut(s, ":")
	if !ok || id == "" || strings.ContainsAny(id, "/.") {
		return location{path: s}
	}
	return location{id: id, path: first(p, ".")}
}

// copier is one "atoll cp".
type copier struct {
	trees
	g *client.Guest
}

// in copies from this host into the sandbox.
func (c *copier) in(ctx context.Context, src, dst string) error {
	if src == "-" {
		return c.g.Upload(ctx, dst, c.progress.reader(c.a.in))
	}
	info, err := os.Stat(src)
	if err != nil {
		return err
	}
	target, err := c.guestTarget(ctx, src, dst)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return c.treeIn(ctx, src, target)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is neither a file nor a folder", src)
	}
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	defer f.Close()
	c.progress.expect(info.Size())
	if err := c.g.Upload(ctx, target, c.progress.reader(f)); err != nil {
		return err
	}
	return c.keepMode(ctx, target, info.Mode().Perm())
}

// guestTarget is where in the sandbox something goes: into a folder that is
// there (or that a slash at the end says there is to be), else under the name given.
func (c *copier) guestTarget(ctx context.Context, src, dst string) (string, error) {
	name := filepath.Base(src)
	contents := name == "." || name == ".." || strings.HasSuffix(src, "/.")
	if !contents && strings.HasSuffix(dst, "/") {
		return path.Join(dst, name), nil
	}
	if contents {
		return dst, nil
	}
	e, err := c.g.Stat(ctx, dst)
	switch {
	case client.IsNotFound(err):
		return dst, nil
	case err != nil:
		return "", err
	case e.GetType() == filesystem.FileType_FILE_TYPE_DIRECTORY:
		return path.Join(dst, name), nil
	}
	return dst, nil
}

// keepMode gives a file that was just written the mode that it had here.
func (c *copier) keepMode(ctx context.Context, target string, want fs.FileMode) error {
	e, err := c.g.Stat(ctx, target)
	if err != nil {
		return err
	}
	if fs.FileMode(e.GetMode()).Perm() == want {
		return nil
	}
	// As root, because uploads, too, reach every folder.
	_, err = c.g.As("root").Output(ctx, client.Command{Path: "chmod", Args: []string{fmt.Sprintf("%04o", want), "--", e.GetPath()}}, 4<<10)
	if err != nil {
		return fmt.Errorf("keep mode of %s: %w", target, err)
	}
	return nil
}

// out copies from the sandbox to this host.
func (c *copier) out(ctx context.Context, src, dst string) error {
	if dst == "-" {
		return c.fileOut(ctx, src, c.a.out)
	}
	e, err := c.g.Stat(ctx, src)
	if err != nil {
		return err
	}
	if e.GetType() == filesystem.FileType_FILE_TYPE_SYMLINK {
		if e, err = c.g.Stat(ctx, e.GetSymlinkTarget()); err != nil {
			return err
		}
	}
	name := path.Base(src)
	contents := name == "." || name == ".." || strings.HasSuffix(src, "/.")
	target := dst
	if info, err := os.Stat(dst); !contents && (err == nil && info.IsDir() || strings.HasSuffix(dst, "/")) {
		target = filepath.Join(dst, name)
	}
	if e.GetType() == filesystem.FileType_FILE_TYPE_DIRECTORY {
		return c.treeOut(ctx, src, target)
	}
	c.progress.expect(e.GetSize())
	return c.fileTo(ctx, src, target, fs.FileMode(e.GetMode()).Perm())
}

// treeIn copies the contents of a local folder to a folder in the sandbox.
func (c *copier) treeIn(ctx context.Context, src, target string) error {
	if err := c.g.MakeDir(ctx, target); err != nil {
		return err
	}
	return c.send(ctx, src, c.tar(client.Command{Args: []string{"-xpof", "-", "-C", target}, Stdin: true}))
}

// treeOut copies the contents of a folder in the sandbox to a local one.
func (c *copier) treeOut(ctx context.Context, src, target string) error {
	return c.receive(ctx, target, c.tar(client.Command{Args: []string{"-cf", "-", "-C", src, "."}}))
}

// tar starts tar in the sandbox.
func (c *copier) tar(cmd client.Command) func(context.Context) (tarProcess, error) {
	cmd.Path = "tar"
	return func(ctx context.Context) (tarProcess, error) {
		p, err := c.g.Start(ctx, cmd)
		if err != nil && strings.Contains(err.Error(), "not found") {
			err = (&failure{err: err, code: codeFailed}).hinted("copying folders needs tar in the sandbox's template")
		}
		return sandboxTar{p, c.a.err}, err
	}
}

// sandboxTar is tar in a sandbox; what it complains of is shown at once.
type sandboxTar struct {
	*client.Process
	stderr io.Writer
}

func (t sandboxTar) wait(_ context.Context, w io.Writer) (failed, err error) {
	exit, err := t.Copy(w, t.stderr)
	if err == nil && exit.Code != 0 {
		failed = fmt.Errorf("tar in the sandbox ended with exit code %d", exit.Code)
	}
	return failed, err
}

// fileOut passes a guest's file to w.
func (c *copier) fileOut(ctx context.Context, src string, w io.Writer) error {
	r, size, err := c.g.Download(ctx, src)
	if err != nil {
		return err
	}
	defer r.Close()
	return c.progress.pass(w, r, src, size)
}

// fileTo writes a guest's file to a local name.
func (c *copier) fileTo(ctx context.Context, src, dst string, mode fs.FileMode) error {
	return replaceFile(dst, mode, func(w io.Writer) error { return c.fileOut(ctx, src, w) })
}

// replaceFile has a local file written. What is there is replaced only once all
// of it has come, unless it is no plain file (/dev/null, a pipe).
func replaceFile(dst string, mode fs.FileMode, write func(io.Writer) error) (err error) {
	if info, statErr := os.Stat(dst); statErr == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(dst, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(dst), ".atoll-cp-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := errors.Join(write(f), f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), dst)
}
