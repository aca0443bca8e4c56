package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

const (
	// maxDefinition bounds a definition, in bytes of JSON.
	maxDefinition = 1 << 20
	// maxServices bounds how many services there are.
	maxServices = 256
	// maxNeeds bounds how many others a service needs itself.
	maxNeeds = 64
	// maxName is what file systems leave of a name's 255 bytes, and more than
	// anybody types.
	maxName = 100
)

// Definition is what a service runs, as clients give it.
type Definition struct {
	// Cmd is a program: a path, or a name in PATH.
	Cmd string `json:"cmd"`
	// Args follow it.
	Args []string `json:"args"`
	// Env are variables in addition to the machine's.
	Env map[string]string `json:"env"`
	// Dir is where it starts; empty for the user's home.
	Dir string `json:"dir"`
	// Needs are the services that must run before it.
	Needs []string `json:"needs"`
	// HTTPPort is the port that requests to the machine's URL go to; nil for a
	// service that is not meant by them.
	HTTPPort *int `json:"http_port"`
}

// record is a service as it is kept on the disk.
type record struct {
	Definition
	// Stopped is set while a client wants it stopped.
	Stopped bool `json:"stopped,omitempty"`
}

// errBad is reported for requests that cannot be meant; the text beside it says
// why.
var errBad = errors.New("")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w"+format, append([]any{errBad}, args...)...)
}

// parseDefinition reads and checks a client's definition. Arrays and maps of
// the result are never nil.
func parseDefinition(data []byte) (Definition, error) {
	var d Definition
	if err := decode(data, &d); err != nil {
		return d, err
	}
	d.fill()
	return d, d.check()
}

// parseRecord reads and checks a definition from the disk.
func parseRecord(data []byte) (record, error) {
	var r record
	if err := decode(data, &r); err != nil {
		return r, err
	}
	r.fill()
	return r, r.check()
}

// decode reads one JSON value and nothing behind it.
func decode(data []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(to); err != nil {
		return bad("decode the definition: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return bad("decode the definition: there is more behind its end")
	}
	return nil
}

func (d *Definition) fill() {
	if d.Args == nil {
		d.Args = []string{}
	}
	if d.Needs == nil {
		d.Needs = []string{}
	}
	if d.Env == nil {
		d.Env = map[string]string{}
	}
	if d.HTTPPort != nil && *d.HTTPPort == 0 {
		d.HTTPPort = nil
	}
}

func (d *Definition) check() error {
	if strings.TrimSpace(d.Cmd) == "" {
		return bad("cmd is required: the program that the service runs")
	}
	for _, text := range append([]string{d.Cmd, d.Dir}, d.Args...) {
		if strings.ContainsRune(text, 0) {
			return bad("cmd, args and dir may not hold NUL bytes")
		}
	}
	for key, value := range d.Env {
		if key == "" || strings.ContainsAny(key, "=\x00") || strings.ContainsRune(value, 0) {
			return bad("environment variable %q: names may not be empty or hold '=' or NUL, values may not hold NUL", bounded(key))
		}
	}
	if len(d.Needs) > maxNeeds {
		return bad("a service may need at most %d others", maxNeeds)
	}
	for _, need := range d.Needs {
		if err := checkName(need); err != nil {
			return fmt.Errorf("needs: %w", err)
		}
	}
	if d.HTTPPort != nil && (*d.HTTPPort < 1 || *d.HTTPPort > 65535) {
		return bad("http_port: want a number from 1 to 65535")
	}
	return nil
}

// sameProgram reports whether a process of one definition is as good as one of
// the other.
func (d *Definition) sameProgram(o *Definition) bool {
	return d.Cmd == o.Cmd && d.Dir == o.Dir && slices.Equal(d.Args, o.Args) && maps.Equal(d.Env, o.Env)
}

// checkName admits names that are a file's too, and need no escaping in URLs.
func checkName(name string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	if name == "" || len(name) > maxName || !strings.Contains(letters, name[:1]) || strings.Trim(name, letters+"-_.") != "" {
		return bad("service name %q: use at most %d letters, digits, '-', '_' and '.', the first a letter or digit", bounded(name), maxName)
	}
	if strings.HasSuffix(name, "."+stdout) || strings.HasSuffix(name, "."+stderr) {
		return bad("service name %q: the ends .%s and .%s are those of log files", name, stdout, stderr)
	}
	return nil
}
