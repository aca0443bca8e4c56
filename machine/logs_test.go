package machine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLogLines(t *testing.T) {
	for _, c := range []struct{ name, line, level, message string }{
		{"the daemon's", `{"time":"2026-01-01T12:00:00Z","level":"warn","message":"low on disk"}`, "warn", "low on disk"},
		{"not JSON", "panic: oh", "info", "panic: oh"},
		{"JSON of another form", `{"a":1}`, "info", `{"a":1}`},
		{"an unknown level", `{"time":"x","level":"\u001b[31m","message":"m"}`, "info", "m"},
		{"no UTF-8", "\xff\xfe", "info", "\uFFFD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			entries := parseLog([]byte(c.line + "\n"))
			if len(entries) != 1 || entries[0].Level != c.level || entries[0].Message != c.message || entries[0].Fields == nil {
				t.Errorf("got %+v", entries)
			}
		})
	}
}

func TestLogQuery(t *testing.T) {
	entries := func() []LogEntry {
		return []LogEntry{
			{Time: noon, Level: "debug", Message: "one"},
			{Time: noon.Add(time.Second), Level: "error", Message: "two"},
			{Time: noon.Add(2 * time.Second), Level: "info", Message: "three"},
		}
	}
	for _, c := range []struct {
		name string
		q    LogQuery
		want string
	}{
		{"all", LogQuery{}, "one two three"},
		{"after is exclusive", LogQuery{After: noon}, "two three"},
		{"before is exclusive", LogQuery{Before: noon.Add(2 * time.Second)}, "one two"},
		{"level", LogQuery{MinLevel: "info"}, "two three"},
		{"search", LogQuery{Search: "t"}, "two three"},
		{"newest first, limited", LogQuery{Backward: true, Limit: 2}, "three two"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, entry := range c.q.apply(entries()) {
				got = append(got, entry.Message)
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %v, want %s", got, c.want)
			}
		})
	}
}

// A guest owns the file system beside its log; the host must not be led astray.
func TestReadTailFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	secret, link := filepath.Join(dir, "secret"), filepath.Join(dir, "log")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, link); err != nil {
		t.Fatal(err)
	}
	if b, err := readTail(link, 100); err == nil {
		t.Errorf("read %q through a link", b)
	}
}

func TestReadTailBeginsWithAWholeLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("first line\nsecond\nthird\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := readTail(path, 16)
	if err != nil || string(b) != "second\nthird\n" {
		t.Errorf("got %q, %v", b, err)
	}
}

func FuzzParseLog(f *testing.F) {
	f.Add([]byte(`{"time":"2026-01-01T12:00:00Z","level":"info","message":"m","fields":{"a":"b"}}` + "\n"))
	f.Add([]byte("\x00\xff\n{}\n[]\nnull\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, entry := range parseLog(b) {
			if entry.Fields == nil || entry.Level == "" {
				t.Errorf("incomplete entry %+v", entry)
			}
		}
	})
}
