package command

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// asked runs a command against a server that answers with text, and returns
// what it was asked.
func asked(t *testing.T, answer string, args ...string) (request, body, stdout, stderr string, code int) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		request, body = r.Method+" "+r.URL.RequestURI(), string(data)
		if strings.HasPrefix(answer, "!") {
			http.Error(w, answer[1:], http.StatusConflict)
			return
		}
		io.WriteString(w, answer)
	})}
	go server.Serve(listener)
	defer server.Close()
	var out, errors bytes.Buffer
	code = Run(Config{Socket: socket, Stdout: &out, Stderr: &errors}, args)
	return request, body, out.String(), errors.String(), code
}

func TestCommandsAskTheAPI(t *testing.T) {
	for _, c := range []struct{ args, request, body string }{
		{"info", "GET /info", ""},
		{"policy", "GET /policy/network", ""},
		{"services list", "GET /v1/services", ""},
		{"services get web", "GET /v1/services/web", ""},
		{"services create web --cmd python3 --args -m,http.server,3000 --http-port 3000",
			"PUT /v1/services/web", `{"args":["-m","http.server","3000"],"cmd":"python3","dir":"","env":{},"http_port":3000,"needs":null}`},
		{"services create --no-stream --cmd=a --env=A=1,2,B=3 --env C=4 --dir /d --needs x,y web",
			"PUT /v1/services/web?duration=0", `{"args":null,"cmd":"a","dir":"/d","env":{"A":"1,2","B":"3","C":"4"},"needs":["x","y"]}`},
		{"services start web --duration 10s", "POST /v1/services/web/start?duration=10s", ""},
		{"services restart web", "POST /v1/services/web/restart", ""},
		{"services stop web --timeout 3s --no-stream", "POST /v1/services/web/stop?timeout=3s", ""},
		{"services logs web --lines 5", "GET /v1/services/web/logs?lines=5", ""},
		{"services signal web HUP", "POST /v1/services/signal", `{"name":"web","signal":"HUP"}`},
		{"services signal web --signal TERM", "POST /v1/services/signal", `{"name":"web","signal":"TERM"}`},
		{"services delete a/b", "DELETE /v1/services/a%2Fb", ""},
		{"checkpoints list --include-auto", "GET /v1/checkpoints?includeAuto=true", ""},
		{"checkpoints create --comment before", "POST /v1/checkpoint", `{"comment":"before"}`},
		{"checkpoints restore v3", "POST /v1/checkpoints/v3/restore", ""},
		{"checkpoints delete v3", "DELETE /v1/checkpoints/v3", ""},
		{"tasks create build --expire 30m", "POST /v1/tasks", `{"expire":"30m","name":"build"}`},
		{"tasks refresh build", "PUT /v1/tasks/build", `{"name":"build"}`},
		{"tasks delete build", "DELETE /v1/tasks/build", ""},
	} {
		request, body, _, stderr, code := asked(t, "{}", strings.Fields(c.args)...)
		if request != c.request || body != c.body || code != 0 {
			t.Errorf("%s: %s %s (%d) %s", c.args, request, body, code, stderr)
		}
	}
}

func TestWhatCommandsSay(t *testing.T) {
	_, _, out, _, code := asked(t, `{"a":1}`, "info")
	if out != "{\n  \"a\": 1\n}\n" || code != 0 {
		t.Errorf("%q %d", out, code)
	}
	if _, _, out, _, _ := asked(t, `{"version":"1.2"}`, "version"); out != "1.2\n" {
		t.Errorf("%q", out)
	}
	_, _, _, stderr, code := asked(t, "!web holds the port", "services", "start", "web")
	if !strings.Contains(stderr, "web holds the port (409)") || code != 1 {
		t.Error(stderr, code)
	}
	_, _, out, stderr, code = asked(t, "{\"type\":\"error\",\"data\":\"no such program\"}\n{\"type\":\"complete\"}\n", "services", "start", "web")
	if !strings.Contains(out, "no such program") || !strings.Contains(stderr, "no such program") || code != 1 {
		t.Error(out, stderr, code)
	}
	for _, args := range []string{"nothing", "services", "services paint", "services get", "services create web", "services get web --lines 5", "tasks create", "services create web --cmd", "services list --no-stream=x", "services signal web", "services create web --cmd a --http-port many", "services create web --cmd a --env A"} {
		request, _, _, stderr, code := asked(t, "{}", strings.Fields(args)...)
		if code != 2 || request != "" || !strings.Contains(stderr, "help") {
			t.Errorf("%s: %d %s %s", args, code, request, stderr)
		}
	}
	if _, _, out, _, code := asked(t, "", "services", "--help"); code != 0 || !strings.Contains(out, "services create NAME") {
		t.Error(out, code)
	}
	var errors bytes.Buffer
	if code := Run(Config{Socket: "/no/such/socket", Stdout: io.Discard, Stderr: &errors}, []string{"info"}); code != 1 || !strings.Contains(errors.String(), "/no/such/socket") {
		t.Error(errors.String(), code)
	}
}

func TestFlags(t *testing.T) {
	f, err := parse([]string{"a", "--args", "--x,y", "--args=z", "--no-stream", "b"}, map[string]bool{"args": true, "no-stream": false})
	if err != nil || !reflect.DeepEqual(f.list("args"), []string{"--x", "y", "z"}) || !reflect.DeepEqual(f.names, []string{"a", "b"}) || !f.has("no-stream") {
		t.Error(f, err)
	}
}
