package sprite

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// maxEntries bounds one listing.
const maxEntries = 1 << 20

// entry describes a file.
type entry struct {
	Name    string `json:"name"`
	Path    string `json:"path"`
	Type    string `json:"type"`
	Size    int64  `json:"size"`
	Mode    string `json:"mode"`
	ModTime string `json:"modTime"`
	IsDir   bool   `json:"isDir"`
}

func entryOf(path, name string, info fs.FileInfo) entry {
	e := entry{
		Name: name, Path: path, Type: "file", Size: info.Size(), Mode: octal(info.Mode()),
		ModTime: info.ModTime().UTC().Format(time.RFC3339Nano), IsDir: info.IsDir(),
	}
	switch {
	case info.IsDir():
		e.Type = "directory"
	case info.Mode()&fs.ModeSymlink != 0:
		e.Type = "symlink"
	}
	return e
}

// listing is a directory, or one file, that is about to be listed. Clients take
// the first entry for what they asked about, so a file's listing is that file.
type listing struct {
	path      string
	info      fs.FileInfo
	recursive bool
	pattern   string
}

// listing looks at what is to be listed, so that errors come before the answer.
func (a fileArgs) listing() (*listing, *fileError) {
	at, failed := a.path("path")
	if failed != nil {
		return nil, failed
	}
	info, err := os.Stat(at)
	if err == nil && info.IsDir() {
		var dir *os.File
		if dir, err = os.Open(at); err == nil {
			dir.Close()
		}
	}
	if err != nil {
		return nil, describe(at, err)
	}
	l := &listing{path: at, info: info, recursive: a.flag("recursive"), pattern: a.values.Get("pattern")}
	if _, err := path.Match(l.pattern, ""); err != nil {
		return nil, invalid(at, fmt.Errorf("pattern %q: %w", shortened(l.pattern), err))
	}
	return l, nil
}

// listFiles serves the route that lists.
func (s *Server) listFiles(w http.ResponseWriter, r *http.Request) {
	l, failed := fileArgs{s, r.URL.Query()}.listing()
	if failed != nil {
		writeFileError(w, failed)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if l.write(w) != nil {
		panic(http.ErrAbortHandler) // the client must not take half for the whole
	}
}

var errTooMany = fmt.Errorf("more than %d entries", maxEntries)

// write writes the listing as JSON, entry by entry: it may be large.
func (l *listing) write(to io.Writer) error {
	out := bufio.NewWriterSize(to, 64<<10)
	head, err := json.Marshal(l.path)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, `{"path":%s,"entries":[`, head)
	count := 0
	err = l.walk(func(e entry) error {
		if count == maxEntries {
			return errTooMany
		}
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if count > 0 {
			out.WriteByte(',')
		}
		count++
		_, err = out.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, `],"count":%d}`, count)
	return out.Flush()
}

// walk calls visit for every entry. Links are not followed below the top.
func (l *listing) walk(visit func(entry) error) error {
	if !l.info.IsDir() {
		return visit(entryOf(l.path, filepath.Base(l.path), l.info))
	}
	real, err := filepath.EvalSymlinks(l.path)
	if err != nil {
		return err
	}
	return filepath.WalkDir(real, func(at string, d fs.DirEntry, err error) error {
		if at == real {
			return err
		}
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				return nil // removed while we looked, or closed to us
			}
			return err
		}
		relative := strings.TrimPrefix(strings.TrimPrefix(at, real), "/")
		if l.matches(relative) {
			info, err := d.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := visit(entryOf(filepath.Join(l.path, relative), d.Name(), info)); err != nil {
				return err
			}
		}
		if d.IsDir() && !l.recursive {
			return fs.SkipDir
		}
		return nil
	})
}

// matches reports whether a name fits the pattern; one with a slash is of the
// whole path below the directory.
func (l *listing) matches(relative string) bool {
	if l.pattern == "" {
		return true
	}
	if !strings.Contains(l.pattern, "/") {
		relative = path.Base(relative)
	}
	fits, _ := path.Match(l.pattern, relative) // it was checked
	return fits
}

// fileRoute serves a file operation whose answer is small.
func (s *Server) fileRoute(op string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		args, failed := s.fileArguments(w, r)
		var answer any
		if failed == nil {
			answer, failed = s.changeFiles(op, args)
		}
		if failed != nil {
			writeFileError(w, failed)
			return
		}
		writeJSON(w, http.StatusOK, answer)
	}
}

// changeFiles does a file operation by its name.
func (s *Server) changeFiles(op string, args fileArgs) (any, *fileError) {
	switch op {
	case "fs.delete":
		return args.delete()
	case "fs.rename":
		return args.rename()
	case "fs.copy":
		return args.copy()
	case "fs.chmod":
		return args.chmod()
	case "fs.chown":
		return args.chown()
	}
	return nil, invalid("", fmt.Errorf("there is no file operation %q", shortened(op)))
}
