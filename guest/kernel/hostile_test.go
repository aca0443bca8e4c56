package kernel_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

type initRequest struct {
	request  *http.Request
	recorder *httptest.ResponseRecorder
}

func newRequest(t *testing.T, body string) initRequest {
	t.Helper()
	return initRequest{httptest.NewRequest(http.MethodPost, "/init", strings.NewReader(body)), httptest.NewRecorder()}
}

// leave runs code and goes away as soon as it has printed something.
func (w *world) leave(code string, more ...request) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(deadline(w.t))
	defer cancel()
	body := request{"code": code}
	for _, fields := range more {
		for key, value := range fields {
			body[key] = value
		}
	}
	response := w.do(ctx, http.MethodPost, "/execute", body)
	seen := ""
	for piece := make([]byte, 4096); !strings.Contains(seen, `"text":"go`); {
		n, err := response.Body.Read(piece)
		seen += string(piece[:n])
		if err != nil {
			w.t.Fatalf("%v after %s", err, seen)
		}
	}
	cancel()
	io.Copy(io.Discard, response.Body)
	response.Body.Close()
}

func TestLeavingInterruptsAndKeepsState(t *testing.T) {
	w := newWorld(t, "")
	w.run("kept = 'still here'")
	w.leave("print('go', flush=True)\nwhile True: pass")
	w.expect("kept", "still here")
	w.leave("import subprocess; print('go', flush=True); subprocess.run(['sleep', '1000'])")
	w.expect("kept", "still here")
}

func TestLeavingBeforeAnythingIsPrinted(t *testing.T) {
	w := newWorld(t, "")
	w.run("kept = 'still here'")
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/execute", strings.NewReader(`{"code":"while True: pass"}`))
		if err != nil {
			t.Fatal(err)
		}
		if response, err := http.DefaultClient.Do(r); err == nil {
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
		cancel()
	}
	w.expect("kept", "still here")
}

func TestCodeThatIgnoresInterrupts(t *testing.T) {
	w := newWorld(t, "")
	id := w.create(request{})
	w.leave("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print('go', flush=True)\nwhile True: pass", request{"context_id": id})
	o := w.run("1", request{"context_id": id})
	if o.failure == nil || o.failure.Name != "ContextBusy" || !strings.Contains(o.failure.Value, "restart") {
		t.Errorf("got %+v", o)
	}
	w.expect("1+1", "2") // elsewhere
	if status, text := w.status(http.MethodPost, "/contexts/"+id+"/restart", nil); status != http.StatusNoContent {
		t.Fatalf("restart: %d %s", status, text)
	}
	w.expect("1+1", "2", request{"context_id": id})
}

// TestCodeThatNoMessageInterrupts: where nothing but a message interrupts a
// kernel, code that takes no notice of it does not hold up the context.
func TestCodeThatNoMessageInterrupts(t *testing.T) {
	w := newWorld(t, "")
	language := request{"language": "bymessage"}
	w.run("kept = 1", language)
	w.leave("print('go', flush=True)\nwhile True: pass", language)
	w.expect("kept", "1", language)
	w.leave("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); print('go', flush=True)\nwhile True: pass", language)
	o := w.run("'kept' in globals()", language)
	if o.main() != "False" || o.failure != nil || !strings.Contains(o.stderr, "did not end on an interrupt") {
		t.Errorf("got %+v", o)
	}
}

func TestKernelsThatDie(t *testing.T) {
	w := newWorld(t, "")
	for _, code := range []string{"import os; os._exit(3)", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "import ctypes; ctypes.string_at(0)", "exit()"} {
		w.run("state = 1")
		o := w.run("print('last words', flush=True)\n" + code)
		if code == "exit()" {
			// IPython's own, which ends the kernel after the code.
			w.run("1")
			continue
		}
		if o.failure == nil || o.failure.Name != "KernelDied" || !strings.Contains(o.failure.Value, "variables are lost") {
			t.Errorf("%s: got %+v", code, o)
		}
		if o := w.run("state"); o.failure == nil || o.failure.Name != "NameError" {
			t.Errorf("%s: then %+v", code, o)
		}
	}
	// While nothing runs.
	pid, err := strconv.Atoi(w.run("import os; os.getpid()").main())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the kernel has ended", func() bool { return syscall.Kill(pid, 0) != nil })
	if o := w.run("1"); !strings.Contains(o.stderr, "variables are lost") || o.main() != "1" {
		t.Errorf("the next client is not told: %+v", o)
	}
}

func TestRestartEndsWhatRuns(t *testing.T) {
	w := newWorld(t, "")
	id := w.create(request{})
	var running sync.WaitGroup
	started := make(chan struct{})
	running.Go(func() {
		response := w.do(deadline(t), http.MethodPost, "/execute", request{"code": "print('go', flush=True)\nwhile True: pass", "context_id": id})
		defer response.Body.Close()
		close(started)
		o := w.read(response.Body)
		if o.failure == nil || o.failure.Name != "KernelStopped" || !strings.Contains(o.failure.Value, "restarted") {
			t.Errorf("got %+v", o)
		}
	})
	<-started
	if status, text := w.status(http.MethodPost, "/contexts/"+id+"/restart", nil); status != http.StatusNoContent {
		t.Errorf("restart: %d %s", status, text)
	}
	running.Wait()
	w.expect("1+1", "2", request{"context_id": id})
}

func TestCodeRunsInTurnAndSideBySide(t *testing.T) {
	w := newWorld(t, "")
	w.run("import time; log = []")
	other := w.create(request{})
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() { w.run("log.append('in'); time.sleep(0.05); log.append('out')") })
	}
	// Each waits for the other, so they must run at the same time.
	mark := w.home + "/mark"
	all.Go(func() {
		w.run("import os, time\nwhile not os.path.exists('" + mark + "'): time.sleep(0.01)\nopen('" + mark + "2', 'w')")
	})
	all.Go(func() {
		w.run("import os, time\nopen('"+mark+"', 'w')\nwhile not os.path.exists('"+mark+"2'): time.sleep(0.01)", request{"context_id": other})
	})
	all.Wait()
	w.expect("log == ['in', 'out'] * 5", "True")
}

func TestBadOutput(t *testing.T) {
	w := newWorld(t, "")
	w.run("kept = 1")
	o := w.run(`import sys, os
print('\udc80\ud83d half', flush=True)
sys.stdout.write('\u2028\x85\x1c\x00"\\\n'); sys.stdout.flush()
'\ud800'`)
	if !strings.Contains(o.stdout, "half") || !strings.Contains(o.stdout, "\u2028\u0085\x1c\x00\"\\\n") {
		t.Errorf("got %+v", o)
	}
	w.expect("kept", "1")
	o = w.run("os.write(1, b'\\xff\\xfe raw\\n'); import time; time.sleep(0.3); kept")
	if o.main() != "1" {
		t.Errorf("raw bytes: %+v", o)
	}
	for _, code := range []string{
		"import sys; sys.stdout.close()", "import os; os.close(1); os.close(2)",
		"import os\nif os.fork() == 0: os._exit(0)\nos.wait()", "import os; os.fork(); 1", "import os; os.system('sleep 1000 &')",
		"import multiprocessing as m\nwith m.Pool(2) as p: print(p.map(abs, [1, -2]))",
	} {
		o := w.run(code)
		if o.failure != nil {
			t.Errorf("%s: %+v", code, o.failure)
		}
		if o := w.run("kept"); o.main() != "1" {
			t.Errorf("after %s: %+v", code, o)
		}
		if o := w.run("print('printed')"); o.stdout != "printed\n" {
			t.Errorf("print after %s: %+v", code, o)
		}
	}
}

func TestMuchOutput(t *testing.T) {
	if testing.Short() {
		t.Skip("prints 100 MB")
	}
	w := newWorld(t, "")
	const size = 100 << 20
	o := w.run("for _ in range(1600): print('x' * 65535)")
	if len(o.stdout) != size {
		t.Errorf("got %d bytes of %d", len(o.stdout), size)
	}
	o = w.run("print('ü' * 10_000_000)")
	if len(o.stdout) != 20_000_001 {
		t.Errorf("got %d bytes of one print", len(o.stdout))
	}
	o = w.run("from IPython.display import display\ndisplay({'image/png': 'A' * 67_000_000}, raw=True)")
	if len(o.results) != 1 || len(o.results[0].PNG) != 67_000_000 {
		t.Error("a large picture was lost")
	}
	o = w.run("display({'image/png': 'A' * 150_000_000}, raw=True); 2")
	if o.failure == nil || o.failure.Name != "OutputTooLarge" || o.main() != "2" {
		t.Errorf("what is too large: %+v", o.failure)
	}
}

// TestASlowReaderHoldsTheKernelBack reads so late that a kernel which went on
// would have had its messages thrown away.
func TestASlowReaderHoldsTheKernelBack(t *testing.T) {
	w := newWorld(t, "")
	progress := w.home + "/progress"
	response := w.do(deadline(t), http.MethodPost, "/execute", request{"code": `
for i in range(6000):
    print('y' * 9999, flush=True)
    if i % 100 == 0: open('` + progress + `', 'w').write(str(i))
`})
	defer response.Body.Close()
	at := func() string { b, _ := os.ReadFile(progress); return string(b) }
	before := ""
	eventually(t, "the kernel stands still", func() bool {
		now := at()
		still := now != "" && now == before
		before = now
		time.Sleep(200 * time.Millisecond)
		return still
	})
	if before == "5900" {
		t.Error("the kernel ran to its end while nobody read")
	}
	if o := w.read(response.Body); len(o.stdout) != 6000*10_000 {
		t.Errorf("got %d bytes of %d", len(o.stdout), 6000*10_000)
	}
}
