// Sentries and gofers start inside the machine's cgroup. Go would keep its
// limits open there and watch them; how many threads to use is set by hand.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command atoll-sandbox is every process that contains gVisor: the workers of
// the daemon, and the kernel and file server of each machine. People do not
// start it; atoll does.
package main

import "github.com/atoll-cloud/atoll/gvisor/worker"

func main() { worker.Main() }
