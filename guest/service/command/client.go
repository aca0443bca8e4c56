package command

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// maxAnswer bounds answers that are no streams, in bytes.
const maxAnswer = 16 << 20

// client asks the machine's own API.
type client struct {
	config Config
	http   *http.Client
}

func overSocket(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
}

// ask sends a request and returns an answer that is no refusal.
func (c *client) ask(method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(data)
	}
	r, err := http.NewRequest(method, "http://sprite"+path, content)
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask the sprite at %s (is this one?): %w", c.config.Socket, err)
	}
	if answer.StatusCode/100 == 2 {
		return answer, nil
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%s (%d)", strings.TrimSpace(string(text)), answer.StatusCode)
}

// read returns an answer that is no stream.
func (c *client) read(method, path string, body any) ([]byte, error) {
	answer, err := c.ask(method, path, body)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	return io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
}

// show prints an answer, JSON with indents.
func (c *client) show(method, path string, body any) error {
	data, err := c.read(method, path, body)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if json.Indent(&out, data, "", "  ") != nil {
		out = *bytes.NewBuffer(data)
	}
	if out.Len() > 0 && !bytes.HasSuffix(out.Bytes(), []byte("\n")) {
		out.WriteByte('\n')
	}
	_, err = out.WriteTo(c.config.Stdout)
	return err
}

// stream prints a stream's lines as they come, unless quiet, and fails if it
// tells of an error.
func (c *client) stream(method, path string, body any, quiet bool) error {
	answer, err := c.ask(method, path, body)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	lines := bufio.NewReader(answer.Body)
	var failed error
	for {
		line, err := lines.ReadBytes('\n')
		if !quiet {
			if _, err := c.config.Stdout.Write(line); err != nil {
				return err
			}
		}
		var event struct{ Type, Data, Error string }
		if json.Unmarshal(line, &event) == nil && event.Type == "error" {
			failed = errors.New(strings.TrimSpace(event.Data + " " + event.Error))
		}
		if errors.Is(err, io.EOF) {
			return failed
		}
		if err != nil {
			return fmt.Errorf("the stream broke off: %w", err)
		}
	}
}

// version prints the version of this sprite.
func (c *client) version() error {
	data, err := c.read("GET", "/info", nil)
	if err != nil {
		return err
	}
	var info struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(data, &info); err != nil {
		return fmt.Errorf("decode the answer: %w", err)
	}
	_, err = fmt.Fprintln(c.config.Stdout, info.Version)
	return err
}
