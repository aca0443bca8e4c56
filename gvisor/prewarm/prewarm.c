// atoll-prewarm is the first program of every sandbox process. It is tiny,
// single-threaded and linked to nothing, which makes three steps cheap that
// cost milliseconds once a Go runtime with its threads is up:
//
//   - It puts itself into the machine's cgroups. A single thread that moves
//     itself needs none of the kernel's global locks.
//   - It drops capabilities from the bounding set.
//   - Called as "umount", it waits for a byte and detaches a mount. A sandbox
//     starts this helper once, and would start a whole second Go program.
//
// How it is called (by gVisor's library):
//
//	atoll-prewarm BINARY ARGV0 ARGS...   before a sentry: exec BINARY
//	runsc-gofer ARGS...                  as a file server: exec $ATOLL_SANDBOX
//	ANY umount --sync-fd=3 DIRECTORY     the helper
//
// Exit codes: 111 no join file, 112 cannot join a cgroup, 113 cannot exec.
#define AT_FDCWD -100
#define O_RDONLY 0
#define O_WRONLY 1
#define O_CLOEXEC 02000000
#define MNT_DETACH 2
#define F_DUPFD 0
#define PR_CAPBSET_DROP 24
#define SELF_FD 252

#if defined(__x86_64__)
enum { SYS_read = 0, SYS_write = 1, SYS_close = 3, SYS_execve = 59, SYS_exit_group = 231, SYS_fcntl = 72,
       SYS_prctl = 157, SYS_umount2 = 166, SYS_openat = 257, SYS_dup3 = 292 };
static long call(long n, long a, long b, long c, long d) {
	long r;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return r;
}
__asm__(".globl _start\n_start:\n\txor %ebp,%ebp\n\tmov %rsp,%rdi\n\tand $-16,%rsp\n\tcall start\n");
#elif defined(__aarch64__)
enum { SYS_read = 63, SYS_write = 64, SYS_close = 57, SYS_execve = 221, SYS_exit_group = 94, SYS_fcntl = 25,
       SYS_prctl = 167, SYS_umount2 = 39, SYS_openat = 56, SYS_dup3 = 24 };
static long call(long n, long a, long b, long c, long d) {
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return x0;
}
__asm__(".globl _start\n_start:\n\tmov x0,sp\n\tbl start\n");
#else
#error "unknown architecture"
#endif

static void quit(int code) {
	for (;;)
		call(SYS_exit_group, code, 0, 0, 0);
}

static int equal(const char *a, const char *b) {
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

// after returns what follows the prefix, or 0.
static const char *after(const char *s, const char *prefix) {
	while (*prefix)
		if (*s++ != *prefix++)
			return 0;
	return s;
}

// join writes this thread into each file named in BUNDLE/join. A process that
// cannot be limited must not run.
static void join(char **argv) {
	static char path[4096], list[8192];
	const char *bundle = 0;
	for (int i = 1; argv[i] && !bundle; i++) {
		bundle = after(argv[i], "--bundle=");
		if (!bundle && equal(argv[i], "--bundle"))
			bundle = argv[i + 1];
	}
	if (!bundle)
		quit(111);
	unsigned long n = 0;
	for (; bundle[n] && n < sizeof(path) - 8; n++)
		path[n] = bundle[n];
	for (const char *s = "/join"; *s;)
		path[n++] = *s++;
	path[n] = 0;
	long fd = call(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		quit(111);
	long size = call(SYS_read, fd, (long)list, sizeof(list) - 1, 0);
	call(SYS_close, fd, 0, 0, 0);
	char *name = list;
	for (long i = 0; i < size; i++) {
		if (list[i] != '\n')
			continue;
		list[i] = 0;
		long file = call(SYS_openat, AT_FDCWD, (long)name, O_WRONLY | O_CLOEXEC, 0);
		if (file < 0 || call(SYS_write, file, (long)"0", 1, 0) != 1)
			quit(112);
		call(SYS_close, file, 0, 0, 0);
		name = list + i + 1;
	}
}

// What a gofer needs while it sets itself up: chown, dac_override,
// dac_read_search, fowner, fsetid, sys_chroot, sys_admin. A sentry needs
// setgid, setuid and sys_ptrace too. Both then give up more themselves, but
// what is dropped here they need not drop thread by thread.
#define GOFER_CAPABILITIES (1UL << 0 | 1UL << 1 | 1UL << 2 | 1UL << 3 | 1UL << 4 | 1UL << 18 | 1UL << 21)
#define SENTRY_CAPABILITIES (GOFER_CAPABILITIES | 1UL << 6 | 1UL << 7 | 1UL << 19)

static void drop_capabilities(unsigned long keep) {
	for (int i = 0; i < 64; i++)
		if (!(keep >> i & 1) && call(SYS_prctl, PR_CAPBSET_DROP, i, 0, 0) < 0)
			break; // past the kernel's last one
}

__attribute__((used)) void start(long *stack) {
	long argc = stack[0];
	char **argv = (char **)(stack + 1);
	char **envp = argv + argc + 1;
	char *none[1] = {0};
	if (argc >= 4 && equal(argv[1], "umount")) {
		char b;
		quit(call(SYS_read, 3, (long)&b, 1, 0) == 1 && call(SYS_umount2, (long)argv[3], MNT_DETACH, 0, 0) == 0 ? 0 : 1);
	}
	if (argc < 3)
		quit(113);
	join(argv);
	if (equal(argv[0], "runsc-gofer")) {
		drop_capabilities(GOFER_CAPABILITIES);
		for (; *envp; envp++) {
			const char *binary = after(*envp, "ATOLL_SANDBOX=");
			if (binary)
				call(SYS_execve, (long)binary, (long)argv, (long)none, 0);
		}
		quit(113);
	}
	// The sentry starts the umount helper when no path leads to it any more,
	// so it gets this program as an open file. The high number also makes the
	// kernel grow the table of open files now, not later among threads.
	long self = call(SYS_openat, AT_FDCWD, (long)argv[0], O_RDONLY, 0);
	if (self >= 0 && self != SELF_FD) {
		call(SYS_dup3, self, SELF_FD, 0, 0);
		call(SYS_close, self, 0, 0, 0);
	}
	drop_capabilities(SENTRY_CAPABILITIES);
	call(SYS_execve, (long)argv[1], (long)(argv + 2), (long)envp, 0);
	quit(113);
}
