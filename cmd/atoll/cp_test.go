package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree is a folder as text: one line for each thing in it, with mode and content.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, what := strings.TrimPrefix(p, dir), ""
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			what = fmt.Sprintf("%d bytes %.9q %d", len(b), b, info.ModTime().Unix())
		case info.Mode()&fs.ModeSymlink != 0:
			if what, err = os.Readlink(p); err != nil {
				return err
			}
		}
		lines = append(lines, fmt.Sprintf("%s %v %s", rel, info.Mode(), what))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// sample makes a folder with some of everything that is copied.
func sample(t *testing.T, dir string) {
	t.Helper()
	for _, d := range []string{"", "sub/deep", "empty", "shut"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]fs.FileMode{"run.sh": 0o755, "secret": 0o600, "sub/deep/x y ü": 0o644, "-dash": 0o640, "shut/in": 0o400} {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(strings.Repeat(name, 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "big"), bytes.Repeat([]byte("0123456789abcdef"), 1<<17), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("sub/deep", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "shut"), 0o555); err != nil {
		t.Fatal(err)
	}
}

func TestCopyFoldersThereAndBack(t *testing.T) {
	c, _ := withGuest(t)
	src := filepath.Join(t.TempDir(), "src")
	sample(t, src)
	want := tree(t, src)
	there, back := t.TempDir(), t.TempDir()
	for _, args := range [][]string{
		{src, "box1:" + there},                                      // into it, under its own name
		{src, "box1:" + filepath.Join(there, "named")},              // under another name
		{src + "/.", "box1:" + filepath.Join(there, "contents/of")}, // what is in it
		{"box1:" + filepath.Join(there, "src"), back},
		{"box1:" + filepath.Join(there, "src"), filepath.Join(back, "named")},
		{"box1:" + filepath.Join(there, "src") + "/.", filepath.Join(back, "contents/of")},
		{src, "box1:" + there}, // again, over what is there
		{"box1:" + filepath.Join(there, "src"), back},
	} {
		if got := c.run("cp", args[0], args[1]); got.code != 0 || got.err != "" {
			t.Fatalf("cp %v: %+v", args, got)
		}
	}
	for _, dir := range []string{there, back} {
		for _, name := range []string{"src", "named", "contents/of"} {
			if got := tree(t, filepath.Join(dir, name)); got != want {
				t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
			}
		}
	}
}

// archive makes a tar archive of headers; files hold their own name.
func archive(t *testing.T, headers ...tar.Header) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(h.Name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestArchivesFromHostileGuestsStayInside(t *testing.T) {
	for name, tc := range map[string]struct {
		headers []tar.Header
		want    []string // names below the target afterwards
		fails   bool
	}{
		"name above":            {headers: []tar.Header{{Typeflag: tar.TypeReg, Name: "../out", Mode: 0o644}}, fails: true},
		"name above, deeper":    {headers: []tar.Header{{Typeflag: tar.TypeReg, Name: "a/../../out", Mode: 0o644}}, fails: true},
		"absolute name":         {headers: []tar.Header{{Typeflag: tar.TypeReg, Name: "/tmp/out", Mode: 0o644}}, fails: true},
		"link above":            {headers: []tar.Header{{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "../.."}}},
		"absolute link":         {headers: []tar.Header{{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "/etc/passwd"}}},
		"through a link":        {headers: []tar.Header{{Typeflag: tar.TypeDir, Name: "d", Mode: 0o755}, {Typeflag: tar.TypeSymlink, Name: "d/l", Linkname: "."}, {Typeflag: tar.TypeSymlink, Name: "d/l/m", Linkname: "../.."}, {Typeflag: tar.TypeReg, Name: "d/m/out", Mode: 0o644}}, want: []string{"d", "d/l", "d/m", "d/m/out"}, fails: true},
		"link through a link":   {headers: []tar.Header{{Typeflag: tar.TypeDir, Name: "d", Mode: 0o755}, {Typeflag: tar.TypeSymlink, Name: "d/s", Linkname: "."}, {Typeflag: tar.TypeSymlink, Name: "d/out", Linkname: "s/../.."}}, want: []string{"d", "d/s"}},
		"hard link to above":    {headers: []tar.Header{{Typeflag: tar.TypeLink, Name: "h", Linkname: "../outside"}}, fails: true},
		"absolute hard link":    {headers: []tar.Header{{Typeflag: tar.TypeLink, Name: "h", Linkname: "/etc/passwd"}}, fails: true},
		"device, pipe":          {headers: []tar.Header{{Typeflag: tar.TypeBlock, Name: "b"}, {Typeflag: tar.TypeFifo, Name: "p"}}},
		"set-user-id":           {headers: []tar.Header{{Typeflag: tar.TypeReg, Name: "s", Mode: 0o6755}}, want: []string{"s"}},
		"link replaced by file": {headers: []tar.Header{{Typeflag: tar.TypeReg, Name: "f", Mode: 0o644}, {Typeflag: tar.TypeSymlink, Name: "l", Linkname: "f"}, {Typeflag: tar.TypeReg, Name: "l", Mode: 0o644}}, want: []string{"f", "l"}},
		"links inside":          {headers: []tar.Header{{Typeflag: tar.TypeReg, Name: "f", Mode: 0o644}, {Typeflag: tar.TypeSymlink, Name: "a/l", Linkname: "../f"}, {Typeflag: tar.TypeLink, Name: "h", Linkname: "f"}}, want: []string{"a", "a/l", "f", "h"}},
	} {
		base := t.TempDir()
		if err := os.WriteFile(filepath.Join(base, "outside"), []byte("untouched"), 0o600); err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(base, "one", "two")
		if err := os.MkdirAll(target, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(target)
		if err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		c := &trees{a: &app{err: &said, env: func(string) string { return "" }}}
		err = c.unpack(archive(t, tc.headers...), root)
		root.Close()
		if (err != nil) != tc.fails {
			t.Errorf("%s: %v", name, err)
		}
		var got []string
		for l := range strings.Lines(tree(t, target)) {
			if n := strings.Fields(l)[0]; strings.HasPrefix(n, "/") {
				got = append(got, n[1:])
			}
			if strings.Contains(l, " u") {
				t.Errorf("%s: a set-user-id bit came through: %s", name, l)
			}
		}
		if !tc.fails && !slices.Equal(got, tc.want) {
			t.Errorf("%s: made %q, want %q", name, got, tc.want)
		}
		if around, err := filepath.Glob(filepath.Join(base, "*")); err != nil || len(around) != 2 {
			t.Errorf("%s: outside there is %q, %v", name, around, err)
		}
		if up, err := os.ReadDir(filepath.Join(base, "one")); err != nil || len(up) != 1 {
			t.Errorf("%s: above there is %v, %v", name, up, err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte("not an archive"))
	f.Fuzz(func(t *testing.T, b []byte) {
		base := t.TempDir()
		target := filepath.Join(base, "t")
		if err := os.Mkdir(target, 0o755); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(target)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		c := &trees{a: &app{err: new(bytes.Buffer), env: func(string) string { return "" }}}
		c.unpack(bytes.NewReader(b), root) // an error is fine, a file outside is not
		if around, err := os.ReadDir(base); err != nil || len(around) != 1 {
			t.Errorf("outside there is %v, %v", around, err)
		}
	})
}

func TestLocations(t *testing.T) {
	for s, want := range map[string]location{
		"file": {path: "file"}, "./a:b": {path: "./a:b"}, "/a:b": {path: "/a:b"}, "-": {path: "-"},
		"i1:": {"i1", "."}, "i1:x": {"i1", "x"}, "i1:/x:y": {"i1", "/x:y"}, ":x": {path: ":x"}, "a/b:c": {path: "a/b:c"},
	} {
		if got := parseLocation(s); got != want {
			t.Errorf("%q: %+v", s, got)
		}
	}
}
