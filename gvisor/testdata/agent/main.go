// Command agent is the guest of the sandbox tests. What it does is its first
// argument; what it finds it writes to its standard output.
package main

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	switch os.Args[1] {
	case "count":
		count()
	case "strain":
		strained()
	case "mapper":
		mapper()
	case "cat":
		cat()
	case "spin":
		spin()
	case "fill":
		fill()
	case "serve":
		serve()
	case "eat":
		eat()
	case "bomb":
		bomb()
	case "exit":
		fmt.Println("leaving")
	case "look":
		look()
	case "whoami":
		fmt.Println("uid", os.Getuid(), "effective", os.Geteuid())
	case "sleep":
		time.Sleep(time.Hour)
	}
}

// count writes a growing number into a file, and says "ready".
func count() {
	fmt.Println("ready")
	for n := 1; ; n++ {
		if err := os.WriteFile("/count", fmt.Appendln(nil, n), 0o644); err != nil {
			fmt.Println(err)
		}
		fmt.Println("count", n)
		time.Sleep(5 * time.Millisecond)
	}
}

// spin writes a growing number into a file as fast as it can, and every
// hundredth to its output.
func spin() {
	f, err := os.OpenFile("/count", os.O_CREATE|os.O_WRONLY, 0o644)
	must(err)
	for n := 1; ; n++ {
		_, err := f.WriteAt(fmt.Append(nil, n), 0)
		must(err)
		if n%100 == 0 {
			fmt.Println("count", n)
		}
	}
}

func serve() {
	started := time.Now()
	fmt.Println("ready")
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "up", time.Since(started)) })
	http.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 8<<20)) // whoever hangs up asks again
	})
	fmt.Println(http.ListenAndServe(":80", nil))
}

// fill holds as many MiB of memory without a zero page as its argument says,
// and as many of zero pages that were written to as the next one does.
func fill() {
	size := func(i int) int {
		if len(os.Args) <= i {
			return 0
		}
		n, err := strconv.Atoi(os.Args[i])
		must(err)
		return n << 20
	}
	full, zero := make([]byte, size(2)), make([]byte, size(3))
	rand.NewChaCha8([32]byte{1}).Read(full)
	for _, b := range []byte{1, 0} {
		for i := 0; i < len(zero); i += 4096 {
			zero[i] = b
		}
	}
	sum := crc32.ChecksumIEEE(full)
	fmt.Println("ready")
	for {
		time.Sleep(10 * time.Millisecond)
		if crc32.ChecksumIEEE(full) != sum || bytes.ContainsFunc(zero, func(r rune) bool { return r != 0 }) {
			fmt.Println("memory has changed")
		}
		fmt.Println("memory is the same")
		if len(os.Args) <= 4 {
			time.Sleep(time.Hour)
		}
	}
}

func eat() {
	fmt.Println("ready")
	var all [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
		if len(all)%16 == 0 {
			fmt.Println("ate", len(all))
		}
	}
}

// bomb limits a cgroup of the guest's own kernel, enters it and starts
// processes without end; then it shows that it still can do something.
func bomb() {
	if len(os.Args) > 2 {
		fmt.Println("no limit inside")
		explode()
	}
	const dir = "/sys/fs/cgroup/pids/bomb"
	must(os.Mkdir(dir, 0o755))
	must(os.WriteFile(dir+"/pids.max", []byte("64"), 0o644))
	must(os.WriteFile(dir+"/cgroup.procs", []byte(fmt.Sprint(os.Getpid())), 0o644))
	explode()
}

func explode() {
	started := 0
	for {
		if err := exec.Command("/agent", "sleep").Start(); err != nil {
			fmt.Println("stopped by:", err)
			break
		}
		started++
		if started%50 == 0 {
			fmt.Println("started", started)
		}
	}
	fmt.Println("survived", started)
	time.Sleep(time.Hour)
}

// look tells what the guest sees of its machine.
func look() {
	host, _ := os.Hostname()
	fmt.Println("host", host)
	fmt.Println("cpus", runtime.NumCPU())
	fmt.Println("env", strings.Join(os.Environ(), ","))
	b, err := os.ReadFile("/proc/meminfo")
	must(err)
	fmt.Println(strings.SplitN(string(b), "\n", 2)[0])
	must(syscall.Sethostname([]byte("renamed")))
	must(os.MkdirAll("/mnt/t", 0o755))
	must(syscall.Mount("tmpfs", "/mnt/t", "tmpfs", 0, ""))
	_, err = os.Stat("/dev/shm")
	must(err)
	_, err = os.Stat("/dev/ptmx")
	must(err)
	for _, device := range []string{"/dev/net/tun", "/dev/fuse"} {
		_, err = os.Stat(device)
		fmt.Println("device", device, err == nil)
	}
	setuid()
	fmt.Println("done")
}

// setuid runs a program of root's with the setuid bit as somebody else.
func setuid() {
	b, err := os.ReadFile("/agent")
	must(err)
	must(os.WriteFile("/suid", b, 0o755))
	must(os.Chmod("/suid", 0o755|os.ModeSetuid))
	cmd := exec.Command("/suid", "whoami")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	out, err := cmd.CombinedOutput()
	must(err)
	fmt.Print(string(out))
}

func must(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}
