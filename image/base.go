package image

import (
	"context"
	"fmt"
)

// basePackages are what code written by agents expects to find.
var basePackages = []string{
	"ca-certificates", "curl", "git", "iproute2", "less", "nano", "netbase", "nodejs", "npm",
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
	err := Debian(ctx, Spec{Suite: baseSuite, Packages: basePackages, Dir: dir, Progress: progress})
	if err != nil {
		return fmt.Errorf("build the base template: %w", err)
	}
	if err := AddUser(dir); err != nil {
		return fmt.Errorf("build the base template: %w", err)
	}
	return nil
}
