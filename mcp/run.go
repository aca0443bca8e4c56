package mcp

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/atoll-cloud/atoll/client"
)

const (
	// defaultPatience and maxPatience are how many seconds code or a command may
	// run: unless it is said, and at most.
	defaultPatience = 60
	maxPatience     = 3600
	// maxStream bounds stdout and stderr each, maxResults all results of one
	// execution together, in bytes of text.
	maxStream  = 32 << 10
	maxResults = 64 << 10
	// maxPicture and maxPictures bound one picture, in bytes of base64, and how
	// many there may be in one answer.
	maxPicture  = 5 << 20
	maxPictures = 8
)

type codeIn struct {
	SandboxID      string            `json:"sandbox_id" jsonschema:"id of the sandbox"`
	Code           string            `json:"code" jsonschema:"the code; the value of its last expression is shown"`
	Language       string            `json:"language,omitempty" jsonschema:"python (default), javascript, typescript, bash, or another that the sandbox has"`
	ContextID      string            `json:"context_id,omitempty" jsonschema:"a context to run in, in place of a language's own"`
	Env            map[string]string `json:"env,omitempty" jsonschema:"environment variables for this call alone"`
	TimeoutSeconds int               `json:"timeout_seconds,omitempty" jsonschema:"interrupt the code after so many seconds; default 60, at most 3600"`
}

type commandIn struct {
	SandboxID      string            `json:"sandbox_id" jsonschema:"id of the sandbox"`
	Command        string            `json:"command" jsonschema:"a line for the shell"`
	Cwd            string            `json:"cwd,omitempty" jsonschema:"folder to run in; default the user's home"`
	Env            map[string]string `json:"env,omitempty" jsonschema:"environment variables for the command"`
	User           string            `json:"user,omitempty" jsonschema:"user to run as, such as root; default the sandbox's user"`
	TimeoutSeconds int               `json:"timeout_seconds,omitempty" jsonschema:"kill the command after so many seconds; default 60, at most 3600"`
}

type commandOut struct {
	ExitCode int    `json:"exit_code"`
	Stdout   string `json:"stdout"`
	Stderr   string `json:"stderr"`
}

func (s *Server) addRunTools() {
	sdk.AddTool(s.mcp, &sdk.Tool{
		Name: "run_code",
		Description: "Run code in a sandbox's kernel, as in a notebook: variables, imports and functions stay for the next call. " +
			"Returns what it printed, its results as text, and figures as images.",
		Annotations: &sdk.ToolAnnotations{Title: "Run code"},
	}, s.runCode)
	sdk.AddTool(s.mcp, &sdk.Tool{
		Name:        "run_command",
		Description: "Run a shell command in a sandbox and wait for its end. Returns its exit code, stdout and stderr.",
		Annotations: &sdk.ToolAnnotations{Title: "Run command"},
	}, s.runCommand)
}

// patience bounds a call by the seconds that were asked for.
func patience(ctx context.Context, seconds int) (context.Context, context.CancelFunc, int, error) {
	if seconds < 0 || seconds > maxPatience {
		return nil, nil, 0, fmt.Errorf("timeout_seconds must be between 1 and %d, not %d", maxPatience, seconds)
	}
	if seconds == 0 {
		seconds = defaultPatience
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second)
	return ctx, cancel, seconds, nil
}

// answer gathers what code does for a model to read.
type answer struct {
	stdout, stderr text
	results        text
	pictures       []sdk.Content
	left           int // pictures that were left out
}

func (s *Server) runCode(ctx context.Context, _ *sdk.CallToolRequest, in codeIn) (*sdk.CallToolResult, any, error) {
	ctx, cancel, seconds, err := patience(ctx, in.TimeoutSeconds)
	if err != nil {
		return nil, nil, err
	}
	defer cancel()
	if in.Language != "" && in.ContextID != "" {
		return nil, nil, errors.New("give language or context_id, not both")
	}
	g, err := s.guest(ctx, in.SandboxID)
	if err != nil {
		return nil, nil, err
	}
	a := &answer{stdout: text{limit: maxStream}, stderr: text{limit: maxStream}, results: text{limit: maxResults}}
	e, err := g.RunCode(ctx, client.Code{Code: in.Code, Language: in.Language, ContextID: in.ContextID, Env: in.Env}, client.CodeHandlers{
		Stdout: func(t string) error { _, err := a.stdout.Write([]byte(t)); return err },
		Stderr: func(t string) error { _, err := a.stderr.Write([]byte(t)); return err },
		Result: a.result,
	})
	problem := ""
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		problem = fmt.Sprintf("The code was interrupted after %d seconds. Variables are kept.", seconds)
	case err != nil:
		return nil, nil, s.explain(in.SandboxID, err)
	case e.Error != nil:
		t := text{limit: maxStream}
		t.Write([]byte(e.Error.Traceback))
		problem = t.String()
		if problem == "" {
			problem = e.Error.Name + ": " + e.Error.Value
		}
	}
	return &sdk.CallToolResult{Content: a.content(problem), IsError: problem != ""}, nil, nil
}

// result takes the forms of a result that a model can read.
func (a *answer) result(r client.Result) error {
	shown := false
	for _, name := range []string{"png", "jpeg"} {
		if data := r.Form(name); data != "" && !shown {
			shown = true
			a.picture("image/"+name, data)
		}
	}
	if shown {
		return nil
	}
	for _, name := range []string{"text", "markdown", "latex", "json", "svg", "html", "javascript"} {
		t := r.Form(name)
		if t == "" && name == "json" {
			t = string(r.Forms[name])
		}
		if t != "" {
			fmt.Fprintln(&a.results, t)
			return nil
		}
	}
	fmt.Fprintf(&a.results, "[a result without text: %s]\n", strings.Join(r.Names(), ", "))
	return nil
}

func (a *answer) picture(mime, data string) {
	if len(a.pictures) == maxPictures || len(data) > maxPicture {
		a.left++
		return
	}
	b, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(data, "\n", ""))
	if err != nil {
		a.left++
		return
	}
	a.pictures = append(a.pictures, &sdk.ImageContent{MIMEType: mime, Data: b})
}

// content is the answer, with what went wrong last.
func (a *answer) content(problem string) []sdk.Content {
	var c []sdk.Content
	part := func(title, s string) {
		if s != "" {
			c = append(c, &sdk.TextContent{Text: title + s})
		}
	}
	part("stdout:\n", a.stdout.String())
	part("stderr:\n", a.stderr.String())
	part("", a.results.String())
	c = append(c, a.pictures...)
	if a.left > 0 {
		part("", fmt.Sprintf("[%d pictures are left out: at most %d of %d MiB are shown]", a.left, maxPictures, maxPicture>>20))
	}
	part("error:\n", problem)
	if len(c) == 0 {
		part("", "[no output]")
	}
	return c
}

func (s *Server) runCommand(ctx context.Context, _ *sdk.CallToolRequest, in commandIn) (_ *sdk.CallToolResult, out commandOut, _ error) {
	ctx, cancel, seconds, err := patience(ctx, in.TimeoutSeconds)
	if err != nil {
		return nil, out, err
	}
	defer cancel()
	g, err := s.guest(ctx, in.SandboxID)
	if err != nil {
		return nil, out, err
	}
	g = g.As(in.User)
	p, err := g.Start(ctx, client.Command{Path: "/bin/sh", Args: []string{"-c", in.Command}, Env: in.Env, Dir: in.Cwd})
	if err != nil {
		return nil, out, s.explain(in.SandboxID, err)
	}
	stdout, stderr := &text{limit: maxStream}, &text{limit: maxStream}
	exit, err := p.Copy(stdout, stderr)
	if err != nil {
		// The guest knows the time-out too, and may be the first to act on it.
		if ctx.Err() == nil && client.Status(err) != http.StatusGatewayTimeout {
			return nil, out, s.explain(in.SandboxID, err)
		}
		// Given up: the command must not run on unseen.
		end, done := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer done()
		err = p.Signal(end, syscall.SIGKILL)
		if client.IsNotFound(err) {
			err = nil // it ended with its connection
		}
		problem := fmt.Errorf("the command was killed after %d seconds", seconds)
		return nil, out, fmt.Errorf("%w; stdout so far:\n%s\nstderr so far:\n%s", errors.Join(problem, err), stdout, stderr)
	}
	if exit.Error != "" && exit.Code == 0 {
		return nil, out, errors.New(exit.Error)
	}
	return nil, commandOut{exit.Code, stdout.String(), stderr.String()}, nil
}
