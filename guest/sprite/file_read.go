package sprite

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"
)

// openFile opens a regular file to be read.
func (a fileArgs) openFile() (*os.File, os.FileInfo, *fileError) {
	path, failed := a.path("path")
	if failed != nil {
		return nil, nil, failed
	}
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // not to wait at a pipe
	if err != nil {
		return nil, nil, describe(path, err)
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = fmt.Errorf("%w: %s", syscall.EISDIR, path)
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%w: %s is not a regular file", syscall.EINVAL, path)
	default:
		return file, info, nil
	}
	file.Close()
	return nil, nil, describe(path, err)
}

// span returns the part of a file that "start" and "end" name, and whether they
// name any; end is the first byte that is not of it.
func (a fileArgs) span(size int64) (start, end int64, part bool, failed *fileError) {
	end = size
	for _, side := range []struct {
		name string
		into *int64
	}{{"start", &start}, {"end", &end}} {
		text := a.values.Get(side.name)
		if text == "" {
			continue
		}
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil || number < 0 {
			return 0, 0, false, invalid("", errors.New(side.name+": want a number of bytes"))
		}
		*side.into, part = number, true
	}
	start = min(start, size)
	return start, max(start, min(end, size)), part, nil
}

// readFile serves the route that answers with a file's bytes.
func (s *Server) readFile(w http.ResponseWriter, r *http.Request) {
	args := fileArgs{s, r.URL.Query()}
	file, info, failed := args.openFile()
	if failed != nil {
		writeFileError(w, failed)
		return
	}
	defer file.Close()
	start, end, part, failed := args.span(info.Size())
	if failed != nil {
		writeFileError(w, failed)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	switch {
	case !part && info.Size() == 0: // files in proc say that they are empty
		io.Copy(w, file) // cut short: the connection tells
	case !part:
		http.ServeContent(w, r, "", time.Time{}, file)
	default:
		h.Set("Content-Length", strconv.FormatInt(end-start, 10))
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, max(start, end-1), info.Size()))
		w.WriteHeader(http.StatusPartialContent)
		if r.Method != http.MethodHead {
			io.Copy(w, io.NewSectionReader(file, start, end-start))
		}
	}
}
