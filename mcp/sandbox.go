package mcp

import (
	"context"
	"fmt"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/atoll-cloud/atoll/client"
)

const (
	// defaultTemplate has the kernels that run_code needs.
	defaultTemplate = "code-interpreter-v1"
	// defaultLife is how long a sandbox lives unless its time-out is given.
	defaultLife = 15 * time.Minute
	// maxListed bounds a listing of sandboxes.
	maxListed = 100
)

type createIn struct {
	Template       string            `json:"template,omitempty" jsonschema:"what to make it from; default code-interpreter-v1, which run_code needs"`
	TimeoutSeconds int               `json:"timeout_seconds,omitempty" jsonschema:"after how many seconds it ends; default 900"`
	Env            map[string]string `json:"env,omitempty" jsonschema:"environment variables for everything in it"`
	Metadata       map[string]string `json:"metadata,omitempty" jsonschema:"labels that list_sandboxes shows"`
	NoInternet     bool              `json:"no_internet,omitempty" jsonschema:"give it no way out to the internet"`
}

type sandboxOut struct {
	SandboxID string            `json:"sandbox_id"`
	Template  string            `json:"template"`
	State     string            `json:"state"`
	EndsAt    string            `json:"ends_at,omitempty" jsonschema:"when it ends, RFC 3339"`
	Metadata  map[string]string `json:"metadata,omitempty"`
}

type sandboxIn struct {
	SandboxID string `json:"sandbox_id" jsonschema:"id from create_sandbox or list_sandboxes"`
}

type killedOut struct {
	Killed bool `json:"killed"`
}

type listedOut struct {
	Sandboxes []sandboxOut `json:"sandboxes"`
	Note      string       `json:"note,omitempty"`
}

func (s *Server) addSandboxTools() {
	safe := false
	sdk.AddTool(s.mcp, &sdk.Tool{
		Name: "create_sandbox", Description: "Make a fresh, isolated Linux sandbox and return its id.",
		Annotations: &sdk.ToolAnnotations{Title: "Create sandbox", DestructiveHint: &safe},
	}, s.createSandbox)
	sdk.AddTool(s.mcp, &sdk.Tool{
		Name: "kill_sandbox", Description: "End a sandbox at once. Everything in it is lost.",
		Annotations: &sdk.ToolAnnotations{Title: "Kill sandbox", IdempotentHint: true},
	}, s.killSandbox)
	sdk.AddTool(s.mcp, &sdk.Tool{
		Name: "list_sandboxes", Description: "List the sandboxes that are there, newest first.",
		Annotations: &sdk.ToolAnnotations{Title: "List sandboxes", ReadOnlyHint: true},
	}, s.listSandboxes)
}

func (s *Server) createSandbox(ctx context.Context, _ *sdk.CallToolRequest, in createIn) (*sdk.CallToolResult, sandboxOut, error) {
	n := client.NewSandbox{TemplateID: in.Template, Secure: true, EnvVars: in.Env, Metadata: in.Metadata}
	if n.TemplateID == "" {
		n.TemplateID = defaultTemplate
	}
	seconds := in.TimeoutSeconds
	if seconds == 0 {
		seconds = client.Seconds(defaultLife)
	}
	if seconds < 0 {
		return nil, sandboxOut{}, fmt.Errorf("timeout_seconds must be positive, not %d", seconds)
	}
	n.Timeout = &seconds
	if in.NoInternet {
		n.AllowInternetAccess = new(bool)
	}
	// A request given up half-way may leave a sandbox that nobody knows of.
	box, err := s.client.Create(context.WithoutCancel(ctx), n)
	if err != nil {
		return nil, sandboxOut{}, fmt.Errorf("create sandbox: %w", err)
	}
	s.remember(box)
	return nil, describe(box), nil
}

func describe(box client.Sandbox) sandboxOut {
	out := sandboxOut{SandboxID: box.SandboxID, Template: box.Alias, State: box.State, Metadata: box.Metadata}
	if out.Template == "" {
		out.Template = box.TemplateID
	}
	if out.State == "" {
		out.State = client.StateRunning // the answer to a creation does not say
	}
	if !box.EndAt.IsZero() {
		out.EndsAt = box.EndAt.UTC().Format(time.RFC3339)
	}
	return out
}

func (s *Server) killSandbox(ctx context.Context, _ *sdk.CallToolRequest, in sandboxIn) (*sdk.CallToolResult, killedOut, error) {
	if in.SandboxID == "" {
		return nil, killedOut{}, fmt.Errorf("sandbox_id is empty")
	}
	if err := s.client.Kill(ctx, in.SandboxID); err != nil {
		return nil, killedOut{}, s.explain(in.SandboxID, err)
	}
	s.mu.Lock()
	delete(s.known, in.SandboxID)
	s.mu.Unlock()
	return nil, killedOut{true}, nil
}

func (s *Server) listSandboxes(ctx context.Context, _ *sdk.CallToolRequest, _ struct{}) (*sdk.CallToolResult, listedOut, error) {
	all, err := s.client.List(ctx, client.ListFilter{})
	if err != nil {
		return nil, listedOut{}, fmt.Errorf("list sandboxes: %w", err)
	}
	out := listedOut{Sandboxes: []sandboxOut{}}
	if len(all) > maxListed {
		out.Note = fmt.Sprintf("the newest %d of %d", maxListed, len(all))
		all = all[:maxListed]
	}
	for _, box := range all {
		out.Sandboxes = append(out.Sandboxes, describe(box))
	}
	return nil, out, nil
}
