package image

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
)

// The user that sprites run commands as.
const (
	SpriteUserName = "sprite"
	SpriteUserID   = 1001
	SpriteHome     = "/home/sprite"
)

var spriteUser = account{SpriteUserName, SpriteUserID, SpriteHome}

// spriteSuite is newer than that of the base template: people live in a sprite
// and expect current languages.
const spriteSuite = "trixie"

// spritePackages are the languages, tools and shells of a sprite. Node.js is
// not among them: see sprite/install.sh.
var spritePackages = []string{
	// The system, and Python.
	"bash-static", "ca-certificates", "curl", "git", "iproute2", "less", "nano", "netbase", "openssh-client",
	"procps", "python-is-python3", "python3", "python3-dev", "python3-pip", "python3-venv", "pipx",
	"sudo", "tzdata", "unzip", "wget", "xz-utils",
	// Other languages.
	"build-essential", "pkg-config", "bundler", "ruby", "ruby-dev", "golang-go", "cargo", "rustc", "rust-clippy", "rustfmt",
	"default-jdk-headless", "elixir", "erlang-dev",
	// Tools and shells.
	"bzip2", "fd-find", "file", "fish", "gh", "htop", "jq", "ksh", "lsof", "netcat-openbsd", "psmisc", "ripgrep", "rsync",
	"sqlite3", "strace", "tcsh", "tmux", "tree", "vim", "zip", "zsh", "zstd",
}

// spriteFiles are documents for coding agents, settings, and what installs
// Node.js.
//
//go:embed sprite
var spriteFiles embed.FS

const (
	spriteFolder = ".sprite"
	// daemonPath is the guest daemon in every machine; called sprite-env it is
	// the tool of that name.
	daemonPath = "/usr/lib/atoll/atoll-guest"
)

// agentFolders are where coding agents look, below the home directory: for
// skills, and for what they read at every start.
var agentFolders = []struct{ folder, instructions string }{
	{".claude", "CLAUDE.md"},
	{".codex", "AGENTS.md"},
	{".cursor", ""},
	{".gemini", "GEMINI.md"},
}

// SpriteRecipe returns what determines the content that Sprite builds.
func SpriteRecipe() Recipe {
	return Recipe{
		Version: recipeVersion, Kind: "sprite", Suite: spriteSuite,
		Packages: spritePackages, Files: hashFiles(spriteFiles),
	}
}

// Sprite builds the root file system of sprites in an empty directory: Debian
// with languages, tools and shells, the user "sprite", and below /.sprite what
// tells a coding agent about the place. The user of AddUser is there as well, so
// that the template serves as one of sandboxes. It fetches from Debian's archive
// and npm's registry, with the settings of this host as Interpreter does.
func Sprite(ctx context.Context, dir string, progress func(Progress)) error {
	files, err := fs.Sub(spriteFiles, "sprite")
	if err != nil {
		return err
	}
	spec := Spec{Suite: spriteSuite, Packages: spritePackages, Dir: dir, Progress: progress, install: files}
	if err := buildBase(ctx, spec); err != nil {
		return fmt.Errorf("build the sprite template: %w", err)
	}
	if err := finishSprite(dir, files); err != nil {
		return fmt.Errorf("finish the sprite template: %w", err)
	}
	return nil
}

// finishSprite adds the user and the files that are ours.
func finishSprite(dir string, files fs.FS) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := addAccount(root, spriteUser); err != nil {
		return err
	}
	if err := placeSpriteFolder(root, files); err != nil {
		return fmt.Errorf("make /%s: %w", spriteFolder, err)
	}
	for name, place := range map[string]string{
		"etc/sprite.sh": "etc/profile.d/sprite.sh",
		"etc/npmrc":     "usr/local/etc/npmrc",
	} {
		if err := placeFile(root, files, name, place); err != nil {
			return err
		}
	}
	return placeInHome(root, files)
}

// placeSpriteFolder makes /.sprite with everything that does not come from the
// daemon when the machine is told what it is.
func placeSpriteFolder(root *os.Root, files fs.FS) error {
	for _, d := range []string{"bin", "checkpoints", "etc/profile.d", "logs/services", "policy", "services"} {
		if err := root.MkdirAll(path.Join(spriteFolder, d), 0o755); err != nil {
			return err
		}
	}
	for _, top := range []string{"docs", "languages", "llm.txt", "skills"} {
		err := fs.WalkDir(files, top, func(name string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			return placeFile(root, files, name, path.Join(spriteFolder, name))
		})
		if err != nil {
			return err
		}
	}
	if err := placeFile(root, files, "etc/sprite.sh", spriteFolder+"/etc/profile.d/sprite.sh"); err != nil {
		return err
	}
	for _, f := range []textFile{
		{spriteFolder + "/version.txt", 0o644, SpriteRecipe().Key() + "\n"},
		{spriteFolder + "/policy/network.json", 0o444, "{\"rules\":[]}\n"},
	} {
		if err := replaceFile(root, f); err != nil {
			return err
		}
	}
	if err := placeLink(root, daemonPath, spriteFolder+"/bin/sprite-env"); err != nil {
		return err
	}
	// For shells that do not read /etc/profile, and commands without a shell.
	return placeLink(root, "/"+spriteFolder+"/bin/sprite-env", "usr/local/bin/sprite-env")
}

// placeInHome writes the settings of tools, and what coding agents look for.
func placeInHome(root *os.Root, files fs.FS) error {
	const skill = "skills/sprite/SKILL.md"
	places := [][2]string{{"home/zshrc", ".zshrc"}, {"home/go.env", ".config/go/env"}, {"home/cargo.toml", ".cargo/config.toml"}}
	for _, a := range agentFolders {
		places = append(places, [2]string{skill, path.Join(a.folder, skill)})
		if a.instructions != "" {
			places = append(places, [2]string{"home/agents.md", path.Join(a.folder, a.instructions)})
		}
	}
	home := strings.TrimPrefix(SpriteHome, "/")
	for _, p := range places {
		place := path.Join(home, p[1])
		if err := placeFile(root, files, p[0], place); err != nil {
			return err
		}
		for name := place; name != home; name = path.Dir(name) {
			if err := root.Lchown(name, SpriteUserID, SpriteUserID); err != nil {
				return err
			}
		}
	}
	return nil
}

func placeFile(root *os.Root, files fs.FS, name, place string) error {
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return err
	}
	return replaceFile(root, textFile{place, 0o644, string(text)})
}

// placeLink makes a symbolic link in place of whatever has its name.
func placeLink(root *os.Root, target, name string) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return root.Symlink(target, name)
}
