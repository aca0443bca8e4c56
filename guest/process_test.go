package guest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	processpb "github.com/atoll-cloud/atoll/wire/process"
)

// outcome is all that a process's stream said.
type outcome struct {
	pid                 uint32
	stdout, stderr, pty string
	end                 *processpb.ProcessEvent_EndEvent
	err                 error
}

type eventStream interface {
	Receive() bool
	Err() error
}

func collect(s eventStream, event func() *processpb.ProcessEvent) outcome {
	var o outcome
	for s.Receive() {
		switch e := event().GetEvent().(type) {
		case *processpb.ProcessEvent_Start:
			o.pid = e.Start.GetPid()
		case *processpb.ProcessEvent_Data:
			o.stdout += string(e.Data.GetStdout())
			o.stderr += string(e.Data.GetStderr())
			o.pty += string(e.Data.GetPty())
		case *processpb.ProcessEvent_End:
			o.end = e.End
		}
	}
	o.err = s.Err()
	return o
}

func shell(script string) *processpb.StartRequest {
	return &processpb.StartRequest{Process: &processpb.ProcessConfig{Cmd: "/bin/sh", Args: []string{"-c", script}}, Stdin: new(bool)}
}

func (m *machine) run(request *processpb.StartRequest) outcome {
	m.t.Helper()
	return m.runAs(request, "")
}

func (m *machine) runAs(request *processpb.StartRequest, user string) outcome {
	m.t.Helper()
	r := connect.NewRequest(request)
	if user != "" {
		r.Header().Set("Authorization", "Basic "+encodeBasic(user))
	}
	s, err := m.process.Start(deadline(m.t), r)
	if err != nil {
		return outcome{err: err}
	}
	defer s.Close()
	return collect(s, func() *processpb.ProcessEvent { return s.Msg().GetEvent() })
}

// start begins a process and returns its stream after the start event.
func (m *machine) start(ctx context.Context, request *processpb.StartRequest) (*connect.ServerStreamForClient[processpb.StartResponse], *processpb.ProcessSelector) {
	m.t.Helper()
	s, err := m.process.Start(ctx, connect.NewRequest(request))
	if err != nil {
		m.t.Fatal(err)
	}
	if !s.Receive() {
		m.t.Fatal("no start event:", s.Err())
	}
	pid := s.Msg().GetEvent().GetStart().GetPid()
	return s, &processpb.ProcessSelector{Selector: &processpb.ProcessSelector_Pid{Pid: pid}}
}

func TestEndOfProcess(t *testing.T) {
	m := newMachine(t)
	for _, c := range []struct {
		name, script, stdout, stderr, status string
		code                                 int32
		exited                               bool
	}{
		{"success", "echo out; echo err >&2", "out\n", "err\n", "exit status 0", 0, true},
		{"failure", "exit 3", "", "", "exit status 3", 3, true},
		{"signal", "kill -9 $$", "", "", "signal: killed", -1, false},
		{"no input is the end of input", "cat; echo end", "end\n", "", "exit status 0", 0, true},
		{"home is where it starts", "pwd", m.home + "\n", "", "exit status 0", 0, true},
		{"children's output belongs to it", "(sleep 0.05; echo late) &", "late\n", "", "exit status 0", 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := m.run(shell(c.script))
			if o.err != nil {
				t.Fatal(o.err)
			}
			if o.stdout != c.stdout || o.stderr != c.stderr {
				t.Errorf("output %q, %q; want %q, %q", o.stdout, o.stderr, c.stdout, c.stderr)
			}
			if o.end.GetExitCode() != c.code || o.end.GetExited() != c.exited || o.end.GetStatus() != c.status {
				t.Errorf("end %v", o.end)
			}
			if failed := c.code != 0; failed != (o.end.Error != nil) {
				t.Errorf("error %v", o.end.Error)
			}
		})
	}
}

func TestStartRefuses(t *testing.T) {
	m := newMachine(t)
	missing := filepath.Join(m.home, "missing")
	for _, c := range []struct {
		name    string
		user    string
		request *processpb.StartRequest
		code    connect.Code
	}{
		{"unknown user", "stranger", shell("true"), connect.CodeUnauthenticated},
		{"missing directory", "", &processpb.StartRequest{Process: &processpb.ProcessConfig{Cmd: "/bin/sh", Cwd: &missing}}, connect.CodeInvalidArgument},
		{"missing program", "", &processpb.StartRequest{Process: &processpb.ProcessConfig{Cmd: missing}}, connect.CodeInvalidArgument},
		{"program not in PATH", "", &processpb.StartRequest{Process: &processpb.ProcessConfig{Cmd: "no-such-program"}}, connect.CodeInvalidArgument},
		{"no program", "", &processpb.StartRequest{}, connect.CodeInvalidArgument},
		{"bad variable", "", &processpb.StartRequest{Process: &processpb.ProcessConfig{Cmd: "/bin/sh", Envs: map[string]string{"a=b": "c"}}}, connect.CodeInvalidArgument},
		{"NUL in an argument", "", &processpb.StartRequest{Process: &processpb.ProcessConfig{Cmd: "/bin/sh", Args: []string{"a\x00b"}}}, connect.CodeInvalidArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := m.runAs(c.request, c.user)
			if connect.CodeOf(o.err) != c.code {
				t.Errorf("got %v, want %v", o.err, c.code)
			}
		})
	}
	if left := m.server.table.all(); len(left) != 0 {
		t.Errorf("%d processes in the table", len(left))
	}
}

func TestEnvironment(t *testing.T) {
	m := newMachine(t)
	if status, body, _ := m.do("POST", "/init", `{"envVars":{"A":"default","B":"default"}}`); status != 204 {
		t.Fatal(status, body)
	}
	request := shell(`echo $A $B $HOME $USER $LOGNAME $SHELL`)
	request.Process.Envs = map[string]string{"B": "asked"}
	want := "default asked " + m.home + " user user /bin/bash\n"
	if o := m.run(request); o.stdout != want {
		t.Errorf("got %q, want %q (%v)", o.stdout, want, o.err)
	}
}

func TestUserOfRequest(t *testing.T) {
	m := newMachine(t)
	if os.Getuid() != 0 {
		t.Fatal("choosing a user needs root")
	}
	if o := m.runAs(shell("id -u; id -g; echo $HOME"), "other"); o.stdout != "4242\n4242\n/\n" {
		t.Errorf("got %q, %v", o.stdout, o.err)
	}
}

func TestInput(t *testing.T) {
	m := newMachine(t)
	ctx := deadline(t)
	request := shell("cat")
	request.Stdin = nil // absent means open
	s, selector := m.start(ctx, request)
	defer s.Close()
	input := func(text string) *processpb.ProcessInput {
		return &processpb.ProcessInput{Input: &processpb.ProcessInput_Stdin{Stdin: []byte(text)}}
	}
	if _, err := m.process.SendInput(ctx, connect.NewRequest(&processpb.SendInputRequest{Process: selector, Input: input("one ")})); err != nil {
		t.Fatal(err)
	}
	stream := m.process.StreamInput(ctx)
	for _, message := range []*processpb.StreamInputRequest{
		{Event: &processpb.StreamInputRequest_Start{Start: &processpb.StreamInputRequest_StartEvent{Process: selector}}},
		{Event: &processpb.StreamInputRequest_Data{Data: &processpb.StreamInputRequest_DataEvent{Input: input("two ")}}},
		{Event: &processpb.StreamInputRequest_Keepalive{Keepalive: new(processpb.StreamInputRequest_KeepAlive)}},
		{Event: &processpb.StreamInputRequest_Data{Data: &processpb.StreamInputRequest_DataEvent{Input: input("three")}}},
	} {
		if err := stream.Send(message); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stream.CloseAndReceive(); err != nil {
		t.Fatal(err)
	}
	if _, err := m.process.CloseStdin(ctx, connect.NewRequest(&processpb.CloseStdinRequest{Process: selector})); err != nil {
		t.Fatal(err)
	}
	if o := collect(s, func() *processpb.ProcessEvent { return s.Msg().GetEvent() }); o.stdout != "one two three" || o.end.GetExitCode() != 0 {
		t.Errorf("got %q, %v, %v", o.stdout, o.end, o.err)
	}
}

func TestInputThatNobodyReadsEndsWithTheRequest(t *testing.T) {
	m := newMachine(t)
	request := shell("sleep 60")
	request.Stdin = nil
	s, selector := m.start(deadline(t), request)
	defer s.Close()
	ctx, cancel := context.WithTimeout(deadline(t), 100*time.Millisecond)
	defer cancel()
	input := &processpb.ProcessInput{Input: &processpb.ProcessInput_Stdin{Stdin: bytes.Repeat([]byte("x"), 1<<20)}}
	_, err := m.process.SendInput(ctx, connect.NewRequest(&processpb.SendInputRequest{Process: selector, Input: input}))
	if connect.CodeOf(err) != connect.CodeDeadlineExceeded {
		t.Error(err)
	}
}

func TestConnectByTag(t *testing.T) {
	m := newMachine(t)
	ctx := deadline(t)
	tag := "job"
	request := shell("read x; echo $x")
	request.Stdin, request.Tag = nil, &tag
	first, selector := m.start(ctx, request)
	defer first.Close()
	again, err := m.process.Connect(ctx, connect.NewRequest(&processpb.ConnectRequest{Process: &processpb.ProcessSelector{Selector: &processpb.ProcessSelector_Tag{Tag: tag}}}))
	if err != nil || !again.Receive() {
		t.Fatal(err, again.Err())
	}
	defer again.Close()
	if list, err := m.process.List(ctx, connect.NewRequest(new(processpb.ListRequest))); err != nil || len(list.Msg.Processes) != 1 || list.Msg.Processes[0].GetTag() != tag {
		t.Fatal(list, err)
	}
	input := &processpb.ProcessInput{Input: &processpb.ProcessInput_Stdin{Stdin: []byte("hello\n")}}
	if _, err := m.process.SendInput(ctx, connect.NewRequest(&processpb.SendInputRequest{Process: selector, Input: input})); err != nil {
		t.Fatal(err)
	}
	a := collect(first, func() *processpb.ProcessEvent { return first.Msg().GetEvent() })
	b := collect(again, func() *processpb.ProcessEvent { return again.Msg().GetEvent() })
	if a.stdout != "hello\n" || b.stdout != "hello\n" || b.end.GetStatus() != "exit status 0" {
		t.Errorf("%v and %v", a, b)
	}
	if _, err := m.process.SendSignal(ctx, connect.NewRequest(&processpb.SendSignalRequest{Process: selector, Signal: processpb.Signal_SIGNAL_SIGKILL})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Error("signal to an ended process:", err)
	}
}

func TestSignalReachesTheGroup(t *testing.T) {
	m := newMachine(t)
	for _, signal := range []processpb.Signal{processpb.Signal_SIGNAL_SIGKILL, processpb.Signal_SIGNAL_SIGTERM} {
		s, selector := m.start(deadline(t), shell("sleep 60 | cat"))
		if _, err := m.process.SendSignal(deadline(t), connect.NewRequest(&processpb.SendSignalRequest{Process: selector, Signal: signal})); err != nil {
			t.Fatal(err)
		}
		// The stream ends only when the last holder of the output is gone.
		o := collect(s, func() *processpb.ProcessEvent { return s.Msg().GetEvent() })
		if want := "signal: " + syscall.Signal(signal).String(); o.end.GetStatus() != want || o.end.GetError() != want {
			t.Errorf("end %v, %v", o.end, o.err)
		}
		s.Close()
	}
}

func TestDeadlineKillsAndLeavingDoesNot(t *testing.T) {
	m := newMachine(t)
	mark := filepath.Join(m.home, "mark")
	ctx, leave := context.WithCancel(deadline(t))
	request := shell("read x; echo done > " + mark)
	request.Stdin = nil
	_, selector := m.start(ctx, request)
	leave()
	input := &processpb.ProcessInput{Input: &processpb.ProcessInput_Stdin{Stdin: []byte("go\n")}}
	if _, err := m.process.SendInput(deadline(t), connect.NewRequest(&processpb.SendInputRequest{Process: selector, Input: input})); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the abandoned process goes on", func() bool { _, err := os.Stat(mark); return err == nil })

	short, cancel := context.WithTimeout(deadline(t), 100*time.Millisecond)
	defer cancel()
	s, _ := m.start(short, shell("sleep 60"))
	if o := collect(s, func() *processpb.ProcessEvent { return s.Msg().GetEvent() }); connect.CodeOf(o.err) != connect.CodeDeadlineExceeded {
		t.Error(o.err)
	}
	eventually(t, "the process is killed at the deadline", func() bool { return len(m.server.table.all()) == 0 })
}

func TestTerminal(t *testing.T) {
	m := newMachine(t)
	ctx := deadline(t)
	request := shell("stty size; read x; stty size; tty >/dev/null && echo terminal")
	request.Pty = &processpb.PTY{Size: &processpb.PTY_Size{Rows: 31, Cols: 101}}
	s, selector := m.start(ctx, request)
	defer s.Close()
	if _, err := m.process.Update(ctx, connect.NewRequest(&processpb.UpdateRequest{Process: selector, Pty: &processpb.PTY{Size: &processpb.PTY_Size{Rows: 22, Cols: 77}}})); err != nil {
		t.Fatal(err)
	}
	if _, err := m.process.CloseStdin(ctx, connect.NewRequest(&processpb.CloseStdinRequest{Process: selector})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Error("closing a terminal's input:", err)
	}
	input := &processpb.ProcessInput{Input: &processpb.ProcessInput_Pty{Pty: []byte("\n")}}
	if _, err := m.process.SendInput(ctx, connect.NewRequest(&processpb.SendInputRequest{Process: selector, Input: input})); err != nil {
		t.Fatal(err)
	}
	o := collect(s, func() *processpb.ProcessEvent { return s.Msg().GetEvent() })
	if !strings.Contains(o.pty, "22 77") || !strings.Contains(o.pty, "terminal") || o.end.GetExitCode() != 0 {
		t.Errorf("got %q, %v, %v", o.pty, o.end, o.err)
	}
}

func TestOrphansAreReapedAndStatusesKept(t *testing.T) {
	m := newMachine(t)
	o := m.run(shell("for i in 1 2 3 4 5 6 7 8; do (setsid sh -c 'exit 0' >/dev/null 2>&1 &); done; exit 5"))
	if o.end.GetExitCode() != 5 {
		t.Error(o.end, o.err)
	}
	eventually(t, "no child is left as a zombie", func() bool {
		children, err := os.ReadFile("/proc/self/task/" + filepath.Base(mustReadlink("/proc/thread-self")) + "/children")
		return err == nil && len(bytes.Fields(children)) == 0
	})
}

func mustReadlink(path string) string {
	target, err := os.Readlink(path)
	if err != nil {
		return ""
	}
	return target
}

func TestSlowReaderIsDroppedAndTold(t *testing.T) {
	f := newFanout()
	slow, quick := f.join(), f.join()
	var got []byte
	read := make(chan struct{})
	go func() {
		defer close(read)
		for range quick.wake {
			chunks, more, err := quick.take()
			for _, c := range chunks {
				got = append(got, c.data...)
			}
			if !more || err != nil {
				return
			}
		}
	}()
	var sent []byte
	for i := range 40 {
		data := bytes.Repeat([]byte{byte(i)}, readerQueue/20)
		sent = append(sent, data...)
		f.publish(chunk{streamStdout, data})
	}
	f.close()
	<-read
	if !slices.Equal(got, sent) {
		t.Errorf("the quick reader got %d of %d bytes", len(got), len(sent))
	}
	if chunks, _, err := slow.take(); !errors.Is(err, errSlowReader) || len(chunks) > 20 {
		t.Errorf("the slow reader holds %d chunks and %v", len(chunks), err)
	}
}

func TestJSONOfOutputIsWhatProtobufWouldWrite(t *testing.T) {
	for _, s := range []stream{streamStdout, streamStderr, streamPTY} {
		message := &processpb.StartResponse{Event: dataEvent(chunk{s, []byte("a\x00\xff\"<é")})}
		data, err := jsonCodec{}.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		back := new(processpb.StartResponse)
		if err := (jsonCodec{}).Unmarshal(data, back); err != nil || back.String() != message.String() {
			t.Errorf("%s became %v, %v", data, back, err)
		}
	}
}
