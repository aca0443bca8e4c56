package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
)

// basePackages are what code written by agents expects to find.
var basePackages = []string{
	"bash-static", "ca-certificates", "curl", "git", "iproute2", "less", "nano", "netbase", "nodejs", "npm",
	"openssh-client", "procps", "python-is-python3", "python3", "python3-pip", "python3-venv",
	"sudo", "unzip", "wget", "xz-utils",
}

const baseSuite = "bookworm"

// BaseRecipe returns what determines the content that Base builds.
func BaseRecipe() Recipe {
	return Recipe{Version: recipeVersion, Kind: "base", Suite: baseSuite, Packages: basePackages}
}

// Base builds the root file system of the built-in template in an empty
// directory: Debian with Python and Node, and the user of AddUser.
func Base(ctx context.Context, dir string, progress func(Progress)) error {
	err := buildBase(ctx, Spec{Suite: baseSuite, Packages: basePackages, Dir: dir, Progress: progress})
	if err != nil {
		return fmt.Errorf("build the base template: %w", err)
	}
	return nil
}

// buildBase builds a system that has at least the packages of the base template.
func buildBase(ctx context.Context, spec Spec) error {
	if err := Debian(ctx, spec); err != nil {
		return err
	}
	if err := useStaticShell(spec.Dir); err != nil {
		return fmt.Errorf("use the static shell: %w", err)
	}
	return AddUser(spec.Dir)
}

// useStaticShell makes bash the one of the package bash-static: the same
// version, which starts in two thirds of the time because nothing is linked at
// start, and a shell is started for every command in a sandbox. The diversion
// lets upgrades of the package bash go to the file that was moved aside.
func useStaticShell(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if _, err := root.Stat("bin/bash-static"); err != nil {
		return fmt.Errorf("find the static shell: %w", err)
	}
	// dpkg knows a file by the name that its package gives it.
	shell := "/bin/bash"
	files, err := root.ReadFile("var/lib/dpkg/info/bash.list")
	if err != nil {
		return fmt.Errorf("list the files of bash: %w", err)
	}
	if bytes.Contains(files, []byte("\n/usr/bin/bash\n")) {
		shell = "/usr/bin/bash"
	}
	if err := root.Rename("bin/bash", "bin/bash.distrib"); err != nil {
		return err
	}
	if err := root.Symlink("bash-static", "bin/bash"); err != nil {
		return err
	}
	diversions, err := root.OpenFile("var/lib/dpkg/diversions", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = diversions.WriteString(shell + "\n" + shell + ".distrib\n:\n")
	return errors.Join(err, diversions.Close())
}
