package kernel

import (
	"context"
	"crypto/rand"
	_ "embed" // for the prelude
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-zeromq/zmq4"
)

const (
	// startTime bounds how long a kernel may take until it answers.
	startTime = 60 * time.Second
	// startPause is between two looks whether a kernel that starts is there.
	startPause = 5 * time.Millisecond
	// farewell is how long a kernel has to end when it is asked to.
	farewell = 500 * time.Millisecond
	// drainTime is how long after a kernel's end its last messages may come.
	drainTime = time.Second
	// lastWords is how much of what a kernel's process wrote is kept, in bytes.
	lastWords = 4 << 10

	shellBuffer = 4 << 10
	iopubBuffer = 64 << 10
)

//go:embed prelude.py
var prelude string

// process is a running kernel.
type process struct {
	spec    *spec
	pid     int
	dir     string
	session *session
	sign    *signer
	words   *tail
	output  *os.File
	said    chan struct{} // closed when all of output is in words

	shell, control, iopub *socket

	// grants says that the kernel does what is wished for along with code.
	grants bool

	// current is the execution whose messages are wanted.
	current atomic.Pointer[execution]
	// heard is closed at the kernel's first iopub message, answered at its
	// first reply.
	heard, answered chan struct{}
	readers         sync.WaitGroup

	// ended is closed when the process has ended and status is set, drained
	// when also all that it had sent has been read.
	ended, drained chan struct{}
	status         syscall.WaitStatus
}

// connectionFile is Jupyter's: how a kernel is to be reached.
type connectionFile struct {
	Transport string `json:"transport"`
	IP        string `json:"ip"`
	Shell     int    `json:"shell_port"`
	IOPub     int    `json:"iopub_port"`
	Stdin     int    `json:"stdin_port"`
	Control   int    `json:"control_port"`
	Heartbeat int    `json:"hb_port"`
	Scheme    string `json:"signature_scheme"`
	Key       string `json:"key"`
	Name      string `json:"kernel_name"`
}

// launch starts a kernel and returns when it has answered.
func launch(ctx context.Context, host Host, s *spec, dir string, env map[string]string) (*process, error) {
	p := &process{
		spec: s, session: &session{id: random(16)}, words: new(tail),
		heard: make(chan struct{}), answered: make(chan struct{}),
		ended: make(chan struct{}), drained: make(chan struct{}),
	}
	file, err := p.prepare(host)
	if err != nil {
		p.cleanUp()
		return nil, fmt.Errorf("prepare the %s kernel: %w", s.language, err)
	}
	if err := p.start(host, dir, env); err != nil {
		p.cleanUp()
		return nil, fmt.Errorf("start the %s kernel: %w", s.language, err)
	}
	if err := p.connect(ctx, file); err != nil {
		p.kill()
		p.hearOut()
		p.retire()
		if words := p.words.String(); words != "" {
			err = fmt.Errorf("%w; its last words: %s", err, words)
		}
		return nil, fmt.Errorf("start the %s kernel: %w", s.language, err)
	}
	go p.retire()
	if strings.EqualFold(s.Kind, "python") {
		p.grants = p.runSilently(prelude)
	}
	p.runSilently(s.Metadata.Atoll.Start)
	return p, nil
}

// runSilently runs code of ours; what it says, or that it fails, is not for
// clients. It reports that it did not fail. The caller has the context's turn.
func (p *process) runSilently(code string) bool {
	if code == "" {
		return true
	}
	e, err := p.begin(part{code: code, silent: true})
	if err != nil {
		return false // it has ended, as who uses it will see
	}
	defer p.current.Store(nil)
	defer e.output.close()
	select {
	case <-e.finished:
		e.mu.Lock()
		defer e.mu.Unlock()
		return !e.refused
	case <-p.drained:
	case <-time.After(startTime):
	}
	return false
}

// retire waits for the kernel's end and frees what it held.
func (p *process) retire() {
	<-p.ended
	// A child that lives on may hold the other ends of the sockets.
	patience := time.AfterFunc(drainTime, p.hangUp)
	p.readers.Wait()
	patience.Stop()
	p.hangUp()
	close(p.drained)
	p.cleanUp()
}

func (p *process) hangUp() {
	p.iopub.close()
	p.shell.close()
	p.control.close()
}

// prepare makes the folder with the connection file, for the kernel's user only.
func (p *process) prepare(host Host) (*connectionFile, error) {
	uid, gid, err := host.KernelOwner()
	if err != nil {
		return nil, err
	}
	base := os.TempDir()
	// In memory, so that nothing of it is on the disk.
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		base = "/dev/shm"
	}
	if p.dir, err = os.MkdirTemp(base, "kernel-"); err != nil {
		return nil, err
	}
	file := &connectionFile{Scheme: "hmac-sha256", Key: random(32), Name: p.spec.language}
	p.sign = newSigner([]byte(file.Key))
	if p.spec.overUnixSocket() {
		file.Transport, file.IP = "ipc", filepath.Join(p.dir, "socket")
		file.Shell, file.IOPub, file.Stdin, file.Control, file.Heartbeat = 1, 2, 3, 4, 5
	} else {
		file.Transport, file.IP = "tcp", "127.0.0.1"
		if err := freePorts(&file.Shell, &file.IOPub, &file.Stdin, &file.Control, &file.Heartbeat); err != nil {
			return nil, err
		}
	}
	data, err := json.Marshal(file)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(p.connectionPath(), data, 0o600); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return file, nil
	}
	return file, errors.Join(os.Chown(p.connectionPath(), uid, gid), os.Chown(p.dir, uid, gid))
}

func (p *process) connectionPath() string { return filepath.Join(p.dir, "connection.json") }

// freePorts finds ports that nobody listens on.
func freePorts(ports ...*int) error {
	for _, port := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close() // only now, so that all are different
		*port = l.Addr().(*net.TCPAddr).Port
	}
	return nil
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// start starts the kernel's process and what waits for its end.
func (p *process) start(host Host, dir string, env map[string]string) error {
	args := make([]string, len(p.spec.Argv))
	for i, arg := range p.spec.Argv {
		arg = strings.ReplaceAll(arg, "{connection_file}", p.connectionPath())
		args[i] = strings.ReplaceAll(arg, "{resource_dir}", p.spec.dir)
	}
	vars := map[string]string{}
	for key, value := range p.spec.Env {
		vars[key] = os.Expand(value, func(name string) string { return host.Environment()[name] })
	}
	maps.Copy(vars, env)
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	pid, ended, err := host.StartKernel(args, vars, dir, theirs)
	theirs.Close()
	if err != nil {
		ours.Close()
		return err
	}
	p.pid, p.output, p.said = pid, ours, make(chan struct{})
	go func() {
		io.Copy(p.words, ours) // until cleanUp closes it
		close(p.said)
	}()
	go func() {
		p.status = <-ended
		// What it had started and left in its group goes too: it would hold
		// the kernel's sockets.
		syscall.Kill(-p.pid, syscall.SIGKILL)
		close(p.ended)
	}()
	return nil
}

// hearOut waits until what an ended kernel wrote is all there. A child that
// lives on may hold the other end.
func (p *process) hearOut() {
	<-p.ended
	select {
	case <-p.said:
	case <-time.After(drainTime):
	}
}

// cleanUp frees what a kernel that has ended, or never began, holds.
func (p *process) cleanUp() {
	if p.output != nil {
		p.output.Close()
	}
	if p.dir != "" {
		os.RemoveAll(p.dir)
	}
}

// connect connects to the kernel's sockets and waits until it has answered and
// its publications arrive: a subscription takes effect at some time after it
// was sent, and what is published before is lost.
func (p *process) connect(ctx context.Context, file *connectionFile) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for _, to := range []struct {
		socket **socket
		port   int
		kind   zmq4.SocketType
		buffer int
	}{
		{&p.iopub, file.IOPub, zmq4.Sub, iopubBuffer},
		{&p.shell, file.Shell, zmq4.Dealer, shellBuffer},
		{&p.control, file.Control, zmq4.Dealer, shellBuffer},
	} {
		if err := p.reach(ctx, file, to.port, to.socket, to.kind, to.buffer); err != nil {
			return err
		}
	}
	p.readers.Add(3)
	go p.read(p.iopub, p.published)
	go p.read(p.shell, p.replied)
	go p.read(p.control, func(*message) {})
	return p.greet(ctx)
}

// reach connects to one socket as soon as the kernel has made it.
func (p *process) reach(ctx context.Context, file *connectionFile, port int, to **socket, kind zmq4.SocketType, buffer int) error {
	network, address := "tcp", net.JoinHostPort(file.IP, strconv.Itoa(port))
	if file.Transport == "ipc" {
		network, address = "unix", file.IP+"-"+strconv.Itoa(port)
	}
	for {
		s, err := dial(network, address, kind, buffer)
		if err == nil {
			*to = s
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it ended at once (%s)", describe(p.status))
		case <-ctx.Done():
			return fmt.Errorf("it did not listen in time: %w", err)
		case <-time.After(startPause):
		}
	}
}

// greet asks for the kernel's information until both its answer and something
// published have come.
func (p *process) greet(ctx context.Context) error {
	answered, pause := p.answered, startPause
	for {
		if err := p.request(p.shell, p.session.next(), "kernel_info_request", []byte("{}")); err != nil {
			return err
		}
		select {
		case <-answered:
		case <-p.ended:
			return fmt.Errorf("it ended at once (%s)", describe(p.status))
		case <-ctx.Done():
			return errors.New("it did not answer in time")
		}
		select {
		case <-p.heard:
			return nil
		case <-p.ended:
		case <-ctx.Done():
			return errors.New("it publishes nothing")
		case <-time.After(pause):
			pause = min(2*pause, time.Second)
		}
	}
}

// request sends one request.
func (p *process) request(to *socket, id, kind string, content []byte) error {
	return to.send(p.session.encode(p.sign, id, kind, nil, content)...)
}

// read hands a socket's messages on until the kernel ends, or sends what is no
// message at all.
func (p *process) read(s *socket, handle func(*message)) {
	defer p.readers.Done()
	defer s.close()
	for {
		frames, lost, err := s.receive()
		if err != nil {
			if errors.Is(err, errProtocol) {
				p.kill()
			}
			return
		}
		if lost > 0 {
			if e := p.current.Load(); e != nil {
				e.tooLarge(lost)
			}
			continue
		}
		m, err := p.sign.decode(frames)
		if err != nil {
			continue // not from the kernel, or nothing that we could use
		}
		handle(m)
	}
}

func (p *process) published(m *message) {
	closeOnce(p.heard)
	if e := p.current.Load(); e != nil {
		e.published(m)
	}
}

func (p *process) replied(m *message) {
	closeOnce(p.answered)
	if e := p.current.Load(); e != nil {
		e.replied(m)
	}
}

// closeOnce closes a channel that only the calling goroutine closes.
func closeOnce(c chan struct{}) {
	select {
	case <-c:
	default:
		close(c)
	}
}

// interrupt asks the kernel to stop what it runs.
func (p *process) interrupt() {
	if p.spec.interruptedByMessage() {
		_ = p.request(p.control, p.session.next(), "interrupt_request", []byte("{}")) // it has ended
		return
	}
	p.signal(-p.pid, syscall.SIGINT)
}

// pause and proceed hold the kernel back and let it go on.
func (p *process) pause()   { p.signal(p.pid, syscall.SIGSTOP) }
func (p *process) proceed() { p.signal(p.pid, syscall.SIGCONT) }

func (p *process) signal(pid int, s syscall.Signal) {
	select {
	case <-p.ended:
	default:
		syscall.Kill(pid, s) // fails only when it has ended
	}
}

func (p *process) kill() { p.signal(-p.pid, syscall.SIGKILL) }

// stop ends the kernel: on its own if it wants to, and by force.
func (p *process) stop() {
	if p.control != nil {
		_ = p.request(p.control, p.session.next(), "shutdown_request", []byte(`{"restart":false}`)) // it has ended
	}
	select {
	case <-p.ended:
		return
	case <-time.After(farewell):
	}
	p.kill()
	<-p.ended
}

func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// describe says how a process ended.
func describe(status syscall.WaitStatus) string {
	switch {
	case status.Signaled() && status.Signal() == syscall.SIGKILL:
		return "killed, as when the machine has no memory left"
	case status.Signaled():
		return "signal: " + status.Signal().String()
	}
	return "exit status " + strconv.Itoa(status.ExitStatus())
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	last []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, p[max(0, len(p)-lastWords):]...)
	if extra := len(t.last) - lastWords; extra > 0 {
		t.last = append(t.last[:0], t.last[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ToValidUTF8(strings.TrimSpace(string(t.last)), "\ufffd")
}
