// Command atoll-guest is the first process of every machine: the daemon that
// clients' SDKs and the host talk to. See package guest. Called sprite-env it is
// the command line of a sprite's own API. See package command.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/atoll-cloud/atoll/guest"
	"github.com/atoll-cloud/atoll/guest/kernel"
	"github.com/atoll-cloud/atoll/guest/service/command"
	"github.com/atoll-cloud/atoll/guest/sprite"
	"github.com/atoll-cloud/atoll/wire"
)

const (
	// memoryLimit is where the garbage collector works harder, in bytes; an
	// idle daemon is far below it.
	memoryLimit = 96 << 20
	gcPercent   = 50
	// defaultPids is how many processes and threads clients may have when
	// ATOLL_PIDS_MAX does not say otherwise.
	defaultPids = 4096
	// farewell is how long processes have to end after SIGTERM.
	farewell = 3 * time.Second
)

func main() {
	if filepath.Base(os.Args[0]) == command.Name {
		os.Exit(command.Run(command.Config{Socket: command.Socket, Stdout: os.Stdout, Stderr: os.Stderr}, os.Args[1:]))
	}
	listen := flag.String("listen", ":"+strconv.Itoa(wire.GuestPort), "`address` to serve on")
	user := flag.String("user", "user", "`name` of the user that requests act as by default")
	flag.Parse()
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	syscall.Umask(0o022)
	log := guest.NewLog(os.Stdout)
	err := run(*listen, *user, log)
	if err != nil {
		log.Write("error", err.Error())
	}
	log.Close()
	if err != nil {
		fmt.Fprintln(os.Stderr, "atoll-guest:", err)
		os.Exit(1)
	}
}

func run(listen, user string, log *guest.Log) error {
	first := os.Getpid() == 1
	tasks := ""
	if first {
		if err := guest.PrepareSystem(); err != nil {
			return err
		}
		tasks = limitProcesses(log)
	}
	spawner, err := guest.NewSpawner(tasks)
	if err != nil {
		log.Write("warn", "processes are not limited", "error", err.Error())
		if spawner, err = guest.NewSpawner(""); err != nil {
			return err
		}
	}
	defer spawner.Close()
	server := guest.New(guest.Config{DefaultUser: user, SystemSettings: first, Log: log, Spawner: spawner})
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	kernels := serveKernels(server, log)
	sprites := sprite.New(sprite.Config{Guest: server, Activity: server, Log: log.Write, Hidden: []int{wire.GuestPort, wire.KernelPort}})
	server.Mount(wire.SpritePath, sprites.Handler())
	go func() {
		<-stop.Done()
		kernels.Close()
		end, cancel := context.WithTimeout(context.Background(), farewell)
		defer cancel()
		sprites.Close(end)
		server.Shutdown(end)
	}()
	log.Write("info", "guest daemon is ready", "address", listener.Addr().String())
	return server.Serve(listener)
}

// serveKernels starts the code interpreter in machines that have kernels; it
// returns nil in others. The machine is of use without it, so what is wrong
// with it goes to the log.
func serveKernels(server *guest.Server, log *guest.Log) *kernel.Server {
	kernels, err := kernel.New(kernel.Config{Host: server, Log: log.Write, ConnState: server.TrackConnection})
	if err != nil {
		log.Write("error", "the code interpreter does not start", "error", err.Error())
		return nil
	}
	if kernels == nil {
		return nil
	}
	listener, err := net.Listen("tcp", ":"+strconv.Itoa(wire.KernelPort))
	if err != nil {
		log.Write("error", "the code interpreter does not start", "error", err.Error())
		kernels.Close()
		return nil
	}
	go func() {
		if err := kernels.Serve(listener); err != nil {
			log.Write("error", err.Error())
		}
	}()
	return kernels
}

// limitProcesses returns the file through which processes enter their limit,
// "" when the kernel has no such thing.
func limitProcesses(log *guest.Log) string {
	limit, err := guest.ProcessLimit(os.Getenv("ATOLL_PIDS_MAX"), defaultPids)
	if err == nil && limit == 0 {
		return ""
	}
	tasks := ""
	if err == nil {
		tasks, err = guest.LimitProcesses(limit)
	}
	if err != nil {
		log.Write("warn", "processes are not limited", "error", err.Error())
	}
	return tasks
}
