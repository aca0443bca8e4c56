package guest

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// uploadIdle is how long an upload may stand still.
	uploadIdle = 10 * time.Minute
	// spaceCheck is the size in bytes from which the disk's free space is
	// looked at before an existing file is given up.
	spaceCheck = 1 << 20
	// maxParts bounds the files of one request.
	maxParts = 10_000
)

// writtenFile is the answer for one uploaded file.
type writtenFile struct {
	Path     string            `json:"path"`
	Name     string            `json:"name"`
	Type     string            `json:"type"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// upload is one request that writes files.
type upload struct {
	s        *Server
	user     *account
	metadata map[string]string
	query    url.Values
	size     int64 // of the whole body, -1 when unknown
	written  []writtenFile
}

// uploadFiles serves POST /files: the body is one file, or a form with many.
func (s *Server) uploadFiles(w http.ResponseWriter, r *http.Request) {
	u, err := s.newUpload(r)
	if err != nil {
		writeError(w, err)
		return
	}
	body, err := decodedBody(w, r)
	if err != nil {
		writeError(w, err)
		return
	}
	if err := u.receive(r.Header.Get("Content-Type"), body); err != nil {
		writeError(w, uploadError(err))
		return
	}
	writeJSON(w, http.StatusOK, u.written)
}

func (s *Server) newUpload(r *http.Request) (*upload, error) {
	query := r.URL.Query()
	if err := checkSignature(r, query, s.settings.get().accessToken, "write", time.Now()); err != nil {
		return nil, err
	}
	user, err := s.fileUser(r, query)
	if err != nil {
		return nil, err
	}
	metadata, err := parseMetadata(r.Header)
	if err != nil {
		return nil, withStatus(http.StatusBadRequest, err)
	}
	size := r.ContentLength
	if r.Header.Get("Content-Encoding") != "" {
		size = -1
	}
	return &upload{s: s, user: user, metadata: metadata, query: query, size: size, written: []writtenFile{}}, nil
}

// decodedBody returns the body without its content encoding. Each read pushes
// back the deadline for a client that stands still.
func decodedBody(w http.ResponseWriter, r *http.Request) (io.Reader, error) {
	body := &patientReader{from: r.Body, control: http.NewResponseController(w)}
	switch encoding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))); encoding {
	case "", "identity":
		return body, nil
	case "gzip":
		z, err := gzip.NewReader(bufio.NewReaderSize(body, 32<<10))
		if err != nil {
			return nil, withStatus(http.StatusBadRequest, fmt.Errorf("decode the gzip body: %w", err))
		}
		return z, nil
	default:
		return nil, withStatus(http.StatusBadRequest, fmt.Errorf("content encoding %q is not supported: use gzip or none", encoding))
	}
}

// patientReader extends the connection's read deadline now and then.
type patientReader struct {
	from    io.Reader
	control *http.ResponseController
	last    time.Time
}

func (p *patientReader) Read(buffer []byte) (int, error) {
	if now := time.Now(); now.Sub(p.last) > uploadIdle/10 {
		p.last = now
		// A transport without deadlines has its own.
		p.control.SetReadDeadline(now.Add(uploadIdle))
	}
	return p.from.Read(buffer)
}

func (u *upload) receive(contentType string, body io.Reader) error {
	kind, parameters, err := mime.ParseMediaType(contentType)
	if contentType != "" && err != nil {
		return withStatus(http.StatusBadRequest, fmt.Errorf("content type %q: %w", contentType, err))
	}
	if kind != "multipart/form-data" {
		if !u.query.Has("path") {
			return withStatus(http.StatusBadRequest, errors.New("the path query parameter is required when the body is the file"))
		}
		return u.write(u.query.Get("path"), body)
	}
	if parameters["boundary"] == "" {
		return withStatus(http.StatusBadRequest, errors.New("the form has no boundary"))
	}
	return u.receiveForm(parameters["boundary"], body)
}

var formReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, copyBuffer) }}

// receiveForm writes every part named "file".
func (u *upload) receiveForm(boundary string, body io.Reader) error {
	buffered := formReaders.Get().(*bufio.Reader)
	buffered.Reset(body)
	defer func() {
		buffered.Reset(nil)
		formReaders.Put(buffered)
	}()
	form := multipart.NewReader(buffered, boundary)
	seen := map[string]bool{}
	for range maxParts {
		part, err := form.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return withStatus(http.StatusBadRequest, fmt.Errorf("read the form: %w", err))
		}
		if part.FormName() != "file" {
			continue
		}
		name := u.query.Get("path")
		if name == "" {
			if name, err = partPath(part.Header.Get("Content-Disposition")); err != nil {
				return withStatus(http.StatusBadRequest, err)
			}
		}
		if seen[name] {
			return withStatus(http.StatusBadRequest, fmt.Errorf("you cannot upload multiple files to the same path '%s'", name))
		}
		seen[name] = true
		if err := u.write(name, part); err != nil {
			return err
		}
	}
	return withStatus(http.StatusBadRequest, fmt.Errorf("more than %d files in one request", maxParts))
}

// partPath returns the file name of a form's part with its directories, which
// the standard library strips.
func partPath(disposition string) (string, error) {
	_, parameters, err := mime.ParseMediaType(disposition)
	if err != nil {
		return "", fmt.Errorf("content disposition of a form's file: %w", err)
	}
	name := parameters["filename"]
	if name == "" {
		return "", errors.New("a form's file has no name, and the request no path")
	}
	// Browsers' form encoding escapes these three and nothing else.
	return strings.NewReplacer("%22", `"`, "%0D", "\r", "%0A", "\n").Replace(name), nil
}

// write stores one file: parents are made, an existing file keeps its mode.
func (u *upload) write(name string, content io.Reader) error {
	path, err := resolvePath(name, "", u.user)
	if err != nil {
		return err
	}
	if err := makeDirs(filepath.Dir(path), u.user); err != nil {
		return fmt.Errorf("error creating the directories of '%s': %w", path, err)
	}
	if err := CheckSpace(path, u.size); err != nil {
		return err
	}
	file, created, err := openForWrite(path)
	if err != nil {
		return err
	}
	err = u.fill(file, content)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		if created {
			os.Remove(path) // half a file is worth nothing
		}
		return fmt.Errorf("error writing file '%s': %w", path, err)
	}
	u.written = append(u.written, writtenFile{path, filepath.Base(path), "file", u.metadata})
	return nil
}

func (u *upload) fill(file *os.File, content io.Reader) error {
	if err := file.Chown(int(u.user.uid), int(u.user.gid)); err != nil {
		return err
	}
	if err := u.s.metadata.set(file, u.metadata); err != nil {
		return err
	}
	_, err := copyBuffered(file, content)
	return err
}

// CheckSpace refuses size bytes that cannot fit at path, before an old file is
// truncated; -1 is a size that is not known. The error wraps ENOSPC.
func CheckSpace(path string, size int64) error {
	if size < spaceCheck {
		return nil
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(path), &disk); err != nil {
		return nil // the write itself will tell
	}
	if free := disk.Bavail * uint64(disk.Bsize); disk.Blocks > 0 && uint64(size) > free {
		return withStatus(http.StatusInsufficientStorage, fmt.Errorf("not enough disk space available: %d bytes are free, %d are needed: %w", free, size, unix.ENOSPC))
	}
	return nil
}

// openForWrite opens a file to be replaced, and says whether it is new.
func openForWrite(path string) (file *os.File, created bool, err error) {
	info, err := os.Stat(path)
	if err == nil {
		if info.IsDir() {
			return nil, false, withStatus(http.StatusBadRequest, fmt.Errorf("path '%s' is a directory", path))
		}
		if !info.Mode().IsRegular() {
			return nil, false, withStatus(http.StatusBadRequest, fmt.Errorf("path '%s' is not a regular file", path))
		}
	}
	file, openErr := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK, 0o666)
	if openErr != nil {
		return nil, false, fmt.Errorf("error opening file '%s': %w", path, openErr)
	}
	return file, err != nil, nil
}

// uploadError tells a client that broke off or sent rubbish from our failures.
func uploadError(err error) error {
	var h *httpError
	var broken *readFailure
	if !errors.As(err, &h) && errors.As(err, &broken) {
		return withStatus(http.StatusBadRequest, err)
	}
	return err
}
