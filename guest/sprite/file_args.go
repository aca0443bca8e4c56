package sprite

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
)

// maxFileBody bounds the JSON body of a file request, in bytes.
const maxFileBody = 1 << 20

// fileArgs are the arguments of a file operation, from a query, a JSON body or a
// control message; parameters that are not known are passed over.
type fileArgs struct {
	server *Server
	values url.Values
}

// fileArguments reads a request's arguments: its query, and over it its body if
// that is JSON.
func (s *Server) fileArguments(w http.ResponseWriter, r *http.Request) (fileArgs, *fileError) {
	args := fileArgs{s, r.URL.Query()}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFileBody))
	if err == nil && strings.TrimSpace(string(body)) != "" {
		err = addJSON(args.values, body)
	}
	if err != nil {
		return args, invalid("", fmt.Errorf("read the request: %w", err))
	}
	return args, nil
}

// addJSON adds the members of a JSON object that are plain to values. A mode that
// is a number is written in octal, as text would be.
func addJSON(values url.Values, body []byte) error {
	var members map[string]any
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.UseNumber()
	if err := decoder.Decode(&members); err != nil {
		return fmt.Errorf("decode the JSON body: %w", err)
	}
	for name, value := range members {
		if texts := plain(name, value); texts != nil {
			values[name] = texts
		}
	}
	return nil
}

func plain(name string, value any) []string {
	switch v := value.(type) {
	case string:
		return []string{v}
	case bool:
		return []string{strconv.FormatBool(v)}
	case json.Number:
		if n, err := v.Int64(); err == nil && name == "mode" {
			return []string{strconv.FormatInt(n, 8)}
		}
		return []string{v.String()}
	case []any:
		texts := []string{}
		for _, item := range v {
			texts = append(texts, plain(name, item)...)
		}
		return texts
	}
	return nil
}

func (a fileArgs) flag(names ...string) bool {
	for _, name := range names {
		if truth(a.values.Get(name)) {
			return true
		}
	}
	return false
}

// path returns the absolute path that an argument names.
func (a fileArgs) path(name string) (string, *fileError) {
	given := a.values.Get(name)
	if given == "" {
		return "", invalid("", errors.New(name+" is required"))
	}
	path, err := a.server.guest.ResolvePath(given, a.values.Get("workingDir"))
	if err != nil {
		return "", invalid(shortened(given), err)
	}
	return path, nil
}

// mode returns the permissions that "mode" names, false when it is absent.
func (a fileArgs) mode() (fs.FileMode, bool, *fileError) {
	text := a.values.Get("mode")
	if text == "" {
		return 0, false, nil
	}
	bits, err := strconv.ParseUint(strings.TrimPrefix(text, "0o"), 8, 32)
	if err != nil || bits > 0o7777 {
		return 0, false, invalid("", fmt.Errorf("mode %q: want octal digits like 0644", shortened(text)))
	}
	return fileMode(uint32(bits)), true, nil
}

// fileMode and octal translate between Go's modes and the system's bits.
func fileMode(bits uint32) fs.FileMode {
	mode := fs.FileMode(bits & 0o777)
	for _, special := range specialBits {
		if bits&special.bit != 0 {
			mode |= special.mode
		}
	}
	return mode
}

func octal(mode fs.FileMode) string {
	bits := uint32(mode.Perm())
	for _, special := range specialBits {
		if mode&special.mode != 0 {
			bits |= special.bit
		}
	}
	return fmt.Sprintf("%04o", bits)
}

var specialBits = []struct {
	bit  uint32
	mode fs.FileMode
}{{syscall.S_ISUID, fs.ModeSetuid}, {syscall.S_ISGID, fs.ModeSetgid}, {syscall.S_ISVTX, fs.ModeSticky}}

// owner returns whom new files belong to.
func (a fileArgs) owner() (uid, gid int, err error) {
	if a.flag("asRoot") {
		return 0, 0, nil
	}
	return a.server.guest.KernelOwner()
}
