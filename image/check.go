package image

import (
	"os"
	"os/exec"
)

// Problem is something this host lacks to build Debian systems.
type Problem struct {
	What string // what is missing
	Mend string // what a person can do about it
}

// Check returns what this host lacks for Debian and Base. It changes nothing.
func Check() []Problem {
	var problems []Problem
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		problems = append(problems, Problem{"mmdebstrap is not installed", "install the package mmdebstrap"})
	}
	if _, err := os.Stat("/usr/share/keyrings/debian-archive-keyring.gpg"); err != nil {
		problems = append(problems, Problem{"the keys of Debian's archive are not installed", "install the package debian-archive-keyring"})
	}
	if os.Geteuid() != 0 {
		problems = append(problems, Problem{"not running as root", "run as root"})
	}
	return problems
}
