package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"connectrpc.com/connect"

	fspb "github.com/atoll-cloud/atoll/wire/filesystem"
)

func TestEntries(t *testing.T) {
	m := newMachine(t)
	home := func(name string) string { return filepath.Join(m.home, name) }
	os.MkdirAll(home("d/e/f"), 0o755)
	os.WriteFile(home("d/file"), []byte("12345"), 0o640)
	os.Symlink("file", home("d/link"))
	os.Symlink("e", home("d/dirlink"))
	os.Symlink("nowhere", home("d/broken"))
	for _, c := range []struct {
		path, permissions, target string
		kind                      fspb.FileType
		link                      bool
	}{
		{"d/file", "-rw-r-----", "", fspb.FileType_FILE_TYPE_FILE, false},
		{"~/d", "drwxr-xr-x", "", fspb.FileType_FILE_TYPE_DIRECTORY, false},
		{"d/link", "Lrwxrwxrwx", home("d/file"), fspb.FileType_FILE_TYPE_FILE, true},
		{"d/dirlink", "Lrwxrwxrwx", home("d/e"), fspb.FileType_FILE_TYPE_DIRECTORY, true},
		{"d/broken", "Lrwxrwxrwx", "nowhere", fspb.FileType_FILE_TYPE_SYMLINK, true},
	} {
		r, err := m.filesystem.Stat(deadline(t), connect.NewRequest(&fspb.StatRequest{Path: c.path}))
		if err != nil {
			t.Fatal(c.path, err)
		}
		e := r.Msg.GetEntry()
		if e.GetType() != c.kind || e.GetPermissions() != c.permissions || e.GetSymlinkTarget() != c.target || e.GetIsSymlink() != c.link || e.GetOwner() != "user" {
			t.Errorf("%s: %v", c.path, e)
		}
	}
	for depth, want := range map[uint32][]string{
		0: {"d/broken", "d/dirlink", "d/e", "d/file", "d/link"},
		1: {"d/broken", "d/dirlink", "d/e", "d/file", "d/link"},
		2: {"d/broken", "d/dirlink", "d/e", "d/e/f", "d/file", "d/link"},
	} {
		r, err := m.filesystem.ListDir(deadline(t), connect.NewRequest(&fspb.ListDirRequest{Path: "d", Depth: depth}))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range r.Msg.GetEntries() {
			relative, _ := filepath.Rel(m.home, e.GetPath())
			got = append(got, relative)
		}
		if !slices.Equal(got, want) {
			t.Errorf("depth %d: %v", depth, got)
		}
	}
	// A link at the top is followed, and its own name kept.
	r, err := m.filesystem.ListDir(deadline(t), connect.NewRequest(&fspb.ListDirRequest{Path: "d/dirlink"}))
	if err != nil || len(r.Msg.Entries) != 1 || r.Msg.Entries[0].Path != home("d/dirlink/f") {
		t.Error(r, err)
	}
}

func TestFilesystemRefuses(t *testing.T) {
	m := newMachine(t)
	ctx := deadline(t)
	os.WriteFile(filepath.Join(m.home, "file"), nil, 0o644)
	os.Mkdir(filepath.Join(m.home, "dir"), 0o755)
	call := map[string]func() error{
		"stat missing": func() error {
			_, err := m.filesystem.Stat(ctx, connect.NewRequest(&fspb.StatRequest{Path: "no"}))
			return err
		},
		"list missing": func() error {
			_, err := m.filesystem.ListDir(ctx, connect.NewRequest(&fspb.ListDirRequest{Path: "no"}))
			return err
		},
		"list file": func() error {
			_, err := m.filesystem.ListDir(ctx, connect.NewRequest(&fspb.ListDirRequest{Path: "file"}))
			return err
		},
		"make existing": func() error {
			_, err := m.filesystem.MakeDir(ctx, connect.NewRequest(&fspb.MakeDirRequest{Path: "dir"}))
			return err
		},
		"make file": func() error {
			_, err := m.filesystem.MakeDir(ctx, connect.NewRequest(&fspb.MakeDirRequest{Path: "file"}))
			return err
		},
		"make below file": func() error {
			_, err := m.filesystem.MakeDir(ctx, connect.NewRequest(&fspb.MakeDirRequest{Path: "file/x"}))
			return err
		},
		"move missing": func() error {
			_, err := m.filesystem.Move(ctx, connect.NewRequest(&fspb.MoveRequest{Source: "no", Destination: "x"}))
			return err
		},
		"remove root": func() error {
			_, err := m.filesystem.Remove(ctx, connect.NewRequest(&fspb.RemoveRequest{Path: "/"}))
			return err
		},
		"watch missing": func() error {
			_, err := m.filesystem.CreateWatcher(ctx, connect.NewRequest(&fspb.CreateWatcherRequest{Path: "no"}))
			return err
		},
		"watch file": func() error {
			_, err := m.filesystem.CreateWatcher(ctx, connect.NewRequest(&fspb.CreateWatcherRequest{Path: "file"}))
			return err
		},
		"events of no watcher": func() error {
			_, err := m.filesystem.GetWatcherEvents(ctx, connect.NewRequest(&fspb.GetWatcherEventsRequest{WatcherId: "x"}))
			return err
		},
	}
	for name, code := range map[string]connect.Code{
		"stat missing": connect.CodeNotFound, "list missing": connect.CodeNotFound, "list file": connect.CodeInvalidArgument,
		"make existing": connect.CodeAlreadyExists, "make file": connect.CodeInvalidArgument, "make below file": connect.CodeInvalidArgument,
		"move missing": connect.CodeNotFound, "remove root": connect.CodeInvalidArgument, "watch missing": connect.CodeNotFound,
		"watch file": connect.CodeInvalidArgument, "events of no watcher": connect.CodeNotFound,
	} {
		if err := call[name](); connect.CodeOf(err) != code {
			t.Errorf("%s: %v, want %v", name, err, code)
		}
	}
}

func TestMoveAndRemove(t *testing.T) {
	m := newMachine(t)
	ctx := deadline(t)
	m.do("POST", at("a/b"), "x", "Content-Type", octets)
	r, err := m.filesystem.Move(ctx, connect.NewRequest(&fspb.MoveRequest{Source: "a", Destination: "new/place"}))
	if err != nil || r.Msg.GetEntry().GetPath() != filepath.Join(m.home, "new/place") || m.file("new/place/b") != "x" {
		t.Fatal(r, err)
	}
	for range 2 { // what is gone already is no error, as with E2B
		if _, err := m.filesystem.Remove(ctx, connect.NewRequest(&fspb.RemoveRequest{Path: "new"})); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(m.home, "new")); !os.IsNotExist(err) {
		t.Error(err)
	}
}

func TestWatchersSeeNewDirectories(t *testing.T) {
	m := newMachine(t)
	ctx := deadline(t)
	polled, err := m.filesystem.CreateWatcher(ctx, connect.NewRequest(&fspb.CreateWatcherRequest{Path: ".", Recursive: true, IncludeEntry: true}))
	if err != nil {
		t.Fatal(err)
	}
	streamed, err := m.filesystem.WatchDir(ctx, connect.NewRequest(&fspb.WatchDirRequest{Path: ".", Recursive: true}))
	if err != nil || !streamed.Receive() || streamed.Msg().GetStart() == nil {
		t.Fatal(err, streamed.Err())
	}
	defer streamed.Close()
	seen := map[string]bool{}
	polledSees := func(name string, kind fspb.EventType) {
		t.Helper()
		eventually(t, "the polled watcher sees "+name, func() bool {
			r, err := m.filesystem.GetWatcherEvents(ctx, connect.NewRequest(&fspb.GetWatcherEventsRequest{WatcherId: polled.Msg.GetWatcherId()}))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range r.Msg.GetEvents() {
				seen[fmt.Sprint(e.GetType(), " ", e.GetName())] = true
			}
			return seen[fmt.Sprint(kind, " ", name)]
		})
	}
	os.MkdirAll(filepath.Join(m.home, "x/y"), 0o755)
	want := func(name string, kind fspb.EventType) {
		t.Helper()
		polledSees(name, kind)
		for streamed.Receive() {
			if e := streamed.Msg().GetFilesystem(); e.GetName() == name && e.GetType() == kind {
				return
			}
		}
		t.Fatalf("no %v of %s: %v", kind, name, streamed.Err())
	}
	want("x/y", fspb.EventType_EVENT_TYPE_CREATE)
	os.WriteFile(filepath.Join(m.home, "x/y/z"), []byte("1"), 0o644)
	want("x/y/z", fspb.EventType_EVENT_TYPE_WRITE)
	os.Rename(filepath.Join(m.home, "x"), filepath.Join(m.home, "w"))
	want("w", fspb.EventType_EVENT_TYPE_CREATE)
	os.Chmod(filepath.Join(m.home, "w/y/z"), 0o600)
	want("w/y/z", fspb.EventType_EVENT_TYPE_CHMOD)
	os.Remove(filepath.Join(m.home, "w/y/z"))
	want("w/y/z", fspb.EventType_EVENT_TYPE_REMOVE)

	if _, err := m.filesystem.RemoveWatcher(ctx, connect.NewRequest(&fspb.RemoveWatcherRequest{WatcherId: polled.Msg.GetWatcherId()})); err != nil {
		t.Error(err)
	}
}

func TestWatcherTellsOfLostEvents(t *testing.T) {
	m := newMachine(t)
	w, err := newWatch(m.home, false, false)
	if err != nil {
		t.Fatal(err)
	}
	kept := &watcher{watch: w, done: make(chan struct{})}
	for range maxEvents {
		kept.events = append(kept.events, new(fspb.FilesystemEvent))
	}
	id, err := m.server.watchers.add(kept)
	if err != nil {
		t.Fatal(err)
	}
	go kept.collect(m.server)
	os.WriteFile(filepath.Join(m.home, "a"), nil, 0o644)
	var lost, count int
	eventually(t, "the loss is told and the rest is kept", func() bool {
		r, err := m.filesystem.GetWatcherEvents(deadline(t), connect.NewRequest(&fspb.GetWatcherEventsRequest{WatcherId: id}))
		if connect.CodeOf(err) == connect.CodeResourceExhausted {
			lost++
			return false
		}
		count = max(count, len(r.Msg.GetEvents()))
		return lost == 1 && count > 0
	})
	if count > maxEvents {
		t.Errorf("%d events were kept", count)
	}
}
