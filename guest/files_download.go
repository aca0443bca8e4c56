package guest

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// downloadFile serves GET /files: one file, whole or in ranges.
func (s *Server) downloadFile(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	path, err := s.filePath(r, query, "read")
	if err != nil {
		writeError(w, err)
		return
	}
	// Not to wait for a writer, should it be a pipe.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		writeError(w, describeOpen(path, err))
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		writeError(w, fmt.Errorf("error reading '%s': %w", path, err))
		return
	}
	if info.IsDir() {
		writeError(w, withStatus(http.StatusBadRequest, fmt.Errorf("path '%s' is a directory", path)))
		return
	}
	if !info.Mode().IsRegular() {
		writeError(w, withStatus(http.StatusBadRequest, fmt.Errorf("path '%s' is not a regular file", path)))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", mime.FormatMediaType("inline", map[string]string{"filename": filepath.Base(path)}))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Accept-Encoding")
	plain, zipped := encodings(r.Header)
	if !plain && !zipped {
		writeError(w, withStatus(http.StatusNotAcceptable, errors.New("no acceptable encoding found, supported: [identity, gzip]")))
		return
	}
	if !plain || gzipAskedFor(r.Header) {
		sendCompressed(w, file)
		return
	}
	if info.Size() == 0 {
		// Files in proc say that they are empty; what can be read decides.
		sendUnsized(w, file)
		return
	}
	http.ServeContent(w, r, "", info.ModTime(), file)
}

// filePath authorizes a file request and returns the path that it names.
func (s *Server) filePath(r *http.Request, query url.Values, operation string) (string, error) {
	if err := checkSignature(r, query, s.settings.get().accessToken, operation, time.Now()); err != nil {
		return "", err
	}
	user, err := s.fileUser(r, query)
	if err != nil {
		return "", err
	}
	return resolvePath(query.Get("path"), "", user)
}

// fileUser is whom a file request acts as: its "username" parameter, else as
// for every request.
func (s *Server) fileUser(r *http.Request, query url.Values) (*account, error) {
	if name := query.Get("username"); name != "" {
		return s.userOrDefault(name)
	}
	return s.requestUser(r.Header)
}

// encodings reports which of the two forms of a file a client takes. Without a
// word about it, it takes a file as it is.
func encodings(h http.Header) (plain, zipped bool) {
	plain, others := true, false
	said := map[string]bool{}
	for part := range strings.SplitSeq(strings.Join(h.Values("Accept-Encoding"), ","), ",") {
		name, parameters, _ := strings.Cut(strings.ToLower(part), ";")
		_, weight, given := strings.Cut(parameters, "q=")
		q, err := strconv.ParseFloat(strings.TrimSpace(weight), 64)
		wanted := !given || err != nil || q > 0
		switch name = strings.TrimSpace(name); name {
		case "identity":
			plain = wanted
		case "gzip":
			zipped = wanted
		case "*":
			others = wanted
		}
		said[name] = true
	}
	if said["*"] && !said["identity"] {
		plain = others
	}
	if said["*"] && !said["gzip"] {
		zipped = others
	}
	return plain, zipped
}

// gzipAskedFor tells a client's choice from what HTTP libraries always send:
// SDKs' gzip option asks for gzip alone, libraries for a list.
func gzipAskedFor(h http.Header) bool {
	return strings.TrimSpace(h.Get("Accept-Encoding")) == "gzip" && h.Get("Range") == ""
}

var gzipWriters = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

// sendCompressed streams a file as gzip.
func sendCompressed(w http.ResponseWriter, file io.Reader) {
	w.Header().Set("Content-Encoding", "gzip")
	z := gzipWriters.Get().(*gzip.Writer)
	defer gzipWriters.Put(z)
	z.Reset(w)
	if _, err := copyBuffered(z, file); err != nil {
		panic(http.ErrAbortHandler) // the client must not take half for the whole
	}
	if err := z.Close(); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// sendUnsized streams a file whose size is not known beforehand. A truly empty
// file gets its length, which SDKs look at.
func sendUnsized(w http.ResponseWriter, file io.Reader) {
	first := make([]byte, 512)
	n, err := io.ReadFull(file, first)
	if n == 0 {
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
		return
	}
	w.Write(first[:n])
	if err == nil {
		if _, err := copyBuffered(w, file); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}

// describeOpen names the path in the words that SDK users know.
func describeOpen(path string, err error) error {
	if os.IsNotExist(err) {
		return fmt.Errorf("path '%s' does not exist: %w", path, err)
	}
	return fmt.Errorf("error opening file '%s': %w", path, err)
}
