package service

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

func testLogs(t *testing.T, limit int64) *logFiles {
	l := newLogFiles(t.TempDir(), "x", func(err error) { t.Error(err) })
	l.limit = limit
	return l
}

// rest returns the texts of all lines that a reader has.
func rest(r *logReader) (texts []string) {
	for {
		line, ok := r.next()
		if !ok {
			return texts
		}
		texts = append(texts, line.text)
	}
}

func TestLogsEndWithoutBeingLost(t *testing.T) {
	l := testLogs(t, 1000)
	r := l.follow(0)
	defer r.close()
	var want, got []string
	for i := range 100 {
		text := fmt.Sprintf("line %d", i)
		want = append(want, text)
		l.write(stdout, []byte(text+"\n"))
		got = append(got, rest(r)...)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Error("a reader over many files:", got)
	}
	var total int64
	entries, _ := os.ReadDir(l.folder)
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || info.Size() > 1000 {
			t.Error(entry.Name(), info.Size(), err)
		}
		total += info.Size()
	}
	if total > 4000 || len(entries) > 6 {
		t.Error("all logs take", total, "bytes in", len(entries), "files")
	}
}

func TestTails(t *testing.T) {
	l := testLogs(t, 500)
	if got := rest(l.follow(10)); got != nil {
		t.Error("of nothing:", got)
	}
	for i := range 20 {
		l.write(stderr, []byte(fmt.Sprintf("%d\n", i)))
	}
	tail := func(n int) string {
		r := l.follow(n)
		defer r.close()
		return strings.Join(rest(r), " ")
	}
	for n, want := range map[int]string{0: "", 1: "19", 3: "17 18 19", 12: "8 9 10 11 12 13 14 15 16 17 18 19"} {
		if got := tail(n); got != want {
			t.Errorf("the last %d: %q", n, got)
		}
	}
	if got := tail(1000); !strings.HasSuffix(got, "17 18 19") || len(got) < 40 {
		t.Error("all:", got)
	}
	// A daemon that starts anew reads on in what is there.
	again := newLogFiles(l.folder, "x", l.complain)
	r := again.follow(2)
	defer r.close()
	again.write(stderr, []byte("20\n"))
	if got := strings.Join(rest(r), " "); got != "18 19 20" {
		t.Error("after a boot:", got)
	}
}

func TestReadersComeToTerms(t *testing.T) {
	l := testLogs(t, maxLogFile)
	l.write(stdout, []byte("one\nbegun"))
	r := l.follow(0)
	defer r.close()
	if got := rest(r); got != nil {
		t.Error(got)
	}
	// Somebody empties the log.
	if err := os.Truncate(l.combined.path, 0); err != nil {
		t.Fatal(err)
	}
	rest(r)
	l.write(stdout, []byte(" and ended\n"))
	if got := rest(r); len(got) != 1 || got[0] != "begun and ended" {
		t.Error("after a truncation:", got)
	}
	// Somebody writes there what is no line.
	f, err := os.OpenFile(l.combined.path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString(strings.Repeat("x", 3*readBuffer) + "\n")
	f.Close()
	if got := strings.Join(rest(r), ""); len(got) != 3*readBuffer {
		t.Error("a line that is too long:", len(got))
	}
	// Somebody removes it.
	os.Remove(l.combined.path)
	l.write(stdout, []byte("lost\n"))
	l.end()
	l.write(stdout, []byte("found\n"))
	r = l.follow(5)
	defer r.close()
	if got := rest(r); len(got) != 1 || got[0] != "found" {
		t.Error("after a removal:", got)
	}
}

func TestLongLinesAreCut(t *testing.T) {
	w := newWorld(t)
	script := `head -c 200000 /dev/zero; echo; printf '\377%.0s' $(seq 20000)`
	events := w.events("PUT", "/services/x?duration=1m", sh(script, ""))
	total := 0
	for _, e := range events {
		if e.Type == "stdout" {
			total += len(strings.TrimSuffix(e.Data, "\n"))
		}
	}
	if total < 200000+20000 {
		t.Error("lost", 220000-total, "bytes")
	}
}

func TestFollowing(t *testing.T) {
	w := newWorld(t)
	w.put("x", "echo a; echo b; sleep 0.05; echo c; exec sleep 1000", "")
	eventually(t, "it has written", func() bool { return told(w.events("GET", "/services/x/logs", "")) == "stdout a; stdout b; stdout c; " })
	if got := told(w.events("GET", "/services/x/logs?lines=1", "")); got != "stdout c; " {
		t.Error(got)
	}
	w.put("x", "while :; do echo tick; sleep 0.01; done", "")
	eventually(t, "what is written meanwhile is shown", func() bool {
		got := told(w.events("GET", "/services/x/logs?lines=0&duration=100ms", ""))
		return strings.Contains(got, "stdout tick; stdout tick; ")
	})
	// A prompt that waits is shown at the end of the window.
	w.put("y", "printf prompt; exec sleep 1000", "")
	eventually(t, "a begun line is shown", func() bool {
		return told(w.events("GET", "/services/y/logs?duration=1ms", "")) == "stdout prompt; "
	})
}

// A client that does not read holds up nobody, and costs no memory that grows.
func TestClientsThatDoNotRead(t *testing.T) {
	w := newWorld(t)
	w.put("loud", "yes "+strings.Repeat("x", 80), "")
	answer, err := w.host.Client().Get(w.host.URL + "/sprite/services/loud/logs?lines=0&duration=1h")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	logs := w.server.services.services["loud"].logs
	eventually(t, "the log has ended thrice", func() bool {
		logs.mu.Lock()
		defer logs.mu.Unlock()
		return logs.generation > 3
	})
	if status, _ := w.do("DELETE", "/services/loud?timeout=0", ""); status != http.StatusNoContent {
		t.Error(status)
	}
}

func BenchmarkLogs(b *testing.B) {
	l := newLogFiles(b.TempDir(), "x", func(err error) { b.Error(err) })
	chunk := bytes.Repeat([]byte("a line of output that a server might write\n"), outputBuffer/43)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		l.write(stdout, chunk)
	}
}
