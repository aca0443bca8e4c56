package guest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"connectrpc.com/connect"

	fspb "github.com/atoll-cloud/atoll/wire/filesystem"
)

const (
	// maxWatchers bounds the polled watchers of a machine.
	maxWatchers = 128
	// maxEvents bounds what one polled watcher keeps.
	maxEvents = 16 << 10
)

var errNoWatcher = errors.New("no such watcher")

func (f *filesystemService) WatchDir(ctx context.Context, request *connect.Request[fspb.WatchDirRequest], out *connect.ServerStream[fspb.WatchDirResponse]) error {
	path, _, err := f.path(request.Header(), request.Msg.GetPath())
	if err != nil {
		return rpcError(err)
	}
	w, err := newWatch(path, request.Msg.GetRecursive(), request.Msg.GetAllowNetworkMounts())
	if err != nil {
		return rpcError(err)
	}
	events, failed := make(chan []watchEvent), make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	var reading sync.WaitGroup
	defer reading.Wait()
	defer cancel()
	defer w.Close()
	reading.Go(func() { failed <- w.forward(ctx, events) })
	if err := out.Send(&fspb.WatchDirResponse{Event: &fspb.WatchDirResponse_Start{Start: new(fspb.WatchDirResponse_StartEvent)}}); err != nil {
		return err
	}
	every := keepalive(request.Header())
	quiet := time.NewTicker(every)
	defer quiet.Stop()
	for {
		select {
		case batch := <-events:
			for _, event := range batch {
				message := f.s.watchMessage(path, event, request.Msg.GetIncludeEntry())
				if err := out.Send(&fspb.WatchDirResponse{Event: &fspb.WatchDirResponse_Filesystem{Filesystem: message}}); err != nil {
					return err
				}
			}
			quiet.Reset(every)
		case <-quiet.C:
			if err := out.Send(&fspb.WatchDirResponse{Event: &fspb.WatchDirResponse_Keepalive{Keepalive: new(fspb.WatchDirResponse_KeepAlive)}}); err != nil {
				return err
			}
		case err := <-failed:
			return watchError(err)
		case <-ctx.Done():
			return processError(ctx.Err())
		}
	}
}

// forward passes events on until ctx ends or the watch fails.
func (w *watch) forward(ctx context.Context, events chan<- []watchEvent) error {
	for {
		batch, err := w.next()
		if err != nil {
			return err
		}
		select {
		case events <- batch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Server) watchMessage(root string, event watchEvent, withEntry bool) *fspb.FilesystemEvent {
	message := &fspb.FilesystemEvent{Name: event.name, Type: event.kind}
	if withEntry {
		// What is gone again has no entry.
		if entry, err := s.entry(filepath.Join(root, event.name)); err == nil {
			message.Entry = entry
		}
	}
	return message
}

func watchError(err error) error {
	if errors.Is(err, errEventsLost) {
		return connect.NewError(connect.CodeResourceExhausted, err)
	}
	if errors.Is(err, errNoWatcher) {
		return connect.NewError(connect.CodeNotFound, err)
	}
	return rpcError(err)
}

// watcherTable holds the polled watchers.
type watcherTable struct {
	mu       sync.Mutex
	watchers map[string]*watcher
}

// watcher keeps the events of one watch until they are fetched.
type watcher struct {
	watch     *watch
	withEntry bool
	done      chan struct{}

	mu     sync.Mutex
	events []*fspb.FilesystemEvent
	err    error
}

func newWatcherTable() *watcherTable { return &watcherTable{watchers: map[string]*watcher{}} }

func (t *watcherTable) add(w *watcher) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.watchers) >= maxWatchers {
		return "", connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("%d watchers exist already: remove one first", maxWatchers))
	}
	id := "w" + rand.Text()
	t.watchers[id] = w
	return id, nil
}

func (t *watcherTable) find(id string, remove bool) (*watcher, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w, ok := t.watchers[id]
	if !ok {
		return nil, fmt.Errorf("%w: watcher with id %q not found", errNoWatcher, id)
	}
	if remove {
		delete(t.watchers, id)
	}
	return w, nil
}

func (t *watcherTable) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, w := range t.watchers {
		delete(t.watchers, id)
		w.watch.Close()
	}
}

func (f *filesystemService) CreateWatcher(_ context.Context, request *connect.Request[fspb.CreateWatcherRequest]) (*connect.Response[fspb.CreateWatcherResponse], error) {
	path, _, err := f.path(request.Header(), request.Msg.GetPath())
	if err != nil {
		return nil, rpcError(err)
	}
	inner, err := newWatch(path, request.Msg.GetRecursive(), request.Msg.GetAllowNetworkMounts())
	if err != nil {
		return nil, rpcError(err)
	}
	w := &watcher{watch: inner, withEntry: request.Msg.GetIncludeEntry(), done: make(chan struct{})}
	id, err := f.s.watchers.add(w)
	if err != nil {
		inner.Close()
		return nil, err
	}
	go w.collect(f.s)
	return connect.NewResponse(&fspb.CreateWatcherResponse{WatcherId: id}), nil
}

// collect keeps events until the watch is closed or fails.
func (w *watcher) collect(s *Server) {
	defer close(w.done)
	for {
		batch, err := w.watch.next()
		var messages []*fspb.FilesystemEvent
		for _, event := range batch {
			messages = append(messages, s.watchMessage(w.watch.root, event, w.withEntry))
		}
		w.mu.Lock()
		w.events = append(w.events, messages...)
		if over := len(w.events) - maxEvents; over > 0 {
			w.events, w.err = w.events[over:], errEventsLost
		}
		if err != nil && !errors.Is(err, os.ErrClosed) {
			w.err = err
		}
		w.mu.Unlock()
		if err != nil && !errors.Is(err, errEventsLost) {
			return
		}
	}
}

func (f *filesystemService) GetWatcherEvents(_ context.Context, request *connect.Request[fspb.GetWatcherEventsRequest]) (*connect.Response[fspb.GetWatcherEventsResponse], error) {
	w, err := f.s.watchers.find(request.Msg.GetWatcherId(), false)
	if err != nil {
		return nil, watchError(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.err; err != nil {
		if errors.Is(err, errEventsLost) {
			w.err = nil // told once: the events that were kept come with the next call
		}
		return nil, watchError(err)
	}
	events := w.events
	w.events = nil
	return connect.NewResponse(&fspb.GetWatcherEventsResponse{Events: events}), nil
}

func (f *filesystemService) RemoveWatcher(_ context.Context, request *connect.Request[fspb.RemoveWatcherRequest]) (*connect.Response[fspb.RemoveWatcherResponse], error) {
	w, err := f.s.watchers.find(request.Msg.GetWatcherId(), true)
	if err != nil {
		return nil, watchError(err)
	}
	w.watch.Close()
	<-w.done
	return connect.NewResponse(new(fspb.RemoveWatcherResponse)), nil
}
