package worker

import (
	"errors"
	"fmt"

	"gvisor.dev/gvisor/pkg/control/client"
	"gvisor.dev/gvisor/runsc/boot"

	"github.com/atoll-cloud/atoll/gvisor/protocol"
)

// call asks one thing of a sandbox on its control socket.
func call(socket, method string, arg, result any) error {
	conn, err := client.ConnectTo(socket)
	if err != nil {
		return fmt.Errorf("connect to sandbox: %w", err)
	}
	defer conn.Close()
	return conn.Call(method, arg, result)
}

// pause and resume keep PausedFile. A sandbox counts pauses and dies of one
// resume too many, so neither is sent twice.
func pause(req *protocol.Request) error {
	paused, err := protocol.Paused(req.StateDir)
	if err != nil || paused {
		return err
	}
	if err := call(req.Socket, boot.ContMgrPause, nil, nil); err != nil {
		return fmt.Errorf("pause guest: %w", err)
	}
	return protocol.SetPaused(req.StateDir, true)
}

func resume(req *protocol.Request) error {
	paused, err := protocol.Paused(req.StateDir)
	if err != nil || !paused {
		return err
	}
	if err := call(req.Socket, boot.ContMgrResume, nil, nil); err != nil {
		return fmt.Errorf("resume guest: %w", err)
	}
	return protocol.SetPaused(req.StateDir, false)
}

// ping fails unless the sandbox answers.
func ping(req *protocol.Request) error {
	var state boot.ContainerRuntimeState
	if err := call(req.Socket, boot.ContMgrContainerRuntimeState, &req.ID, &state); err != nil {
		return fmt.Errorf("ask sandbox: %w", err)
	}
	if state == boot.RuntimeStateStopped {
		return errors.New("the guest has ended")
	}
	return nil
}
