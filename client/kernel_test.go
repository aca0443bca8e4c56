package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/client/doortest"
)

// interpreter is a guest with the fake code interpreter.
func interpreter(t *testing.T) (*client.Guest, *doortest.Kernel) {
	d := doortest.New(t, "")
	k := doortest.NewKernel()
	d.Kernel = k
	d.Add(client.Sandbox{SandboxID: "box", EnvdAccessToken: doortest.GuestToken})
	return d.Client(t).Guest(client.Sandbox{SandboxID: "box", EnvdAccessToken: doortest.GuestToken}), k
}

func TestCodeTellsOfItsOutputInOrder(t *testing.T) {
	g, k := interpreter(t)
	var told []string
	note := func(kind string) func(string) error {
		return func(s string) error { told = append(told, kind+s); return nil }
	}
	code := "out a\nerr b\nraw {\"type\":\"news\"}\nraw\nshow\ntext 42\nraise c\nout never"
	e, err := g.RunCode(t.Context(), client.Code{Code: code, Language: "r", Env: map[string]string{"A": "1"}}, client.CodeHandlers{
		Stdout: note("out "), Stderr: note("err "),
		Result: func(r client.Result) error {
			b, err := json.Marshal(r)
			if r.Main {
				return note("main ")(r.Form("text"))
			}
			return errors.Join(err, note("shown ")(strings.Join(r.Names(), ",")+string(b)))
		},
		Error: func(e client.CodeError) error { return note("error ")(e.Name + e.Value) },
	})
	want := []string{"out a\n", "err b\n",
		`shown chart,png,svg,text{"chart":{"type":"line"},"is_main_result":false,"png":"` + doortest.Picture + `","svg":"\u003csvg/\u003e","text":"\u003cFigure\u003e"}`,
		"main 42", "error Oopsc"}
	if err != nil || !slices.Equal(told, want) {
		t.Errorf("told of %q, %v", told, err)
	}
	if e.Count != 1 || e.Error == nil || e.Error.Traceback != "Traceback:\nOops: c" {
		t.Errorf("%+v, %+v", e, e.Error)
	}
	if ran := k.Ran(); ran[0].Language != "r" || ran[0].Env["A"] != "1" {
		t.Errorf("%+v", ran)
	}
}

func TestCodeIsInterruptedWithItsContext(t *testing.T) {
	g, k := interpreter(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-k.Waiting; cancel() }()
	if _, err := g.RunCode(ctx, client.Code{Code: "out a\nwait"}, client.CodeHandlers{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	select {
	case <-k.Interrupted:
	case <-time.After(20 * time.Second):
		t.Error("the interpreter did not notice that its client has gone")
	}
}

func TestCodeFailsClearly(t *testing.T) {
	g, _ := interpreter(t)
	stop := errors.New("enough")
	for _, tc := range []struct {
		code client.Code
		want string
	}{
		{client.Code{Code: "1", Language: "cobol"}, `no kernel for the language "cobol"`},
		{client.Code{Code: "1", ContextID: "../x"}, "no such context"},
		{client.Code{Code: "out a\ncut"}, "the connection broke"},
		{client.Code{Code: "raw nonsense"}, "read output"},
		{client.Code{Code: "raw {\"type\":\"result\",\"is_main_result\":3}"}, "read result"},
		{client.Code{Code: "out stop"}, "enough"},
	} {
		_, err := g.RunCode(t.Context(), tc.code, client.CodeHandlers{Stdout: func(s string) error {
			if s == "stop\n" {
				return stop
			}
			return nil
		}})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: got %v, want %q", tc.code, err, tc.want)
		}
	}
	c := doortest.New(t, "").Client(t)
	s, err := c.Create(t.Context(), client.NewSandbox{TemplateID: "base"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Guest(s).RunCode(t.Context(), client.Code{Code: "1"}, client.CodeHandlers{}); !errors.Is(err, client.ErrNoInterpreter) {
		t.Errorf("a sandbox without kernels: got %v", err)
	}
}

func TestCodeContexts(t *testing.T) {
	g, _ := interpreter(t)
	ctx := t.Context()
	c, err := g.CreateCodeContext(ctx, client.NewCodeContext{Language: "bash", Cwd: "/tmp"})
	if err != nil || c != (client.CodeContext{ID: "c1", Language: "bash", Cwd: "/tmp"}) {
		t.Fatalf("%+v, %v", c, err)
	}
	if all, err := g.CodeContexts(ctx); err != nil || len(all) != 1 || all[0] != c {
		t.Errorf("%+v, %v", all, err)
	}
	if err := g.RestartCodeContext(ctx, c.ID); err != nil {
		t.Error(err)
	}
	if err := g.RemoveCodeContext(ctx, c.ID); err != nil {
		t.Error(err)
	}
	if err := g.RemoveCodeContext(ctx, c.ID); !client.IsNotFound(err) {
		t.Errorf("removed twice: %v", err)
	}
	if err := g.RestartCodeContext(ctx, "a/b"); !client.IsNotFound(err) {
		t.Errorf("restart of what is not there: %v", err)
	}
}
