package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/client/doortest"
)

// cli is the command line with an environment of its own.
type cli struct {
	env map[string]string
	in  string
}

// result is what one command left behind.
type result struct {
	out, err string
	code     int
}

func (c cli) run(args ...string) result {
	var out, errw bytes.Buffer
	code := run(args, strings.NewReader(c.in), &out, &errw, func(k string) string { return c.env[k] })
	return result{out.String(), errw.String(), code}
}

// at is a command line that the environment points at a door.
func at(t *testing.T, d *doortest.Door) cli {
	return cli{env: map[string]string{
		"E2B_API_URL": d.URL, "E2B_API_KEY": doortest.APIKey,
		"ATOLL_DATA": t.TempDir(),
	}}
}

func TestWhereToConnect(t *testing.T) {
	dir := t.TempDir()
	file := credentials{APIKey: "e2b_file", APIURL: "http://file:1", SandboxURL: "http://file:2"}
	if err := writeCredentials(dir, file); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, credentialsName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
	for name, tc := range map[string]struct {
		flags app
		env   map[string]string
		want  credentials
		fails string
	}{
		"file alone":         {want: file},
		"environment alone":  {env: map[string]string{"E2B_API_URL": "http://env/", "E2B_API_KEY": "e2b_env", "E2B_SANDBOX_URL": "http://envs"}, want: credentials{APIKey: "e2b_env", APIURL: "http://env", SandboxURL: "http://envs"}},
		"flags before all":   {flags: app{apiURL: "http://flag", apiKey: "e2b_flag"}, env: map[string]string{"E2B_API_URL": "http://env", "E2B_API_KEY": "e2b_env", "E2B_SANDBOX_URL": "http://envs"}, want: credentials{APIKey: "e2b_flag", APIURL: "http://flag"}},
		"other key":          {env: map[string]string{"E2B_API_KEY": "e2b_env"}, want: credentials{APIKey: "e2b_env", APIURL: "http://file:1", SandboxURL: "http://file:2"}},
		"same address":       {env: map[string]string{"E2B_API_URL": "http://file:1/"}, want: file},
		"no key for address": {env: map[string]string{"E2B_API_URL": "http://other"}, fails: "no API key for http://other"},
		"no file":            {flags: app{data: "/nowhere"}, fails: "there is no /nowhere/credentials.json"},
	} {
		a := tc.flags
		a.env = func(k string) string { return tc.env[k] }
		if a.data == "" {
			a.data = dir
		}
		got, err := a.target()
		if tc.fails != "" {
			if err == nil || !strings.Contains(err.Error(), tc.fails) {
				t.Errorf("%s: got %v", name, err)
			}
			continue
		}
		if err != nil || got != tc.want {
			t.Errorf("%s: got %+v, %v; want %+v", name, got, err, tc.want)
		}
	}
}

func TestEnvPrintsWhatAShellReads(t *testing.T) {
	dir := t.TempDir()
	if err := writeCredentials(dir, credentials{APIKey: "e2b_1", APIURL: "http://127.0.0.1:3000", SandboxURL: "http://it's:1"}); err != nil {
		t.Fatal(err)
	}
	got := cli{}.run("env", "--data", dir)
	want := "export E2B_API_KEY=e2b_1\nexport E2B_API_URL=http://127.0.0.1:3000\nexport E2B_SANDBOX_URL='http://it'\\''s:1'\n" +
		"export SPRITE_TOKEN=e2b_1\nexport SPRITES_API_URL=http://127.0.0.1:3000\n"
	if got.out != want || got.code != 0 {
		t.Errorf("%+v", got)
	}
}

func TestNothingToTalkToSaysWhatToDo(t *testing.T) {
	got := cli{}.run("ls", "--data", "/nowhere")
	if got.code != 1 || !strings.HasPrefix(got.err, "atoll: found no Atoll") || !strings.Contains(got.err, "\nhint: start one with \"atoll up\"") {
		t.Errorf("%+v", got)
	}
}

func TestWrongUse(t *testing.T) {
	c := at(t, doortest.New(t, ""))
	for _, args := range [][]string{
		{"nonsense"}, {"ls", "extra"}, {"ls", "--nonsense"}, {"exec", "i1"}, {"exec", "i1", "--"}, {"run"}, {"run", "-e", "=x", "--", "true"},
		{"kill"}, {"kill", "--all", "i1"}, {"cp", "a", "b"}, {"cp", "i1:a", "i2:b"}, {"cp", "a"}, {"shell", "i1"}, {"shell"},
		{"logs"}, {"create", "--metadata", "x"}, {"keys", "create"}, {"create", "--timeout", "soon"},
	} {
		if got := c.run(args...); got.code != codeUsage || !strings.HasPrefix(got.err, "atoll: ") || got.out != "" {
			t.Errorf("%v: %+v", args, got)
		}
	}
}

func TestSandboxesFromCreateToKill(t *testing.T) {
	d := doortest.New(t, "")
	c := at(t, d)
	c.env["SECRET"] = "s3"
	got := c.run("create", "--timeout", "90s", "--metadata", "a=b=c", "-e", "K=V", "-e", "SECRET", "--no-internet")
	id := strings.TrimSpace(got.out)
	if got.code != 0 || id != d.IDs()[0] {
		t.Fatalf("create: %+v", got)
	}
	n := d.Created()[0]
	if *n.Timeout != 90 || !n.Secure || *n.AllowInternetAccess || n.Metadata["a"] != "b=c" || n.EnvVars["K"] != "V" || n.EnvVars["SECRET"] != "s3" {
		t.Errorf("asked for %+v", n)
	}
	d.Add(client.Sandbox{SandboxID: "j1"})
	d.Add(client.Sandbox{SandboxID: "j2"})
	if got := c.run("ls", "-q", "--metadata", "a=b=c"); got.out != id+"\n" {
		t.Errorf("ls -q: %+v", got)
	}
	var listed []client.Sandbox
	if got := c.run("ls", "--json"); json.Unmarshal([]byte(got.out), &listed) != nil || len(listed) != 3 {
		t.Errorf("ls --json: %+v", got)
	}
	if got := c.run("kill", "j"); got.code != 1 || !strings.Contains(got.err, "2 sandboxes begin with \"j\"") {
		t.Errorf("kill of an unclear id: %+v", got)
	}
	if got := c.run("kill", "j1", "nobody"); got.code != 1 || len(d.IDs()) != 3 {
		t.Errorf("kill with one wrong id: %+v, left %v", got, d.IDs())
	}
	if got := c.run("kill", id[:3]); got.out != id+"\n" || got.code != 0 {
		t.Errorf("kill: %+v", got)
	}
	if got := c.run("kill", "--all"); got.code != 0 || len(d.IDs()) != 0 {
		t.Errorf("kill --all: %+v", got)
	}
	if got := c.run("ls", "--json"); got.out != "[]\n" {
		t.Errorf("ls --json of none: %+v", got)
	}
}

func TestKeysAndTemplates(t *testing.T) {
	c := at(t, doortest.New(t, ""))
	if got := c.run("keys", "create", "ci"); got.out != doortest.APIKey+"\n" || got.code != 0 {
		t.Errorf("create: %+v", got)
	}
	if got := c.run("keys", "list"); !strings.Contains(got.out, "e2b_01...cdef") {
		t.Errorf("list: %+v", got)
	}
	if got := c.run("keys", "delete", "other"); got.code != 1 || !strings.Contains(got.err, "hint: ") {
		t.Errorf("delete: %+v", got)
	}
	if got := c.run("templates"); !strings.Contains(got.out, "base") || !strings.Contains(got.out, "512 MiB") {
		t.Errorf("templates: %+v", got)
	}
	c.env["E2B_API_KEY"] = "e2b_other"
	if got := c.run("keys", "list"); got.code != 1 || !strings.Contains(got.err, "Invalid API key") {
		t.Errorf("list with a wrong key: %+v", got)
	}
}

func TestLogs(t *testing.T) {
	d := doortest.New(t, "")
	d.Add(client.Sandbox{SandboxID: "i1"})
	d.Log("i1", client.LogEntry{Timestamp: time.Unix(1700000000, 0), Level: "warn", Message: "evil \x1b[31m\nline", Fields: map[string]string{"k": "v"}})
	c := at(t, d)
	got := c.run("logs", "i")
	if got.code != 0 || strings.ContainsRune(got.out, 0x1b) || !strings.Contains(got.out, "WARN  evil ·[31m  k=v\n") || !strings.Contains(got.out, "WARN  line  k=v\n") {
		t.Errorf("%+v", got)
	}
	if got := c.run("logs", "--json", "i1"); strings.Count(got.out, "\n") != 1 || !json.Valid([]byte(got.out)) {
		t.Errorf("--json: %+v", got)
	}
}

func TestRunFailsWith125WhenAtollDoes(t *testing.T) {
	d := doortest.New(t, "")
	c := at(t, d)
	if got := c.run("run", "--", "true"); got.code != codeOurs || !strings.HasPrefix(got.err, "atoll: ") {
		t.Errorf("%+v", got)
	}
	if len(d.IDs()) != 0 {
		t.Errorf("left behind: %v", d.IDs())
	}
	if got := c.run("exec", "nobody", "--", "true"); got.code != codeOurs || !strings.Contains(got.err, "there is no sandbox \"nobody\"") {
		t.Errorf("%+v", got)
	}
	if got := c.run("run", "--template", "none", "--", "true"); got.code != codeOurs || !strings.Contains(got.err, "template 'none' not found") {
		t.Errorf("%+v", got)
	}
}

func TestTablesFitTheTerminal(t *testing.T) {
	cols := []column{{title: "ID"}, {title: "NAME", min: 5}, {title: "LAST", min: 6}}
	widths := []int{10, 40, 60}
	fit(cols, widths, 60)
	if sum := widths[0] + widths[1] + widths[2] + 2*gap; sum != 60 || widths[0] != 10 {
		t.Errorf("widths %v take %d", widths, sum)
	}
	fit(cols, widths, 10)
	if fmt.Sprint(widths) != "[10 5 6]" {
		t.Errorf("on a terminal that is too narrow: %v", widths)
	}
	few, rows := narrowed([]column{{title: "ID"}, {title: "A", drop: 1}, {title: "B", drop: 2}}, [][]string{{"12345", "abc", "defg"}}, 11)
	if len(few) != 2 || few[1].title != "A" || fmt.Sprint(rows) != "[[12345 abc]]" {
		t.Errorf("left are %v %v", few, rows)
	}
	for in, want := range map[string]string{"short": "short", "exactly10!": "exactly10!", "longer than ten": "longer th…"} {
		if got := cut(in, 10); got != want {
			t.Errorf("cut(%q) = %q", in, got)
		}
	}
}

func TestTextForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 512 << 20: "512 MiB", 1 << 30: "1.0 GiB", 1000 << 20: "1.0 GiB", 3 << 40: "3.0 TiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("bytesText(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{1500 * time.Microsecond: "1.5 ms", 59 * time.Second: "59s", 200 * time.Second: "3m 20s", 90 * time.Minute: "1h 30m", 50 * time.Hour: "2d 2h"} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}

// Every command tells what it is for and shows how it is used.
func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "completion" || c.Name() == "exit-codes" {
			return
		}
		if c.Short == "" || c.Example == "" {
			t.Errorf("%s lacks a description or examples", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(&app{env: func(string) string { return "" }}))
}

func TestCompletionAndVersion(t *testing.T) {
	if got := (cli{}).run("completion", "bash"); got.code != 0 || !strings.Contains(got.out, "atoll") {
		t.Error("no completion for bash")
	}
	if got := (cli{}).run("version"); got.code != 0 || !strings.HasPrefix(got.out, "atoll ") {
		t.Errorf("%+v", got)
	}
}
