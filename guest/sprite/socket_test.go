package sprite

import (
	"net"
	"slices"
	"strings"
	"testing"
)

// writes records what is written to a connection, and how.
type writes struct {
	net.Conn
	all []string
}

func (w *writes) Write(p []byte) (int, error) {
	w.all = append(w.all, string(p))
	return len(p), nil
}

// What is held back goes out in one write and in order, and is bounded.
func TestWritesAreHeldBack(t *testing.T) {
	to := new(writes)
	c := &quietConn{Conn: to, holding: true}
	say := func(texts ...string) {
		for _, text := range texts {
			if n, err := c.Write([]byte(text)); n != len(text) || err != nil {
				t.Fatal(n, err)
			}
		}
	}
	wrote := func(want ...string) {
		t.Helper()
		if !slices.Equal(to.all, want) {
			t.Errorf("%d writes: %.40q", len(to.all), to.all)
		}
		to.all = nil
	}
	say("head", "info")
	wrote()
	c.release()
	wrote("headinfo")
	c.release()
	say("out")
	wrote("out")
	long := strings.Repeat("x", maxHeld)
	c.hold()
	say("a", long, "b")
	wrote("a", long)
	say("exit", "bye")
	c.release()
	c.quiet.Store(true)
	say("more")
	wrote("bexitbye")
}
