package network

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// insideVar marks the process that runs the tests proper.
const insideVar = "NETWORK_TEST_INSIDE"

// TestMain runs the tests in a second process whose network and mounts are its
// own: what the package takes for the host is an empty namespace, the outside
// world are namespaces beside it, and no packet leaves this machine.
func TestMain(m *testing.M) {
	if os.Getenv(insideVar) != "" {
		os.Exit(m.Run())
	}
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "the network's tests make namespaces and firewalls: run them as root")
		os.Exit(1)
	}
	self := exec.Command("/proc/self/exe", os.Args[1:]...)
	self.Env = append(os.Environ(), insideVar+"=1")
	self.Stdin, self.Stdout, self.Stderr = os.Stdin, os.Stdout, os.Stderr
	self.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := self.Run(); err != nil {
		if self.ProcessState == nil {
			fmt.Fprintln(os.Stderr, "starting the tests in namespaces of their own:", err)
		}
		os.Exit(1)
	}
}
