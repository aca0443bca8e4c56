package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
)

const (
	// interpreterTemplate has the kernels that code runs in.
	interpreterTemplate = "code-interpreter-v1"
	// maxCode bounds code from standard input, in bytes; the interpreter takes
	// no more.
	maxCode = 32 << 20
	// maxSaved bounds how many pictures of one execution are saved.
	maxSaved = 100
	// maxKept bounds what --json holds in memory, in bytes.
	maxKept = 256 << 20
)

// codeFlags are what "atoll run --code" adds to "atoll run".
type codeFlags struct {
	code     string
	language string
	save     string
	asJSON   bool

	given, saveGiven bool
}

func (c *codeFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.code, "code", "", "run this code in a kernel, not a program; - reads it from standard input")
	f.StringVar(&c.language, "language", "", "language of --code (default python)")
	f.StringVar(&c.save, "save", ".", "folder to save the pictures in that --code shows")
	f.BoolVar(&c.asJSON, "json", false, "print what --code did as JSON for programs")
}

// check refuses flags that go with the other kind of run, and reads the code.
func (c *codeFlags) check(a *app, cmd *cobra.Command, words []string) error {
	f := cmd.Flags()
	c.given, c.saveGiven = f.Changed("code"), f.Changed("save")
	if !c.given {
		for _, name := range []string{"language", "save", "json"} {
			if f.Changed(name) {
				return usage("--%s is for --code", name)
			}
		}
		return nil
	}
	if len(words) > 0 {
		return usage("--code takes no program, and there is %q", words[0])
	}
	for _, name := range []string{"tty", "user"} {
		if f.Changed(name) {
			return usage("--%s is for programs, not for --code", name)
		}
	}
	if c.code == "-" {
		var err error
		if c.code, err = readCode(a.in); err != nil {
			return err
		}
	}
	return nil
}

// readCode reads code from standard input.
func readCode(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxCode+1))
	if err != nil {
		return "", fmt.Errorf("read code: %w", err)
	}
	if len(b) > maxCode {
		return "", usage("the code is larger than %s", bytesText(maxCode))
	}
	return string(b), nil
}

// runCode runs code in a sandbox and returns the exit code.
func (r *runner) runCode(ctx context.Context, g *client.Guest, code client.Code) (int, error) {
	if r.program.dir != "" {
		c, err := g.CreateCodeContext(ctx, client.NewCodeContext{Language: code.Language, Cwd: r.program.dir})
		if err != nil {
			return 0, err
		}
		code.Language, code.ContextID = "", c.ID
	}
	s := &show{a: r.a, dir: r.codes.save}
	var e client.Execution
	var err error
	if r.codes.asJSON {
		if !r.codes.saveGiven {
			s.dir = ""
		}
		e, err = r.a.executionJSON(ctx, g, code, s)
	} else {
		e, err = g.RunCode(ctx, code, s.handlers())
	}
	switch {
	case errors.Is(err, context.Canceled):
		return codeSignal + 2, nil // as a program that Ctrl-C ended
	case err != nil:
		return 0, err
	case e.Error != nil:
		return codeFailed, nil
	}
	return 0, nil
}

// executionJSON runs code and prints all of what it did as one document.
func (a *app) executionJSON(ctx context.Context, g *client.Guest, code client.Code, s *show) (client.Execution, error) {
	type logs struct {
		Stdout []string `json:"stdout"`
		Stderr []string `json:"stderr"`
	}
	all := struct {
		Results []client.Result   `json:"results"`
		Logs    logs              `json:"logs"`
		Error   *client.CodeError `json:"error,omitempty"`
		Count   int               `json:"execution_count,omitempty"`
	}{[]client.Result{}, logs{[]string{}, []string{}}, nil, 0}
	left := maxKept
	take := func(n int) error {
		if left -= n; left < 0 {
			return fmt.Errorf("the output is larger than %s, more than --json holds", bytesText(maxKept))
		}
		return nil
	}
	e, err := g.RunCode(ctx, code, client.CodeHandlers{
		Stdout: func(t string) error { all.Logs.Stdout = append(all.Logs.Stdout, t); return take(len(t)) },
		Stderr: func(t string) error { all.Logs.Stderr = append(all.Logs.Stderr, t); return take(len(t)) },
		Result: func(r client.Result) error {
			all.Results = append(all.Results, r)
			for _, form := range r.Forms {
				if err := take(len(form)); err != nil {
					return err
				}
			}
			if s.dir == "" {
				return nil
			}
			_, err := s.pictures(r)
			return err
		},
	})
	if err != nil {
		return e, err
	}
	all.Error, all.Count = e.Error, e.Count
	return e, a.printJSON(all)
}

// show puts what code does before a person: text on the app's streams, pictures
// into files of a folder.
type show struct {
	a     *app
	dir   string
	saved int
	// number is that of the last file.
	number int
	// open says that the last thing written ended within a line.
	open bool
}

func (s *show) handlers() client.CodeHandlers {
	return client.CodeHandlers{
		Stdout: func(t string) error { return s.write(s.a.out, t) },
		Stderr: func(t string) error { return s.write(s.a.err, t) },
		Result: s.result,
		Error: func(e client.CodeError) error {
			text := e.Traceback
			if text == "" {
				text = e.Name + ": " + e.Value
			}
			return s.line(s.a.err, text)
		},
	}
}

func (s *show) write(w io.Writer, text string) error {
	if text == "" {
		return nil
	}
	s.open = !strings.HasSuffix(text, "\n")
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// line writes text on lines of its own.
func (s *show) line(w io.Writer, text string) error {
	if s.open {
		text = "\n" + text
	}
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return s.write(w, text)
}

// result writes a result as text, and saves it where it is a picture.
func (s *show) result(r client.Result) error {
	saved, err := s.pictures(r)
	if err != nil || saved {
		return err
	}
	for _, name := range []string{"text", "markdown", "latex", "json", "html", "javascript"} {
		text := r.Form(name)
		if text == "" && name == "json" {
			text = string(r.Forms[name])
		}
		if text != "" {
			return s.line(s.a.out, text)
		}
	}
	if names := r.Names(); len(names) > 0 {
		s.a.note("a result that is no text: %s", strings.Join(names, ", "))
	}
	return nil
}

// pictureForms are the forms that are saved, with whether they are base64.
var pictureForms = []struct {
	name   string
	base64 bool
}{{"png", true}, {"jpeg", true}, {"svg", false}, {"pdf", true}}

// pictures saves every picture among a result's forms and says where.
func (s *show) pictures(r client.Result) (saved bool, err error) {
	for _, form := range pictureForms {
		value := r.Form(form.name)
		if value == "" {
			continue
		}
		saved = true
		if s.saved++; s.saved > maxSaved {
			if s.saved == maxSaved+1 {
				s.a.note("more than %d pictures; the others are not saved", maxSaved)
			}
			continue
		}
		content := []byte(value)
		if form.base64 {
			// Notebooks break the lines of what they encode.
			content, err = base64.StdEncoding.DecodeString(strings.ReplaceAll(value, "\n", ""))
			if err != nil {
				return saved, fmt.Errorf("read the %s of a result: %w", form.name, err)
			}
		}
		path, err := s.file(form.name, content)
		if err != nil {
			return saved, fmt.Errorf("save picture: %w", err)
		}
		s.a.note("saved %s (%s)", path, bytesText(int64(len(content))))
	}
	return saved, nil
}

// file writes a new file, with the first number that is free: nothing that is
// there already is written over.
func (s *show) file(ext string, content []byte) (string, error) {
	if err := os.MkdirAll(s.dir, 0o777); err != nil {
		return "", err
	}
	for s.number++; ; s.number++ {
		path := filepath.Join(s.dir, fmt.Sprintf("result-%d.%s", s.number, ext))
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		_, err = f.Write(content)
		return path, errors.Join(err, f.Close())
	}
}
