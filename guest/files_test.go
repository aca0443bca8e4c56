package guest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const octets = "application/octet-stream"

func (m *machine) file(name string) string {
	m.t.Helper()
	data, err := os.ReadFile(filepath.Join(m.home, name))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(data)
}

func at(path string) string { return "/files?path=" + url.QueryEscape(path) }

func TestUploadOneFile(t *testing.T) {
	m := newMachine(t)
	status, body, _ := m.do("POST", at("new/dir/a.txt"), "hello", "Content-Type", octets, "X-Metadata-Author", "me")
	var written []writtenFile
	if err := json.Unmarshal([]byte(body), &written); err != nil || status != 200 {
		t.Fatal(status, body, err)
	}
	want := writtenFile{filepath.Join(m.home, "new/dir/a.txt"), "a.txt", "file", map[string]string{"author": "me"}}
	if len(written) != 1 || fmt.Sprint(written[0]) != fmt.Sprint(want) || m.file("new/dir/a.txt") != "hello" {
		t.Errorf("got %v, want %v", written, want)
	}
}

func TestOverwriteKeepsModeAndClearsMetadata(t *testing.T) {
	m := newMachine(t)
	m.do("POST", at("a"), "a long first content", "Content-Type", octets, "X-Metadata-K", "v")
	path := filepath.Join(m.home, "a")
	if err := os.Chmod(path, 0o751); err != nil {
		t.Fatal(err)
	}
	if entry, err := m.server.entry(path); err != nil || entry.Metadata["k"] != "v" {
		t.Error(entry, err)
	}
	if status, body, _ := m.do("POST", at("a"), "short", "Content-Type", octets); status != 200 {
		t.Fatal(body)
	}
	entry, err := m.server.entry(path)
	if err != nil || entry.Mode != 0o751 || len(entry.Metadata) != 0 || m.file("a") != "short" {
		t.Error(entry, err)
	}
}

func TestUploadForm(t *testing.T) {
	m := newMachine(t)
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	big := strings.Repeat("0123456789abcdef", 100_000)
	for _, f := range []struct{ name, content string }{{"dir/one", "1"}, {"/" + strings.Trim(m.home, "/") + `/q"uote`, big}, {"three", ""}} {
		part, err := w.CreateFormFile("file", f.name)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(part, f.content)
	}
	w.Close()
	body := form.String()
	if status, reply, _ := m.do("POST", "/files", body, "Content-Type", w.FormDataContentType()); status != 200 {
		t.Fatal(status, reply)
	}
	if m.file("dir/one") != "1" || m.file(`q"uote`) != big || m.file("three") != "" {
		t.Error("contents differ")
	}
	if status, _, _ := m.do("POST", at("x"), body, "Content-Type", w.FormDataContentType()); status != 400 {
		t.Error("three files to one path:", status)
	}
	cut := body[:len(body)-1000]
	if status, reply, _ := m.do("POST", "/files", cut, "Content-Type", w.FormDataContentType()); status != 400 {
		t.Error("half a form:", status, reply)
	}
}

func TestUploadGzip(t *testing.T) {
	m := newMachine(t)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, strings.Repeat("x", 1<<20))
	z.Close()
	if status, body, _ := m.do("POST", at("a"), packed.String(), "Content-Type", octets, "Content-Encoding", "gzip"); status != 200 {
		t.Fatal(body)
	}
	if got := m.file("a"); len(got) != 1<<20 {
		t.Errorf("%d bytes", len(got))
	}
	for encoding, body := range map[string]string{"gzip": "rubbish", "br": "x"} {
		if status, _, _ := m.do("POST", at("b"), body, "Content-Type", octets, "Content-Encoding", encoding); status != 400 {
			t.Error(encoding, status)
		}
	}
	if status, _, _ := m.do("POST", at("b"), packed.String()[:packed.Len()/2], "Content-Type", octets, "Content-Encoding", "gzip"); status != 400 {
		t.Error("half a gzip body:", status)
	}
	if _, err := os.Stat(filepath.Join(m.home, "b")); !os.IsNotExist(err) {
		t.Error("a failed upload left a new file")
	}
}

func TestDownload(t *testing.T) {
	m := newMachine(t)
	if err := os.WriteFile(filepath.Join(m.home, "a"), []byte("0123456789"), 0o644); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(m.home, "empty"), nil, 0o644)
	if err := syscall.Mkfifo(filepath.Join(m.home, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, _, h := m.do("GET", at("a"), "")
	for _, c := range []struct {
		name, path string
		headers    []string
		status     int
		body       string
	}{
		{"whole", "a", nil, 200, "0123456789"},
		{"home", "~/a", nil, 200, "0123456789"},
		{"range", "a", []string{"Range", "bytes=2-4"}, 206, "234"},
		{"not modified", "a", []string{"If-Modified-Since", h.Get("Last-Modified")}, 304, ""},
		{"a list of encodings is not a wish", "a", []string{"Accept-Encoding", "gzip, deflate"}, 200, "0123456789"},
		{"refuses what nobody has", "a", []string{"Accept-Encoding", "br, identity;q=0"}, 406, ""},
		{"refuses everything", "a", []string{"Accept-Encoding", "*;q=0"}, 406, ""},
		{"refuses all but one", "a", []string{"Accept-Encoding", "*;q=0, identity"}, 200, "0123456789"},
		{"refuses gzip", "a", []string{"Accept-Encoding", "gzip;q=0"}, 200, "0123456789"},
		{"empty", "empty", nil, 200, ""},
		{"missing", "b", nil, 404, ""},
		{"directory", ".", nil, 400, ""},
		{"pipe", "fifo", nil, 400, ""},
		{"NUL", "a\x00", nil, 400, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.path == "fifo" {
				t.Cleanup(func() { os.Remove(filepath.Join(m.home, "fifo")) })
			}
			status, body, h := m.do("GET", at(c.path), "", c.headers...)
			if status != c.status || status < 400 && body != c.body {
				t.Errorf("%d %q, want %d %q", status, body, c.status, c.body)
			}
			var e struct {
				Code    int
				Message string
			}
			if status >= 400 && (json.Unmarshal([]byte(body), &e) != nil || e.Code != status || e.Message == "") {
				t.Errorf("error body %q", body)
			}
			if c.name == "empty" && h.Get("Content-Length") != "0" {
				t.Error("SDKs look at the length of empty files:", h)
			}
		})
	}
	if status, body, _ := m.do("GET", "/files?path=/proc/self/status", ""); status != 200 || !strings.HasPrefix(body, "Name:") {
		t.Errorf("a file of unknown size: %d %q", status, body)
	}
}

func TestDownloadGzip(t *testing.T) {
	m := newMachine(t)
	os.WriteFile(filepath.Join(m.home, "a"), []byte("hello"), 0o644)
	for _, asked := range []string{"gzip", "gzip, identity;q=0", "br, *;q=0, gzip;q=0.5"} {
		_, body, h := m.do("GET", at("a"), "", "Accept-Encoding", asked)
		z, err := gzip.NewReader(strings.NewReader(body))
		if err != nil || h.Get("Content-Encoding") != "gzip" {
			t.Fatal(asked, err, h)
		}
		if data, err := io.ReadAll(z); err != nil || string(data) != "hello" {
			t.Error(asked, string(data), err)
		}
	}
}

func TestUserOfFiles(t *testing.T) {
	m := newMachine(t)
	if status, body, _ := m.do("GET", at("a")+"&username=stranger", ""); status != 401 {
		t.Error(status, body)
	}
	if status, body, _ := m.do("POST", at(filepath.Join(m.home, "sub/a"))+"&username=other", "x", "Content-Type", octets); status != 200 {
		t.Fatal(status, body)
	}
	for _, name := range []string{"sub", "sub/a"} {
		if entry, err := m.server.entry(filepath.Join(m.home, name)); err != nil || entry.Owner != "other" {
			t.Error(name, entry, err)
		}
	}
}

func TestFullDisk(t *testing.T) {
	m := newMachine(t)
	small := filepath.Join(m.home, "small")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatal("a small file system needs root:", err)
	}
	defer syscall.Unmount(small, syscall.MNT_DETACH)
	if status, body, _ := m.do("POST", at("small/keep"), "keep", "Content-Type", octets); status != 200 {
		t.Fatal(body)
	}
	big := strings.Repeat("x", 4<<20)
	if status, body, _ := m.do("POST", at("small/keep"), big, "Content-Type", octets); status != 507 || m.file("small/keep") != "keep" {
		t.Error("length known beforehand:", status, body)
	}
	request, _ := http.NewRequest("POST", m.url+at("small/new"), io.MultiReader(strings.NewReader(big))) // no length
	response, err := m.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if _, err := os.Stat(filepath.Join(small, "new")); response.StatusCode != 507 || !os.IsNotExist(err) {
		t.Error("length not known:", response.StatusCode, err)
	}
}

func TestCompose(t *testing.T) {
	m := newMachine(t)
	for name, content := range map[string]string{"1": "one ", "2": "two ", "out": "old"} {
		os.WriteFile(filepath.Join(m.home, name), []byte(content), 0o640)
	}
	if status, body, _ := m.do("POST", "/files/compose", `{"source_paths":["1","gone"],"destination":"out"}`); status != 404 || m.file("out") != "old" {
		t.Error(status, body)
	}
	status, body, _ := m.do("POST", "/files/compose", `{"source_paths":["2","1"],"destination":"out"}`)
	if status != 200 || m.file("out") != "two one " || !strings.Contains(body, `"name":"out"`) {
		t.Error(status, body)
	}
	if _, err := os.Stat(filepath.Join(m.home, "1")); !os.IsNotExist(err) {
		t.Error("a source was left:", err)
	}
}

func TestSignedURLs(t *testing.T) {
	m := newMachine(t)
	os.WriteFile(filepath.Join(m.home, "a"), []byte("hello"), 0o644)
	if status, body, _ := m.do("POST", "/init", `{"accessToken":"token"}`); status != 204 {
		t.Fatal(body)
	}
	later, before := fmt.Sprint(time.Now().Unix()+60), fmt.Sprint(time.Now().Unix()-60)
	signed := func(operation, expires string) string {
		q := url.Values{"path": {"a"}, "signature": {sign("a", operation, "", "token", expires)}}
		if expires != "" {
			q.Set("signature_expiration", expires)
		}
		return "/files?" + q.Encode()
	}
	for _, c := range []struct {
		name, method, path string
		headers            []string
		status             int
	}{
		{"token", "GET", at("a"), []string{"X-Access-Token", "token"}, 200},
		{"wrong token", "GET", at("a"), []string{"X-Access-Token", "tokem"}, 401},
		{"nothing", "GET", at("a"), nil, 401},
		{"signed for ever", "GET", signed("read", ""), nil, 200},
		{"signed until later", "GET", signed("read", later), nil, 200},
		{"expired", "GET", signed("read", before), nil, 401},
		{"signed for another operation", "GET", signed("write", later), nil, 401},
		{"signed write", "POST", signed("write", later), nil, 200},
		{"another path", "GET", strings.Replace(signed("read", later), "path=a", "path=b", 1), nil, 401},
		{"another expiry", "GET", strings.Replace(signed("read", later), later, later+"0", 1), nil, 401},
		{"a signature opens nothing else", "GET", strings.Replace(signed("read", later), "/files", "/metrics", 1), nil, 401},
		{"health is open", "GET", "/health", nil, 204},
		{"processes are not", "POST", "/process.Process/List", []string{"Content-Type", "application/json"}, 401},
	} {
		if status, body, _ := m.do(c.method, c.path, "", c.headers...); status != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, status, body, c.status)
		}
	}
}
