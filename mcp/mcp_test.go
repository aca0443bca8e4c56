package mcp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/atoll-cloud/atoll/client/doortest"
	"github.com/atoll-cloud/atoll/mcp"
)

func TestMain(m *testing.M) { doortest.Main(m) }

// agent is the SDK's client, connected to our server.
type agent struct {
	t       *testing.T
	session *sdk.ClientSession
	door    *doortest.Door
	kernel  *doortest.Kernel
}

func connect(t *testing.T, guest string) agent {
	d, k := doortest.New(t, guest), doortest.NewKernel()
	d.Kernel = k
	here, there := sdk.NewInMemoryTransports()
	if _, err := mcp.New(d.Client(t), "test").Connect(t.Context(), there); err != nil {
		t.Fatal(err)
	}
	session, err := sdk.NewClient(&sdk.Implementation{Name: "agent"}, nil).Connect(t.Context(), here, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return agent{t, session, d, k}
}

// call calls a tool and returns the texts of its answer, joined, and the pictures.
func (a agent) call(name string, args map[string]any) (text string, pictures []*sdk.ImageContent, failed bool) {
	a.t.Helper()
	res, err := a.session.CallTool(a.t.Context(), &sdk.CallToolParams{Name: name, Arguments: args})
	if err != nil {
		a.t.Fatalf("%s: %v", name, err)
	}
	for _, c := range res.Content {
		switch c := c.(type) {
		case *sdk.TextContent:
			text += c.Text + "\n"
		case *sdk.ImageContent:
			pictures = append(pictures, c)
		}
	}
	return text, pictures, res.IsError
}

// sandbox makes one and returns its id.
func (a agent) sandbox() string {
	a.t.Helper()
	text, _, failed := a.call("create_sandbox", map[string]any{})
	var out struct {
		SandboxID string `json:"sandbox_id"`
	}
	if err := json.Unmarshal([]byte(text), &out); err != nil || failed || out.SandboxID == "" {
		a.t.Fatalf("%s: %v", text, err)
	}
	return out.SandboxID
}

func TestToolsSayWhatTheyTake(t *testing.T) {
	a := connect(t, "")
	var names []string
	for tool, err := range a.session.Tools(t.Context(), nil) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, tool.Name)
		schema, _ := tool.InputSchema.(map[string]any)
		props, _ := schema["properties"].(map[string]any)
		for field, v := range props {
			if p, _ := v.(map[string]any); p["description"] == nil {
				t.Errorf("%s does not say what %s is", tool.Name, field)
			}
		}
	}
	if got := strings.Join(names, " "); got != "create_sandbox kill_sandbox list_files list_sandboxes read_file run_code run_command write_file" {
		t.Errorf("tools: %s", got)
	}
}

func TestSandboxes(t *testing.T) {
	a := connect(t, "")
	id := a.sandbox()
	if made := a.door.Created()[0]; made.TemplateID != "code-interpreter-v1" || *made.Timeout != 900 || !made.Secure {
		t.Errorf("made %+v", made)
	}
	if text, _, failed := a.call("list_sandboxes", nil); failed || !strings.Contains(text, id) {
		t.Errorf("%s", text)
	}
	if text, _, failed := a.call("kill_sandbox", map[string]any{"sandbox_id": id}); failed || len(a.door.IDs()) != 0 {
		t.Errorf("%s, left %v", text, a.door.IDs())
	}
	for _, tc := range []struct {
		tool, want string
		args       map[string]any
	}{
		{"kill_sandbox", "doesn't exist", map[string]any{"sandbox_id": id}},
		{"run_code", "doesn't exist", map[string]any{"sandbox_id": id, "code": "1"}},
		{"run_code", "sandbox_id is empty", map[string]any{"sandbox_id": "", "code": "1"}},
		{"run_code", "code", map[string]any{"sandbox_id": id}},
		{"run_code", "timeout_seconds", map[string]any{"sandbox_id": id, "code": "1", "timeout_seconds": 1e6}},
		{"create_sandbox", "template 'none' not found", map[string]any{"template": "none"}},
	} {
		if text, _, failed := a.call(tc.tool, tc.args); !failed || !strings.Contains(text, tc.want) {
			t.Errorf("%s %v: %s", tc.tool, tc.args, text)
		}
	}
}

func TestRunCode(t *testing.T) {
	a := connect(t, "")
	id := a.sandbox()
	text, pictures, failed := a.call("run_code", map[string]any{"sandbox_id": id, "code": "out a\nerr b\nshow\ntext 42", "env": map[string]any{"A": "1"}})
	if want := "stdout:\na\n\nstderr:\nb\n\n42\n\n"; text != want || failed {
		t.Errorf("%q", text)
	}
	if len(pictures) != 1 || pictures[0].MIMEType != "image/png" || string(pictures[0].Data) != "\x89PNG\r\n\x1a\n" {
		t.Errorf("%+v", pictures)
	}
	if text, _, failed := a.call("run_code", map[string]any{"sandbox_id": id, "code": "out a\nraise no"}); !failed || text != "stdout:\na\n\nerror:\nTraceback:\nOops: no\n" {
		t.Errorf("%q", text)
	}
	if text, _, failed := a.call("run_code", map[string]any{"sandbox_id": id, "code": "1", "language": "cobol"}); !failed || !strings.Contains(text, "no kernel for") {
		t.Errorf("%q", text)
	}
	if text, _, failed := a.call("run_code", map[string]any{"sandbox_id": id, "code": "out a\nwait", "timeout_seconds": 1}); !failed || !strings.Contains(text, "interrupted after 1 seconds") || !strings.Contains(text, "a\n") {
		t.Errorf("%q", text)
	}
	<-a.kernel.Interrupted
	long := strings.Repeat("out "+strings.Repeat("ä", 500)+"\n", 1000) + "out end\n" + strings.Repeat("show\n", 20)
	text, pictures, failed = a.call("run_code", map[string]any{"sandbox_id": id, "code": long})
	if failed || len(text) > 40<<10 || len(pictures) != 8 || !strings.Contains(text, "bytes are left out here") || !strings.Contains(text, "end\n") || !strings.Contains(text, "12 pictures are left out") {
		t.Errorf("%d bytes, %d pictures", len(text), len(pictures))
	}
	a.door.Kernel = nil
	if text, _, failed := a.call("run_code", map[string]any{"sandbox_id": id, "code": "1"}); !failed || !strings.Contains(text, "run_command") {
		t.Errorf("%q", text)
	}
}

func TestCommandsAndFiles(t *testing.T) {
	a := connect(t, doortest.StartGuest(t))
	id, dir := a.sandbox(), t.TempDir()
	args := func(more map[string]any) map[string]any { more["sandbox_id"] = id; return more }
	text, _, failed := a.call("run_command", args(map[string]any{"command": "echo $A; pwd; echo e >&2; exit 3", "cwd": dir, "env": map[string]any{"A": "1"}}))
	if want := `{"exit_code":3,"stderr":"e\n","stdout":"1\n` + dir + `\n"}` + "\n"; text != want || failed {
		t.Errorf("%s", text)
	}
	if text, _, failed := a.call("run_command", args(map[string]any{"command": "echo a; sleep 600", "timeout_seconds": 1})); !failed || !strings.Contains(text, "killed after 1 seconds; stdout so far:\na\n") {
		t.Errorf("%s", text)
	}
	path := filepath.Join(dir, "deep", "f")
	if text, _, failed := a.call("write_file", args(map[string]any{"path": path, "content": "häé"})); failed {
		t.Error(text)
	}
	if text, _, failed := a.call("read_file", args(map[string]any{"path": path})); failed || text != "häé\n" {
		t.Error(text)
	}
	if text, _, failed := a.call("read_file", args(map[string]any{"path": path, "limit": 2})); failed || !strings.HasPrefix(text, "h\n[bytes 0 to 1") || !strings.HasSuffix(text, "; go on with offset 1]\n") {
		t.Error(text)
	}
	if text, _, failed := a.call("read_file", args(map[string]any{"path": path, "offset": 3})); failed || text != "é\n" {
		t.Error(text)
	}
	if text, _, failed := a.call("list_files", args(map[string]any{"path": dir, "depth": 2})); failed || !strings.Contains(text, `{"bytes":5,"path":"`+path+`","type":"file"}`) {
		t.Error(text)
	}
	if text, _, failed := a.call("write_file", args(map[string]any{"path": path, "content": doortest.Picture, "base64": true})); failed {
		t.Error(text)
	}
	if text, pictures, failed := a.call("read_file", args(map[string]any{"path": path})); failed || len(pictures) != 1 || pictures[0].MIMEType != "image/png" {
		t.Error(text)
	}
	if err := os.WriteFile(path, []byte("a\x00b"), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, _, failed := a.call("read_file", args(map[string]any{"path": path})); !failed || !strings.Contains(text, "no UTF-8 text") {
		t.Error(text)
	}
	if text, _, failed := a.call("read_file", args(map[string]any{"path": filepath.Join(dir, "none")})); !failed {
		t.Error(text)
	}
}

// bearer adds a token to every request.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

func TestHTTPWantsTheKey(t *testing.T) {
	d := doortest.New(t, "")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- mcp.New(d.Client(t), "test").Serve(ctx, l, doortest.APIKey) }()
	url := fmt.Sprintf("http://%s%s", l.Addr(), mcp.Path)
	for token, want := range map[bearer]int{"": 401, "wrong": 401, doortest.APIKey: 400} {
		res, err := (&http.Client{Transport: token}).Post(url, "application/json", strings.NewReader("nonsense"))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want && (want == 401 || res.StatusCode == 401) {
			t.Errorf("token %q: %s", token, res.Status)
		}
	}
	session, err := sdk.NewClient(&sdk.Implementation{Name: "agent"}, nil).Connect(t.Context(),
		&sdk.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: bearer(doortest.APIKey)}, MaxRetries: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := agent{t, session, d, nil}
	a.sandbox()
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	session.Close()
}
