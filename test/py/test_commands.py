"""Commands and terminals through the Python SDK."""

import threading

from e2b import (
    AuthenticationException,
    CommandExitException,
    InvalidArgumentException,
    NotFoundException,
    PtySize,
    TimeoutException,
)
from helpers import WithSandbox, until


class Commands(WithSandbox):
    options = {"envs": {"FROM_SANDBOX": "sandbox", "BOTH": "sandbox"}}

    def run_in(self, cmd, **opts):
        return self.sbx.commands.run(cmd, **opts)

    def test_output_and_exit_code(self):
        r = self.run_in("echo out; echo err >&2")
        self.assertEqual((r.stdout, r.stderr, r.exit_code, r.error), ("out\n", "err\n", 0, None))
        with self.assertRaises(CommandExitException) as caught:
            self.run_in("echo before; echo why >&2; exit 3")
        e = caught.exception
        self.assertEqual((e.exit_code, e.stdout, e.stderr), (3, "before\n", "why\n"))

    def test_callbacks_while_it_runs(self):
        seen = []

        def on_stdout(text):
            seen.append(text)
            if text == "first\n":
                self.sbx.files.write("/tmp/seen", "")

        self.run_in(
            "echo first; while [ ! -e /tmp/seen ]; do sleep 0.02; done; echo second; echo third >&2",
            on_stdout=on_stdout,
            on_stderr=lambda text: seen.append("err " + text),
        )
        self.assertEqual(sorted(seen), ["err third\n", "first\n", "second\n"])

    def test_in_the_background(self):
        handle = self.run_in("echo started; exit 7", background=True)
        self.assertGreater(handle.pid, 0)
        with self.assertRaises(CommandExitException) as caught:
            handle.wait()
        self.assertEqual((caught.exception.exit_code, caught.exception.stdout), (7, "started\n"))

    def test_iterating_over_output(self):
        handle = self.run_in("echo a; echo b >&2", background=True)
        out = [(o, e) for o, e, _ in handle]
        self.assertEqual("".join(o or "" for o, _ in out), "a\n")
        self.assertEqual("".join(e or "" for _, e in out), "b\n")

    def test_kill(self):
        handle = self.run_in("sleep 600", background=True, timeout=0)
        self.assertTrue(handle.kill())
        with self.assertRaises(CommandExitException):
            handle.wait()
        until("it to be gone", lambda: not self.sbx.commands.kill(handle.pid))

    def test_stdin(self):
        handle = self.run_in("cat", background=True, stdin=True)
        handle.send_stdin("one\n")
        self.sbx.commands.send_stdin(handle.pid, b"two\n")
        handle.close_stdin()
        self.assertEqual(handle.wait().stdout, "one\ntwo\n")

    def test_streamed_stdin(self):
        handle = self.run_in("cat; echo end", background=True, stdin=True)
        self.sbx.commands.stream_input(handle.pid, (f"line {i}\n" for i in range(100)))
        handle.close_stdin()
        self.assertEqual(handle.wait().stdout, "".join(f"line {i}\n" for i in range(100)) + "end\n")

    def test_no_such_process(self):
        with self.assertRaises(NotFoundException):
            self.sbx.commands.send_stdin(999999, "x")
        with self.assertRaises(NotFoundException):
            self.sbx.commands.connect(999999)

    def test_connect_again(self):
        first = self.run_in("while [ ! -e /tmp/go ]; do sleep 0.02; done; echo after; exit 4", background=True, timeout=0)
        first.disconnect()
        again = self.sbx.commands.connect(first.pid)
        self.sbx.files.write("/tmp/go", "")
        with self.assertRaises(CommandExitException) as caught:
            again.wait()
        self.assertEqual((caught.exception.exit_code, caught.exception.stdout), (4, "after\n"))

    def test_list(self):
        handle = self.run_in("sleep 60", background=True, envs={"LISTED": "yes"}, cwd="/tmp")
        found = next(p for p in self.sbx.commands.list() if p.pid == handle.pid)
        self.assertEqual((found.cmd, found.args, found.cwd), ("/bin/bash", ["-l", "-c", "sleep 60"], "/tmp"))
        self.assertEqual(found.envs["LISTED"], "yes")
        handle.kill()

    def test_environment(self):
        r = self.run_in("echo $FROM_SANDBOX $BOTH $HERE", envs={"BOTH": "command", "HERE": "x"})
        self.assertEqual(r.stdout, "sandbox command x\n")

    def test_where_and_who(self):
        self.assertEqual(self.run_in("pwd; whoami").stdout, "/home/user\nuser\n")
        self.assertEqual(self.run_in("whoami; echo $HOME", user="root").stdout, "root\n/root\n")
        self.assertEqual(self.run_in("pwd", cwd="/tmp").stdout, "/tmp\n")
        self.assertEqual(self.run_in("sudo -n whoami").stdout, "root\n")
        with self.assertRaises(AuthenticationException):
            self.run_in("true", user="nobody-here")
        with self.assertRaises(InvalidArgumentException):
            self.run_in("true", cwd="/no/such/folder")

    def test_a_timeout(self):
        with self.assertRaises(TimeoutException):
            self.run_in("sleep 60", timeout=0.3)

    def test_50_mb_of_output(self):
        r = self.run_in("head -c 50000000 /dev/zero | tr '\\0' x", timeout=120)
        self.assertEqual(len(r.stdout), 50_000_000)

    def test_many_at_once(self):
        answers = [None] * 10

        def one(i):
            answers[i] = self.run_in(f"echo {i}").stdout

        threads = [threading.Thread(target=one, args=(i,)) for i in range(10)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(answers, [f"{i}\n" for i in range(10)])


class Terminal(WithSandbox):
    def test_type_resize_and_leave(self):
        seen = bytearray()
        handle = self.sbx.pty.create(PtySize(rows=24, cols=80), envs={"IN_PTY": "yes"}, cwd="/tmp", timeout=60)

        def read():
            try:
                handle.wait(on_pty=seen.extend)
            except CommandExitException as e:
                seen.extend(b"ended-%d" % e.exit_code)

        reader = threading.Thread(target=read)
        reader.start()

        def see(text):
            until(text, lambda: text in seen.decode(errors="replace"))

        self.sbx.pty.send_stdin(handle.pid, b'stty size; echo "$IN_PTY:$TERM:$PWD"\n')
        see("24 80")
        see("yes:xterm-256color:/tmp")
        self.sbx.pty.resize(handle.pid, PtySize(rows=33, cols=101))
        self.sbx.pty.send_stdin(handle.pid, b"stty size\n")
        see("33 101")
        self.sbx.pty.send_stdin(handle.pid, b"exit 6\n")
        see("ended-6")
        reader.join()

    def test_connect_and_kill(self):
        handle = self.sbx.pty.create(PtySize(rows=24, cols=80), timeout=60)
        handle.disconnect()
        again = self.sbx.pty.connect(handle.pid)
        self.sbx.pty.send_stdin(handle.pid, b"echo $((40+2))-again\n")
        seen = b""
        for _, _, data in again:
            seen += data
            if b"42-again" in seen:
                break
        self.assertTrue(self.sbx.pty.kill(handle.pid))
        until("it to be gone", lambda: not self.sbx.pty.kill(handle.pid))
