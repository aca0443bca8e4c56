package client

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// SpriteFile is one entry of a folder in a sprite.
type SpriteFile struct {
	Name    string    `json:"name"`
	Path    string    `json:"path"`
	Type    string    `json:"type"` // file, directory or symlink
	Size    int64     `json:"size"`
	Mode    string    `json:"mode"` // octal, such as 0644
	ModTime time.Time `json:"modTime,omitzero"`
	IsDir   bool      `json:"isDir"`
}

// Perm is the entry's permission bits; 0644 where it tells none.
func (f SpriteFile) Perm() fs.FileMode {
	n, err := strconv.ParseUint(f.Mode, 8, 32)
	if err != nil {
		return 0o644
	}
	return fs.FileMode(n).Perm()
}

// Files lists a folder; of a file it returns that file alone. Relative paths
// begin at the user's home.
func (g *SpriteGuest) Files(ctx context.Context, path string) ([]SpriteFile, error) {
	var out struct {
		Entries []SpriteFile `json:"entries"`
	}
	k := g.call(http.MethodGet, "fs", "list")
	k.query, k.out = g.at(path), &out
	_, err := g.c.do(ctx, k)
	return out.Entries, err
}

// ReadFile opens a file in the sprite. The caller closes it. The size is -1
// where the server does not tell it.
func (g *SpriteGuest) ReadFile(ctx context.Context, path string) (io.ReadCloser, int64, error) {
	k := g.call(http.MethodGet, "fs", "read")
	k.query = g.at(path)
	res, err := g.c.open(ctx, k)
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", path, err)
	}
	return res.Body, res.ContentLength, nil
}

// WriteFile replaces a file in the sprite, and makes the folders above it.
func (g *SpriteGuest) WriteFile(ctx context.Context, path string, mode fs.FileMode, content io.Reader) error {
	k := g.call(http.MethodPut, "fs", "write")
	k.query, k.body = g.at(path), content
	k.query.Set("mode", fmt.Sprintf("%04o", mode.Perm()))
	k.query.Set("mkdirParents", "true")
	if _, err := g.c.do(ctx, k); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// RemoveFile removes a file, or a folder with all in it where recursive is set.
func (g *SpriteGuest) RemoveFile(ctx context.Context, path string, recursive bool) error {
	k := g.call(http.MethodDelete, "fs", "delete")
	k.query = g.at(path)
	k.query.Set("recursive", strconv.FormatBool(recursive))
	_, err := g.c.do(ctx, k)
	return err
}

// spriteHome is where relative paths begin.
const spriteHome = "/home/sprite"

func (g *SpriteGuest) at(path string) url.Values {
	return url.Values{"path": {path}, "workingDir": {spriteHome}}
}
