package test

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// inventory is what a host has of the kinds of things that a server makes.
type inventory map[string][]string

// takeInventory looks at the whole host, not only at what carries a name of ours:
// a thing left behind is left behind whatever it is called.
func takeInventory(t testing.TB) inventory {
	t.Helper()
	in := inventory{
		"mount":     mounts(t),
		"cgroup":    cgroups(t),
		"loop":      loops(t),
		"process":   processes(t),
		"link":      links(t),
		"netns":     entries("/run/netns"),
		"table":     tables(t),
		"subvolume": subvolumes(t),
	}
	for kind := range in {
		slices.Sort(in[kind])
	}
	return in
}

// minus lists what is in a and not in b.
func (a inventory) minus(b inventory) []string {
	var more []string
	for kind, names := range a {
		have := map[string]int{}
		for _, n := range b[kind] {
			have[n]++
		}
		for _, n := range names {
			if have[n]--; have[n] < 0 {
				more = append(more, kind+" "+n)
			}
		}
	}
	slices.Sort(more)
	return more
}

func mounts(t testing.TB) []string {
	t.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 {
			out = append(out, fields[4])
		}
	}
	return out
}

// cgroups lists the groups of both hierarchies that have to do with us.
func cgroups(t testing.TB) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // a group may vanish under the walk
		}
		if strings.Contains(path, "atoll") {
			out = append(out, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func loops(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil {
			out = append(out, strings.TrimSpace(string(b)))
		}
	}
	return out
}

// processes lists those that run a binary of ours, by name and not by id.
func processes(t testing.TB) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range dirs {
		exe, err := os.Readlink(d + "/exe")
		if err == nil && strings.Contains(exe, "atoll") && !strings.HasSuffix(exe, ".test") {
			b, _ := os.ReadFile(d + "/comm")
			out = append(out, filepath.Base(exe)+" "+strings.TrimSpace(string(b)))
		}
	}
	return out
}

func links(t testing.TB) []string {
	t.Helper()
	all, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range all {
		out = append(out, l.Attrs().Name)
	}
	return out
}

func tables(t testing.TB) []string {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, table := range all {
		chains, err := c.ListChainsOfTableFamily(table.Family)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, chain := range chains {
			if chain.Table.Name == table.Name {
				n++
			}
		}
		out = append(out, fmt.Sprintf("%s with %d chains", table.Name, n))
	}
	return out
}

// subvolumes lists those of every btrfs that is mounted.
func subvolumes(t testing.TB) []string {
	t.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	seen := map[string]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		sep := slices.Index(fields, "-")
		if sep < 0 || fields[sep+1] != "btrfs" || seen[fields[2]] {
			continue
		}
		seen[fields[2]] = true
		b, err := exec.Command("btrfs", "subvolume", "list", "-a", fields[4]).Output()
		if err != nil {
			t.Fatalf("list subvolumes of %s: %v", fields[4], err)
		}
		for line := range strings.Lines(string(b)) {
			if _, path, ok := strings.Cut(strings.TrimSpace(line), " path "); ok {
				out = append(out, path)
			}
		}
	}
	return out
}

func entries(dir string) []string {
	all, _ := os.ReadDir(dir) // one that is not there has none
	var out []string
	for _, e := range all {
		out = append(out, e.Name())
	}
	return out
}
