package guest_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/atoll-cloud/atoll/guest"
	"github.com/atoll-cloud/atoll/guest/sprite"
	"github.com/atoll-cloud/atoll/wire"
)

// A sprite's sessions outlive the connections of their clients, which end when
// the memory comes back from an image; the ended ones are not kept.
func TestSessionsGoOnWhenTheMachineIsRestored(t *testing.T) {
	root := t.TempDir()
	passwd := fmt.Sprintf("sprite:x:%d:%d::%s:/bin/sh\n", os.Getuid(), os.Getgid(), root)
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/passwd"), []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	log := guest.NewLog(io.Discard)
	defer log.Close()
	server := guest.New(guest.Config{DefaultUser: "sprite", Root: root, Log: log, Spawner: guest.SharedSpawner()})
	server.TakeAllForOutside()
	sprites := sprite.New(sprite.Config{Guest: server})
	server.Mount(wire.SpritePath, sprites.Handler())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	defer func() {
		sprites.Close(ctx)
		server.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	url := "http://" + listener.Addr().String()
	dial := func(route string) *websocket.Conn {
		t.Helper()
		ws, _, err := websocket.Dial(ctx, url+wire.SpritePath+route, nil)
		if err != nil {
			t.Fatal(err)
		}
		return ws
	}
	ws := dial("exec?cmd=sh&cmd=-c&cmd=echo+before%3B+read+x%3B+echo+after&stdin=true&detachable=true")
	_, info, err := ws.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	id := strings.Split(strings.SplitN(string(info), `"session_id":"`, 2)[1], `"`)[0]
	response, err := http.Post(url+"/init", "application/json", strings.NewReader(`{"restored":true}`))
	if err != nil || response.StatusCode != http.StatusNoContent {
		t.Fatal(response, err)
	}
	response.Body.Close()
	for err == nil {
		_, _, err = ws.Read(ctx)
	}
	if ctx.Err() != nil {
		t.Fatal("the connection did not end")
	}
	again := dial("exec/" + id)
	if err := again.Write(ctx, websocket.MessageBinary, []byte("\x00go\n")); err != nil {
		t.Fatal(err)
	}
	var heard strings.Builder
	for {
		_, data, err := again.Read(ctx)
		if err != nil {
			break
		}
		heard.Write(data)
	}
	if text := heard.String(); !strings.Contains(text, "before") || !strings.Contains(text, "after") {
		t.Errorf("%q", text)
	}
	http.DefaultClient.CloseIdleConnections()
	for server.OpenConnections() > 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if n := server.OpenConnections(); n != 0 {
		t.Error(n, "connections are kept")
	}
}
