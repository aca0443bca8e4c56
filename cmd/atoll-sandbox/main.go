// Command atoll-sandbox is every process that contains gVisor: the workers of
// the daemon, and the kernel and file server of each machine. People do not
// start it; atoll does.
package main

import "github.com/atoll-cloud/atoll/gvisor/worker"

func main() { worker.Main() }
