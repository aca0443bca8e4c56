// Package mcp offers sandboxes to agents over the Model Context Protocol: tools
// that make sandboxes, run code and commands in them, and read and write their
// files. What a tool answers is bounded, because a model has to read it.
package mcp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/atoll-cloud/atoll/client"
)

const instructions = `Each sandbox is an isolated Linux machine of its own. Make one with create_sandbox
and pass its sandbox_id to the other tools. Variables of run_code and files stay
from call to call until the sandbox ends: at its time-out, or with kill_sandbox.
Kill sandboxes that are no longer needed.`

// Server answers the calls of agents. Make it with New.
type Server struct {
	client *client.Client
	mcp    *sdk.Server

	mu sync.Mutex
	// known are sandboxes with their tokens, so that a call need not ask for them.
	known map[string]client.Sandbox
}

// maxKnown bounds how many sandboxes are remembered.
const maxKnown = 1000

// New returns a server whose sandboxes are those of c.
func New(c *client.Client, version string) *Server {
	s := &Server{client: c, known: map[string]client.Sandbox{}}
	s.mcp = sdk.NewServer(&sdk.Implementation{Name: "atoll", Title: "Atoll sandboxes", Version: version},
		&sdk.ServerOptions{Instructions: instructions, Capabilities: &sdk.ServerCapabilities{}})
	s.addSandboxTools()
	s.addRunTools()
	s.addFileTools()
	return s
}

// Connect serves one agent over a transport until the session is closed.
func (s *Server) Connect(ctx context.Context, t sdk.Transport) (*sdk.ServerSession, error) {
	return s.mcp.Connect(ctx, t, nil)
}

// Pipe serves one agent over lines of JSON until in or ctx ends.
func (s *Server) Pipe(ctx context.Context, in io.Reader, out io.Writer) error {
	err := s.mcp.Run(ctx, &sdk.IOTransport{Reader: io.NopCloser(in), Writer: stays{out}})
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		return nil
	}
	return err
}

// stays is a writer that is not closed with the session.
type stays struct{ io.Writer }

func (stays) Close() error { return nil }

// guest returns the way into a sandbox.
func (s *Server) guest(ctx context.Context, id string) (*client.Guest, error) {
	if id == "" {
		return nil, errors.New("sandbox_id is empty; create_sandbox and list_sandboxes tell ids")
	}
	s.mu.Lock()
	box, ok := s.known[id]
	s.mu.Unlock()
	if !ok {
		var err error
		if box, err = s.client.Get(ctx, id); err != nil {
			return nil, s.explain(id, err)
		}
		s.remember(box)
	}
	return s.client.Guest(box), nil
}

func (s *Server) remember(box client.Sandbox) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= maxKnown {
		clear(s.known)
	}
	s.known[box.SandboxID] = box
}

// explain adds to a refusal what an agent can do about it. A sandbox that is
// gone, or asks for another token, is looked up anew the next time.
func (s *Server) explain(id string, err error) error {
	if err == nil {
		return nil
	}
	switch client.Status(err) {
	case 401, 404, 502:
		s.mu.Lock()
		delete(s.known, id)
		s.mu.Unlock()
	}
	switch {
	case errors.Is(err, client.ErrNoInterpreter):
		return fmt.Errorf("%w; or use run_command", err)
	case client.Status(err) == 502:
		return fmt.Errorf("%w; it may have reached its time-out: make another with create_sandbox", err)
	}
	return err
}
