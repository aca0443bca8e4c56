package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"connectrpc.com/connect"

	fspb "github.com/atoll-cloud/atoll/wire/filesystem"
)

// maxEntries bounds one listing.
const maxEntries = 1 << 20

// filesystemService serves filesystem.Filesystem.
type filesystemService struct{ s *Server }

// path resolves a request's path for its user.
func (f *filesystemService) path(h http.Header, path string) (string, *account, error) {
	user, err := f.s.requestUser(h)
	if err != nil {
		return "", nil, err
	}
	path, err = resolvePath(path, "", user)
	return path, user, err
}

func (f *filesystemService) Stat(_ context.Context, request *connect.Request[fspb.StatRequest]) (*connect.Response[fspb.StatResponse], error) {
	path, _, err := f.path(request.Header(), request.Msg.GetPath())
	if err != nil {
		return nil, rpcError(err)
	}
	entry, err := f.s.entry(path)
	if err != nil {
		return nil, rpcError(fmt.Errorf("file not found: %w", err))
	}
	return connect.NewResponse(&fspb.StatResponse{Entry: entry}), nil
}

func (f *filesystemService) MakeDir(_ context.Context, request *connect.Request[fspb.MakeDirRequest]) (*connect.Response[fspb.MakeDirResponse], error) {
	path, user, err := f.path(request.Header(), request.Msg.GetPath())
	if err != nil {
		return nil, rpcError(err)
	}
	if info, err := os.Stat(path); err == nil {
		if !info.IsDir() {
			return nil, rpcError(fmt.Errorf("%w: '%s' exists and is not a directory", errBadPath, path))
		}
		return nil, connect.NewError(connect.CodeAlreadyExists, fmt.Errorf("directory already exists: %s", path))
	}
	if err := makeDirs(path, user); err != nil {
		return nil, rpcError(fmt.Errorf("create directory: %w", err))
	}
	entry, err := f.s.entry(path)
	if err != nil {
		return nil, rpcError(err)
	}
	return connect.NewResponse(&fspb.MakeDirResponse{Entry: entry}), nil
}

func (f *filesystemService) Move(_ context.Context, request *connect.Request[fspb.MoveRequest]) (*connect.Response[fspb.MoveResponse], error) {
	source, user, err := f.path(request.Header(), request.Msg.GetSource())
	if err != nil {
		return nil, rpcError(err)
	}
	destination, err := resolvePath(request.Msg.GetDestination(), "", user)
	if err != nil {
		return nil, rpcError(err)
	}
	if _, err := os.Lstat(source); err != nil {
		return nil, rpcError(fmt.Errorf("source file not found: %w", err))
	}
	if err := makeDirs(filepath.Dir(destination), user); err != nil {
		return nil, rpcError(fmt.Errorf("create the destination's directory: %w", err))
	}
	if err := os.Rename(source, destination); err != nil {
		return nil, rpcError(fmt.Errorf("move: %w", err))
	}
	entry, err := f.s.entry(destination)
	if err != nil {
		return nil, rpcError(err)
	}
	return connect.NewResponse(&fspb.MoveResponse{Entry: entry}), nil
}

func (f *filesystemService) Remove(_ context.Context, request *connect.Request[fspb.RemoveRequest]) (*connect.Response[fspb.RemoveResponse], error) {
	path, _, err := f.path(request.Header(), request.Msg.GetPath())
	if err != nil {
		return nil, rpcError(err)
	}
	if path == "/" {
		return nil, rpcError(fmt.Errorf("%w: the root directory cannot be removed", errBadPath))
	}
	f.s.metadata.forget(path)
	if err := os.RemoveAll(path); err != nil {
		return nil, rpcError(fmt.Errorf("remove: %w", err))
	}
	return connect.NewResponse(new(fspb.RemoveResponse)), nil
}

func (f *filesystemService) ListDir(ctx context.Context, request *connect.Request[fspb.ListDirRequest]) (*connect.Response[fspb.ListDirResponse], error) {
	path, _, err := f.path(request.Header(), request.Msg.GetPath())
	if err != nil {
		return nil, rpcError(err)
	}
	entries, err := f.s.list(ctx, path, max(1, int(request.Msg.GetDepth())))
	if err != nil {
		return nil, rpcError(err)
	}
	return connect.NewResponse(&fspb.ListDirResponse{Entries: entries}), nil
}

// list returns the entries of a directory and, to a depth, of those in it. A
// link to a directory is followed at the top only.
func (s *Server) list(ctx context.Context, path string, depth int) ([]*fspb.EntryInfo, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("directory not found: %w", err)
	}
	if info, err := os.Stat(real); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%w: '%s' is not a directory", errBadPath, path)
	}
	s.users.fresh()
	var entries []*fspb.EntryInfo
	err = filepath.WalkDir(real, func(at string, d fs.DirEntry, err error) error {
		if err != nil {
			if at != real && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)) {
				return nil // it was removed while we looked, or is closed to us
			}
			return err
		}
		if at == real {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		info, err := d.Info()
		if err != nil {
			return nil // removed meanwhile
		}
		if len(entries) == maxEntries {
			return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("more than %d entries: list with less depth", maxEntries))
		}
		relative := strings.TrimPrefix(strings.TrimPrefix(at, real), "/")
		entries = append(entries, s.entryOf(filepath.Join(path, relative), info))
		if d.IsDir() && strings.Count(relative, "/")+1 >= depth {
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list directory: %w", err)
	}
	return entries, nil
}
