package image

import (
	"os"
	"os/exec"

	"github.com/atoll-cloud/atoll/doctor"
)

// Check returns what this host lacks for Debian and Base. It changes nothing.
func Check() []doctor.Problem {
	var problems []doctor.Problem
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		problems = append(problems, doctor.Problem{Fatal: true, What: "mmdebstrap is not installed", Mend: "install the package mmdebstrap"})
	}
	if _, err := os.Stat("/usr/share/keyrings/debian-archive-keyring.gpg"); err != nil {
		problems = append(problems, doctor.Problem{Fatal: true, What: "the keys of Debian's archive are not installed", Mend: "install the package debian-archive-keyring"})
	}
	if os.Geteuid() != 0 {
		problems = append(problems, doctor.Problem{Fatal: true, What: "not running as root", Mend: "run as root"})
	}
	return problems
}
