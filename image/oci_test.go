package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

// entry is one of a layer; kind is a file where it is 0.
type entry struct {
	name, body string
	kind       byte
	mode       int64
	uid        int
	xattrs     map[string]string
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, Uid: e.uid, Gid: e.uid, ModTime: time.Unix(1000, 0)}
		switch e.kind {
		case 0, tar.TypeReg:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(e.body))
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = e.body
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		for k, v := range e.xattrs {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords["SCHILY.xattr."+k] = v
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, e.body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func makeImage(t testing.TB, layers ...[]byte) v1.Image {
	t.Helper()
	img := v1.Image(empty.Image)
	for _, content := range layers {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
		if err == nil {
			img, err = mutate.AppendLayers(img, layer)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config = v1.Config{Env: []string{"A=b"}, Cmd: []string{"run"}, Entrypoint: []string{"/bin/x"}, User: "web", WorkingDir: "/srv",
		ExposedPorts: map[string]struct{}{"80/tcp": {}, "443/tcp": {}}}
	if img, err = mutate.ConfigFile(img, file); err != nil {
		t.Fatal(err)
	}
	return img
}

func TestOCIFromEverySource(t *testing.T) {
	img := makeImage(t, archive(t, entry{name: "hello", body: "world"}))
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/team/app:1")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(remote.Write(ref, img),
		path.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "1"})),
		path.AppendImage(makeImage(t), layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "2"})),
		tarball.WriteToFile(filepath.Join(dir, "a.tar"), ref, img))
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{ref.Name(), "docker://" + ref.Name(), "oci:" + dir + "/layout:1", "docker-archive:" + dir + "/a.tar"} {
		src, err := ParseSource(source)
		if err != nil {
			t.Fatal(err)
		}
		root := t.TempDir()
		var steps []string
		config, err := OCI(t.Context(), src, root, OCIOptions{Progress: func(p Progress) { steps = append(steps, p.Step) }})
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		got := fmt.Sprintf("%v %v %v %v %v %v", config.Env, config.Cmd, config.Entrypoint, config.User, config.WorkingDir, config.ExposedPorts)
		if want := "[A=b] [run] [/bin/x] web /srv [443/tcp 80/tcp]"; got != want {
			t.Errorf("%s: config is %s", source, got)
		}
		if text, err := os.ReadFile(root + "/hello"); err != nil || string(text) != "world" {
			t.Errorf("%s: %q, %v", source, text, err)
		}
		if fmt.Sprint(steps) != "[unpacking layer 1 of 1 done]" {
			t.Errorf("%s: progress %q", source, steps)
		}
	}
	if _, err := OCI(t.Context(), Source{Layout: dir + "/layout"}, t.TempDir(), OCIOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("layout with two images: %v", err)
	}
}

// unpack extracts layers into a directory inside one that must not change.
func unpack(t testing.TB, limits Limits, layers ...[]byte) (root string, err error) {
	t.Helper()
	outside := t.TempDir()
	root = filepath.Join(outside, "root")
	if err := errors.Join(os.Mkdir(root, 0o755), os.WriteFile(outside+"/secret", []byte("host"), 0o600)); err != nil {
		t.Fatal(err)
	}
	x, err := newExtractor(root, limits)
	if err != nil {
		t.Fatal(err)
	}
	defer x.close()
	for _, l := range layers {
		if err = x.layer(bytes.NewReader(l)); err != nil {
			break
		}
	}
	names, _ := os.ReadDir(outside)
	text, _ := os.ReadFile(outside + "/secret")
	if len(names) != 2 || string(text) != "host" {
		t.Errorf("outside of the root: %v, secret %q", names, text)
	}
	return root, err
}

func TestLayersAreLaidOverOneAnother(t *testing.T) {
	capability := "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	root, err := unpack(t, Limits{},
		archive(t,
			entry{name: "./", kind: tar.TypeDir},
			entry{name: "usr/lib/a", body: "a", uid: 7, mode: 0o4755, xattrs: map[string]string{"security.capability": capability, "user.x": "y", "trusted.no": "z"}},
			entry{name: "lib", body: "/usr/lib", kind: tar.TypeSymlink}, // absolute: from the image's root
			entry{name: "gone/deep/er", body: "x"}, entry{name: "opaque/old", body: "x"}, entry{name: "opaque/both/old", body: "x"},
			entry{name: "was-dir/f", body: "x"}, entry{name: "was-file", body: "x"},
			entry{name: "dev/null", kind: tar.TypeChar}, entry{name: "pipe", kind: tar.TypeFifo, mode: 0o640}),
		archive(t,
			entry{name: "lib/b", body: "b"}, entry{name: "usr/hard", body: "lib/a", kind: tar.TypeLink},
			entry{name: ".wh.gone"}, entry{name: ".wh.never"},
			entry{name: "opaque/both/new", body: "y"}, entry{name: "opaque/.wh..wh..opq"}, entry{name: "opaque/after", body: "y"},
			entry{name: "was-dir", body: "file"}, entry{name: "was-file", kind: tar.TypeDir, mode: 0o1777},
			entry{name: "new", body: "1"}, entry{name: ".wh.new"}))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			got = append(got, strings.TrimPrefix(path, root+"/"))
		}
		return err
	})
	want := "[lib new opaque/after opaque/both/new pipe usr/hard usr/lib/a usr/lib/b was-dir]"
	if err != nil || fmt.Sprint(got) != want {
		t.Errorf("files %v, %v\nwant  %s", got, err, want)
	}
	var st unix.Stat_t
	if err := unix.Stat(root+"/usr/lib/a", &st); err != nil || st.Uid != 7 || st.Mode != unix.S_IFREG|0o4755 || st.Nlink != 2 || st.Mtim.Sec != 1000 {
		t.Errorf("file is %+v, %v", st, err)
	}
	buf := make([]byte, 100)
	if n, err := unix.Getxattr(root+"/usr/lib/a", "security.capability", buf); err != nil || string(buf[:n]) != capability {
		t.Errorf("capability is %q, %v", buf[:max(n, 0)], err)
	}
	if _, err := unix.Getxattr(root+"/usr/lib/a", "trusted.no", buf); !errors.Is(err, unix.ENODATA) {
		t.Errorf("foreign attribute: %v", err)
	}
}

func TestHostileLayersStayInside(t *testing.T) {
	link := func(name, to string) entry { return entry{name: name, body: to, kind: tar.TypeSymlink} }
	hard := func(name, to string) entry { return entry{name: name, body: to, kind: tar.TypeLink} }
	for what, layer := range map[string][]byte{
		"upward":              archive(t, entry{name: "../evil", body: "x"}),
		"upward inside":       archive(t, entry{name: "a/../../evil", body: "x"}),
		"absolute":            archive(t, entry{name: "/../evil", body: "x"}),
		"link up":             archive(t, link("up", ".."), entry{name: "up/evil", body: "x"}),
		"link up, replace":    archive(t, link("up", ".."), entry{name: "up/secret", body: "x"}),
		"link far up":         archive(t, link("up", "../../../../../../../../tmp"), entry{name: "up/evil", body: "x"}),
		"whiteout through":    archive(t, link("up", ".."), entry{name: "up/.wh.secret"}),
		"opaque through":      archive(t, link("up", ".."), entry{name: "up/.wh..wh..opq"}),
		"whiteout of parent":  archive(t, entry{name: ".wh..."}, entry{name: "a/.wh..."}),
		"whiteout of self":    archive(t, entry{name: "a/.wh.."}),
		"whiteout of nothing": archive(t, entry{name: "a/.wh."}),
		"hard link up":        archive(t, hard("h", "../secret"), entry{name: "h", body: "x"}),
		"hard link by link":   archive(t, link("up", ".."), hard("h", "up/secret"), entry{name: "h", body: "x"}),
		"write to a link":     archive(t, link("s", "../secret"), entry{name: "s", body: "x"}),
		"hard link to a link": archive(t, link("s", "../secret"), hard("h", "s"), entry{name: "h", body: "x"}),
		"mode through a link": archive(t, link("s", "../secret"), entry{name: "s", kind: tar.TypeDir, mode: 0o777}),
		"loop":                archive(t, link("l", "l"), entry{name: "l/x", body: "x"}),
		"magic link":          archive(t, link("p", "/proc/self/root"), entry{name: "p/evil", body: "x"}),
		"long name":           archive(t, entry{name: strings.Repeat("d/", 3000) + "f", body: "x"}),
		"root as a file":      archive(t, entry{name: ".", body: "x"}),
		"root as a link":      archive(t, link("/", "/tmp")),
		"hard link to a dir":  archive(t, entry{name: "d", kind: tar.TypeDir}, hard("h", "d")),
		"hard link to none":   archive(t, hard("h", "none")),
		"block device":        archive(t, entry{name: "sda", kind: tar.TypeBlock}),
		"torn":                archive(t, entry{name: "f", body: strings.Repeat("x", 5000)})[:3000],
		"nonsense":            bytes.Repeat([]byte{0xff}, 2048),
	} {
		t.Run(what, func(t *testing.T) {
			root, err := unpack(t, Limits{}, layer, archive(t, entry{name: "after", body: "x"}))
			t.Log(err)
			if _, err := os.Lstat(root + "/sda"); err == nil {
				t.Error("a device was made")
			}
		})
	}
}

func TestLimits(t *testing.T) {
	for what, limits := range map[string]Limits{"bytes": {Bytes: 1 << 10}, "entries": {Entries: 2}} {
		_, err := unpack(t, limits, archive(t, entry{name: "a", body: strings.Repeat("x", 800)},
			entry{name: "b", body: strings.Repeat("x", 800)}, entry{name: "c"}))
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", what, err)
		}
	}
	// A few kilobytes that expand to gigabytes of nothing after the archive's end.
	x, err := newExtractor(t.TempDir(), Limits{Bytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer x.close()
	if _, err := io.Copy(io.Discard, x.bounded(endless{})); !errors.Is(err, ErrTooLarge) {
		t.Errorf("endless layer: %v", err)
	}
	if _, err := OCI(t.Context(), Source{}, t.TempDir(), OCIOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("no source: %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestCancelledUnpackEnds(t *testing.T) {
	dir := t.TempDir()
	img := makeImage(t, archive(t, entry{name: "f", body: "x"}))
	if err := tarball.WriteToFile(dir+"/a.tar", name.MustParseReference("a:1"), img); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := OCI(ctx, Source{Archive: dir + "/a.tar"}, t.TempDir(), OCIOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func FuzzLayer(f *testing.F) {
	f.Add(archive(f, entry{name: "d/f", body: "x"}, entry{name: "l", body: "..", kind: tar.TypeSymlink}, entry{name: "l/secret", body: "y"}))
	f.Add(archive(f, entry{name: "d/.wh..wh..opq"}, entry{name: ".wh.d"}, entry{name: "h", body: "d", kind: tar.TypeLink}))
	f.Fuzz(func(t *testing.T, layer []byte) {
		_, _ = unpack(t, Limits{Bytes: 1 << 20, Entries: 100}, layer, layer) // checks what is outside
	})
}

func FuzzParseSource(f *testing.F) {
	for _, s := range []string{"a", "a/b:1", "oci:/x:y", "docker-archive:x", "docker://h:5000/a@sha256:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		src, err := ParseSource(s)
		if set := (src != Source{}); set == (err != nil) {
			t.Errorf("%q: %+v, %v", s, src, err)
		}
	})
}
