package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"connectrpc.com/connect"

	"github.com/atoll-cloud/atoll/wire/filesystem"
)

// send makes a plain HTTP request to the guest daemon. The caller closes the body.
func (g *Guest) send(ctx context.Context, method, path string, q url.Values, header http.Header, body io.Reader) (*http.Response, error) {
	u := g.base.JoinPath(path)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	res, err := g.http.Do(req)
	if err != nil {
		return nil, unreachable(g.base, err)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		defer res.Body.Close()
		return nil, readError(res)
	}
	return res, nil
}

// fileQuery names a file and whose it is: the file routes take the user as a
// parameter, not from the Authorization header.
func (g *Guest) fileQuery(path string) url.Values {
	q := url.Values{"path": {path}}
	if g.user != "" {
		q.Set("username", g.user)
	}
	return q
}

// Upload writes all of r to a file in the guest, making the folders above it.
// A relative path is relative to the user's home. Nothing is held in memory.
func (g *Guest) Upload(ctx context.Context, path string, r io.Reader) error {
	h := http.Header{"Content-Type": {"application/octet-stream"}}
	res, err := g.send(ctx, http.MethodPost, "/files", g.fileQuery(path), h, io.NopCloser(r))
	if err != nil {
		return fmt.Errorf("upload %s: %w", path, err)
	}
	defer res.Body.Close()
	// Read the answer to its end so that the connection can be used again.
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, maxBody))
	return err
}

// Download opens a file in the guest. The size is -1 when it is not known.
func (g *Guest) Download(ctx context.Context, path string) (r io.ReadCloser, size int64, err error) {
	res, err := g.send(ctx, http.MethodGet, "/files", g.fileQuery(path), nil, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("download %s: %w", path, err)
	}
	return res.Body, res.ContentLength, nil
}

// Stat tells of a file in the guest.
func (g *Guest) Stat(ctx context.Context, path string) (*filesystem.EntryInfo, error) {
	res, err := g.fs.Stat(ctx, connect.NewRequest(&filesystem.StatRequest{Path: path}))
	if err != nil {
		return nil, g.rpcError("stat "+path, err)
	}
	return res.Msg.GetEntry(), nil
}

// List tells of what is in a folder, down to a depth of at least 1.
func (g *Guest) List(ctx context.Context, path string, depth uint32) ([]*filesystem.EntryInfo, error) {
	res, err := g.fs.ListDir(ctx, connect.NewRequest(&filesystem.ListDirRequest{Path: path, Depth: depth}))
	if err != nil {
		return nil, g.rpcError("list "+path, err)
	}
	return res.Msg.GetEntries(), nil
}

// MakeDir makes a folder and those above it; that it is there already is no error.
func (g *Guest) MakeDir(ctx context.Context, path string) error {
	_, err := g.fs.MakeDir(ctx, connect.NewRequest(&filesystem.MakeDirRequest{Path: path}))
	if connect.CodeOf(err) == connect.CodeAlreadyExists {
		return nil
	}
	return g.rpcError("make folder "+path, err)
}

// Remove removes a file, or a folder with all that is in it.
func (g *Guest) Remove(ctx context.Context, path string) error {
	_, err := g.fs.Remove(ctx, connect.NewRequest(&filesystem.RemoveRequest{Path: path}))
	return g.rpcError("remove "+path, err)
}
