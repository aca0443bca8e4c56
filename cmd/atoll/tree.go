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
	"time"

	"github.com/atoll-cloud/atoll/client"
)

// trees copies folders to and from guests. They travel as one tar stream
// through a tar process in the guest: one round trip however many files there
// are, and modes, times and links are kept.
type trees struct {
	a        *app
	progress *progress
}

// tarProcess is tar at work in a guest.
type tarProcess interface {
	Write(ctx context.Context, b []byte) error
	CloseStdin(ctx context.Context) error
	Close() error
	// wait passes what tar writes to w until it ends. It says what tar failed
	// at, or why it is not known how tar ended.
	wait(ctx context.Context, w io.Writer) (failed, err error)
}

// send copies the contents of a folder here to where a tar process unpacks it.
func (t *trees) send(ctx context.Context, dir string, start func(context.Context) (tarProcess, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := start(ctx)
	if err != nil {
		return err
	}
	pr, pw := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := t.pack(dir, pw)
		pw.CloseWithError(err)
		packed <- err
	}()
	fed := make(chan error, 1)
	go func() {
		err := client.Feed(ctx, t.progress.reader(pr), p.Write)
		if err == nil {
			err = p.CloseStdin(ctx)
		} else {
			p.Close() // half an archive must not look like a whole one
		}
		pr.CloseWithError(err)
		fed <- err
	}()
	failed, err := p.wait(ctx, io.Discard)
	cancel()
	packErr, feedErr := <-packed, <-fed
	switch {
	case failed != nil:
		return failed
	case packErr != nil && !errors.Is(packErr, context.Canceled):
		return packErr
	case err != nil:
		return err
	case feedErr != nil && !errors.Is(feedErr, context.Canceled):
		return feedErr
	}
	return nil
}

// receive copies what a tar process packs to a folder here.
func (t *trees) receive(ctx context.Context, dir string, start func(context.Context) (tarProcess, error)) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := start(ctx)
	if err != nil {
		return err
	}
	pr, pw := io.Pipe()
	unpacked := make(chan error, 1)
	go func() {
		err := t.unpack(t.progress.reader(pr), root)
		pr.CloseWithError(err) // nil: later writes fail, but there are none to come
		unpacked <- err
	}()
	failed, err := p.wait(ctx, pw)
	err = errors.Join(failed, err) // one of them at most
	pw.CloseWithError(err)
	if unpackErr := <-unpacked; unpackErr != nil && err == nil || errors.Is(err, unpackErr) {
		return unpackErr
	}
	return err
}

// pack writes the contents of a folder as a tar archive.
func (t *trees) pack(dir string, w io.Writer) error {
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
		return t.packOne(tw, p, rel, info)
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

func (t *trees) packOne(tw *tar.Writer, p, rel string, info fs.FileInfo) error {
	link := ""
	switch mode := info.Mode(); {
	case mode.IsDir(), mode.IsRegular():
	case mode&fs.ModeSymlink != 0:
		var err error
		if link, err = os.Readlink(p); err != nil {
			return err
		}
	default:
		t.a.note("skipped %s: neither file, folder nor link", p)
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

// unpack writes an archive from a guest, which may be hostile, below root.
// Nothing outside is touched: os.Root sees to names, links that lead outside
// are left out, and so are devices and set-user-id bits.
func (t *trees) unpack(r io.Reader, root *os.Root) error {
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
		if err := t.unpackOne(tr, root, h, name, &late); err != nil {
			return err
		}
	}
	if err := t.finishUnpack(root, late); err != nil {
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

func (t *trees) finishUnpack(root *os.Root, late unpackLast) error {
	for _, name := range late.links {
		// Each link looked harmless; one through another may still lead outside.
		if _, err := root.Stat(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		t.a.note("removed link %s: it leads outside the folder, or nowhere", name)
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

func (t *trees) unpackOne(tr *tar.Reader, root *os.Root, h *tar.Header, name string, late *unpackLast) error {
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
			t.a.note("skipped link %s: it leads outside the folder, to %s", name, h.Linkname)
			return nil
		}
		late.links = append(late.links, name)
		return root.Symlink(h.Linkname, name)
	case tar.TypeLink:
		return root.Link(filepath.Clean(h.Linkname), name)
	}
	t.a.note("skipped %s: neither file, folder nor link", name)
	return nil
}
