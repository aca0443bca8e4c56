package image

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// finishedSprite is a root file system with nothing but what is ours.
func finishedSprite(t *testing.T) string {
	t.Helper()
	files, err := fs.Sub(spriteFiles, "sprite")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 { // again, over what is there
		if err := finishSprite(dir, files); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestSpriteRecipe(t *testing.T) {
	key := SpriteRecipe().Key()
	if key == BaseRecipe().Key() || key == InterpreterRecipe().Key() {
		t.Error("it has the key of another template")
	}
	if SpriteRecipe().Files == "" {
		t.Error("documents do not count")
	}
	sorted := slices.Sorted(slices.Values(spritePackages))
	if len(slices.Compact(sorted)) != len(spritePackages) {
		t.Error("a package is there twice")
	}
	if err := (Spec{Suite: spriteSuite, Packages: spritePackages, Dir: "/x"}).check(); err != nil {
		t.Error(err)
	}
}

func TestSpriteUserOwnsTheHome(t *testing.T) {
	dir := finishedSprite(t)
	accounts, err := os.ReadFile(filepath.Join(dir, "etc/passwd"))
	if err != nil || string(accounts) != "sprite:x:1001:1001::/home/sprite:/bin/sh\n" {
		t.Errorf("%q, %v", accounts, err)
	}
	sudoers, err := os.ReadFile(filepath.Join(dir, "etc/sudoers.d/sprite"))
	if err != nil || !strings.Contains(string(sudoers), "NOPASSWD") {
		t.Errorf("%q, %v", sudoers, err)
	}
	count := 0
	err = filepath.WalkDir(filepath.Join(dir, "home/sprite"), func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		count++
		if st := info.Sys().(*syscall.Stat_t); st.Uid != SpriteUserID || st.Gid != SpriteUserID {
			t.Errorf("%s belongs to %d:%d", name, st.Uid, st.Gid)
		}
		return nil
	})
	if err != nil || count < 10 {
		t.Errorf("%d files, %v", count, err)
	}
}

// TestAgentsFindTheSkill: where each coding agent looks.
func TestAgentsFindTheSkill(t *testing.T) {
	dir := finishedSprite(t)
	for _, name := range []string{
		".claude/skills/sprite/SKILL.md", ".codex/skills/sprite/SKILL.md",
		".cursor/skills/sprite/SKILL.md", ".gemini/skills/sprite/SKILL.md",
		".claude/CLAUDE.md", ".codex/AGENTS.md", ".gemini/GEMINI.md",
	} {
		text, err := os.ReadFile(filepath.Join(dir, "home/sprite", name))
		if err != nil {
			t.Error(err)
			continue
		}
		if strings.HasSuffix(name, "SKILL.md") && !regexp.MustCompile(`\A---\nname: sprite\ndescription: \S[^\n]*\n---\n`).Match(text) {
			t.Errorf("%s does not begin as a skill does", name)
		}
	}
	for link, want := range map[string]string{
		".sprite/bin/sprite-env":   daemonPath,
		"usr/local/bin/sprite-env": "/.sprite/bin/sprite-env",
	} {
		if target, err := os.Readlink(filepath.Join(dir, link)); err != nil || target != want {
			t.Errorf("%s leads to %q, %v", link, target, err)
		}
	}
}

// TestDocumentsNameWhatIsThere: no document sends its reader to a file below
// /.sprite that does not exist.
func TestDocumentsNameWhatIsThere(t *testing.T) {
	dir := finishedSprite(t)
	made := map[string]bool{"/.sprite/api.sock": true, "/.sprite/fresh": true} // by the daemon
	named := regexp.MustCompile(`/\.sprite/[\w./-]*[\w-]`)
	beside := regexp.MustCompile(`\b[a-z-]+\.md\b`)
	documents := 0
	err := fs.WalkDir(spriteFiles, "sprite", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := spriteFiles.ReadFile(name)
		if err != nil {
			return err
		}
		paths := named.FindAllString(string(text), -1)
		if strings.HasPrefix(name, "sprite/docs/") {
			documents++
			for _, other := range beside.FindAllString(string(text), -1) {
				paths = append(paths, "/.sprite/docs/"+other)
			}
		}
		for _, path := range paths {
			ofUse := strings.HasPrefix(path, "/.sprite/checkpoints/") || strings.HasPrefix(path, "/.sprite/logs/services/")
			if _, err := os.Stat(filepath.Join(dir, path)); err != nil && !made[path] && !ofUse {
				t.Errorf("%s names %s, which is not there", name, path)
			}
		}
		return nil
	})
	if err != nil || documents < 5 {
		t.Errorf("%d documents, %v", documents, err)
	}
	for _, language := range []string{"python", "node", "go", "rust", "ruby", "java", "elixir", "erlang", "c"} {
		if _, err := os.Stat(filepath.Join(dir, ".sprite/languages", language, "llm.txt")); err != nil {
			t.Error(err)
		}
	}
}
