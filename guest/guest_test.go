package guest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/wire/filesystem/filesystemconnect"
	"github.com/atoll-cloud/atoll/wire/process/processconnect"
)

func TestMain(m *testing.M) {
	// The spawner reaps orphans, as it does as a machine's first process.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "become the parent of orphans:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// machine is a daemon under test with a root directory of its own.
type machine struct {
	t          *testing.T
	server     *Server
	url        string
	home       string
	client     *http.Client
	process    processconnect.ProcessClient
	filesystem filesystemconnect.FilesystemClient
	logged     *os.File
}

var testSpawner = func() *Spawner {
	s, err := NewSpawner("")
	if err != nil {
		panic(err)
	}
	return s
}()

// newMachine starts a daemon whose user "user" is who runs the tests.
func newMachine(t *testing.T) *machine {
	t.Helper()
	root, home := t.TempDir(), t.TempDir()
	passwd := fmt.Sprintf("user:x:%d:%d::%s:/bin/bash\nother:x:4242:4242::/:/bin/sh\n", os.Getuid(), os.Getgid(), home)
	for name, content := range map[string]string{"passwd": passwd, "group": fmt.Sprintf("users:x:%d:\nmore:x:77:user\n", os.Getgid())} {
		if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	logged, err := os.Create(filepath.Join(root, "log"))
	if err != nil {
		t.Fatal(err)
	}
	log := NewLog(logged)
	server := New(Config{Root: root, Log: log, Spawner: testSpawner})
	web := httptest.NewUnstartedServer(nil)
	web.Config = server.http
	web.Start()
	t.Cleanup(func() {
		ended, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		server.Shutdown(ended)
		web.Close()
		logged.Close()
	})
	return &machine{
		t: t, server: server, url: web.URL, home: home, client: web.Client(), logged: logged,
		process:    processconnect.NewProcessClient(web.Client(), web.URL),
		filesystem: filesystemconnect.NewFilesystemClient(web.Client(), web.URL),
	}
}

// do sends a request and returns status and body.
func (m *machine) do(method, path, body string, headers ...string) (int, string, http.Header) {
	m.t.Helper()
	request, err := http.NewRequest(method, m.url+path, strings.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	request.Header.Set("Accept-Encoding", "identity")
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := m.client.Do(request)
	if err != nil {
		m.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	return response.StatusCode, string(data), response.Header
}

// deadline is the longest any test waits for something that must happen.
func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx := deadline(t)
	for !condition() {
		if ctx.Err() != nil {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
