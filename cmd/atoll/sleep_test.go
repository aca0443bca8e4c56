package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/creack/pty"

	"github.com/atoll-cloud/atoll/client"
	"github.com/atoll-cloud/atoll/client/doortest"
)

// states are the states of sandboxes by id, as ls tells them.
func states(t *testing.T, c cli, args ...string) map[string]string {
	t.Helper()
	got := c.run(append([]string{"ls", "--json"}, args...)...)
	var all []client.Sandbox
	if err := json.Unmarshal([]byte(got.out), &all); got.code != 0 || err != nil {
		t.Fatalf("ls %v: %+v, %v", args, got, err)
	}
	m := map[string]string{}
	for _, s := range all {
		m[s.SandboxID] = stateOf(s)
	}
	return m
}

func TestPauseAndResume(t *testing.T) {
	d := doortest.New(t, "")
	for _, id := range []string{"i1", "i2", "j1"} {
		d.Add(client.Sandbox{SandboxID: id, EndAt: time.Now().Add(time.Minute)})
	}
	c := at(t, d)
	if got := c.run("pause", "j", "i2"); got != (result{out: "j1\ni2\n"}) {
		t.Errorf("pause: %+v", got)
	}
	if got := c.run("pause", "j1"); got != (result{out: "j1\n"}) {
		t.Errorf("pause of a paused one: %+v", got)
	}
	if got := c.run("pause", "i1", "nobody"); got.code != 1 || !strings.Contains(got.err, "there is no sandbox \"nobody\"") {
		t.Errorf("pause with a wrong id: %+v", got)
	}
	if got := states(t, c, "--state", "paused"); len(got) != 2 || got["j1"] != "paused" {
		t.Errorf("paused are %v", got)
	}
	if got := states(t, c, "--state", "running"); len(got) != 1 || got["i1"] != "running" {
		t.Errorf("running are %v", got)
	}
	if got := c.run("resume", "--timeout", "2h", "j1"); got != (result{out: "j1\n"}) {
		t.Errorf("resume: %+v", got)
	}
	if s, err := d.Client(t).Get(t.Context(), "j1"); err != nil || s.State != client.StateRunning || time.Until(s.EndAt) < 119*time.Minute {
		t.Errorf("resumed it is %+v, %v", s, err)
	}
	if got := c.run("resume", "--reboot", "j1"); got.code != 1 || !strings.Contains(got.err, "resume j1: it runs") || !strings.Contains(got.err, "hint: \"atoll pause --disk-only\"") {
		t.Errorf("reboot of one that runs: %+v", got)
	}
	var resumed []client.Sandbox
	if got := c.run("resume", "--json", "i1", "i2"); json.Unmarshal([]byte(got.out), &resumed) != nil || len(resumed) != 2 || got.code != 0 {
		t.Errorf("resume --json: %+v", got)
	}
	if got := c.run("pause", "--json", "--disk-only", "i1"); got.out != "[\n  \"i1\"\n]\n" {
		t.Errorf("pause --json: %+v", got)
	}
	if s, err := d.Client(t).Get(t.Context(), "i1"); err != nil || s.MemoryStoredBytes != 0 {
		t.Errorf("paused without memory it is %+v, %v", s, err)
	}
}

func TestResumeOfDamagedMemorySaysWhatToDo(t *testing.T) {
	d := doortest.New(t, "")
	d.Add(client.Sandbox{SandboxID: "i1"})
	d.Damage("i1")
	c := at(t, d)
	c.run("pause", "i1")
	if got := c.run("resume", "i1"); got.code != 1 || !strings.Contains(got.err, "atoll: resume i1: the memory image of the sandbox is damaged") ||
		!strings.Contains(got.err, "hint: \"atoll resume --reboot i1\"") || got.out != "" {
		t.Errorf("%+v", got)
	}
	if got := c.run("resume", "--reboot", "i1"); got != (result{out: "i1\n"}) {
		t.Errorf("--reboot: %+v", got)
	}
}

func TestPausedSandboxesSayWhatWakesThem(t *testing.T) {
	d := doortest.New(t, "")
	d.Add(client.Sandbox{SandboxID: "box1", State: client.StatePaused})
	c := at(t, d)
	for code, args := range map[int][][]string{
		codeOurs:   {{"exec", "box", "--", "true"}},
		codeFailed: {{"cp", "box:/a", "-"}, {"fork", "box"}, {"snapshot", "create", "box"}},
	} {
		for _, args := range args {
			if got, want := c.run(args...), (result{"", "atoll: sandbox box1 is paused\nhint: \"atoll resume box1\" wakes it\n", code}); got != want {
				t.Errorf("%v: %+v", args, got)
			}
		}
	}
}

func TestUseWakesWhatMayWakeByUse(t *testing.T) {
	c, d := withGuest(t)
	d.Add(client.Sandbox{SandboxID: "auto1", EnvdAccessToken: doortest.GuestToken, Lifecycle: &client.Lifecycle{AutoResume: true, OnTimeout: "pause"}})
	if got := c.run("pause", "auto1"); got.code != 0 {
		t.Fatal(got)
	}
	if got := c.run("exec", "-u", "root", "auto1", "--", "echo", "awake"); got != (result{out: "awake\n"}) {
		t.Errorf("%+v", got)
	}
}

// A session must not wake a sandbox that somebody just put to sleep, nor a run
// remove it.
func TestSessionsEndWhenTheirSandboxIsPaused(t *testing.T) {
	c, d := withGuest(t)
	for _, args := range [][]string{
		{"exec", "-u", "root", "box1", "--", "sh", "-c", "echo ready; sleep 30"},
		{"run", "-u", "root", "--", "sh", "-c", "echo ready; sleep 30"},
	} {
		r, w := io.Pipe()
		done := make(chan result, 1)
		go func() {
			var errw bytes.Buffer
			code := run(args, strings.NewReader(""), w, &errw, func(k string) string { return c.env[k] })
			done <- result{err: errw.String(), code: code}
		}()
		if _, err := io.ReadFull(r, make([]byte, len("ready\n"))); err != nil {
			t.Fatal(err)
		}
		ids := d.IDs()
		id := ids[len(ids)-1]
		if err := d.Client(t).Pause(t.Context(), id, true); err != nil {
			t.Fatal(err)
		}
		d.Break()
		want := result{err: "atoll: sandbox " + id + " is paused\nhint: \"atoll resume " + id + "\" wakes it\n", code: codeOurs}
		if got := <-done; got != want {
			t.Errorf("%v: %+v", args, got)
		}
		if left := d.IDs(); len(left) != len(ids) {
			t.Errorf("%v: left are %v", args, left)
		}
	}
}

func TestFork(t *testing.T) {
	c, d := withGuest(t)
	got := c.run("fork", "-n", "2", "--timeout", "1h", "box")
	lines := strings.Split(strings.TrimSpace(got.out), "\n")
	if got.code != 0 || len(lines) != 3 || !strings.HasPrefix(lines[0], "ID") || !strings.HasSuffix(lines[0], "TOOK") ||
		!strings.HasPrefix(lines[1], "f1box1 ") || !strings.HasSuffix(lines[1], " ms") {
		t.Errorf("%+v", got)
	}
	if s, err := d.Client(t).Get(t.Context(), "f2box1"); err != nil || time.Until(s.EndAt) < 59*time.Minute {
		t.Errorf("the second is %+v, %v", s, err)
	}
	c.run("kill", "f1box1", "f2box1")
	if got := c.run("fork", "-q", "-n", "2", "box"); got != (result{out: "f1box1\nf2box1\n"}) {
		t.Errorf("-q: %+v", got)
	}
	c.run("kill", "f1box1", "f2box1")
	d.MaxSandboxes = 2
	got = c.run("fork", "-n", "2", "box")
	if got.code != 1 || !strings.Contains(got.out, "f1box1") || !strings.Contains(got.out, "limit of sandboxes") ||
		!strings.HasPrefix(got.err, "atoll: 1 of 2 copies failed: the limit of sandboxes is reached\nhint: pause or end some") {
		t.Errorf("beyond the limit: %+v", got)
	}
	c.run("kill", "f1box1")
	var copies []forked
	got = c.run("fork", "--json", "-n", "2", "box")
	if err := json.Unmarshal([]byte(got.out), &copies); err != nil || len(copies) != 2 || got.code != 1 ||
		copies[0].TookMS <= 0 || copies[0].Sandbox.EnvdAccessToken == "" || copies[1].Error.Status != 429 || copies[1].Sandbox != nil {
		t.Errorf("--json: %+v, %v", got, err)
	}
}

func TestForkTellsOfCopiesThatDoNotAnswer(t *testing.T) {
	d := doortest.New(t, "")
	d.Add(client.Sandbox{SandboxID: "i1"})
	got := at(t, d).run("fork", "i1")
	if got.code != 1 || !strings.Contains(got.out, "f1i1") || !strings.Contains(got.err, "1 of 1 copies failed: it does not answer: There is no guest") {
		t.Errorf("%+v", got)
	}
}

func TestSnapshots(t *testing.T) {
	d := doortest.New(t, "")
	d.PageSize = 1
	d.Add(client.Sandbox{SandboxID: "i1", DiskUsedBytes: 3 << 20})
	d.Add(client.Sandbox{SandboxID: "i2"})
	c := at(t, d)
	if got := c.run("snapshot", "create", "i1", "--name", "ready"); got != (result{out: "team/ready:default\n"}) {
		t.Errorf("create: %+v", got)
	}
	if got := c.run("snapshot", "create", "i2"); got != (result{out: "t2:default\n"}) {
		t.Errorf("create without a name: %+v", got)
	}
	want := `SNAPSHOT            TAKEN   OF   SAVED     DISK
t2:default          1s ago  i2  42 MiB        -
team/ready:default  1s ago  i1  42 MiB  3.0 MiB
`
	got := c.run("snapshot", "ls")
	got.out = regexp.MustCompile(`\ds ago`).ReplaceAllString(got.out, "1s ago") // on a slow host
	if got != (result{out: want}) {
		t.Errorf("ls: %+v, want\n%s", got, want)
	}
	if got := c.run("snapshot", "ls", "-q", "--sandbox", "i2"); got.out != "t2:default\n" {
		t.Errorf("ls --sandbox: %+v", got)
	}
	if got := c.run("snapshot", "ls", "-q", "--name", "ready"); got.out != "team/ready:default\n" {
		t.Errorf("ls --name: %+v", got)
	}
	if got := c.run("create", "--template", "team/ready:default"); got.code != 0 {
		t.Errorf("create from it: %+v", got)
	}
	if got := c.run("snapshot", "rm", "t2", "none"); got.code != 1 || got.err != "atoll: there is no snapshot \"none\"\nhint: \"atoll snapshot ls\" shows the snapshots\n" {
		t.Errorf("rm with a wrong name: %+v", got)
	}
	if got := c.run("snapshot", "rm", "ready", "t2", "team/ready"); got != (result{out: "team/ready:default\nt2:default\n"}) {
		t.Errorf("rm: %+v", got)
	}
	if got := c.run("snapshot", "ls", "--json"); got.out != "[]\n" {
		t.Errorf("ls --json of none: %+v", got)
	}
}

func TestCreateSaysWhatHappensAtTheTimeOut(t *testing.T) {
	d := doortest.New(t, "")
	c := at(t, d)
	for n, args := range [][]string{
		{}, {"--on-timeout", "kill"}, {"--on-timeout", "pause"}, {"--on-timeout", "pause", "--auto-resume"}, {"--on-timeout", "pause", "--disk-only"},
	} {
		if got := c.run(append([]string{"create"}, args...)...); got.code != 0 {
			t.Fatalf("%v: %+v", args, got)
		}
		asked := d.Created()[n]
		if asked.AutoPause != (n >= 2) || (asked.AutoResume != nil && asked.AutoResume.Enabled) != (n == 3) ||
			(asked.AutoPauseMemory != nil && !*asked.AutoPauseMemory) != (n == 4) {
			t.Errorf("%v asks for %+v", args, asked)
		}
	}
}

func TestWrongUseOfSleep(t *testing.T) {
	d := doortest.New(t, "")
	d.Add(client.Sandbox{SandboxID: "i1"})
	c := at(t, d)
	for _, args := range [][]string{
		{"pause"}, {"resume"}, {"resume", "--timeout", "-1s", "i1"}, {"fork"}, {"fork", "-n", "0", "i1"}, {"fork", "-n", "101", "i1"}, {"fork", "--timeout", "-1s", "i1"},
		{"snapshot", "nonsense"}, {"snapshot", "create"}, {"snapshot", "rm"}, {"snapshot", "ls", "extra"}, {"ls", "--state", "asleep"},
		{"create", "--on-timeout", "sleep"}, {"create", "--auto-resume"}, {"create", "--disk-only"}, {"create", "--on-timeout", "pause", "--auto-resume", "--disk-only"},
		{"up", "--idle-freeze", "-1s"}, {"up", "--idle-store", "1m"}, {"up", "--linger", "-1s"}, {"up", "--memory-reserve", "-2"},
	} {
		if got := c.run(args...); got.code != codeUsage || !strings.HasPrefix(got.err, "atoll: ") || got.out != "" {
			t.Errorf("%v: %+v", args, got)
		}
	}
	for mib, bytes := range map[int64]int64{0: 0, -1: -1, 512: 512 << 20} {
		if got := (&upConfig{Reserve: mib}).reserveBytes(); got != bytes {
			t.Errorf("%d MiB are %d bytes", mib, got)
		}
	}
}

// listing is one sandbox of each state, as wide as they get.
func listing(d *doortest.Door) {
	now := time.Now()
	for i, s := range []client.Sandbox{
		{State: client.StateRunning, DiskUsedBytes: 34 << 20},
		{State: client.StateRunning, Sleep: client.SleepFrozen, DiskUsedBytes: 1 << 20},
		{State: client.StateRunning, Sleep: client.SleepStored, MemoryStoredBytes: 126 << 20, DiskUsedBytes: 999 << 10},
		{State: client.StatePaused, Sleep: client.SleepStored, MemoryStoredBytes: 42 << 20, DiskUsedBytes: 512 << 20},
	} {
		s.SandboxID, s.Alias, s.CPUCount, s.MemoryMB = fmt.Sprintf("i%019d", i), "base", 2, 512
		s.StartedAt, s.EndAt = now.Add(-23*time.Hour-58*time.Minute-30*time.Second), now.Add(22*time.Hour+10*time.Minute+30*time.Second)
		s.Metadata = map[string]string{"project": "demo"}
		d.Add(s)
	}
}

func TestLsTellsStatesAndSizes(t *testing.T) {
	d := doortest.New(t, "")
	listing(d)
	c := at(t, d)
	want := `ID                    TEMPLATE  STATE    AGE      ENDS IN    SAVED     DISK  CPUS   MEMORY  METADATA
i0000000000000000003  base      paused   23h 58m  never     42 MiB  512 MiB     2  512 MiB  project=demo
i0000000000000000002  base      stored   23h 58m  22h 10m  126 MiB  999 KiB     2  512 MiB  project=demo
i0000000000000000001  base      frozen   23h 58m  22h 10m        -  1.0 MiB     2  512 MiB  project=demo
i0000000000000000000  base      running  23h 58m  22h 10m        -   34 MiB     2  512 MiB  project=demo
`
	if got := c.run("ls"); got != (result{out: want}) {
		t.Errorf("got\n%swant\n%s", got.out, want)
	}
	for state, ids := range map[string]string{"frozen": "1", "stored": "2", "paused": "3", "running": "0", "frozen,stored": "21"} {
		got := c.run("ls", "-q", "--state", state)
		var last string
		for _, id := range strings.Fields(got.out) {
			last += id[len(id)-1:]
		}
		if last != ids {
			t.Errorf("--state %s: %+v", state, got)
		}
	}
}

func TestLsFits80Columns(t *testing.T) {
	d := doortest.New(t, "")
	listing(d)
	c := at(t, d)
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := pty.Setsize(slave, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	c.env["NO_COLOR"] = "1"
	if code := run([]string{"ls"}, strings.NewReader(""), slave, io.Discard, func(k string) string { return c.env[k] }); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	slave.Close()
	out, _ := io.ReadAll(master) // ends with an error once the terminal is closed
	lines := strings.Split(strings.TrimSpace(string(out)), "\r\n")
	if len(lines) != 5 {
		t.Fatalf("%q", out)
	}
	for _, l := range lines {
		if n := utf8.RuneCountInString(l); n > 80 {
			t.Errorf("%d columns: %s", n, l)
		}
	}
	if head := strings.Join(strings.Fields(lines[0]), " "); head != "ID TEMPLATE STATE AGE ENDS IN SAVED DISK" {
		t.Errorf("shown are %s", head)
	}
}
