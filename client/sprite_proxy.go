package client

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/coder/websocket"
)

// Dial connects to a port of the sprite, or of another host that it can reach;
// an empty host is the sprite itself. ctx is for the connecting alone. Half a
// connection cannot be closed: either end closes both directions.
func (g *SpriteGuest) Dial(ctx context.Context, host string, port int) (net.Conn, error) {
	conn, _, err := g.c.upgrade(ctx, g.call(http.MethodGet, "proxy"))
	if err != nil {
		return nil, err
	}
	hello, err := json.Marshal(map[string]any{"host": first(host, "localhost"), "port": port})
	if err != nil {
		return nil, err
	}
	if err := conn.Write(ctx, websocket.MessageText, hello); err != nil {
		conn.CloseNow()
		return nil, unreachable(g.c.api, err)
	}
	if err := accepted(ctx, conn); err != nil {
		conn.CloseNow()
		return nil, fmt.Errorf("connect to port %d of %s: %w", port, first(host, g.name), err)
	}
	return websocket.NetConn(context.WithoutCancel(ctx), conn, websocket.MessageBinary), nil
}

// accepted reads whether the sprite made the connection.
func accepted(ctx context.Context, conn *websocket.Conn) error {
	kind, r, err := conn.Reader(ctx)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(r, maxText))
	if err != nil {
		return err
	}
	var said struct {
		Status  string `json:"status"`
		Error   string `json:"error"`
		Message string `json:"message"`
	}
	if kind != websocket.MessageText || json.Unmarshal(b, &said) != nil {
		return fmt.Errorf("the server's answer makes no sense")
	}
	if said.Status != "connected" {
		return fmt.Errorf("%s", strings.TrimPrefix(first(said.Error, said.Message, said.Status, "refused"), "error: "))
	}
	return nil
}
