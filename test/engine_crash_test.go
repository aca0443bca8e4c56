package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atoll-cloud/atoll/machine"
)

// order is what a test asks of an engine in a process of its own, one JSON line
// each, and reply what that answers.
type order struct {
	Do, Machine, Checkpoint, Script string
	Memory                          bool
}

type reply struct {
	Machines    []machine.Machine
	Checkpoints []machine.Checkpoint
	Output      string
	Err         string
}

// serveOrders is that process: it obeys until its input ends.
func serveOrders(in io.Reader, out io.Writer) error {
	e, err := openEngine(context.Background(), nil)
	if err != nil {
		return err
	}
	lines, answers := bufio.NewScanner(in), json.NewEncoder(out)
	if err := answers.Encode(reply{Output: "ready"}); err != nil {
		return err
	}
	for lines.Scan() {
		var o order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		r, err := e.obey(o)
		if err != nil {
			r.Err = err.Error()
		}
		if err := answers.Encode(r); err != nil {
			return err
		}
	}
	return e.close(true)
}

func (e *engine) obey(o order) (r reply, err error) {
	ctx := context.Background()
	switch o.Do {
	case "create":
		_, err = e.Create(ctx, sprite(o.Machine))
	case "create from":
		var m machine.Machine
		if m, err = e.Named("team", o.Machine); err == nil {
			_, err = e.Create(ctx, from(o.Machine+"-copy", m.ID, o.Checkpoint))
		}
	case "list":
		r.Machines = e.List("team")
	default:
		var m machine.Machine
		if m, err = e.Named("team", o.Machine); err != nil {
			return r, err
		}
		switch o.Do {
		case "checkpoint":
			var c machine.Checkpoint
			c, err = e.CreateCheckpoint(ctx, m.ID, machine.CheckpointSpec{Memory: o.Memory})
			r.Checkpoints = []machine.Checkpoint{c}
		case "checkpoints":
			r.Checkpoints, err = e.Checkpoints(ctx, m.ID)
		case "restore":
			_, err = e.RestoreCheckpoint(ctx, m.ID, o.Checkpoint)
		case "delete":
			err = e.DeleteCheckpoint(ctx, m.ID, o.Checkpoint)
		case "restart":
			_, err = e.Restart(ctx, m.ID)
		case "kill":
			err = e.Kill(ctx, m.ID, machine.ReasonKilled)
		case "sh":
			r.Output, err = e.sh(ctx, m.ID, o.Script)
		}
	}
	return r, err
}

// engineProcess is an engine in a process of its own, which can be killed.
type engineProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// ordersVariable makes the test binary that process.
const ordersVariable = "ATOLL_TEST_ORDERS"

func startProcess() (*engineProcess, error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), ordersVariable+"="+dataDir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &engineProcess{cmd, in, bufio.NewScanner(out)}
	p.out.Buffer(nil, 1<<20)
	if _, err := p.answer(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *engineProcess) send(o order) error {
	line, err := json.Marshal(o)
	if err == nil {
		_, err = p.in.Write(append(line, '\n'))
	}
	return err
}

func (p *engineProcess) answer() (r reply, err error) {
	if !p.out.Scan() {
		return r, fmt.Errorf("the engine's process has ended: %w", p.out.Err())
	}
	if err := json.Unmarshal(p.out.Bytes(), &r); err != nil {
		return r, err
	}
	if r.Err != "" {
		return r, fmt.Errorf("%s", r.Err)
	}
	return r, nil
}

func (p *engineProcess) ask(o order) (reply, error) {
	if err := p.send(o); err != nil {
		return reply{}, err
	}
	return p.answer()
}

func (p *engineProcess) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// end lets the process end by itself, with all that it has.
func (p *engineProcess) end() error {
	if err := p.in.Close(); err != nil {
		return err
	}
	return p.cmd.Wait()
}

// TestKillAtEveryStepOfACheckpoint kills the engine at growing delays after a
// checkpoint, a restore, a removal or a restart was asked for. Afterwards each
// checkpoint is there whole or not at all, the sprite has its disk of before or
// the one that was restored, what was confirmed holds, and nothing is left over.
func TestKillAtEveryStepOfACheckpoint(t *testing.T) {
	p, err := startProcess()
	if err != nil {
		t.Fatal(err)
	}
	c := &spriteVictim{p: p, t: t}
	defer func() { c.p.kill() }()
	c.setUp()
	n := kills(t)
	for i := range n {
		c.round(i, killWithin*2*time.Duration(i)/time.Duration(n))
		if t.Failed() {
			return
		}
	}
	c.must(order{Do: "kill", Machine: "victim"})
	for _, kind := range []string{"checkpoints", "staging"} {
		if left, err := os.ReadDir(filepath.Join((&engine{}).pool(), kind)); err == nil && len(left) > 0 {
			t.Errorf("left behind in %s: %v", kind, left)
		}
	}
	if err := c.p.end(); err != nil {
		t.Error(err)
	}
}

// spriteVictim is a sprite that the engine is killed over. Its disk says which
// checkpoint it is like: what a program wrote before that was taken.
type spriteVictim struct {
	p     *engineProcess
	t     *testing.T
	known map[string]string // what the disk says in each checkpoint
	disk  []string          // what it may say now
	step  int
}

func (v *spriteVictim) must(o order) reply {
	v.t.Helper()
	r, err := v.p.ask(o)
	if err != nil {
		v.t.Fatalf("%+v: %v", o, err)
	}
	return r
}

func (v *spriteVictim) setUp() {
	for _, m := range v.must(order{Do: "list"}).Machines {
		v.must(order{Do: "kill", Machine: m.Name})
	}
	v.must(order{Do: "create", Machine: "victim"})
	v.known = map[string]string{}
	v.write()
	v.known[v.must(order{Do: "checkpoint", Machine: "victim"}).Checkpoints[0].ID] = v.disk[0]
}

// write gives the disk something of its own to say, twice, to be found torn.
func (v *spriteVictim) write() {
	v.t.Helper()
	v.step++
	text := fmt.Sprintf("step %d", v.step)
	v.must(order{Do: "sh", Machine: "victim", Script: fmt.Sprintf("echo %s > /root/a; mkdir -p /root/d; rm -f /root/d/*; touch /root/d/{1..40}; echo %s > /root/b", text, text)})
	v.disk = []string{text}
}

// round does one thing, kills the engine over it, and looks at what is there.
func (v *spriteVictim) round(i int, delay time.Duration) {
	v.write()
	ids := v.ids()
	o := order{Machine: "victim", Checkpoint: ids[i%len(ids)]}
	was := v.disk[0]
	switch i % 6 {
	case 0:
		o.Do = "checkpoint"
	case 1:
		o.Do, o.Memory = "checkpoint", true
	case 2, 3:
		o.Do = "restore"
		v.disk = append(v.disk, v.known[o.Checkpoint])
	case 4:
		o.Do = "delete"
	case 5:
		o.Do = "restart"
	}
	what := fmt.Sprintf("kill %d, %v after %s %s", i, delay, o.Do, o.Checkpoint)
	if err := v.p.send(o); err != nil {
		v.t.Fatal(err)
	}
	<-time.After(delay)
	v.p.kill()
	answered, err := v.p.answer()
	confirmed := err == nil
	if v.p, err = startProcess(); err != nil {
		v.t.Fatalf("%s: the next start: %v", what, err)
	}
	if confirmed && o.Do == "restore" {
		v.disk = v.disk[1:]
	}
	v.checkDisk(what)
	v.checkCheckpoints(what, o, was, confirmed, answered)
}

func (v *spriteVictim) ids() []string {
	var ids []string
	for _, c := range v.must(order{Do: "checkpoints", Machine: "victim"}).Checkpoints {
		ids = append(ids, c.ID)
	}
	return ids
}

func (v *spriteVictim) checkDisk(what string) {
	v.t.Helper()
	got := strings.Split(v.must(order{Do: "sh", Machine: "victim", Script: "cat /root/a /root/b; ls /root/d | wc -l"}).Output, "\n")
	if len(got) != 3 || got[0] != got[1] || got[2] != "40" || !slices.Contains(v.disk, got[0]) {
		v.t.Fatalf("%s: the disk says %q, want one of %q", what, got, v.disk)
	}
	v.disk = got[:1]
}

func (v *spriteVictim) checkCheckpoints(what string, o order, was string, confirmed bool, answered reply) {
	v.t.Helper()
	ids := v.ids()
	for _, id := range ids {
		if _, known := v.known[id]; !known { // of the disk before this step, manual or automatic
			v.known[id] = was
		}
	}
	for id := range v.known {
		if !slices.Contains(ids, id) {
			if o.Do != "delete" || id != o.Checkpoint {
				v.t.Fatalf("%s: checkpoint %s is gone", what, id)
			}
			delete(v.known, id)
		}
	}
	switch {
	case !confirmed:
	case o.Do == "checkpoint" && !slices.Contains(ids, answered.Checkpoints[0].ID):
		v.t.Fatalf("%s: it was confirmed and is not there", what)
	case o.Do == "delete" && slices.Contains(ids, o.Checkpoint):
		v.t.Fatalf("%s: it was confirmed and is still there", what)
	}
	// The newest is whole: a sprite made of it says what it should.
	if len(ids) == 0 {
		v.must(order{Do: "checkpoint", Machine: "victim"})
		v.known[v.ids()[0]] = v.disk[0]
		return
	}
	id := ids[len(ids)-1]
	v.must(order{Do: "create from", Machine: "victim", Checkpoint: id})
	if got := v.must(order{Do: "sh", Machine: "victim-copy", Script: "cat /root/a /root/b"}).Output; got != v.known[id]+"\n"+v.known[id] {
		v.t.Fatalf("%s: a copy of %s says %q, want %q twice", what, id, got, v.known[id])
	}
	v.must(order{Do: "kill", Machine: "victim-copy"})
}
