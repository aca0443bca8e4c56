package kernel_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestCodeGivesResults(t *testing.T) {
	w := newWorld(t, "")
	w.expect("1+1", "2")
	w.expect("x = 41", "")
	w.expect("x += 1; x", "42")
	w.expect("'text'", "text")
	w.expect("x", "42", request{"language": "PY"})
	o := w.run("import sys\nprint('out'); print('err', file=sys.stderr); 'é🎈\\u0085'")
	if o.stdout != "out\n" || o.stderr != "err\n" || !strings.HasPrefix(o.main(), "é🎈") || o.count != 6 {
		t.Errorf("got %+v", o)
	}
	o = w.run(`from IPython.display import display, HTML, JSON
display(HTML("<b>bold</b>")); display(JSON({"a": [1, {"b": "ü\u2028"}]}))
display({"application/vnd.atoll.chart+json": {"type": "line"}, "application/vnd.atoll.data+json": {"a": [1]}, "application/x-own": {"k": 1}}, raw=True)
7`)
	if len(o.results) != 4 || o.results[0].HTML != "<b>bold</b>" || o.results[0].Main || !o.results[3].Main || o.results[3].Text != "7" {
		t.Fatalf("got %+v", o)
	}
	if o.results[1].JSON.(map[string]any)["a"].([]any)[1].(map[string]any)["b"] != "ü\u2028" {
		t.Errorf("JSON came as %v", o.results[1].JSON)
	}
	if third := o.results[2]; third.Chart == nil || third.Data == nil || third.Extra["application/x-own"] == nil {
		t.Errorf("got %+v", third)
	}
}

// What code or a program that it starts writes past Python is in the answer to that
// code, however soon the code is over.
func TestOutputPastPythonIsNotLate(t *testing.T) {
	w := newWorld(t, "")
	w.run("import os, sys, subprocess")
	for n := range 100 {
		o := w.run(fmt.Sprintf("print('first'); sys.stdout.flush(); n = os.write(1, b'out %d\\n') + os.write(2, b'err %[1]d\\n')", n))
		if o.stdout != fmt.Sprintf("first\nout %d\n", n) || o.stderr != fmt.Sprintf("err %d\n", n) {
			t.Fatalf("of code %d came %q and %q", n, o.stdout, o.stderr)
		}
	}
	for n := range 10 {
		if o := w.run(fmt.Sprintf("e = subprocess.call(['echo', '%d'])", n)); o.stdout != fmt.Sprintf("%d\n", n) {
			t.Fatalf("of program %d came %q", n, o.stdout)
		}
	}
	big := w.run("n = [os.write(1, b'x' * 1000) for _ in range(1000)]")
	if len(big.stdout) != 1_000_000 {
		t.Errorf("of a million bytes came %d", len(big.stdout))
	}
	w.run("os.closerange(3, 20)") // which may end the kernel
	w.expect("1+1", "2")
}

func TestErrorsHaveNameValueAndTraceback(t *testing.T) {
	w := newWorld(t, "")
	for code, name := range map[string]string{"1/0": "ZeroDivisionError", "def f(:": "SyntaxError", "input()": "StdinNotImplementedError", "raise SystemExit(3)": "SystemExit"} {
		o := w.run(code)
		if o.failure == nil || o.failure.Name != name || o.failure.Traceback == "" {
			t.Errorf("%s: got %+v", code, o.failure)
		}
	}
	w.expect("1+1", "2")
}

func TestKernelsOverTCP(t *testing.T) {
	w := newWorld(t, "")
	w.expect("6*7", "42", request{"language": "overtcp"})
}

func TestContexts(t *testing.T) {
	w := newWorld(t, "")
	one, two := w.create(request{}), w.create(request{"language": "python3", "cwd": "/tmp", "env_vars": request{"OWN": "1"}})
	w.expect("import os; os.getcwd()", w.home, request{"context_id": one})
	w.expect("import os; os.getcwd(), os.environ['OWN'], os.environ['USER']", "('/tmp', '1', 'user')", request{"context_id": two})
	w.run("a = 1", request{"context_id": one})
	if o := w.run("a", request{"context_id": two}); o.failure == nil || o.failure.Name != "NameError" {
		t.Errorf("contexts share variables: %+v", o)
	}
	status, text := w.status(http.MethodGet, "/contexts", nil)
	if status != http.StatusOK || !strings.Contains(text, one) || !strings.Contains(text, two) || !strings.Contains(text, `"cwd":"/tmp"`) {
		t.Errorf("list: %d %s", status, text)
	}
	if status, text := w.status(http.MethodPost, "/contexts/"+one+"/restart", nil); status != http.StatusNoContent {
		t.Errorf("restart: %d %s", status, text)
	}
	if o := w.run("a", request{"context_id": one}); o.failure == nil || o.failure.Name != "NameError" || o.stderr != "" {
		t.Errorf("variables outlived a restart: %+v", o)
	}
	if status, text := w.status(http.MethodDelete, "/contexts/"+one, nil); status != http.StatusNoContent {
		t.Errorf("remove: %d %s", status, text)
	}
	for _, call := range [][2]string{{http.MethodDelete, "/contexts/" + one}, {http.MethodPost, "/contexts/" + one + "/restart"}} {
		if status, text := w.status(call[0], call[1], nil); status != http.StatusNotFound || !strings.Contains(text, "no such context") {
			t.Errorf("%s: %d %s", call, status, text)
		}
	}
	if status, text := w.status(http.MethodPost, "/execute", request{"code": "1", "context_id": one}); status != http.StatusNotFound || !strings.Contains(text, "no such context") {
		t.Errorf("execute: %d %s", status, text)
	}
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	w := newWorld(t, "")
	for _, c := range []struct {
		path   string
		body   any
		status int
		text   string
	}{
		{"/execute", request{"code": "1", "language": "cobol"}, 404, `"cobol". This sandbox has: broken, bymessage, overtcp, python`},
		{"/execute", request{"code": "1", "language": "java"}, 404, "default-jdk-headless), and as root the PyPI package jjava"},
		{"/execute", request{"code": "1", "language": "R"}, 404, "r-cran-irkernel"},
		{"/execute", request{"code": "1", "language": "js"}, 404, "Deno"},
		{"/contexts", request{"language": "cobol"}, 404, "This sandbox has"},
		{"/contexts", request{"cwd": "/nowhere"}, 404, "does not exist"},
		{"/contexts", request{"language": "broken"}, 500, "out of order"},
		{"/execute", request{"code": 1}, 400, "read the request"},
		{"/execute", []int{1}, 400, "read the request"},
		{"/execute", request{"code": "1", "env_vars": request{"A=B": "1"}}, 400, "A=B"},
		{"/execute", request{"code": "1", "env_vars": request{"A": "1\x00"}}, 400, "not valid"},
	} {
		status, text := w.status(http.MethodPost, c.path, c.body)
		if status != c.status || !strings.Contains(text, c.text) {
			t.Errorf("%s %v: %d %s", c.path, c.body, status, text)
		}
	}
	if o := w.run("1", request{"language": "broken"}); o.failure == nil || !strings.Contains(o.failure.Value, "out of order") {
		t.Errorf("a kernel that does not start: %+v", o)
	}
	w.expect("1", "1")
}

func TestEnvironment(t *testing.T) {
	w := newWorld(t, "")
	read := "import os; [os.environ.get(k) for k in 'AB']"
	w.expect("import os; os.environ['B'] = 'mine'; os.getcwd()", w.home)
	w.expect(read, "['1', 'ü\\n🎈']", request{"env_vars": request{"A": "1", "B": "ü\n🎈"}})
	w.expect(read, "[None, 'mine']")
	if o := w.run("1/0", request{"env_vars": request{"A": "1"}}); o.failure == nil || o.failure.Name != "ZeroDivisionError" {
		t.Errorf("got %+v", o)
	}
	w.expect(read, "[None, 'mine']")
	if o := w.run("1"); o.count != 6 {
		t.Errorf("silent code is counted: %d", o.count)
	}
}

func TestTheMachinesVariablesReachRunningKernels(t *testing.T) {
	w := newWorld(t, `{"start":["python"]}`)
	eventually(t, "the server is healthy", func() bool {
		status, _ := w.status(http.MethodGet, "/health", nil)
		return status == http.StatusNoContent
	})
	init := newRequest(t, `{"envVars":{"GIVEN":"later"}}`)
	w.host.Handler().ServeHTTP(init.recorder, init.request)
	w.expect("import os; os.environ['GIVEN']", "later")
	w.expect("os.environ['GIVEN'] = 'changed'; 1", "1")
	w.expect("os.environ['GIVEN']", "changed")
	init = newRequest(t, `{"envVars":{"GIVEN":"again","MORE":"1"}}`)
	w.host.Handler().ServeHTTP(init.recorder, init.request)
	w.run("", request{"env_vars": request{"GIVEN": "once"}})
	w.expect("os.environ['GIVEN'], os.environ['MORE']", "('again', '1')")
}

func TestTrialLeavesNoTrace(t *testing.T) {
	w := newWorld(t, "")
	w.run("1")
	for _, code := range []string{"1+1", "a = 1; a", "", "1/0", "def f(:", "raise SystemExit"} {
		w.run(code, request{"trial": true, "env_vars": request{"TRIED": "1"}})
	}
	w.expect("(len(In), len(Out), [k for k in globals() if k in ('a', 'f', '_2', '_i3')], __import__('os').environ.get('TRIED'))", "(3, 1, [], None)")
	w.expect("3", "3")
	w.expect("_ + 1", "4")
	if o := w.run("1"); o.count != 5 {
		t.Errorf("trials are counted: %d", o.count)
	}
}
