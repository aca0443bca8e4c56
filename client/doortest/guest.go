package doortest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

var built struct{ dir string }

// buildGuest builds the guest daemon once for all tests of a package.
var buildGuest = sync.OnceValues(func() (string, error) {
	_, here, _, _ := runtime.Caller(0)
	dir, err := os.MkdirTemp("", "doortest-*")
	if err != nil {
		return "", err
	}
	built.dir = dir
	bin := filepath.Join(dir, "atoll-guest")
	cmd := exec.Command("go", "build", "-o", bin, "./cmd/atoll-guest")
	cmd.Dir = filepath.Join(filepath.Dir(here), "..", "..")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the guest daemon: %w\n%s", err, out)
	}
	return bin, nil
})

// Main runs a package's tests and removes what StartGuest built; call it from
// TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// StartGuest runs the real guest daemon on this host until the test ends, and
// returns its address. Its users are this host's, and its default user is the
// one who runs the test.
func StartGuest(t testing.TB) string {
	bin, err := buildGuest()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "--listen", addr, "--user", me.Username)
	cmd.Env = append(os.Environ(), "PATH=/usr/local/bin:/usr/bin:/bin")
	// A test that panics runs no clean-up.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		res, err := http.Get("http://" + addr + "/health")
		if err == nil {
			res.Body.Close()
			return "http://" + addr
		}
		if time.Now().After(deadline) {
			t.Fatalf("the guest daemon does not answer: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
