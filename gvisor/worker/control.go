package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"gvisor.dev/gvisor/pkg/control/client"
	"gvisor.dev/gvisor/pkg/sentry/control"
	"gvisor.dev/gvisor/pkg/sentry/state/checkpointfiles"
	"gvisor.dev/gvisor/pkg/state/statefile"
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

// checkpoint writes the guest's memory to a directory, which appears only when
// it is complete. The guest must be paused, and stays so.
func checkpoint(req *protocol.Request) (err error) {
	if paused, err := protocol.Paused(req.StateDir); err != nil || !paused {
		return errors.Join(errors.New("checkpoint a guest that is not paused"), err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(req.ImageDir), ".checkpoint-")
	if err != nil {
		return fmt.Errorf("make checkpoint directory: %w", err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(tmp)
		}
	}()
	opts := control.SaveOpts{
		// Deflating costs ten times the time; storage can do it later.
		Metadata:      statefile.CompressionLevelNone.ToMetadata(),
		HavePagesFile: true,
		Resume:        true, // go on existing, not running
	}
	defer func() {
		for _, f := range opts.Files {
			f.Close()
		}
	}()
	for _, name := range []string{checkpointfiles.StateFileName, checkpointfiles.PagesMetadataFileName, checkpointfiles.PagesFileName} {
		f, err := os.OpenFile(filepath.Join(tmp, name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err != nil {
			return fmt.Errorf("make checkpoint file: %w", err)
		}
		opts.Files = append(opts.Files, f)
	}
	if err := call(req.Socket, boot.ContMgrCheckpoint, &opts, nil); err != nil {
		return fmt.Errorf("checkpoint guest: %w", err)
	}
	if err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, req.ImageDir, unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("put checkpoint in place: %w", err)
	}
	return nil
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
