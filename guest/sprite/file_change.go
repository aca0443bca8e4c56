package sprite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxTold bounds the paths that an answer names; its count is of all.
const maxTold = 10_000

// deleted is the answer to a delete.
type deleted struct {
	Deleted []string `json:"deleted"`
	Count   int      `json:"count"`
}

func (a fileArgs) delete() (any, *fileError) {
	path, failed := a.path("path")
	if failed != nil {
		return nil, failed
	}
	if path == "/" {
		return nil, invalid(path, errors.New("the root directory cannot be deleted"))
	}
	if _, err := os.Lstat(path); err != nil {
		return nil, describe(path, err)
	}
	remove := os.Remove
	if a.flag("recursive") {
		remove = os.RemoveAll
	}
	if err := remove(path); err != nil {
		return nil, describe(path, err)
	}
	return deleted{[]string{path}, 1}, nil
}

// pair is a file and where it went.
type pair struct {
	Source string `json:"source"`
	Dest   string `json:"dest"`
}

func (a fileArgs) pair() (pair, *fileError) {
	source, failed := a.path("source")
	if failed != nil {
		return pair{}, failed
	}
	dest, failed := a.path("dest")
	return pair{source, dest}, failed
}

func (a fileArgs) rename() (any, *fileError) {
	p, failed := a.pair()
	if failed != nil {
		return nil, failed
	}
	if err := os.Rename(p.Source, p.Dest); err != nil {
		return nil, describe(p.Source, err)
	}
	return p, nil
}

// affected is the answer to a change of modes or owners.
type affected struct {
	Affected []any `json:"affected"`
	Count    int   `json:"count"`
}

func (f *affected) add(entry any) {
	f.Count++
	if len(f.Affected) < maxTold {
		f.Affected = append(f.Affected, entry)
	}
}

// each calls change for a file, and for all below it if so asked. Links are not
// followed below it.
func (a fileArgs) each(path string, change func(path string, link bool) error) *fileError {
	if !a.flag("recursive") {
		if err := change(path, false); err != nil {
			return describe(path, err)
		}
		return nil
	}
	err := filepath.WalkDir(path, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			if at != path && errors.Is(err, fs.ErrNotExist) {
				return nil // removed meanwhile
			}
			return err
		}
		if err := change(at, at != path && d.Type()&fs.ModeSymlink != 0); err != nil && (at == path || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
		return nil
	})
	if err != nil {
		return describe(path, err)
	}
	return nil
}

func (a fileArgs) chmod() (any, *fileError) {
	path, failed := a.path("path")
	if failed != nil {
		return nil, failed
	}
	mode, given, failed := a.mode()
	if failed != nil {
		return nil, failed
	}
	if !given {
		return nil, invalid(path, errors.New("mode is required"))
	}
	answer := &affected{Affected: []any{}}
	failed = a.each(path, func(at string, link bool) error {
		if link {
			return nil // links have no mode
		}
		if err := os.Chmod(at, mode); err != nil {
			return err
		}
		answer.add(struct {
			Path string `json:"path"`
			Mode string `json:"mode"`
		}{at, octal(mode)})
		return nil
	})
	return answer, failed
}

func (a fileArgs) chown() (any, *fileError) {
	path, failed := a.path("path")
	if failed != nil {
		return nil, failed
	}
	uid, uidGiven, failed := a.id("uid", a.server.guest.UserID)
	if failed != nil {
		return nil, failed
	}
	gid, gidGiven, failed := a.id("gid", a.server.guest.GroupID)
	if failed != nil {
		return nil, failed
	}
	if !uidGiven && !gidGiven {
		return nil, invalid(path, errors.New("uid or gid is required"))
	}
	answer := &affected{Affected: []any{}}
	failed = a.each(path, func(at string, link bool) error {
		set, look := os.Chown, os.Stat
		if link {
			set, look = os.Lchown, os.Lstat
		}
		if err := set(at, uid, gid); err != nil {
			return err
		}
		info, err := look(at)
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		answer.add(struct {
			Path string `json:"path"`
			UID  int    `json:"uid"`
			GID  int    `json:"gid"`
		}{at, int(stat.Uid), int(stat.Gid)})
		return nil
	})
	return answer, failed
}

// id returns a user's or group's number, given as one or by name; -1 leaves it.
func (a fileArgs) id(name string, find func(string) (int, bool)) (int, bool, *fileError) {
	text := a.values.Get(name)
	if text == "" {
		return -1, false, nil
	}
	number, err := strconv.ParseInt(text, 10, 32)
	if err == nil && number >= -1 {
		return int(number), number >= 0, nil
	}
	if id, found := find(text); found {
		return id, true, nil
	}
	return 0, false, invalid("", fmt.Errorf("%s: the machine knows no %q", name, shortened(text)))
}

// copied is the answer to a copy.
type copied struct {
	Copied     []pair `json:"copied"`
	Count      int    `json:"count"`
	TotalBytes int64  `json:"totalBytes"`
}

func (a fileArgs) copy() (any, *fileError) {
	p, failed := a.pair()
	if failed != nil {
		return nil, failed
	}
	info, err := os.Stat(p.Source)
	if err != nil {
		return nil, describe(p.Source, err)
	}
	if info.IsDir() && !a.flag("recursive") {
		return nil, describe(p.Source, fmt.Errorf("%w: %s: copy it with recursive", syscall.EISDIR, p.Source))
	}
	if within(real(p.Dest), real(p.Source)) {
		return nil, invalid(p.Dest, errors.New("a file cannot be copied onto itself, nor a directory into itself"))
	}
	if _, err := os.Stat(filepath.Dir(p.Dest)); err != nil {
		return nil, describe(p.Dest, err)
	}
	answer := &copied{Copied: []pair{}}
	if err := a.copyTree(answer, p, info); err != nil {
		return nil, describe(p.Source, err)
	}
	return answer, nil
}

// real resolves links as far as a path exists.
func real(path string) string {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}
	if dir := filepath.Dir(path); dir != path {
		return filepath.Join(real(dir), filepath.Base(path))
	}
	return path
}

func within(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// copyTree copies a file, or a directory and all below it. Links stay links,
// pipes and devices are passed over.
func (a fileArgs) copyTree(answer *copied, p pair, info fs.FileInfo) error {
	var err error
	switch {
	case info.IsDir():
		if err = a.copyDir(p, info); err != nil {
			return err
		}
		var entries []fs.DirEntry
		if entries, err = os.ReadDir(p.Source); err != nil {
			return err
		}
		for _, e := range entries {
			below, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				continue // removed meanwhile
			}
			if err == nil {
				err = a.copyTree(answer, pair{filepath.Join(p.Source, e.Name()), filepath.Join(p.Dest, e.Name())}, below)
			}
			if err != nil {
				return err
			}
		}
	case info.Mode()&fs.ModeSymlink != 0:
		var target string
		if target, err = os.Readlink(p.Source); err == nil {
			err = a.replaceLink(target, p.Dest)
		}
	case info.Mode().IsRegular():
		var size int64
		size, err = a.copyOne(p, info)
		answer.TotalBytes += size
	default:
		return nil
	}
	if err != nil {
		return err
	}
	answer.Count++
	if len(answer.Copied) < maxTold {
		answer.Copied = append(answer.Copied, p)
	}
	return a.preserve(p, info)
}

func (a fileArgs) copyDir(p pair, info fs.FileInfo) error {
	err := os.Mkdir(p.Dest, info.Mode().Perm()|0o700)
	if errors.Is(err, fs.ErrExist) {
		if there, statErr := os.Stat(p.Dest); statErr == nil && there.IsDir() {
			return nil
		}
	}
	if err != nil {
		return err
	}
	return a.own(p.Dest)
}

// own gives a new file to whom new files belong to.
func (a fileArgs) own(path string) error {
	uid, gid, err := a.owner()
	if err != nil {
		return err
	}
	return os.Lchown(path, uid, gid)
}

func (a fileArgs) replaceLink(target, dest string) error {
	if info, err := os.Lstat(dest); err == nil && !info.IsDir() {
		if err := os.Remove(dest); err != nil {
			return err
		}
	}
	if err := os.Symlink(target, dest); err != nil {
		return err
	}
	return a.own(dest)
}

func (a fileArgs) copyOne(p pair, info fs.FileInfo) (int64, error) {
	from, err := os.OpenFile(p.Source, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer from.Close()
	to, created, err := openToWrite(p.Dest)
	if err != nil {
		return 0, err
	}
	answer, err := a.fill(to, from, info.Mode(), created, created)
	if closeErr := to.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		if created {
			os.Remove(p.Dest)
		}
		return 0, fmt.Errorf("copy to %s: %w", p.Dest, err)
	}
	return answer.Size, nil
}

// preserve gives a copy the original's owner and times, if so asked.
func (a fileArgs) preserve(p pair, info fs.FileInfo) error {
	if !a.flag("preserveAttrs") {
		return nil
	}
	stat := info.Sys().(*syscall.Stat_t)
	if err := os.Lchown(p.Dest, int(stat.Uid), int(stat.Gid)); err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		return nil
	}
	return os.Chtimes(p.Dest, info.ModTime(), info.ModTime())
}
