package guest

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"connectrpc.com/connect"

	processpb "github.com/atoll-cloud/atoll/wire/process"
)

const (
	// keepaliveHeader asks for a sign of life on quiet streams, in seconds.
	keepaliveHeader  = "Keepalive-Ping-Interval"
	keepaliveDefault = 90 * time.Second
	keepaliveLongest = time.Hour
)

// processService serves process.Process.
type processService struct{ s *Server }

func (p *processService) List(context.Context, *connect.Request[processpb.ListRequest]) (*connect.Response[processpb.ListResponse], error) {
	response := new(processpb.ListResponse)
	for _, running := range p.s.table.all() {
		response.Processes = append(response.Processes, &processpb.ProcessInfo{Config: running.config, Pid: running.pid, Tag: running.tag})
	}
	return connect.NewResponse(response), nil
}

func (p *processService) Start(ctx context.Context, request *connect.Request[processpb.StartRequest], out *connect.ServerStream[processpb.StartResponse]) error {
	user, err := p.s.requestUser(request.Header())
	if err != nil {
		return processError(err)
	}
	started, reader, err := p.s.startProcess(request.Msg, user)
	if err != nil {
		return processError(err)
	}
	defer reader.leave()
	// The client's deadline bounds the process; its leaving does not.
	if deadline, ok := ctx.Deadline(); ok {
		limit := time.AfterFunc(time.Until(deadline), func() { started.signal(syscall.SIGKILL) })
		go func() {
			<-started.ended
			limit.Stop()
		}()
	}
	send := func(event *processpb.ProcessEvent) error {
		return out.Send(&processpb.StartResponse{Event: event})
	}
	return processError(started.stream(ctx, reader, keepalive(request.Header()), send))
}

func (p *processService) Connect(ctx context.Context, request *connect.Request[processpb.ConnectRequest], out *connect.ServerStream[processpb.ConnectResponse]) error {
	found, err := p.s.table.find(request.Msg.GetProcess())
	if err != nil {
		return processError(err)
	}
	reader := found.out.join()
	defer reader.leave()
	send := func(event *processpb.ProcessEvent) error {
		return out.Send(&processpb.ConnectResponse{Event: event})
	}
	return processError(found.stream(ctx, reader, keepalive(request.Header()), send))
}

// stream sends a process's events until its end or ctx's.
func (p *process) stream(ctx context.Context, r *reader, every time.Duration, send func(*processpb.ProcessEvent) error) error {
	if err := send(startEvent(p.pid)); err != nil {
		return err
	}
	quiet := time.NewTicker(every)
	defer quiet.Stop()
	for {
		select {
		case <-r.wake:
			chunks, more, err := r.take()
			for _, c := range chunks {
				if err := send(dataEvent(c)); err != nil {
					return err
				}
			}
			if err != nil {
				return err
			}
			if !more {
				<-p.ended
				hold(ctx)
				return p.sendEnd(ctx, send)
			}
			quiet.Reset(every)
		case <-p.ended:
			hold(ctx)
			// Output that came before the end has woken the reader too.
			if chunks, _, err := r.take(); len(chunks) > 0 || err != nil {
				for _, c := range chunks {
					if err := send(dataEvent(c)); err != nil {
						return err
					}
				}
				if err != nil {
					return err
				}
			}
			return p.sendEnd(ctx, send)
		case <-quiet.C:
			if err := send(keepaliveEvent); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sendEnd sends the last event; a process that was killed because time ran
// out is reported as that.
func (p *process) sendEnd(ctx context.Context, send func(*processpb.ProcessEvent) error) error {
	if deadline, ok := ctx.Deadline(); ok && !p.end.Exited && time.Now().After(deadline) {
		return context.DeadlineExceeded
	}
	return send(&processpb.ProcessEvent{Event: &processpb.ProcessEvent_End{End: p.end}})
}

func (p *processService) Update(_ context.Context, request *connect.Request[processpb.UpdateRequest]) (*connect.Response[processpb.UpdateResponse], error) {
	found, err := p.s.table.find(request.Msg.GetProcess())
	if err == nil && request.Msg.GetPty() != nil {
		err = found.resize(request.Msg.GetPty().GetSize())
	}
	return connect.NewResponse(new(processpb.UpdateResponse)), processError(err)
}

func (p *processService) SendInput(ctx context.Context, request *connect.Request[processpb.SendInputRequest]) (*connect.Response[processpb.SendInputResponse], error) {
	found, err := p.s.table.find(request.Msg.GetProcess())
	if err == nil {
		err = found.input(ctx, request.Msg.GetInput())
	}
	return connect.NewResponse(new(processpb.SendInputResponse)), processError(err)
}

func (p *processService) StreamInput(ctx context.Context, in *connect.ClientStream[processpb.StreamInputRequest]) (*connect.Response[processpb.StreamInputResponse], error) {
	var target *process
	for in.Receive() {
		var err error
		switch event := in.Msg().GetEvent().(type) {
		case *processpb.StreamInputRequest_Start:
			target, err = p.s.table.find(event.Start.GetProcess())
		case *processpb.StreamInputRequest_Data:
			if target == nil {
				err = connect.NewError(connect.CodeInvalidArgument, errors.New("the stream must begin with a start event that names the process"))
			} else {
				err = target.input(ctx, event.Data.GetInput())
			}
		}
		if err != nil {
			return nil, processError(err)
		}
	}
	if err := in.Err(); err != nil && !errors.Is(err, context.Canceled) {
		return nil, err
	}
	return connect.NewResponse(new(processpb.StreamInputResponse)), nil
}

func (p *process) input(ctx context.Context, in *processpb.ProcessInput) error {
	switch data := in.GetInput().(type) {
	case *processpb.ProcessInput_Stdin:
		return p.write(ctx, data.Stdin, false)
	case *processpb.ProcessInput_Pty:
		return p.write(ctx, data.Pty, true)
	}
	return connect.NewError(connect.CodeInvalidArgument, errors.New("the input names neither stdin nor pty"))
}

func (p *processService) SendSignal(_ context.Context, request *connect.Request[processpb.SendSignalRequest]) (*connect.Response[processpb.SendSignalResponse], error) {
	found, err := p.s.table.find(request.Msg.GetProcess())
	if err == nil {
		switch request.Msg.GetSignal() {
		case processpb.Signal_SIGNAL_SIGKILL:
			err = found.signal(syscall.SIGKILL)
		case processpb.Signal_SIGNAL_SIGTERM:
			err = found.signal(syscall.SIGTERM)
		default:
			err = connect.NewError(connect.CodeInvalidArgument, errors.New("signal: only SIGTERM (15) and SIGKILL (9) can be sent"))
		}
	}
	return connect.NewResponse(new(processpb.SendSignalResponse)), processError(err)
}

func (p *processService) CloseStdin(_ context.Context, request *connect.Request[processpb.CloseStdinRequest]) (*connect.Response[processpb.CloseStdinResponse], error) {
	found, err := p.s.table.find(request.Msg.GetProcess())
	if err == nil {
		err = found.closeStdin()
	}
	return connect.NewResponse(new(processpb.CloseStdinResponse)), processError(err)
}

// processError gives errors of processes the codes that SDKs expect.
func processError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNoProcess):
		return connect.NewError(connect.CodeNotFound, err)
	case errors.Is(err, errBadStart), errors.Is(err, errTTYStdin):
		return connect.NewError(connect.CodeInvalidArgument, err)
	case errors.Is(err, errNoStdin), errors.Is(err, errNoTTY):
		return connect.NewError(connect.CodeFailedPrecondition, err)
	case errors.Is(err, errSlowReader):
		return connect.NewError(connect.CodeResourceExhausted, err)
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, errors.New("the time-out of the request has passed"))
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, err)
	}
	return rpcError(err)
}

// keepalive returns how long a stream may be quiet.
func keepalive(h http.Header) time.Duration {
	seconds, err := strconv.ParseUint(h.Get(keepaliveHeader), 10, 32)
	if err != nil || seconds == 0 {
		return keepaliveDefault
	}
	return min(time.Duration(seconds)*time.Second, keepaliveLongest)
}

var keepaliveEvent = &processpb.ProcessEvent{Event: &processpb.ProcessEvent_Keepalive{Keepalive: new(processpb.ProcessEvent_KeepAlive)}}

func startEvent(pid uint32) *processpb.ProcessEvent {
	return &processpb.ProcessEvent{Event: &processpb.ProcessEvent_Start{Start: &processpb.ProcessEvent_StartEvent{Pid: pid}}}
}

func dataEvent(c chunk) *processpb.ProcessEvent {
	data := new(processpb.ProcessEvent_DataEvent)
	switch c.stream {
	case streamStdout:
		data.Output = &processpb.ProcessEvent_DataEvent_Stdout{Stdout: c.data}
	case streamStderr:
		data.Output = &processpb.ProcessEvent_DataEvent_Stderr{Stderr: c.data}
	default:
		data.Output = &processpb.ProcessEvent_DataEvent_Pty{Pty: c.data}
	}
	return &processpb.ProcessEvent{Event: &processpb.ProcessEvent_Data{Data: data}}
}
