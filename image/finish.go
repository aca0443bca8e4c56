package image

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
)

// The user that sandboxes run commands as.
const (
	UserName = "user"
	UserID   = 1000
	UserHome = "/home/user"
)

// account is a person's in a root file system.
type account struct {
	name string
	id   int // of user and group
	home string
}

var sandboxUser = account{UserName, UserID, UserHome}

type textFile struct {
	path string
	mode fs.FileMode
	text string
}

// profile takes the place of Debian's and of the .profile in each home, which
// read five files and start a program (id) in every login shell; and a login
// shell is started for every command in a sandbox.
const profile = `# Read by login shells, which read ~/.profile next if there is one.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
if [ -d ~/bin ]; then PATH="$HOME/bin:$PATH"; fi
if [ -d ~/.local/bin ]; then PATH="$HOME/.local/bin:$PATH"; fi
export PATH
if [ -n "${PS1-}" ] && [ -n "${BASH-}" ] && [ "$BASH" != /bin/sh ]; then
  for file in /etc/bash.bashrc ~/.bashrc; do
    if [ -r "$file" ]; then . "$file"; fi
  done
fi
for file in /etc/profile.d/*.sh; do
  if [ -r "$file" ]; then . "$file"; fi
done
unset file
`

// finishDebian gives a fresh system what does not depend on the host, and takes
// away what does.
func finishDebian(dir, suite string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	files := []textFile{
		{"etc/apt/sources.list", 0o644, standardSources(suite)},
		{"etc/apt/apt.conf.d/99atoll", 0o644, "APT::Install-Recommends \"false\";\n"},
		{"etc/hostname", 0o644, "localhost\n"},
		{"etc/hosts", 0o644, "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"},
		{"etc/resolv.conf", 0o644, ""},
		{"etc/machine-id", 0o444, ""}, // made anew for each machine
		{"etc/default/locale", 0o644, "LANG=C.UTF-8\n"},
		{"etc/environment", 0o644, "LANG=C.UTF-8\n"},
		{"etc/timezone", 0o644, "Etc/UTC\n"},
		{"etc/profile", 0o644, profile},
		// Packages that bring a service install without starting it: there is no init.
		{"usr/sbin/policy-rc.d", 0o755, "#!/bin/sh\nexit 101\n"},
	}
	for _, f := range files {
		if err := replaceFile(root, f); err != nil {
			return err
		}
	}
	for _, name := range []string{"etc/apt/apt.conf.d/99mmdebstrap", "etc/localtime",
		"etc/skel/.profile", "root/.profile", "var/lib/dbus/machine-id",
		"var/cache/ldconfig/aux-cache", "var/cache/debconf/config.dat-old", "var/cache/debconf/templates.dat-old"} {
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := root.Symlink("/usr/share/zoneinfo/Etc/UTC", "etc/localtime"); err != nil {
		return err
	}
	for _, d := range []string{"var/log", "var/cache/apt", "tmp", "run"} {
		if err := emptyFiles(root, d); err != nil {
			return err
		}
	}
	return nil
}

// replaceFile writes a file in place of whatever has its name.
func replaceFile(root *os.Root, f textFile) error {
	if err := root.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := root.MkdirAll(path.Dir(f.path), 0o755); err != nil {
		return err
	}
	if err := root.WriteFile(f.path, []byte(f.text), f.mode); err != nil {
		return err
	}
	return root.Chmod(f.path, f.mode) // whatever the umask is
}

// emptyFiles deletes the files below a directory and keeps the directories,
// whose owners and modes packages rely on.
func emptyFiles(root *os.Root, dir string) error {
	return fs.WalkDir(root.FS(), dir, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || e.IsDir() {
			return err
		}
		return root.Remove(name)
	})
}

// AddUser gives a root file system the account that sandboxes use: uid 1000
// named "user", with a home directory, bash, and sudo without a password. One
// that is there already is kept; another account with that uid is an error.
func AddUser(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	return addAccount(root, sandboxUser)
}

func addAccount(root *os.Root, a account) error {
	name, err := accountName(root, a)
	if err != nil {
		return fmt.Errorf("read accounts: %w", err)
	}
	if name != "" && name != a.name {
		return fmt.Errorf("%w: uid %d belongs to %q, not to %q", ErrInvalid, a.id, name, a.name)
	}
	if name == "" {
		shell := "/bin/sh"
		if _, err := root.Stat("bin/bash"); err == nil {
			shell = "/bin/bash"
		}
		for _, f := range []textFile{
			{"etc/passwd", 0o644, fmt.Sprintf("%s:x:%d:%d::%s:%s\n", a.name, a.id, a.id, a.home, shell)},
			{"etc/group", 0o644, fmt.Sprintf("%s:x:%d:\n", a.name, a.id)},
			{"etc/shadow", 0o640, a.name + ":*:20000:0:99999:7:::\n"},
			{"etc/gshadow", 0o640, a.name + ":!::\n"},
		} {
			if err := appendFile(root, f); err != nil {
				return fmt.Errorf("add account %s: %w", a.name, err)
			}
		}
	}
	sudoers := textFile{"etc/sudoers.d/" + a.name, 0o440, a.name + " ALL=(ALL:ALL) NOPASSWD: ALL\n"}
	if err := replaceFile(root, sudoers); err != nil {
		return fmt.Errorf("allow %s to sudo: %w", a.name, err)
	}
	if err := makeHome(root, a); err != nil {
		return fmt.Errorf("make %s: %w", a.home, err)
	}
	return nil
}

// accountName returns the name of the account that has the uid or the name.
func accountName(root *os.Root, a account) (string, error) {
	f, err := root.Open("etc/passwd")
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), ":")
		if len(fields) > 2 && (fields[2] == fmt.Sprint(a.id) || fields[0] == a.name) {
			return fields[0], nil
		}
	}
	return "", lines.Err()
}

func appendFile(root *os.Root, f textFile) error {
	if err := root.MkdirAll(path.Dir(f.path), 0o755); err != nil {
		return err
	}
	file, err := root.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_RDWR, f.mode)
	if err != nil {
		return err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return err
	}
	if st.Size() > 0 { // a last line that has no end would swallow ours
		last := make([]byte, 1)
		if _, err := file.ReadAt(last, st.Size()-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			f.text = "\n" + f.text
		}
	}
	_, err = file.WriteString(f.text)
	return err
}

// makeHome makes the home directory, with the files of /etc/skel.
func makeHome(root *os.Root, a account) error {
	home := strings.TrimPrefix(a.home, "/")
	if err := root.MkdirAll(home, 0o755); err != nil {
		return err
	}
	skel, err := fs.ReadDir(root.FS(), "etc/skel")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range skel {
		// The logout file starts a program to clear a console.
		if !e.Type().IsRegular() || e.Name() == ".bash_logout" {
			continue
		}
		text, err := root.ReadFile("etc/skel/" + e.Name())
		if err != nil {
			return err
		}
		name := home + "/" + e.Name()
		if _, err := root.Lstat(name); err == nil {
			continue
		}
		if err := root.WriteFile(name, text, 0o644); err != nil {
			return err
		}
		if err := root.Lchown(name, a.id, a.id); err != nil {
			return err
		}
	}
	return root.Lchown(home, a.id, a.id)
}
