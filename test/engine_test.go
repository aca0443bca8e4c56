package test

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/atoll-cloud/atoll/bundle"
	"github.com/atoll-cloud/atoll/machine"
	"github.com/atoll-cloud/atoll/store"
	"github.com/atoll-cloud/atoll/wire"
	"github.com/atoll-cloud/atoll/wire/process"
	"github.com/atoll-cloud/atoll/wire/process/processconnect"
)

// engine is an engine without a door, on a folder of the tests' data directory.
type engine struct {
	*machine.Engine
	records *store.Store
}

// engineDir is where the engines of all tests keep what they have.
func engineDir() string { return filepath.Join(dataDir, "engine") }

// openEngine opens an engine. Its templates are made as those of servers are.
func openEngine(ctx context.Context, change func(*machine.Config)) (*engine, error) {
	data := engineDir()
	lib := filepath.Join(data, "lib")
	if err := os.MkdirAll(lib, 0o755); err != nil {
		return nil, err
	}
	name, err := os.ReadFile(filepath.Join(data, "instance"))
	if err != nil {
		name = fmt.Appendf(nil, "te%04x", time.Now().UnixNano()>>10&0xffff)
		if err := os.WriteFile(filepath.Join(data, "instance"), name, 0o600); err != nil {
			return nil, err
		}
	}
	bin, err := bundle.Extract(lib)
	if err != nil {
		return nil, err
	}
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelInfo
	}
	config := machine.Config{
		DataDir: data, RunDir: "/run/atoll-" + string(name), Instance: string(name), LibDir: lib, Bundle: filepath.Base(bin),
		MaxTimeout: time.Hour, Templates: []string{"base"}, MemoryReserve: -1,
		DiskPoolBytes: 4 << 30, // so that a test can fill it
		Logger:        slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
	}
	if change != nil {
		change(&config)
	}
	e := &engine{}
	if e.records, err = store.Open(ctx, store.Config{Dir: filepath.Join(data, "records"), Logger: config.Logger}); err != nil {
		return nil, err
	}
	if e.Engine, err = machine.Open(ctx, config, e.records, nil); err != nil {
		e.records.Close()
		return nil, err
	}
	return e, nil
}

func (e *engine) close(end bool) error {
	err := e.Close(end)
	e.records.Close()
	return err
}

// useEngine opens an engine for a test, which ends it with all its machines.
func useEngine(t testing.TB, change func(*machine.Config)) *engine {
	t.Helper()
	e, err := openEngine(t.Context(), change)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.clear(t)
		if err := e.close(true); err != nil {
			t.Error(err)
		}
	})
	e.clear(t)
	return e
}

// clear ends all machines.
func (e *engine) clear(t testing.TB) {
	for _, m := range e.List("") {
		if err := e.Kill(context.Background(), m.ID, machine.ReasonKilled); err != nil {
			t.Error(err)
		}
	}
}

// reopen ends the engine as a stopped server does, and starts the next.
func (e *engine) reopen(t testing.TB, change func(*machine.Config), end bool) {
	t.Helper()
	if err := e.close(end); err != nil {
		t.Fatal(err)
	}
	next, err := openEngine(context.Background(), change)
	if err != nil {
		t.Fatal(err)
	}
	*e = *next
}

// sprite is what a sprite's door asks for, on the base template: the engine's
// part needs nothing of the sprite's own.
func sprite(name string) machine.CreateSpec {
	return machine.CreateSpec{
		Team: "team", Kind: machine.KindSprite, Name: name, Host: name, Template: "base",
		Lifecycle: machine.Lifecycle{Lasting: true, Idle: &machine.IdlePolicy{IgnoreCPU: true}},
	}
}

func (e *engine) create(t testing.TB, spec machine.CreateSpec) machine.Machine {
	t.Helper()
	m, err := e.Create(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// sh runs a shell script as root, in a machine that it wakes for that.
func (e *engine) sh(ctx context.Context, id, script string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	leave, err := e.Enter(ctx, id)
	if err != nil {
		return "", err
	}
	defer leave()
	ctx, sever := context.WithCancel(ctx)
	defer sever()
	severed := e.Severed(id)
	go func() {
		select {
		case <-severed: // by the machine's end, as the edge does
			sever()
		case <-ctx.Done():
		}
	}()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return e.Dial(ctx, id, wire.GuestPort)
	}}
	guest := processconnect.NewProcessClient(&http.Client{Transport: transport}, "http://guest")
	ask := connect.NewRequest(&process.StartRequest{Process: &process.ProcessConfig{Cmd: "/bin/bash", Args: []string{"-c", script}, Cwd: new("/root")}})
	ask.Header().Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("root:")))
	stream, err := guest.Start(ctx, ask)
	if err != nil {
		return "", err
	}
	defer stream.Close()
	var out, problems strings.Builder
	for stream.Receive() {
		out.Write(stream.Msg().GetEvent().GetData().GetStdout())
		problems.Write(stream.Msg().GetEvent().GetData().GetStderr())
		if end := stream.Msg().GetEvent().GetEnd(); end != nil && end.ExitCode != 0 {
			return out.String(), fmt.Errorf("exit code %d: %s", end.ExitCode, problems.String())
		}
	}
	return strings.TrimSpace(out.String()), stream.Err()
}

func (e *engine) must(t testing.TB, id, script string) string {
	t.Helper()
	out, err := e.sh(t.Context(), id, script)
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return out
}
