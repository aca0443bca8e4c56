package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/atoll-cloud/atoll/client"
)

// demoProgram is what the demo runs: a few lines that need a real Python and a
// place to write.
const demoProgram = `import platform, pathlib, math
pathlib.Path("note.txt").write_text("hello from inside\n")
print("Python", platform.python_version(), "on", platform.system(), platform.machine())
print("20! =", math.factorial(20))
print(pathlib.Path("note.txt").read_text(), end="")
`

// demo shows the main job on a running server: it makes a sandbox, runs a
// Python program in it, prints what that says and how long each step took, and
// ends with the lines that point E2B's SDKs here. env are the credentials to print.
func demo(ctx context.Context, out io.Writer, c *client.Client, env credentials) error {
	var t timing
	err := inDemoSandbox(ctx, c, &t, "", func(g *client.Guest) error { return demoSteps(ctx, &t, out, g) })
	if err == nil {
		// By now one is warm: this is how long those after the first take.
		err = inDemoSandbox(ctx, c, &t, " again", func(*client.Guest) error { return nil })
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nHow long it took:\n")
	for _, l := range t.lines() {
		fmt.Fprintf(out, "  %s\n", l)
	}
	fmt.Fprintf(out, "\nTo use this Atoll from the SDKs of E2B and Sprites, paste:\n\n")
	printExports(out, env)
	fmt.Fprintln(out)
	return nil
}

// inDemoSandbox does something in a sandbox of its own.
func inDemoSandbox(ctx context.Context, c *client.Client, t *timing, again string, do func(*client.Guest) error) error {
	var s client.Sandbox
	minute := 60
	err := t.measure("create sandbox"+again, func() (err error) {
		s, err = c.Create(ctx, client.NewSandbox{
			TemplateID: defaultTemplate, Timeout: &minute, Secure: true,
			Metadata: map[string]string{"made-by": "demo"},
		})
		return err
	})
	if err != nil {
		return createError(err)
	}
	err = do(c.Guest(s))
	clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeWithin)
	defer cancel()
	return errors.Join(err, t.measure("remove sandbox"+again, func() error { return c.Kill(clean, s.SandboxID) }))
}

func demoSteps(ctx context.Context, t *timing, out io.Writer, g *client.Guest) error {
	err := t.measure("write program", func() error {
		return g.Upload(ctx, "demo.py", strings.NewReader(demoProgram))
	})
	if err != nil {
		return err
	}
	var said []byte
	err = t.measure("run python3 demo.py", func() (err error) {
		said, err = g.Output(ctx, client.Command{Path: "python3", Args: []string{"demo.py"}}, 64<<10)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nA Python program in a fresh sandbox says:\n")
	for l := range strings.Lines(string(said)) {
		fmt.Fprintf(out, "  %s\n", printable(strings.TrimSuffix(l, "\n")))
	}
	// Once more, now that Python's files have been read.
	return t.measure("run echo", func() error {
		_, err := g.Output(ctx, client.Command{Path: "echo", Args: []string{"hi"}}, 64<<10)
		return err
	})
}
