package sprite_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// query is a route of files with parameters, given as names and values.
func query(route string, parameters ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(parameters); i += 2 {
		q.Set(parameters[i], parameters[i+1])
	}
	return "fs/" + route + "?" + q.Encode()
}

// answers sends a request and decodes what it answers.
func (w *world) answers(status int, method, route, body string) map[string]any {
	w.t.Helper()
	got, text, _ := w.do(method, route, body)
	var answer map[string]any
	if err := json.Unmarshal([]byte(text), &answer); err != nil || got != status {
		w.t.Errorf("%s %s: %d %.300s", method, route, got, text)
	}
	return answer
}

func TestFiles(t *testing.T) {
	w := newWorld(t)
	at := func(name string) string { return filepath.Join(w.home, name) }
	if got := w.answers(200, "PUT", query("write", "path", "dir/a.txt", "workingDir", w.home, "mode", "0640"), "hello world"); got["path"] != at("dir/a.txt") || got["size"] != 11.0 || got["mode"] != "0640" {
		t.Error(got)
	}
	for _, c := range []struct{ start, end, want string }{{"", "", "hello world"}, {"6", "", "world"}, {"", "5", "hello"}, {"3", "7", "lo w"}, {"50", "60", ""}, {"7", "3", ""}} {
		if _, body, _ := w.do("GET", query("read", "path", at("dir/a.txt"), "start", c.start, "end", c.end), ""); body != c.want {
			t.Errorf("%s to %s: %q", c.start, c.end, body)
		}
	}
	if status, body, _ := w.do("GET", query("read", "path", "dir/a.txt"), "", "Range", "bytes=0-4"); status != 206 || body != "hello" {
		t.Error(status, body)
	}
	w.answers(200, "PUT", query("write", "path", "dir/a.txt"), "shorter")
	if got := w.answers(200, "GET", query("list", "path", "dir/a.txt"), ""); got["count"] != 1.0 {
		t.Error(got)
	} else if e := got["entries"].([]any)[0].(map[string]any); e["name"] != "a.txt" || e["path"] != at("dir/a.txt") || e["type"] != "file" || e["size"] != 7.0 || e["mode"] != "0640" || e["isDir"] != false {
		t.Error(e)
	} else if when, err := time.Parse(time.RFC3339, e["modTime"].(string)); err != nil || time.Since(when) > time.Minute {
		t.Error(e["modTime"])
	}
	w.answers(200, "PUT", query("write", "path", "dir/sub/.keep", "mode", "0755"), "")
	w.answers(200, "PUT", query("write", "path", "made/.keep", "mkdirParents", "false"), "")
	w.answers(404, "PUT", query("write", "path", "two/levels/.keep", "mkdirParents", "false"), "")
	if got := w.answers(200, "GET", query("list", "path", "dir"), ""); got["count"] != 2.0 || got["path"] != at("dir") {
		t.Error(got)
	}
	if got := w.answers(200, "GET", query("list", "path", "dir", "recursive", "true"), ""); got["count"] != 3.0 {
		t.Error(got)
	}
	if got := w.answers(200, "GET", query("list", "path", "dir", "pattern", "*.txt"), ""); got["count"] != 1.0 {
		t.Error(got)
	}
	if got := w.answers(200, "POST", "fs/copy", `{"source":"dir","dest":"copy","workingDir":"`+w.home+`","recursive":true}`); got["count"] != 4.0 || got["totalBytes"] != 7.0 {
		t.Error(got)
	}
	if got := w.answers(200, "POST", "fs/rename", `{"source":"copy","dest":"moved","workingDir":"~"}`); got["dest"] != at("moved") {
		t.Error(got)
	}
	if got := w.answers(200, "POST", "fs/chmod", `{"path":"moved","mode":"0700","recursive":true}`); got["count"] != 4.0 {
		t.Error(got)
	}
	w.answers(200, "POST", "fs/chmod", `{"path":"moved/a.txt","mode":493}`)
	if info, err := os.Stat(at("moved/a.txt")); err != nil || info.Mode().Perm() != 0o755 {
		t.Error(info, err)
	}
	if got := w.answers(200, "POST", "fs/chown", fmt.Sprintf(`{"path":"moved","uid":%d,"gid":"%d"}`, os.Getuid(), os.Getgid())); got["affected"].([]any)[0].(map[string]any)["uid"] != float64(os.Getuid()) {
		t.Error(got)
	}
	if got := w.answers(200, "DELETE", query("delete", "path", "moved/a.txt"), ""); got["count"] != 1.0 || fmt.Sprint(got["deleted"]) != "["+at("moved/a.txt")+"]" {
		t.Error(got)
	}
	w.answers(200, "DELETE", "fs/delete", `{"path":"moved","recursive":true}`)
	if _, err := os.Stat(at("moved")); !os.IsNotExist(err) {
		t.Error(err)
	}
}

func TestFileErrors(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(w.home, "d")
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "full", "x"), 0o755), os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644),
		os.Symlink("loop", filepath.Join(dir, "loop")), os.Symlink(".", filepath.Join(dir, "again")), os.Symlink("nowhere", filepath.Join(dir, "broken")),
		syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	long := strings.Repeat("n", 300)
	for _, c := range []struct {
		method, route, body, code string
		status                    int
	}{
		{"GET", query("read", "path", "none", "workingDir", dir), "", "ENOENT", 404},
		{"GET", query("read", "path", dir), "", "EISDIR", 400},
		{"GET", query("read", "path", dir+"/pipe"), "", "EINVAL", 400},
		{"GET", query("read", "path", dir+"/loop"), "", "EINVAL", 400},
		{"GET", query("read", "path", dir+"/f/x"), "", "ENOTDIR", 400},
		{"GET", query("read", "path", "a\x00b"), "", "EINVAL", 400},
		{"GET", query("read", "path", long), "", "EINVAL", 400},
		{"GET", query("read", "path", dir+"/f", "start", "-1"), "", "EINVAL", 400},
		{"GET", query("read"), "", "EINVAL", 400},
		{"GET", query("list", "path", dir+"/none"), "", "ENOENT", 404},
		{"GET", query("list", "path", dir, "pattern", "["), "", "EINVAL", 400},
		{"PUT", query("write", "path", dir), "x", "EISDIR", 400},
		{"PUT", query("write", "path", dir+"/pipe"), "x", "EINVAL", 400},
		{"PUT", query("write", "path", dir+"/f/x"), "x", "ENOTDIR", 400},
		{"PUT", query("write", "path", dir+"/new/x", "mkdirParents", "false"), "x", "ENOENT", 404},
		{"PUT", query("write", "path", dir+"/new", "mode", "999"), "x", "EINVAL", 400},
		{"DELETE", query("delete", "path", dir+"/none"), "", "ENOENT", 404},
		{"DELETE", query("delete", "path", dir+"/full"), "", "ENOTEMPTY", 400},
		{"DELETE", query("delete", "path", "/", "recursive", "true"), "", "EINVAL", 400},
		{"DELETE", query("delete", "path", "../../../../../../..", "recursive", "true"), "", "EINVAL", 400},
		{"POST", "fs/rename", `{"source":"` + dir + `/none","dest":"x"}`, "ENOENT", 404},
		{"POST", "fs/rename", `{"source":"` + dir + `/f"}`, "EINVAL", 400},
		{"POST", "fs/rename", `{`, "EINVAL", 400},
		{"POST", "fs/copy", `{"source":"` + dir + `","dest":"` + dir + `/full/in","recursive":true}`, "EINVAL", 400},
		{"POST", "fs/copy", `{"source":"` + dir + `","dest":"` + dir + `/again/in","recursive":true}`, "EINVAL", 400},
		{"POST", "fs/copy", `{"source":"` + dir + `/f","dest":"` + dir + `/again/f"}`, "EINVAL", 400},
		{"POST", "fs/copy", `{"source":"` + dir + `","dest":"` + w.home + `/c"}`, "EISDIR", 400},
		{"POST", "fs/chmod", `{"path":"` + dir + `/none","mode":"0644"}`, "ENOENT", 404},
		{"POST", "fs/chmod", `{"path":"` + dir + `/f"}`, "EINVAL", 400},
		{"POST", "fs/chown", `{"path":"` + dir + `/f","uid":"nobody here"}`, "EINVAL", 400},
	} {
		got := w.answers(c.status, c.method, c.route, c.body)
		if got["code"] != c.code || got["error"] == "" {
			t.Errorf("%s %s %s: %v", c.method, c.route, c.body, got)
		}
	}
	if status, _, _ := w.do("POST", query("write", "path", "x"), ""); status != 405 {
		t.Error(status)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(data) != "x" {
		t.Error("the file was changed:", data, err)
	}
	if got := w.answers(200, "GET", query("list", "path", dir, "recursive", "true"), ""); got["count"] != 7.0 {
		t.Error(got)
	}
	if got := w.answers(200, "POST", "fs/copy", `{"source":"`+dir+`","dest":"`+w.home+`/copy","recursive":true}`); got["count"] != 7.0 {
		t.Error(got)
	}
}

func TestManyFilesInOneListing(t *testing.T) {
	w := newWorld(t)
	for i := range 10_000 {
		if err := os.WriteFile(filepath.Join(w.home, fmt.Sprintf("file-%05d", i)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := w.answers(200, "GET", query("list", "path", "."), "")
	if got["count"] != 10_000.0 || len(got["entries"].([]any)) != 10_000 {
		t.Error(got["count"])
	}
}

func TestWatchFiles(t *testing.T) {
	w := newWorld(t)
	if err := os.MkdirAll(filepath.Join(w.home, "deep/er"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := w.dial("fs/watch").send(websocket.MessageText, `{"type":"subscribe","paths":["deep"],"recursive":true,"workingDir":"`+w.home+`"}`)
	c.until("the answer", func() bool { return c.last() == "subscribed" })
	path := filepath.Join(w.home, "deep/er/new")
	w.answers(200, "PUT", query("write", "path", path), "four")
	event := func(kind string, size any) func() bool {
		return func() bool {
			for _, text := range c.texts {
				if text["type"] == "event" && text["event"] == kind && text["path"] == path && (size == nil || text["size"] == size && text["isDir"] == false) {
					return true
				}
			}
			return false
		}
	}
	c.until("it is created", event("create", nil))
	c.until("it is written", event("write", 4.0))
	w.answers(200, "DELETE", query("delete", "path", path), "")
	c.until("it is removed", event("remove", nil))
	c.send(websocket.MessageText, `{"type":"subscribe","paths":["nowhere"]}`)
	c.until("an error", func() bool { return c.last() == "error" })
	c.send(websocket.MessageText, `nonsense`)
	c.forget()
	c.until("an error", func() bool { return c.last() == "error" })
}
