package test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/atoll-cloud/atoll/test/harness"
)

// These are set once by TestMain.
var (
	repository string // the root of the source tree
	binary     string // bin/atoll
	dataDir    string // kept between runs
)

func TestMain(m *testing.M) {
	if dataDir = os.Getenv(ordersVariable); dataDir != "" {
		flag.Parse()
		if err := serveOrders(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "engine:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "test:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// prepare builds what the tests drive and finds a place for its data.
func prepare() error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	repository = filepath.Dir(dir)
	binary = filepath.Join(repository, "bin", "atoll")
	if os.Geteuid() != 0 {
		return fmt.Errorf("these tests start sandboxes and need root: sudo make test")
	}
	if other := os.Getenv("ATOLL_TEST_BINARY"); other != "" { // such as one with the race detector
		binary = other
	}
	if os.Getenv("ATOLL_TEST_BUILT") == "" { // make test has done it already
		build := exec.Command("make", "-s", "-C", repository, "build", "sdks")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("build what is tested: %w", err)
		}
	}
	dataDir, err = harness.DataDir()
	return err
}
