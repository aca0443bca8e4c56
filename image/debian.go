package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Spec says which Debian system to build, and where.
type Spec struct {
	// Suite is a release of Debian, such as "bookworm".
	Suite    string
	Packages []string
	// Dir is an empty directory, which becomes the root directory.
	Dir string
	// Mirror to fetch from; empty takes what this host's apt uses for the suite,
	// or else Debian's own. The result always names Debian's own.
	Mirror   string
	Progress func(Progress)

	// install has a program install.sh, run on this host with the new system's
	// root when the packages are there, and what it needs beside it. installUnits
	// is how many packages it says to be "Collecting", for progress.
	install      fs.FS
	installUnits int
}

// Recipe returns what determines the content that Debian builds.
func (s Spec) Recipe() Recipe {
	return Recipe{Version: recipeVersion, Kind: "debian", Suite: s.Suite, Packages: s.Packages}
}

var (
	suiteRule   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,40}$`)
	packageRule = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]{1,80}$`)
)

func (s Spec) check() error {
	if !suiteRule.MatchString(s.Suite) {
		return fmt.Errorf("%w: %.50q is not a name of a Debian suite", ErrInvalid, s.Suite)
	}
	for _, p := range s.Packages {
		if !packageRule.MatchString(p) {
			return fmt.Errorf("%w: %.100q is not a name of a Debian package", ErrInvalid, p)
		}
	}
	if s.Dir == "" {
		return fmt.Errorf("%w: no directory to build in", ErrInvalid)
	}
	return nil
}

// dpkgOptions: a sandbox can be built again, so nothing is synced to disk one
// by one; manuals and translations are left out, here and in later installs.
var dpkgOptions = []string{
	"force-unsafe-io",
	"path-exclude=/usr/share/man/*",
	"path-exclude=/usr/share/info/*",
	"path-exclude=/usr/share/locale/*",
	"path-exclude=/usr/share/doc/*",
	"path-include=/usr/share/doc/*/copyright",
	// So that pip installs without a virtual environment, as people expect here.
	"path-exclude=/usr/lib/python3*/EXTERNALLY-MANAGED",
}

// Debian builds a Debian system in Spec.Dir with mmdebstrap, without caches and
// with nothing of this host in it. It needs root. After an error the directory
// has to be removed.
func Debian(ctx context.Context, s Spec) error {
	if err := s.check(); err != nil {
		return err
	}
	tool, err := exec.LookPath("mmdebstrap")
	if err != nil {
		return errors.New("build Debian system: mmdebstrap is not installed; install the package mmdebstrap")
	}
	host, err := os.MkdirTemp("", "atoll-image-")
	if err != nil {
		return fmt.Errorf("build Debian system: %w", err)
	}
	defer os.RemoveAll(host)
	// apt works in there as a user of its own; what is secret has mode 0600.
	if err := os.Chmod(host, 0o711); err != nil {
		return fmt.Errorf("build Debian system: %w", err)
	}
	args, err := s.arguments(ctx, host)
	if err != nil {
		return fmt.Errorf("build Debian system: %w", err)
	}
	if err := runBuild(ctx, tool, args, host, newTracker(s.Progress, len(s.Packages), s.installUnits)); err != nil {
		return fmt.Errorf("build Debian system: %w", err)
	}
	if err := finishDebian(s.Dir, s.Suite); err != nil {
		return fmt.Errorf("finish Debian system: %w", err)
	}
	return nil
}

// arguments returns mmdebstrap's, and writes what could hold a secret (mirror,
// proxies) to files in a private directory.
func (s Spec) arguments(ctx context.Context, host string) ([]string, error) {
	sources := hostSources("/etc/apt", s.Suite)
	if s.Mirror != "" {
		sources = mirrorSources(s.Mirror, s.Suite)
	} else if sources == "" {
		sources = standardSources(s.Suite)
	}
	sourcesFile := filepath.Join(host, "sources.list")
	proxyFile := filepath.Join(host, "apt.conf")
	if err := os.WriteFile(sourcesFile, []byte(sources), 0o600); err != nil {
		return nil, err
	}
	conf := "APT::Install-Recommends \"false\";\nAcquire::Retries \"3\";\n" + hostProxies(ctx)
	if err := os.WriteFile(proxyFile, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	args := []string{"--mode=root", "--variant=minbase", "--format=directory", "--verbose", "--aptopt=" + proxyFile}
	for _, o := range dpkgOptions {
		args = append(args, "--dpkgopt="+o)
	}
	if len(s.Packages) > 0 {
		args = append(args, "--include="+strings.Join(s.Packages, ","))
	}
	// Some packages (Java's) want to place links to manuals, though those are left out.
	args = append(args, `--essential-hook=mkdir -p "$1/usr/share/man/man1"`)
	if s.install != nil {
		program, err := placeInstaller(host, s.install)
		if err != nil {
			return nil, err
		}
		args = append(args, "--customize-hook="+program)
	}
	return append(args, s.Suite, s.Dir, sourcesFile), nil
}

// runBuild runs the tool in a mount namespace of its own, so that whatever it
// mounts is gone with it, and ends its whole process group with the context.
func runBuild(ctx context.Context, tool string, args []string, tmp string, t *tracker) error {
	// The child is killed when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "TMPDIR=" + tmp}
	cmd.Stdout, cmd.Stderr = t, t
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	err := cmd.Wait()
	// What the tool left running, if it was killed.
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("run mmdebstrap: %w: %s", err, bytes.TrimSpace(t.tail()))
	}
	t.finish()
	return nil
}
