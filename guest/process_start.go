package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/atoll-cloud/atoll/guest/vfork"
	processpb "github.com/atoll-cloud/atoll/wire/process"
)

// defaultPath is the PATH of processes when the machine's image sets none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

var (
	// errBadStart is reported for processes that cannot be started as asked.
	errBadStart = errors.New("cannot start the process")
	// errNoProgram is the reason when there is no such program.
	errNoProgram = errors.New("is not an executable in PATH")
)

// launch is a process about to be started: what it runs and its side of the
// pipes.
type launch struct {
	program vfork.Program
	stdin   *os.File
	tty     *os.File
	// outputs are our ends, read until their end.
	outputs []output
	// theirs are the child's ends, closed once it has them.
	theirs []int
}

type output struct {
	file   *os.File
	stream stream
}

// startProcess runs what a client asks for. The returned reader has joined
// before the first byte of output.
func (s *Server) startProcess(request *processpb.StartRequest, user *account) (*process, *reader, error) {
	l, err := s.prepare(request, user)
	if err != nil {
		return nil, nil, err
	}
	if err := l.connect(request, user); err != nil {
		l.abandon()
		return nil, nil, fmt.Errorf("open the pipes of a process: %w", err)
	}
	pid, status, err := s.spawner.start(l.program)
	closeAll(l.theirs)
	l.theirs = nil
	if err != nil {
		l.abandon()
		return nil, nil, startError(l.program.Path, err)
	}
	p := &process{
		pid: uint32(pid), tag: request.Tag, config: request.Process, user: user.name,
		out: newFanout(), writing: make(chan struct{}, 1),
		stdin: l.stdin, tty: l.tty, ended: make(chan struct{}),
	}
	s.table.add(p)
	s.log.Write("info", "process started", "pid", strconv.Itoa(pid), "user", user.name, "tag", request.GetTag(),
		"command", strings.Join(l.program.Args, " "))
	r := p.out.join()
	go s.follow(p, l.outputs, status)
	return p, r, nil
}

// follow owns a process from its start to its end.
func (s *Server) follow(p *process, outputs []output, status <-chan syscall.WaitStatus) {
	var pumps sync.WaitGroup
	for _, o := range outputs {
		pumps.Go(func() {
			p.pump(o.file, o.stream, s.log)
			if o.stream != streamPTY {
				o.file.Close()
			}
		})
	}
	// As with a shell's pipe, the end is when nobody holds the output any
	// more, children included.
	pumps.Wait()
	ended := <-status
	s.table.remove(p)
	p.finish(ended)
	s.log.Write("info", "process ended", "pid", strconv.FormatUint(uint64(p.pid), 10), "status", p.end.Status)
}

// prepare resolves directory, environment and program.
func (s *Server) prepare(request *processpb.StartRequest, user *account) (*launch, error) {
	config := request.GetProcess()
	if config.GetCmd() == "" {
		return nil, fmt.Errorf("%w: no command given", errBadStart)
	}
	settings := s.settings.get()
	cwd, err := resolvePath(config.GetCwd(), workdir(config.GetCwd(), settings.workdir, user), user)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(cwd); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%w: cwd '%s' does not exist or is not a directory", errBadStart, cwd)
	}
	env, path, err := environment(user, settings.envs, config.GetEnvs())
	if err != nil {
		return nil, err
	}
	program, err := lookPath(config.GetCmd(), path)
	if err != nil {
		return nil, err
	}
	args := append([]string{config.GetCmd()}, config.GetArgs()...)
	for _, arg := range args {
		if strings.ContainsRune(arg, 0) {
			return nil, fmt.Errorf("%w: an argument holds a NUL byte", errBadStart)
		}
	}
	return &launch{program: vfork.Program{Path: program, Args: args, Env: env, Dir: cwd, User: credential(user)}}, nil
}

// credential is what a process of a user runs with; nil where this one is not
// root's, which only ever starts its own user's.
func credential(user *account) *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: user.uid, Gid: user.gid, Groups: user.groups}
}

// workdir is where a relative or absent working directory begins.
func workdir(cwd, fallback string, user *account) string {
	if cwd == "" && strings.HasPrefix(fallback, "/") {
		return fallback
	}
	return user.home
}

// environment returns the variables of a process, as a login would set them,
// then the machine's defaults, then the request's; and the PATH among them.
func environment(user *account, defaults, wanted map[string]string) (env []string, path string, err error) {
	path = os.Getenv("PATH")
	if path == "" {
		path = defaultPath
	}
	vars := map[string]string{"HOME": user.home, "USER": user.name, "LOGNAME": user.name, "SHELL": user.shell, "PATH": path}
	for key, value := range defaults {
		vars[key] = value
	}
	for key, value := range wanted {
		if !validEnv(key, value) {
			return nil, "", fmt.Errorf("%w: environment variable %q is not valid", errBadStart, key)
		}
		vars[key] = value
	}
	env = make([]string, 0, len(vars))
	for key, value := range vars {
		env = append(env, key+"="+value)
	}
	return env, vars["PATH"], nil
}

// lookPath finds a program as execvp does.
func lookPath(cmd, path string) (string, error) {
	if strings.Contains(cmd, "/") {
		return cmd, nil
	}
	for _, dir := range filepath.SplitList(path) {
		candidate := filepath.Join(dir, cmd)
		if info, err := os.Stat(candidate); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && filepath.IsAbs(candidate) {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("%w: %q %w", errBadStart, cmd, errNoProgram)
}

// connect opens the pipes or the terminal.
func (l *launch) connect(request *processpb.StartRequest, user *account) error {
	if request.Pty != nil {
		return l.connectTerminal(request.Pty.GetSize(), user)
	}
	stdin, err := l.openStdin(request)
	if err != nil {
		return err
	}
	stdout, err := l.outputPipe(streamStdout)
	if err != nil {
		return err
	}
	stderr, err := l.outputPipe(streamStderr)
	if err != nil {
		return err
	}
	l.program.Files = []uintptr{uintptr(stdin), uintptr(stdout), uintptr(stderr)}
	return nil
}

// openStdin returns the child's standard input: /dev/null only when the client
// says that it will send nothing.
func (l *launch) openStdin(request *processpb.StartRequest) (int, error) {
	if request.Stdin != nil && !*request.Stdin {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, fmt.Errorf("open /dev/null: %w", err)
		}
		l.theirs = append(l.theirs, fd)
		return fd, nil
	}
	read, write, err := pipe()
	if err != nil {
		return 0, err
	}
	l.theirs = append(l.theirs, read)
	l.stdin, err = ourEnd(write, "stdin")
	return read, err
}

func (l *launch) outputPipe(s stream) (int, error) {
	read, write, err := pipe()
	if err != nil {
		return 0, err
	}
	l.theirs = append(l.theirs, write)
	file, err := ourEnd(read, s.String())
	if err != nil {
		return 0, err
	}
	l.outputs = append(l.outputs, output{file, s})
	return write, nil
}

func (l *launch) connectTerminal(size *processpb.PTY_Size, user *account) error {
	master, slave, err := openTerminal(size, user)
	if err != nil {
		return err
	}
	l.theirs = append(l.theirs, slave)
	if l.tty, err = ourEnd(master, "pty"); err != nil {
		return err
	}
	l.outputs = append(l.outputs, output{l.tty, streamPTY})
	l.program.Files = []uintptr{uintptr(slave), uintptr(slave), uintptr(slave)}
	l.program.Terminal = true
	return nil
}

// abandon closes everything of a launch that failed.
func (l *launch) abandon() {
	closeAll(l.theirs)
	for _, o := range l.outputs {
		o.file.Close()
	}
	if l.stdin != nil {
		l.stdin.Close()
	}
}

func pipe() (read, write int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return 0, 0, fmt.Errorf("open a pipe: %w", err)
	}
	return p[0], p[1], nil
}

// ourEnd makes a descriptor a file that goroutines wait on without threads.
func ourEnd(fd int, name string) (*os.File, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set %s non-blocking: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// startError tells mistakes of the client from exhaustion of the machine.
func startError(path string, err error) error {
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOMEM) {
		return fmt.Errorf("start process '%s': the machine's limit of processes or memory is reached: %w", path, err)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOEXEC) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.E2BIG) {
		return fmt.Errorf("%w '%s': %w", errBadStart, path, err)
	}
	return fmt.Errorf("start process '%s': %w", path, err)
}
