package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// attached is a program in a guest that this process stands in for: what is
// done to this process is done to it.
type attached interface {
	signal(ctx context.Context, n syscall.Signal)
	// resize tells the program the size of the terminal here, where it has one.
	resize(ctx context.Context)
}

// takeSignals keeps signals from ending this process until stop is called.
func takeSignals() (sigs <-chan os.Signal, stop func()) {
	all := make(chan os.Signal, 8)
	signal.Notify(all, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGWINCH)
	// A reader that went away (| head) must be an error of ours, not our end.
	signal.Ignore(syscall.SIGPIPE)
	return all, func() { signal.Stop(all) }
}

// forwardSignals sends signals and changes of size to a program until ctx ends.
// Whoever asks a third time to end it has it killed.
func forwardSignals(ctx context.Context, sigs <-chan os.Signal, to attached) {
	asked := 0
	for {
		var sig os.Signal
		select {
		case <-ctx.Done():
			return
		case sig = <-sigs:
		}
		// One that cannot be delivered now will not be later: the program has
		// ended, or whoever reads its output finds out that the connection is gone.
		switch n := sig.(syscall.Signal); n {
		case syscall.SIGWINCH:
			to.resize(ctx)
		default:
			if asked++; asked > 2 {
				n = syscall.SIGKILL
			}
			to.signal(ctx, n)
		}
	}
}
