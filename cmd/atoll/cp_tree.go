package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/atoll-cloud/atoll/client"
)

// Folders travel as one tar stream through a tar process in the sandbox: one
// round trip however many files there are, and modes, times and links are kept.

// treeIn copies the contents of a local folder to a folder in the sandbox.
func (c *copier) treeIn(ctx context.Context, src, target string) error {
	if err := c.g.MakeDir(ctx, target); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := c.g.Start(ctx, client.Command{Path: "tar", Args: []string{"-xpof", "-", "-C", target}, Stdin: true})
	if err != nil {
		return needsTar(err)
	}
	pr, pw := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := c.pack(src, pw)
		pw.CloseWithError(err)
		packed <- err
	}()
	fed := make(chan error, 1)
	go func() {
		err := client.Feed(ctx, c.progress.reader(pr), p.Write)
		if err == nil {
			err = p.CloseStdin(ctx)
		} else {
			p.Close() // half an archive must not look like a whole one
		}
		pr.CloseWithError(err)
		fed <- err
	}()
	exit, err := p.Copy(io.Discard, c.a.err)
	cancel()
	packErr, feedErr := <-packed, <-fed
	switch {
	case err == nil && exit.Code != 0:
		return fmt.Errorf("tar in the sandbox ended with exit code %d", exit.Code)
	case packErr != nil && !errors.Is(packErr, context.Canceled):
		return packErr
	case err != nil:
		return err
	case feedErr != nil && !errors.Is(feedErr, context.Canceled):
		return feedErr
	}
	return nil
}

func needsTar(err error) error {
	if strings.Contains(err.Error(), "not found") {
		return (&failure{err: err, code: codeFailed}).hinted("copying folders needs tar in the sandbox's template")
	}
	return err
}

// pack writes the contents of a folder as a tar archive.
func (c *copier) pack(dir string, w io.Writer) error {
	tw := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if p == dir { // dir may itself be a link to the folder
			if info, err = os.Stat(dir); err != nil {
				return err
			}
		}
		return c.packOne(tw, p, rel, info)
	})
	return errors.Join(err, closeIf(err == nil, tw))
}

// closeIf finishes an archive, but not one that is broken off.
func closeIf(whole bool, tw *tar.Writer) error {
	if !whole {
		return nil
	}
	return tw.Close()
}

func (c *copier) packOne(tw *tar.Writer, p, rel string, info fs.FileInfo) error {
	link := ""
	switch mode := info.Mode(); {
	case mode.IsDir(), mode.IsRegular():
	case mode&fs.ModeSymlink != 0:
		var err error
		if link, err = os.Readlink(p); err != nil {
			return err
		}
	default:
		c.a.note("skipped %s: neither file, folder nor link", p)
		return nil
	}
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name = "./" + filepath.ToSlash(rel)
	if info.IsDir() {
		h.Name += "/"
	}
	// Rounded up, as it would be, it lies in the future, of which tar warns.
	h.ModTime = h.ModTime.Truncate(time.Second)
	// Owners of this host mean nothing there.
	h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
	if !info.Mode().IsRegular() {
		return tw.WriteHeader(h)
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.Copy(tw, io.LimitReader(f, h.Size))
	if err == nil && n < h.Size {
		err = fmt.Errorf("%s became shorter while it was read", p)
	}
	return err
}

// treeOut copies the contents of a folder in the sandbox to a local one.
func (c *copier) treeOut(ctx context.Context, src, target string) error {
	if err := os.MkdirAll(target, 0o777); err != nil {
		return err
	}
	root, err := os.OpenRoot(target)
	if err != nil {
		return err
	}
	defer root.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := c.g.Start(ctx, client.Command{Path: "tar", Args: []string{"-cf", "-", "-C", src, "."}})
	if err != nil {
		return needsTar(err)
	}
	pr, pw := io.Pipe()
	unpacked := make(chan error, 1)
	go func() {
		err := c.unpack(c.progress.reader(pr), root)
		pr.CloseWithError(err) // nil: later writes fail, but there are none to come
		unpacked <- err
	}()
	exit, err := p.Copy(pw, c.a.err)
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("tar in the sandbox ended with exit code %d", exit.Code)
	}
	pw.CloseWithError(err)
	if unpackErr := <-unpacked; unpackErr != nil && err == nil || errors.Is(err, unpackErr) {
		return unpackErr
	}
	return err
}

// unpack writes an archive from a guest, which may be hostile, below root.
// Nothing outside is touched: os.Root sees to names, links that lead outside
// are left out, and so are devices and set-user-id bits.
func (c *copier) unpack(r io.Reader, root *os.Root) error {
	tr := tar.NewReader(r)
	late := unpackLast{modes: map[string]fs.FileMode{}}
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		name := filepath.Clean(filepath.FromSlash(h.Name))
		if !filepath.IsLocal(name) {
			return fmt.Errorf("the archive names %q, which is outside the folder", h.Name)
		}
		if err := c.unpackOne(tr, root, h, name, &late); err != nil {
			return err
		}
	}
	if err := c.finishUnpack(root, late); err != nil {
		return err
	}
	// tar pads its archive; the sender must be able to finish.
	_, err := io.Copy(io.Discard, r)
	return err
}

// unpackLast is what waits for the rest of the archive.
type unpackLast struct {
	modes map[string]fs.FileMode // of folders that their owner may not write to
	links []string               // to look at once they all are there
}

func (c *copier) finishUnpack(root *os.Root, late unpackLast) error {
	for _, name := range late.links {
		// Each link looked harmless; one through another may still lead outside.
		if _, err := root.Stat(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		c.a.note("removed link %s: it leads outside the folder, or nowhere", name)
		if err := root.Remove(name); err != nil {
			return err
		}
	}
	for name, mode := range late.modes {
		if err := root.Chmod(name, mode); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) unpackOne(tr *tar.Reader, root *os.Root, h *tar.Header, name string, late *unpackLast) error {
	mode := h.FileInfo().Mode().Perm()
	if h.Typeflag != tar.TypeDir {
		if err := root.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			return err
		}
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(name, 0o777); err != nil {
			return err
		}
		if mode&0o300 != 0o300 {
			late.modes[name] = mode
			return nil
		}
		return root.Chmod(name, mode)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, tr)
		if err := errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
			return err
		}
		return root.Chtimes(name, h.ModTime, h.ModTime)
	case tar.TypeSymlink:
		if !filepath.IsLocal(filepath.Join(filepath.Dir(name), h.Linkname)) || filepath.IsAbs(h.Linkname) {
			c.a.note("skipped link %s: it leads outside the folder, to %s", name, h.Linkname)
			return nil
		}
		late.links = append(late.links, name)
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return root.Link(filepath.Clean(h.Linkname), name)
	}
	c.a.note("skipped %s: neither file, folder nor link", name)
	return nil
}
