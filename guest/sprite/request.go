package sprite

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/guest"
)

// request is what a client wants to run or to attach to.
type request struct {
	args []string
	path string
	env  map[string]string
	dir  string
	tty  bool
	size guest.Window
	// stdin says that the client sends input; of an attaching one, that it may.
	stdin bool
	keep  time.Duration
	// id is the session to attach to; empty is a new one.
	id string
}

const (
	// keepCommand is how long a command without a terminal goes on when its client
	// has left and did not say.
	keepCommand = 10 * time.Second
	// maxKeep bounds what clients may say, since far beyond numbers overflow.
	maxKeep = 10 * 365 * 24 * time.Hour
)

// errParameter is reported for parameters that make no sense.
var errParameter = errors.New("bad parameter")

// parseRequest reads the parameters of a command. Those that are not known are
// passed over.
func parseRequest(q url.Values) (*request, error) {
	r := &request{args: q["cmd"], path: q.Get("path"), dir: q.Get("dir"), tty: truth(q.Get("tty")), env: map[string]string{}}
	if r.id = q.Get("id"); r.id == "" {
		r.id = q.Get("session_id")
	}
	if len(r.args) > 0 && r.args[0] == "" && r.path == "" {
		r.args = nil
	}
	if len(r.args) == 0 {
		r.args = []string{"bash"}
		if r.path != "" {
			r.args[0] = r.path
		}
	}
	for _, pair := range q["env"] {
		key, value, found := strings.Cut(pair, "=")
		if !found || key == "" {
			return nil, fmt.Errorf("%w env: want KEY=VALUE, not %q", errParameter, shortened(pair))
		}
		r.env[key] = value
	}
	for _, text := range append([]string{r.path, r.dir}, append(r.args, q["env"]...)...) {
		if strings.ContainsRune(text, 0) {
			return nil, fmt.Errorf("%w: a NUL byte in %q", errParameter, shortened(text))
		}
	}
	var err error
	if r.size, err = parseWindow(q.Get("rows"), q.Get("cols")); err != nil {
		return nil, err
	}
	r.stdin = truth(q.Get("stdin"))
	if q.Get("stdin") == "" {
		r.stdin = r.tty || r.id != ""
	}
	if !r.tty && !truth(q.Get("detachable")) {
		r.keep = keepCommand
	}
	if text := q.Get("max_run_after_disconnect"); text != "" {
		if r.keep, err = parseDuration(text); err != nil {
			return nil, fmt.Errorf("%w max_run_after_disconnect: %w", errParameter, err)
		}
	}
	return r, nil
}

// program is what to start for a request. A terminal has a kind, without which
// programs draw nothing.
func (r *request) program() guest.Program {
	p := guest.Program{Args: r.args, Path: r.path, Env: r.env, Dir: r.dir, Stdin: r.stdin}
	if r.tty {
		p.Terminal = &r.size
		if _, given := r.env["TERM"]; !given {
			r.env["TERM"] = "xterm-256color"
		}
	}
	return p
}

// truth reads a boolean as clients write it; what is none is false.
func truth(text string) bool {
	yes, err := strconv.ParseBool(text)
	return err == nil && yes
}

func parseWindow(rows, cols string) (guest.Window, error) {
	var w guest.Window
	for _, side := range []struct {
		name, text string
		into       *uint16
	}{{"rows", rows, &w.Rows}, {"cols", cols, &w.Cols}} {
		if side.text == "" {
			continue
		}
		number, err := strconv.ParseUint(side.text, 10, 16)
		if err != nil {
			return w, fmt.Errorf("%w %s: want a number from 0 to 65535", errParameter, side.name)
		}
		*side.into = uint16(number)
	}
	return w, nil
}

// parseDuration reads "30s", "1m30s" or a number of seconds.
func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		seconds, numberErr := strconv.ParseFloat(text, 64)
		if numberErr != nil || seconds != seconds || seconds > maxKeep.Seconds() {
			return 0, fmt.Errorf("%q is no duration: write it like 30s or 5m", shortened(text))
		}
		d = time.Duration(seconds * float64(time.Second))
	}
	if d < 0 {
		return 0, fmt.Errorf("the duration %q is negative", shortened(text))
	}
	return min(d, maxKeep), nil
}

// parseSignal reads a signal as "TERM", "SIGTERM" or "15".
func parseSignal(text string) (syscall.Signal, error) {
	name := strings.ToUpper(strings.TrimSpace(text))
	if number, err := strconv.Atoi(name); err == nil && number > 0 && number <= 64 {
		return syscall.Signal(number), nil
	}
	if signal := unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG")); signal != 0 {
		return signal, nil
	}
	return 0, fmt.Errorf("%w signal: %q is none; use names like TERM, INT or KILL", errParameter, shortened(text))
}

// instruction is a text message from a client.
type instruction struct {
	Type   string `json:"type"`
	Cols   uint16 `json:"cols"`
	Rows   uint16 `json:"rows"`
	Signal string `json:"signal"`
}

// parseInstruction reads a client's text; false for what is none of ours.
func parseInstruction(text []byte) (instruction, bool) {
	var in instruction
	if len(text) == 0 || text[0] != '{' || json.Unmarshal(text, &in) != nil {
		return in, false
	}
	return in, in.Type == "resize" || in.Type == "signal"
}
