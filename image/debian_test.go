package image

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDebian builds a real system, smaller than the base template, and looks
// at it from inside. It needs root, mmdebstrap and Debian's archive.
func TestDebian(t *testing.T) {
	dir := t.TempDir()
	var reports []Progress
	start := time.Now()
	spec := Spec{Suite: "bookworm", Packages: []string{"sudo", "python3"}, Dir: dir, Progress: func(p Progress) { reports = append(reports, p) }}
	if err := Debian(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if err := AddUser(dir); err != nil {
		t.Fatal(err)
	}
	if err := AddUser(dir); err != nil {
		t.Errorf("add the user again: %v", err)
	}
	t.Logf("built in %v", time.Since(start))
	last := reports[len(reports)-1]
	if last.Step != "done" || last.Done != last.Total || last.Total < 200 {
		t.Errorf("last progress is %+v", last)
	}
	for i, p := range reports {
		if p.Done > p.Total || i > 0 && p.Done < reports[i-1].Done {
			t.Errorf("progress went from %+v to %+v", reports[max(i-1, 0)], p)
		}
	}
	for command, want := range map[string]string{
		"id -u; id -un; pwd; cd; pwd": "1000\nuser\n/\n/home/user\n",
		"sudo -n id -u 2>/dev/null":   "0\n", // which wants to know the host's name
		"python3 -c 'print(6*7)'":     "42\n",
		"echo $PATH; mkdir -p ~/.local/bin; bash -l -c 'echo $PATH'": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n" +
			"/home/user/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
		"date +%Z":                         "UTC\n",
		"cat /etc/machine-id":              "",
		"ls /var/lib/apt/lists | grep deb": "",
		"ls /usr/lib/python3*/EXTERNALLY-MANAGED 2>/dev/null": "",
		"touch ~/mine && stat -c %U ~ ~/mine":                 "user\nuser\n",
		"cat /etc/apt/sources.list":                           standardSources("bookworm"),
		"ls /etc/apt/apt.conf.d | grep mmdebstrap":            "",
	} {
		cmd := exec.Command("chroot", "--userspec=1000:1000", dir, "/usr/bin/env", "-i", "HOME=/home/user", "bash", "-l", "-c", command)
		out, err := cmd.CombinedOutput()
		if err != nil && want != "" || string(out) != want {
			t.Errorf("%s: %q, %v; want %q", command, out, err, want)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("a mount is left below %s, %v", dir, err)
	}
}

func TestDebianEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	err := Debian(ctx, Spec{Suite: "bookworm", Dir: dir, Progress: func(p Progress) {
		if p.Step == "downloading packages" {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestSpecIsChecked(t *testing.T) {
	for _, s := range []Spec{
		{Suite: "bookworm"}, {Dir: "/x"}, {Suite: "--help", Dir: "/x"}, {Suite: "a b", Dir: "/x"},
		{Suite: "bookworm", Dir: "/x", Packages: []string{"-o"}}, {Suite: "bookworm", Dir: "/x", Packages: []string{"a,b"}},
	} {
		if err := Debian(t.Context(), s); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func TestHostSources(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("sources.list", "# deb http://no/debian bookworm main\ndeb [arch=amd64 signed-by=/k] https://near.example/debian/ bookworm main contrib\ndeb-src http://no/debian bookworm main\n")
	write("sources.list.d/a.sources", "Types: deb\n# note\nURIs: http://sec.example/debian-security\nSuites: bookworm-security trixie-security\nComponents: main\n\n"+
		"Types: deb\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\nEnabled: no\n")
	write("sources.list.d/other.list", "deb http://other.example/apt bookworm main\ndeb file:/srv/debian bookworm main\n")
	want := "deb http://sec.example/debian-security bookworm-security main\ndeb https://near.example/debian/ bookworm main\n"
	if got := hostSources(dir, "bookworm"); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := hostSources(dir, "trixie"); got != "" {
		t.Errorf("a suite that the host has not: %q", got)
	}
}

func FuzzParseSources(f *testing.F) {
	f.Add("Types: deb\nURIs: a\nSuites: b\nComponents: main\n\n", true)
	f.Add("deb [x] a b main", false)
	f.Fuzz(func(t *testing.T, text string, deb822 bool) {
		for _, s := range parseSources(bufio.NewScanner(strings.NewReader(text)), deb822) {
			if strings.ContainsAny(s.uri+s.suite, " \n") {
				t.Errorf("source %+v would be several", s)
			}
		}
	})
}

func TestTrackerSaysHowFar(t *testing.T) {
	var last Progress
	tr := newTracker(func(p Progress) { last = p }, 2, 0)
	say := func(lines string) Progress {
		for line := range strings.Lines(lines) {
			tr.told = time.Time{} // report each line
			if n, err := tr.Write([]byte(line)); err != nil || n != len(line) {
				t.Fatal(n, err)
			}
		}
		return last
	}
	if p := say("I: downloading packages with apt...\n0 upgraded, 2 newly installed, 0 to remove.\nGet:1 http://x all a 1 [1 kB]\n"); p.Done != 1 || p.Total != 125*3 || p.ETA != 0 {
		t.Errorf("at first: %+v", p)
	}
	say("I: installing remaining packages inside the chroot...\n0 upgraded, 3 newly ins")
	if p := say("talled, 0 to remove.\nUnpacking a (1) ...\nSetting up a (1) ...\n"); p.Done != 3 || p.Total != 15 || p.Step != "installing packages" {
		t.Errorf("when all is announced: %+v", p)
	}
	tr.finish()
	if last.Done != last.Total || last.ETA != 0 {
		t.Errorf("in the end: %+v", last)
	}
	say(strings.Repeat("x", 1<<20)) // no line end: bounded
	if len(tr.partial) > maxLine {
		t.Errorf("keeps %d bytes of a line", len(tr.partial))
	}
}

func TestRecipeKey(t *testing.T) {
	a := Spec{Suite: "bookworm", Packages: []string{"b", "a", "a"}}.Recipe()
	b := Spec{Suite: "bookworm", Packages: []string{"a", "b"}, Dir: "/x", Mirror: "y"}.Recipe()
	if a.Key() != b.Key() {
		t.Error("the order of packages, the place or the mirror changes the key")
	}
	for _, other := range []Recipe{BaseRecipe(), {Version: 1}, Spec{Suite: "trixie", Packages: b.Packages}.Recipe()} {
		if other.Key() == b.Key() {
			t.Errorf("%+v has the same key", other)
		}
	}
}
