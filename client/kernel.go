package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
)

const (
	// maxLine bounds one line of an execution, in bytes: a result with its
	// pictures. The code interpreter lets 128 MiB of one message through.
	maxLine = 192 << 20
	// maxContexts bounds the listing of contexts, in bytes.
	maxContexts = 1 << 20
)

// ErrNoInterpreter is reported for sandboxes that have no code interpreter.
var ErrNoInterpreter = errors.New("the sandbox has no code interpreter; those made from the template code-interpreter-v1 have one")

// Code is what RunCode runs.
type Code struct {
	Code string
	// Language is a kernel's, such as python; empty is the interpreter's
	// default. ContextID names a context instead; only one of them may be set.
	Language  string
	ContextID string
	// Env is set for this execution alone.
	Env map[string]string
}

// CodeHandlers are told of what code puts out, one after another and as it
// comes. Those that are nil are left out. An error of theirs ends the execution
// with that error.
type CodeHandlers struct {
	Stdout func(text string) error
	Stderr func(text string) error
	Result func(Result) error
	Error  func(CodeError) error
}

// Execution is how code ended.
type Execution struct {
	// Count is the number of the execution in its context; 0: not told.
	Count int
	// Error is why the code ended early; nil: it did not.
	Error *CodeError
}

// CodeError is an exception that code did not catch, or what became of its kernel.
type CodeError struct {
	Name      string `json:"name"`
	Value     string `json:"value"`
	Traceback string `json:"traceback"`
}

// Result is one value that code showed, in all the forms that it has.
type Result struct {
	// Main says that it is the value of the last expression, not a display.
	Main bool
	// Forms are JSON values by name: text, html, markdown, latex, javascript,
	// svg (texts), png, jpeg, pdf (base64), json, data, chart, and MIME types.
	Forms map[string]json.RawMessage
}

// Form is a form that is a text, or empty. A list of texts counts as their
// concatenation, as in notebooks.
func (r Result) Form(name string) string {
	var one string
	if json.Unmarshal(r.Forms[name], &one) == nil {
		return one
	}
	var several []string
	if json.Unmarshal(r.Forms[name], &several) == nil {
		return strings.Join(several, "")
	}
	return ""
}

// Names are those of all forms, sorted.
func (r Result) Names() []string { return slices.Sorted(maps.Keys(r.Forms)) }

// MarshalJSON writes a result as the code interpreter does.
func (r Result) MarshalJSON() ([]byte, error) {
	flat := make(map[string]any, len(r.Forms)+1)
	for k, v := range r.Forms {
		flat[k] = v
	}
	flat["is_main_result"] = r.Main
	return json.Marshal(flat)
}

// RunCode runs code in a kernel of the sandbox and tells h of its output until
// it has ended. When ctx ends first, the interpreter interrupts the code; what
// the context holds stays. That the code failed is in Execution, not in err.
func (g *Guest) RunCode(ctx context.Context, c Code, h CodeHandlers) (Execution, error) {
	in := struct {
		Code      string            `json:"code"`
		ContextID string            `json:"context_id,omitempty"`
		Language  string            `json:"language,omitempty"`
		Env       map[string]string `json:"env_vars,omitempty"`
	}{c.Code, c.ContextID, c.Language, c.Env}
	res, err := g.kernelCall(ctx, http.MethodPost, []string{"execute"}, in)
	if err != nil {
		return Execution{}, fmt.Errorf("run code: %w", err)
	}
	defer res.Body.Close()
	e, err := readExecution(res.Body, h)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return e, fmt.Errorf("run code: %w", err)
	}
	return e, nil
}

// readExecution reads the lines of an execution to their end.
func readExecution(r io.Reader, h CodeHandlers) (e Execution, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	ended := false
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var done bool
		if done, err = e.take(lines.Bytes(), h); err != nil {
			return e, err
		}
		ended = ended || done
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return e, fmt.Errorf("one output is larger than %d MiB", maxLine>>20)
	case err != nil && !ended:
		return e, fmt.Errorf("the connection broke: %w", err)
	case !ended:
		return e, fmt.Errorf("the connection broke before the code had ended: %w", io.ErrUnexpectedEOF)
	}
	return e, nil
}

// take reads one line; done says that it is the last.
func (e *Execution) take(line []byte, h CodeHandlers) (done bool, err error) {
	var l struct {
		Type  string `json:"type"`
		Text  string `json:"text"`
		Count int    `json:"execution_count"`
		CodeError
	}
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(line, &kind); err != nil {
		return false, fmt.Errorf("read output: %w", err)
	}
	if kind.Type == "result" {
		r, err := readResult(line)
		if err != nil || h.Result == nil {
			return false, err
		}
		return false, h.Result(r)
	}
	if err := json.Unmarshal(line, &l); err != nil {
		return false, fmt.Errorf("read output: %w", err)
	}
	switch l.Type {
	case "stdout":
		if h.Stdout != nil {
			err = h.Stdout(l.Text)
		}
	case "stderr":
		if h.Stderr != nil {
			err = h.Stderr(l.Text)
		}
	case "error":
		failed := l.CodeError
		e.Error = &failed
		if h.Error != nil {
			err = h.Error(failed)
		}
	case "number_of_executions":
		e.Count = l.Count
	case "end_of_execution":
		return true, nil
	}
	return false, err // lines of kinds that are new are passed over
}

// readResult takes a result's forms out of its line. They are copies, for the
// line is written over.
func readResult(line []byte) (Result, error) {
	r := Result{}
	if err := json.Unmarshal(line, &r.Forms); err != nil {
		return r, fmt.Errorf("read result: %w", err)
	}
	if err := json.Unmarshal(r.Forms["is_main_result"], &r.Main); err != nil && r.Forms["is_main_result"] != nil {
		return r, fmt.Errorf("read result: %w", err)
	}
	delete(r.Forms, "type")
	delete(r.Forms, "is_main_result")
	for k, v := range r.Forms {
		if len(v) == 0 || bytes.Equal(v, []byte("null")) {
			delete(r.Forms, k)
		}
	}
	return r, nil
}

// CodeContext is a kernel with what the code that ran in it left behind.
type CodeContext struct {
	ID       string `json:"id"`
	Language string `json:"language"`
	Cwd      string `json:"cwd"`
}

// NewCodeContext is what is asked of CreateCodeContext; empty fields take the
// interpreter's defaults.
type NewCodeContext struct {
	Language string            `json:"language,omitempty"`
	Cwd      string            `json:"cwd,omitempty"`
	Env      map[string]string `json:"env_vars,omitempty"`
}

// CreateCodeContext starts a kernel of its own and returns once it answers.
func (g *Guest) CreateCodeContext(ctx context.Context, n NewCodeContext) (CodeContext, error) {
	var c CodeContext
	err := g.kernelJSON(ctx, http.MethodPost, []string{"contexts"}, n, &c)
	if err == nil && c.ID == "" {
		err = errors.New("the answer names no context")
	}
	return c, doing("create context", err)
}

// CodeContexts lists the contexts, oldest first.
func (g *Guest) CodeContexts(ctx context.Context) ([]CodeContext, error) {
	var all []CodeContext
	err := g.kernelJSON(ctx, http.MethodGet, []string{"contexts"}, nil, &all)
	return all, doing("list contexts", err)
}

// RestartCodeContext gives a context a new kernel; its variables are gone.
func (g *Guest) RestartCodeContext(ctx context.Context, id string) error {
	return doing("restart context", g.kernelJSON(ctx, http.MethodPost, []string{"contexts", id, "restart"}, nil, nil))
}

// RemoveCodeContext ends a context's kernel and forgets it.
func (g *Guest) RemoveCodeContext(ctx context.Context, id string) error {
	return doing("remove context", g.kernelJSON(ctx, http.MethodDelete, []string{"contexts", id}, nil, nil))
}

func doing(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// kernelJSON makes a request to the code interpreter and reads its answer into
// out unless that is nil.
func (g *Guest) kernelJSON(ctx context.Context, method string, path []string, in, out any) error {
	res, err := g.kernelCall(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body := io.LimitReader(res.Body, maxContexts)
	if out == nil {
		_, err = io.Copy(io.Discard, body) // so that the connection can be used again
		return err
	}
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return nil
}

// kernelCall makes a request to the code interpreter. The caller closes the body.
func (g *Guest) kernelCall(ctx context.Context, method string, path []string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	u := *g.base
	u.RawPath, u.Path = joinPath(g.base.EscapedPath(), path), g.base.Path+"/"+strings.Join(path, "/")
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := g.kernel.Do(req)
	if err != nil {
		err = unreachable(g.base, err)
		// The edge's words for a port that nobody listens on.
		if Status(err) == http.StatusBadGateway && strings.Contains(err.Error(), "port is not open") {
			return nil, ErrNoInterpreter
		}
		return nil, err
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		defer res.Body.Close()
		return nil, readError(res)
	}
	return res, nil
}
