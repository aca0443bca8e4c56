package sprite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/atoll-cloud/atoll/guest"
	fspb "github.com/atoll-cloud/atoll/wire/filesystem"
)

// maxWatched bounds the paths that one client watches.
const maxWatched = 256

// subscribe is what a client of the watch route sends.
type subscribe struct {
	Type       string   `json:"type"`
	Paths      []string `json:"paths"`
	Recursive  bool     `json:"recursive"`
	WorkingDir string   `json:"workingDir"`
}

// watchMessage is what it gets.
type watchMessage struct {
	Type      string   `json:"type"`
	Paths     []string `json:"paths,omitempty"`
	Path      string   `json:"path,omitempty"`
	Event     string   `json:"event,omitempty"`
	Timestamp string   `json:"timestamp,omitempty"`
	Size      *int64   `json:"size,omitempty"`
	IsDir     *bool    `json:"isDir,omitempty"`
	Message   string   `json:"message,omitempty"`
}

// fileWatch is one client's watches.
type fileWatch struct {
	server  *Server
	socket  *socket
	tasks   sync.WaitGroup
	watches []*guest.Watch
}

// watchFiles serves the route that tells of changes to files.
func (s *Server) watchFiles(w http.ResponseWriter, r *http.Request) {
	k, err := s.accept(w, r, 0)
	if err != nil {
		return
	}
	defer s.guest.ForgetConnection(r)
	defer k.drop()
	f := &fileWatch{server: s, socket: k}
	ctx, cancel := context.WithCancel(s.life)
	defer func() {
		cancel()
		for _, watch := range f.watches {
			watch.Close()
		}
		f.tasks.Wait()
	}()
	for {
		kind, from, err := k.read(ctx)
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			if discard(from) != nil {
				return
			}
			continue
		}
		text, err := readText(from)
		if err != nil || f.obey(ctx, text) != nil {
			return
		}
	}
}

// obey begins to watch what a client asks for.
func (f *fileWatch) obey(ctx context.Context, text []byte) error {
	var in subscribe
	if err := json.Unmarshal(text, &in); err != nil {
		return f.socket.writeJSON(ctx, watchMessage{Type: "error", Message: "decode the message: " + err.Error()})
	}
	if in.Type != "subscribe" {
		return nil
	}
	paths := make([]string, 0, len(in.Paths))
	for _, given := range in.Paths {
		path, err := f.add(ctx, given, in)
		if err != nil {
			return f.socket.writeJSON(ctx, watchMessage{Type: "error", Path: shortened(given), Message: err.Error()})
		}
		paths = append(paths, path)
	}
	return f.socket.writeJSON(ctx, watchMessage{Type: "subscribed", Paths: paths})
}

// add watches one path. A file is watched in its directory, so that one that is
// replaced stays watched.
func (f *fileWatch) add(ctx context.Context, given string, in subscribe) (string, error) {
	if len(f.watches) >= maxWatched {
		return "", fmt.Errorf("%d paths are watched already", maxWatched)
	}
	path, err := f.server.guest.ResolvePath(given, in.WorkingDir)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	dir, only := path, ""
	if !info.IsDir() {
		dir, only = filepath.Dir(path), filepath.Base(path)
	}
	watch, err := f.server.guest.Watch(dir, in.Recursive && only == "")
	if err != nil {
		return "", err
	}
	f.watches = append(f.watches, watch)
	f.tasks.Go(func() { f.follow(ctx, watch, dir, only) })
	return path, nil
}

// follow tells the changes of one watch until it is closed.
func (f *fileWatch) follow(ctx context.Context, watch *guest.Watch, dir, only string) {
	for {
		changes, err := watch.Next()
		for _, change := range changes {
			if only != "" && change.Name != only {
				continue
			}
			if f.socket.writeJSON(ctx, changeMessage(filepath.Join(dir, change.Name), change.Kind)) != nil {
				return
			}
		}
		if err == nil {
			continue
		}
		if ctx.Err() != nil || errors.Is(err, os.ErrClosed) {
			return
		}
		if f.socket.writeJSON(ctx, watchMessage{Type: "error", Path: dir, Message: err.Error()}) != nil || !errors.Is(err, guest.ErrChangesLost) {
			return
		}
	}
}

func changeMessage(path string, kind fspb.EventType) watchMessage {
	m := watchMessage{
		Type: "event", Path: path, Timestamp: time.Now().UTC().Format(time.RFC3339Nano),
		Event: strings.ToLower(strings.TrimPrefix(kind.String(), "EVENT_TYPE_")),
	}
	if info, err := os.Lstat(path); err == nil { // what is gone has neither
		size, dir := info.Size(), info.IsDir()
		m.Size, m.IsDir = &size, &dir
	}
	return m
}
