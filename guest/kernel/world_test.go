package kernel_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/guest"
	"github.com/atoll-cloud/atoll/guest/kernel"
)

// kernelUser is whom the kernels of these tests run as where the tests run as root.
const kernelUser = 1000

var (
	spawner *guest.Spawner
	// interpreter is a Python that has ipykernel; empty where there is none.
	interpreter string
)

func TestMain(m *testing.M) {
	// The spawner reaps every child of this process, also one that os/exec
	// waits for: what is asked of a program is asked before there is one.
	interpreter = findInterpreter()
	var err error
	if spawner, err = guest.NewSpawner(""); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	spawner.Close()
	os.Exit(code)
}

// world is a daemon with a kernel server that has ipykernel for Python.
type world struct {
	t       testing.TB
	url     string
	home    string
	host    *guest.Server
	kernels *kernel.Server
}

// findInterpreter returns a Python that has ipykernel, or nothing.
func findInterpreter() string {
	for _, name := range []string{os.Getenv("ATOLL_TEST_KERNEL_PYTHON"), "/usr/bin/python3", "python3"} {
		if name != "" && exec.Command(name, "-c", "import ipykernel").Run() == nil {
			return name
		}
	}
	return ""
}

// newWorld starts a kernel server; marker is what the template lists.
func newWorld(t testing.TB, marker string) *world {
	t.Helper()
	if interpreter == "" {
		t.Fatal("these tests need ipykernel: install Debian's python3-ipykernel, or name an interpreter that has it in ATOLL_TEST_KERNEL_PYTHON")
	}
	root, home := t.TempDir(), t.TempDir()
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = kernelUser, kernelUser
		for _, dir := range []string{root, home} {
			if err := errors.Join(os.Chown(dir, uid, gid), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(t, filepath.Join(root, "etc/passwd"), fmt.Sprintf("user:x:%d:%d::%s:/bin/sh\n", uid, gid, home))
	specification := `{"argv":[%q,"-m","ipykernel_launcher","-f","{connection_file}"],"language":"python",` +
		`"env":{"IPYTHONDIR":%q},"metadata":{"transport":%q}}`
	write(t, filepath.Join(root, "usr/share/jupyter/kernels/python3/kernel.json"),
		fmt.Sprintf(specification, interpreter, filepath.Join(home, ".ipython"), "ipc"))
	write(t, filepath.Join(root, "usr/local/share/jupyter/kernels/overtcp/kernel.json"),
		fmt.Sprintf(specification, interpreter, filepath.Join(home, ".ipython"), "tcp"))
	write(t, filepath.Join(root, "usr/local/share/jupyter/kernels/bymessage/kernel.json"),
		strings.Replace(fmt.Sprintf(specification, interpreter, filepath.Join(home, ".ipython"), "tcp"), "{", `{"interrupt_mode":"message",`, 1))
	write(t, filepath.Join(root, "usr/local/share/jupyter/kernels/broken/kernel.json"),
		`{"argv":["/bin/sh","-c","echo out of order; exit 3"],"language":"broken"}`)
	list := filepath.Join(root, "interpreter.json")
	if marker != "" {
		write(t, list, marker)
	}
	log, err := os.Create(filepath.Join(root, "log"))
	if err != nil {
		t.Fatal(err)
	}
	host := guest.New(guest.Config{Root: root, Log: guest.NewLog(log), Spawner: spawner})
	kernels, err := kernel.New(kernel.Config{
		Host: host, Root: root, Marker: list, ConnState: host.TrackConnection,
		Log: func(level, message string, pairs ...string) { t.Log(level, message, pairs) },
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(kernels.Handler())
	t.Cleanup(func() {
		server.CloseClientConnections()
		kernels.Close()
		server.Close()
		log.Close()
	})
	return &world{t: t, url: server.URL, home: home, host: host, kernels: kernels}
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// patience is the longest that anything in these tests may take.
const patience = 90 * time.Second

func deadline(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// line is a line of an answer.
type line struct {
	Type      string         `json:"type"`
	Text      string         `json:"text"`
	Main      bool           `json:"is_main_result"`
	Name      string         `json:"name"`
	Value     string         `json:"value"`
	Traceback string         `json:"traceback"`
	Count     int            `json:"execution_count"`
	PNG       string         `json:"png"`
	HTML      string         `json:"html"`
	JSON      any            `json:"json"`
	Chart     any            `json:"chart"`
	Data      any            `json:"data"`
	Extra     map[string]any `json:"extra"`
	Timestamp int64          `json:"timestamp"`
}

// outcome is an answer put together.
type outcome struct {
	stdout, stderr string
	results        []line
	failure        *line
	count          int
	ended          bool
}

func (o *outcome) main() string {
	for _, r := range o.results {
		if r.Main {
			return r.Text
		}
	}
	return ""
}

// do sends a request.
func (w *world) do(ctx context.Context, method, path string, body any) *http.Response {
	w.t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(ctx, method, w.url+path, strings.NewReader(string(data)))
	if err != nil {
		w.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	return response
}

type request map[string]any

// run runs code and waits for its end.
func (w *world) run(code string, more ...request) *outcome {
	w.t.Helper()
	body := request{"code": code}
	for _, fields := range more {
		for key, value := range fields {
			body[key] = value
		}
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	response := w.do(ctx, http.MethodPost, "/execute", body)
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		w.t.Fatalf("execute: %s: %s", response.Status, text)
	}
	return w.read(response.Body)
}

func (w *world) read(body io.Reader) *outcome {
	w.t.Helper()
	o := new(outcome)
	lines := bufio.NewReaderSize(body, 1<<20)
	var stdout, stderr strings.Builder
	for {
		text, err := lines.ReadBytes('\n')
		if err == io.EOF && len(text) == 0 {
			break
		}
		if err != nil {
			w.t.Fatal(err)
		}
		for _, b := range text {
			if b >= 0x80 {
				w.t.Fatalf("a line is not ASCII: %q", text)
			}
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			w.t.Fatalf("%v: %.200q", err, text)
		}
		switch l.Type {
		case "stdout":
			stdout.WriteString(l.Text)
		case "stderr":
			stderr.WriteString(l.Text)
		case "result":
			o.results = append(o.results, l)
		case "error":
			o.failure = &l
		case "number_of_executions":
			o.count = l.Count
		case "end_of_execution":
			o.ended = true
		default:
			w.t.Fatalf("unknown line %q", text)
		}
		if (l.Type == "stdout" || l.Type == "stderr") && l.Timestamp == 0 {
			w.t.Error("text without the time, which the Python SDK needs")
		}
	}
	o.stdout, o.stderr = stdout.String(), stderr.String()
	if !o.ended {
		w.t.Error("the answer has no end")
	}
	return o
}

// expect runs code whose main result must be this.
func (w *world) expect(code, want string, more ...request) {
	w.t.Helper()
	o := w.run(code, more...)
	if o.main() != want || o.failure != nil {
		w.t.Errorf("%s: got %q, error %+v, stderr %q; want %q", code, o.main(), o.failure, o.stderr, want)
	}
}

// status sends a request and returns status and body.
func (w *world) status(method, path string, body any) (int, string) {
	w.t.Helper()
	response := w.do(deadline(w.t), method, path, body)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// create makes a context and returns its id.
func (w *world) create(body request) string {
	w.t.Helper()
	status, text := w.status(http.MethodPost, "/contexts", body)
	var made struct{ ID string }
	if status != http.StatusOK || json.Unmarshal([]byte(text), &made) != nil || made.ID == "" {
		w.t.Fatalf("create a context: %d %s", status, text)
	}
	return made.ID
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx := deadline(t)
	for !condition() {
		if ctx.Err() != nil {
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
