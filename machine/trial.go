package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/coder/websocket"

	"github.com/atoll-cloud/atoll/wire"
	"github.com/atoll-cloud/atoll/wire/process"
	"github.com/atoll-cloud/atoll/wire/process/processconnect"
)

// trial uses a guest as clients will. Before its snapshot this loads the
// daemon's code paths and the shell's files; after a restore it brings back
// the pages that the first command would wait for.
type trial struct {
	rounds  int  // of commands and files
	kernels bool // it has, which are idle
	sprite  bool // is what it will be
}

func (t trial) run(ctx context.Context, address netip.Addr) error {
	if err := tryCommands(ctx, address, t.rounds); err != nil {
		return err
	}
	if t.kernels {
		if err := tryKernel(ctx, address); err != nil {
			return err
		}
	}
	if t.sprite {
		return trySprite(ctx, address)
	}
	return nil
}

// tryCommands runs commands and uses files as the SDKs of sandboxes do.
func tryCommands(ctx context.Context, address netip.Addr, rounds int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialGuest(ctx, address, wire.GuestPort)
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	processes := processconnect.NewProcessClient(client, "http://guest")
	for range rounds {
		if err := runTrue(ctx, processes); err != nil {
			return err
		}
		if err := tryFile(ctx, client); err != nil {
			return err
		}
	}
	return nil
}

// waitKernels waits until the code interpreter's kernels are idle.
func waitKernels(ctx context.Context, address netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, kernelsReady)
	defer cancel()
	target := "http://" + netip.AddrPortFrom(address, wire.KernelPort).String() + "/health"
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusNoContent {
				return nil
			}
			err = fmt.Errorf("status %d", resp.StatusCode)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the kernels did not start: %w", errors.Join(ctx.Err(), err))
		}
	}
}

// tryKernel runs code the way the SDKs do, to a result that is published. As a
// trial it leaves no trace: no counter, history or variable shows it.
func tryKernel(ctx context.Context, address netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	target := "http://" + netip.AddrPortFrom(address, wire.KernelPort).String() + "/execute"
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range kernelTries {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(`{"code":"1+1","env_vars":{"ATOLL":"1"},"trial":true}`))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("run code in the kernel: %w", err)
		}
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("run code in the kernel: status %d, %w", resp.StatusCode, err)
		}
	}
	return nil
}

// kernelTries is how often it takes until the kernel's pages are in memory.
const kernelTries = 3

// trySprite runs a command the way the door for sprites does.
func trySprite(ctx context.Context, address netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true}
	target := "ws://" + netip.AddrPortFrom(address, wire.GuestPort).String() + wire.SpritePath + "exec?cmd=true&stdin=false"
	conn, _, err := websocket.Dial(ctx, target, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		return fmt.Errorf("run a command over a WebSocket: %w", err)
	}
	defer conn.CloseNow()
	for {
		if _, _, err = conn.Read(ctx); err != nil {
			break
		}
	}
	if websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		return fmt.Errorf("run a command over a WebSocket: %w", err)
	}
	return nil
}

// runTrue runs a command the way the SDKs do: by a login shell.
func runTrue(ctx context.Context, processes processconnect.ProcessClient) error {
	stream, err := processes.Start(ctx, connect.NewRequest(&process.StartRequest{
		Process: &process.ProcessConfig{Cmd: "/bin/bash", Args: []string{"-l", "-c", "true"}},
	}))
	if err != nil {
		return fmt.Errorf("start a command: %w", err)
	}
	defer stream.Close()
	for stream.Receive() {
		if end := stream.Msg().GetEvent().GetEnd(); end != nil && end.ExitCode != 0 {
			return fmt.Errorf("the command true ended with %d: %s", end.ExitCode, end.GetError())
		}
	}
	return stream.Err()
}

// tryFile writes a file and reads it back.
func tryFile(ctx context.Context, client *http.Client) error {
	content := []byte("atoll\n")
	target := "http://guest/files?" + url.Values{"path": {"/tmp/.atoll"}, "username": {"root"}}.Encode()
	for _, method := range []string{http.MethodPost, http.MethodGet} {
		var body io.Reader
		if method == http.MethodPost {
			body = bytes.NewReader(content)
		}
		req, err := http.NewRequestWithContext(ctx, method, target, body)
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/octet-stream")
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("%s a file: %w", method, err)
		}
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s a file: status %d, %w", method, resp.StatusCode, err)
		}
	}
	return nil
}
