package doortest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/coder/websocket"

	"github.com/atoll-cloud/atoll/client"
)

// guestRoutes serve programs, files and ports of this host, as the user who
// runs the test.
func (s *Sprites) guestRoutes(mux *http.ServeMux, one string) {
	for pattern, f := range map[string]func(http.ResponseWriter, *http.Request, *sprite){
		"GET " + one + "/exec":                 s.exec,
		"GET " + one + "/exec/{session}":       s.attach,
		"POST " + one + "/exec/{session}/kill": s.kill,
		"GET " + one + "/proxy":                s.proxy,
		"GET " + one + "/fs/list":              listFiles,
		"GET " + one + "/fs/read":              readFile,
		"PUT " + one + "/fs/write":             writeFile,
		"DELETE " + one + "/fs/delete":         deleteFile,
	} {
		mux.HandleFunc(pattern, s.one(f, false))
	}
}

// proxy joins a WebSocket and a TCP connection.
func (s *Sprites) proxy(w http.ResponseWriter, r *http.Request, _ *sprite) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	conn.SetReadLimit(-1)
	var to struct {
		Host string
		Port int
	}
	_, b, err := conn.Read(r.Context())
	if err != nil || json.Unmarshal(b, &to) != nil {
		return
	}
	target := net.JoinHostPort(to.Host, strconv.Itoa(to.Port))
	c, err := net.Dial("tcp", target)
	if err != nil {
		tell(r.Context(), conn, map[string]any{"status": "error", "error": err.Error()})
		conn.Close(websocket.StatusNormalClosure, "")
		return
	}
	defer c.Close()
	tell(r.Context(), conn, map[string]any{"status": "connected", "target": target})
	through := websocket.NetConn(r.Context(), conn, websocket.MessageBinary)
	go func() {
		io.Copy(c, through)
		c.Close()
	}()
	io.Copy(through, c)
	conn.Close(websocket.StatusNormalClosure, "")
}

// pathOf is the file that a request names.
func pathOf(r *http.Request) string {
	q := r.URL.Query()
	if p := q.Get("path"); filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(q.Get("workingDir"), q.Get("path"))
}

func noFile(w http.ResponseWriter, err error) {
	status, code := 500, "EIO"
	if os.IsNotExist(err) {
		status, code = 404, "ENOENT"
	}
	reply(w, status, map[string]any{"error": err.Error(), "code": code})
}

func listFiles(w http.ResponseWriter, r *http.Request, _ *sprite) {
	path := pathOf(r)
	info, err := os.Stat(path)
	if err != nil {
		noFile(w, err)
		return
	}
	entries := []client.SpriteFile{}
	add := func(path string, info os.FileInfo) {
		kind := map[bool]string{true: "directory", false: "file"}[info.IsDir()]
		entries = append(entries, client.SpriteFile{Name: info.Name(), Path: path, Type: kind, Size: info.Size(),
			Mode: fmt.Sprintf("%04o", info.Mode().Perm()), ModTime: info.ModTime(), IsDir: info.IsDir()})
	}
	if !info.IsDir() {
		add(path, info)
	} else {
		found, err := os.ReadDir(path)
		if err != nil {
			noFile(w, err)
			return
		}
		for _, e := range found {
			if info, err := e.Info(); err == nil {
				add(filepath.Join(path, e.Name()), info)
			}
		}
	}
	reply(w, 200, map[string]any{"path": path, "entries": entries, "count": len(entries)})
}

func readFile(w http.ResponseWriter, r *http.Request, _ *sprite) {
	b, err := os.ReadFile(pathOf(r))
	if err != nil {
		noFile(w, err)
		return
	}
	w.Write(b)
}

func writeFile(w http.ResponseWriter, r *http.Request, _ *sprite) {
	path := pathOf(r)
	mode, err := strconv.ParseUint(r.URL.Query().Get("mode"), 8, 32)
	b, readErr := io.ReadAll(r.Body)
	if err != nil || readErr != nil {
		reply(w, 400, map[string]string{"error": "bad request", "code": "EINVAL"})
		return
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		noFile(w, err)
		return
	}
	if err := os.WriteFile(path, b, os.FileMode(mode)); err != nil {
		noFile(w, err)
		return
	}
	os.Chmod(path, os.FileMode(mode))
	reply(w, 200, map[string]any{"path": path, "size": len(b), "mode": r.URL.Query().Get("mode")})
}

func deleteFile(w http.ResponseWriter, r *http.Request, _ *sprite) {
	path, remove := pathOf(r), os.Remove
	if r.URL.Query().Get("recursive") == "true" {
		remove = os.RemoveAll
	}
	if _, err := os.Stat(path); err != nil {
		noFile(w, err)
		return
	}
	if err := remove(path); err != nil {
		noFile(w, err)
		return
	}
	reply(w, 200, map[string]any{"deleted": []string{path}, "count": 1})
}
