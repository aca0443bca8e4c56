package mcp

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/atoll-cloud/atoll/wire/filesystem"
)

const (
	// defaultRead and maxRead are how many bytes of a file are read: unless it
	// is said, and at most.
	defaultRead = 32 << 10
	maxRead     = 256 << 10
	// maxWritten bounds a file that is written, in bytes.
	maxWritten = 8 << 20
	// maxEntries and maxDepth bound a listing of files.
	maxEntries = 500
	maxDepth   = 5
)

type readIn struct {
	SandboxID string `json:"sandbox_id" jsonschema:"id of the sandbox"`
	Path      string `json:"path" jsonschema:"the file; a relative path begins at the user's home"`
	Offset    int64  `json:"offset,omitempty" jsonschema:"byte to begin at; default 0"`
	Limit     int    `json:"limit,omitempty" jsonschema:"how many bytes to read; default 32768, at most 262144"`
}

type writeIn struct {
	SandboxID string `json:"sandbox_id" jsonschema:"id of the sandbox"`
	Path      string `json:"path" jsonschema:"the file; a relative path begins at the user's home; folders above it are made"`
	Content   string `json:"content" jsonschema:"the whole content; what was in the file is replaced"`
	Base64    bool   `json:"base64,omitempty" jsonschema:"content is base64, for files that are no text"`
}

type writtenOut struct {
	Path  string `json:"path"`
	Bytes int    `json:"bytes"`
}

type filesIn struct {
	SandboxID string `json:"sandbox_id" jsonschema:"id of the sandbox"`
	Path      string `json:"path,omitempty" jsonschema:"the folder; default the user's home"`
	Depth     int    `json:"depth,omitempty" jsonschema:"how many levels of folders; default 1, at most 5"`
}

type fileOut struct {
	Path  string `json:"path"`
	Type  string `json:"type" jsonschema:"file, folder, link or other"`
	Bytes int64  `json:"bytes"`
}

type filesOut struct {
	Files []fileOut `json:"files"`
	Note  string    `json:"note,omitempty"`
}

func (s *Server) addFileTools() {
	sdk.AddTool(s.mcp, &sdk.Tool{
		Name: "read_file", Description: "Read a text file, or see a picture (PNG, JPEG, GIF, WebP), of a sandbox.",
		Annotations: &sdk.ToolAnnotations{Title: "Read file", ReadOnlyHint: true},
	}, s.readFile)
	sdk.AddTool(s.mcp, &sdk.Tool{
		Name: "write_file", Description: "Write a file in a sandbox.",
		Annotations: &sdk.ToolAnnotations{Title: "Write file", IdempotentHint: true},
	}, s.writeFile)
	sdk.AddTool(s.mcp, &sdk.Tool{
		Name: "list_files", Description: "List what is in a folder of a sandbox.",
		Annotations: &sdk.ToolAnnotations{Title: "List files", ReadOnlyHint: true},
	}, s.listFiles)
}

func (s *Server) readFile(ctx context.Context, _ *sdk.CallToolRequest, in readIn) (*sdk.CallToolResult, any, error) {
	if in.Limit == 0 {
		in.Limit = defaultRead
	}
	if in.Offset < 0 || in.Limit < 0 || in.Limit > maxRead {
		return nil, nil, fmt.Errorf("offset must not be negative, and limit between 1 and %d", maxRead)
	}
	g, err := s.guest(ctx, in.SandboxID)
	if err != nil {
		return nil, nil, err
	}
	r, size, err := g.Download(ctx, in.Path)
	if err != nil {
		return nil, nil, s.explain(in.SandboxID, err)
	}
	defer r.Close()
	if _, err := io.CopyN(io.Discard, r, in.Offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("read %s: %w", in.Path, err)
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(in.Limit)+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", in.Path, err)
	}
	if kind := http.DetectContentType(b); in.Offset == 0 && isPicture(kind) {
		rest, err := io.ReadAll(io.LimitReader(r, int64(maxPicture-len(b)+1)))
		if err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", in.Path, err)
		}
		if b = append(b, rest...); len(b) > maxPicture {
			return nil, nil, fmt.Errorf("%s is a picture of more than %d MiB; make it smaller first", in.Path, maxPicture>>20)
		}
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.ImageContent{MIMEType: kind, Data: b}}}, nil, nil
	}
	more := len(b) > in.Limit
	if more {
		b = b[:in.Limit]
		b = b[:whole(b)]
	}
	if bytes.IndexByte(b, 0) >= 0 || !utf8.Valid(b) {
		return nil, nil, fmt.Errorf("%s is no UTF-8 text; look at it with run_command, for example with file, xxd or base64", in.Path)
	}
	c := []sdk.Content{&sdk.TextContent{Text: string(b)}}
	if more {
		of := ""
		if size >= 0 {
			of = fmt.Sprintf(" of %d", size)
		}
		next := in.Offset + int64(len(b))
		c = append(c, &sdk.TextContent{Text: fmt.Sprintf("[bytes %d to %d%s; go on with offset %d]", in.Offset, next, of, next)})
	}
	return &sdk.CallToolResult{Content: c}, nil, nil
}

func isPicture(kind string) bool {
	switch kind {
	case "image/png", "image/jpeg", "image/gif", "image/webp":
		return true
	}
	return false
}

func (s *Server) writeFile(ctx context.Context, _ *sdk.CallToolRequest, in writeIn) (_ *sdk.CallToolResult, out writtenOut, _ error) {
	content := []byte(in.Content)
	if in.Base64 {
		var err error
		if content, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(in.Content), "")); err != nil {
			return nil, out, fmt.Errorf("content is not base64: %w", err)
		}
	}
	if len(content) > maxWritten {
		return nil, out, fmt.Errorf("content has %d bytes; at most %d can be written at once", len(content), maxWritten)
	}
	g, err := s.guest(ctx, in.SandboxID)
	if err != nil {
		return nil, out, err
	}
	if err := g.Upload(ctx, in.Path, bytes.NewReader(content)); err != nil {
		return nil, out, s.explain(in.SandboxID, err)
	}
	return nil, writtenOut{in.Path, len(content)}, nil
}

func (s *Server) listFiles(ctx context.Context, _ *sdk.CallToolRequest, in filesIn) (_ *sdk.CallToolResult, out filesOut, _ error) {
	if in.Depth == 0 {
		in.Depth = 1
	}
	if in.Depth < 0 || in.Depth > maxDepth {
		return nil, out, fmt.Errorf("depth must be between 1 and %d", maxDepth)
	}
	if in.Path == "" {
		in.Path = "."
	}
	g, err := s.guest(ctx, in.SandboxID)
	if err != nil {
		return nil, out, err
	}
	all, err := g.List(ctx, in.Path, uint32(in.Depth))
	if err != nil {
		return nil, out, s.explain(in.SandboxID, err)
	}
	out.Files = []fileOut{}
	if len(all) > maxEntries {
		out.Note = fmt.Sprintf("the first %d of %d; list a folder below, or use run_command with find", maxEntries, len(all))
		all = all[:maxEntries]
	}
	for _, e := range all {
		out.Files = append(out.Files, fileOut{strings.ToValidUTF8(e.GetPath(), "�"), kindOf(e), e.GetSize()})
	}
	return nil, out, nil
}

func kindOf(e *filesystem.EntryInfo) string {
	if e.GetSymlinkTarget() != "" {
		return "link"
	}
	switch e.GetType() {
	case filesystem.FileType_FILE_TYPE_FILE:
		return "file"
	case filesystem.FileType_FILE_TYPE_DIRECTORY:
		return "folder"
	case filesystem.FileType_FILE_TYPE_SYMLINK:
		return "link"
	}
	return "other"
}
