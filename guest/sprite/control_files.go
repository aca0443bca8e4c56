package sprite

import (
	"context"
	"errors"
	"io"

	"github.com/coder/websocket"
)

// files does a file operation; what the client gets is as on the routes of files,
// with the bytes of a file in a message of their own.
func (c *controlConn) files(ctx context.Context, prefixed bool, op string, args fileArgs) error {
	var failed *fileError
	var err error
	switch op {
	case "fs.read":
		failed, err = c.readFile(ctx, args)
	case "fs.write":
		failed, err = c.writeFile(ctx, args)
	case "fs.list":
		failed, err = c.listFiles(ctx, args)
	default:
		var answer any
		if answer, failed = c.server.changeFiles(op, args); failed == nil {
			err = c.socket.writeJSON(ctx, answer)
		}
	}
	if err != nil {
		return err
	}
	if failed != nil {
		if err := c.socket.writeJSON(ctx, failed); err != nil {
			return err
		}
		return c.fail(ctx, prefixed, failed)
	}
	return c.complete(ctx, prefixed, nil)
}

// readAnswer is the message before a file's bytes.
type readAnswer struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
}

func (c *controlConn) readFile(ctx context.Context, args fileArgs) (*fileError, error) {
	file, info, failed := args.openFile()
	if failed != nil {
		return failed, nil
	}
	defer file.Close()
	start, end, _, failed := args.span(info.Size())
	if failed != nil {
		return failed, nil
	}
	if err := c.socket.writeJSON(ctx, readAnswer{file.Name(), end - start}); err != nil {
		return nil, err
	}
	return nil, c.socket.stream(ctx, websocket.MessageBinary, func(to io.Writer) error {
		_, err := copyFile(to, io.NewSectionReader(file, start, end-start))
		return err
	})
}

// stream sends one message in pieces.
func (k *socket) stream(ctx context.Context, kind websocket.MessageType, fill func(io.Writer) error) error {
	k.writing.Lock()
	defer k.unlock()
	to, err := k.ws.Writer(ctx, kind)
	if err != nil {
		return err
	}
	if err := fill(to); err != nil {
		return err // half a message: the connection must end
	}
	return to.Close()
}

// writeFile takes the file's bytes from the next message.
func (c *controlConn) writeFile(ctx context.Context, args fileArgs) (*fileError, error) {
	kind, from, err := c.socket.read(ctx)
	if err != nil {
		return nil, err
	}
	if kind != websocket.MessageBinary {
		return invalid("", errors.New("the file's content must be a binary message")), discard(from)
	}
	answer, failed := args.write(from, -1)
	if err := discard(from); err != nil || failed != nil {
		return failed, err
	}
	return nil, c.socket.writeJSON(ctx, answer)
}

func (c *controlConn) listFiles(ctx context.Context, args fileArgs) (*fileError, error) {
	l, failed := args.listing()
	if failed != nil {
		return failed, nil
	}
	return nil, c.socket.stream(ctx, websocket.MessageText, l.write)
}
