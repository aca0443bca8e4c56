"""Sandboxes that sleep, through the Python SDK."""

import asyncio
import datetime
import threading
import time
import unittest

from e2b import (
    AsyncSandbox,
    CommandExitException,
    InvalidArgumentException,
    PtySize,
    Sandbox,
    SandboxException,
    SandboxNotFoundException,
    SandboxQuery,
    SandboxState,
    TimeoutException,
)
from helpers import UNKNOWN, WithSandbox, fetch, sandbox, serve, until


def state(sbx):
    return Sandbox.get_info(sbx.sandbox_id).state


def until_paused(sbx):
    until("it to be paused", lambda: state(sbx) == SandboxState.PAUSED)


def left(sbx):
    """Seconds until a sandbox ends by itself."""
    return (sbx.get_info().end_at - datetime.datetime.now(datetime.timezone.utc)).total_seconds()


def outcome(f):
    """Runs f in a thread; the result has what it returned or raised, once it has."""
    result = {}

    def run():
        try:
            result["value"] = f()
        except Exception as e:
            result["error"] = e

    threading.Thread(target=run, daemon=True).start()
    return result


class PauseAndResume(WithSandbox):
    options = {"envs": {"GREETING": "hello"}, "metadata": {"kept": "yes"}}

    def out(self, cmd, sbx=None):
        return (sbx or self.sbx).commands.run(cmd).stdout.strip()

    def test_once_and_twice(self):
        self.assertTrue(self.sbx.pause())
        self.assertEqual(state(self.sbx), SandboxState.PAUSED)
        self.assertFalse(self.sbx.is_running())
        self.assertFalse(self.sbx.pause())
        self.assertFalse(Sandbox.pause(self.sbx.sandbox_id))
        self.sbx.connect()
        self.assertEqual(state(self.sbx), SandboxState.RUNNING)
        self.assertTrue(self.sbx.is_running())

    def test_what_goes_on(self):
        self.sbx.files.write("kept.txt", "before the pause")
        self.sbx.files.write("/dev/shm/kept", "in memory")
        identity = "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id; echo $E2B_SANDBOX_ID $GREETING"
        was = self.out(identity)
        self.sbx.pause()
        same = Sandbox.connect(self.sbx.sandbox_id)
        self.assertEqual(same.files.read("kept.txt"), "before the pause")
        self.assertEqual(same.files.read("/dev/shm/kept"), "in memory")
        self.assertEqual(self.out(identity, same), was)
        self.assertEqual(same.get_info().metadata, {"kept": "yes"})
        self.assertLess(abs(float(self.out("date +%s.%N")) - time.time()), 5)

    def test_a_process(self):
        first = self.sbx.commands.run(
            "i=0; while [ ! -e /tmp/stop ]; do i=$((i+1)); echo $i; sleep 0.02; done; echo last; exit 5",
            background=True,
            timeout=0,
        )
        seen = []
        ended = outcome(lambda: first.wait(on_stdout=seen.append))
        until("some output", lambda: "5\n" in "".join(seen))
        self.sbx.pause()
        until("the stream to end", lambda: ended)
        self.assertIsInstance(ended.get("error"), SandboxException)
        self.sbx.connect()
        again = self.sbx.commands.connect(first.pid, timeout=0)
        self.sbx.files.write("/tmp/stop", "")
        with self.assertRaises(CommandExitException) as caught:
            again.wait()
        self.assertEqual(caught.exception.exit_code, 5)
        self.assertTrue(caught.exception.stdout.endswith("last\n"))

    def test_a_terminal(self):
        first = self.sbx.pty.create(PtySize(rows=24, cols=80), timeout=0)
        self.sbx.pty.send_stdin(first.pid, b"KEPT=4\n")
        ended = outcome(first.wait)
        self.sbx.pause()
        until("the stream to end", lambda: ended)
        self.assertIsInstance(ended.get("error"), SandboxException)
        self.sbx.connect()
        again = self.sbx.pty.connect(first.pid, timeout=0)
        self.sbx.pty.send_stdin(first.pid, b"echo kept-$((KEPT+1))\n")
        seen = b""
        for _, _, data in again:
            seen += data or b""
            if b"kept-5" in seen:
                break
        self.assertTrue(self.sbx.pty.kill(first.pid))

    def test_a_watcher(self):
        self.sbx.files.make_dir("watched")
        watcher = self.sbx.files.watch_dir("watched")
        self.sbx.files.write("watched/before", "x")
        self.sbx.pause()
        self.sbx.connect()
        self.sbx.files.write("watched/after", "x")
        names = []

        def seen():
            names.extend(e.name for e in watcher.get_new_events())
            return "before" in names and "after" in names

        until("events from before and after", seen)
        watcher.stop()

    def test_a_server(self):
        serve(self.sbx, 8000)
        self.sbx.pause()
        self.assertEqual(fetch(self.sbx, 8000)[0], 502)
        self.sbx.connect()
        self.assertEqual(fetch(self.sbx, 8000)[0], 200)

    def test_what_is_refused(self):
        self.sbx.pause()
        for f in (
            lambda: self.sbx.commands.run("true"),
            lambda: self.sbx.files.read("/etc/hostname"),
            lambda: self.sbx.set_timeout(60),
            self.sbx.create_snapshot,
            self.sbx.fork,
        ):
            with self.assertRaises(SandboxException):
                f()
        with self.assertRaises(TimeoutException):
            self.sbx.files.list("/")
        self.assertEqual(state(self.sbx), SandboxState.PAUSED)
        self.sbx.connect()

    def test_many_times(self):
        for i in range(10):
            self.sbx.files.write(f"round-{i}", str(i))
            self.assertTrue(self.sbx.pause())
            self.sbx.connect()
            for j in range(i + 1):
                self.assertEqual(self.sbx.files.read(f"round-{j}"), str(j))


class WithoutMemory(unittest.TestCase):
    def test_pause(self):
        for how in ({"keep_memory": False}, {"mode": "filesystem"}):
            with self.subTest(how), sandbox() as sbx:
                sbx.files.write("kept.txt", "on the disk")
                sbx.files.write("/dev/shm/gone", "in memory")
                self.assertTrue(sbx.pause(**how))
                sbx.connect()
                self.assertEqual(sbx.files.read("kept.txt"), "on the disk")
                self.assertFalse(sbx.files.exists("/dev/shm/gone"))

    def test_reboot(self):
        with sandbox() as sbx:
            sbx.files.write("kept.txt", "on the disk")
            boot = sbx.commands.run("cat /proc/sys/kernel/random/boot_id").stdout
            sbx.pause()
            again = Sandbox.connect(sbx.sandbox_id, on_resume="reboot")
            self.assertEqual(again.files.read("kept.txt"), "on the disk")
            self.assertNotEqual(again.commands.run("cat /proc/sys/kernel/random/boot_id").stdout, boot)
            with self.assertRaises(InvalidArgumentException):
                Sandbox.connect(sbx.sandbox_id, on_resume="nonsense")


class TimeOut(unittest.TestCase):
    def test_pause(self):
        with sandbox(timeout=1, lifecycle={"on_timeout": "pause"}) as sbx:
            self.assertEqual(sbx.get_info().lifecycle, {"on_timeout": "pause", "auto_resume": False})
            sbx.files.write("/dev/shm/kept", "in memory")
            until_paused(sbx)
            sbx.connect(timeout=60)
            self.assertEqual(sbx.files.read("/dev/shm/kept"), "in memory")
            self.assertTrue(50 < left(sbx) < 65)

    def test_pause_without_memory(self):
        with sandbox(timeout=1, lifecycle={"on_timeout": {"action": "pause", "mode": "filesystem"}}) as sbx:
            sbx.files.write("kept.txt", "on the disk")
            sbx.files.write("/dev/shm/gone", "in memory")
            until_paused(sbx)
            sbx.connect(timeout=60)
            self.assertEqual(sbx.files.read("kept.txt"), "on the disk")
            self.assertFalse(sbx.files.exists("/dev/shm/gone"))

    def test_waking_by_use(self):
        with sandbox(timeout=60, lifecycle={"on_timeout": "pause", "auto_resume": True}) as sbx:
            serve(sbx, 8000)
            sbx.files.write("kept.txt", "kept")
            for use in (
                lambda: self.assertEqual(sbx.files.read("kept.txt"), "kept"),
                lambda: self.assertEqual(sbx.commands.run("echo woken").stdout, "woken\n"),
                lambda: self.assertEqual(fetch(sbx, 8000)[0], 200),
            ):
                self.assertTrue(sbx.pause())
                use()
                self.assertEqual(state(sbx), SandboxState.RUNNING)
            sbx.set_timeout(1)
            until_paused(sbx)
            self.assertEqual(sbx.commands.run("cat kept.txt").stdout, "kept")


class Paused(unittest.TestCase):
    def test_lists_and_ends(self):
        group = f"py-sleep-{time.time_ns()}"
        made = [Sandbox.create(timeout=120, metadata={"group": group}) for _ in range(4)]

        def found(**query):
            pager = Sandbox.list(limit=2, query=SandboxQuery(metadata={"group": group}, **query))
            seen = []
            while pager.has_next:
                seen += [s.sandbox_id for s in pager.next_items()]
            return sorted(seen)

        def ids(some):
            return sorted(s.sandbox_id for s in some)

        try:
            for s in made[:3]:
                s.pause()
            self.assertEqual(found(state=[SandboxState.PAUSED]), ids(made[:3]))
            self.assertEqual(found(state=[SandboxState.RUNNING]), ids(made[3:]))
            self.assertEqual(found(), ids(made))
            self.assertTrue(made[0].kill())
            self.assertFalse(made[0].kill())
            self.assertEqual(found(state=[SandboxState.PAUSED]), ids(made[1:3]))
            with self.assertRaises(SandboxNotFoundException):
                made[0].connect()
        finally:
            for s in made:
                s.kill()

    def test_unknown(self):
        with self.assertRaises(SandboxNotFoundException):
            Sandbox.pause(UNKNOWN)
        with self.assertRaises(SandboxNotFoundException):
            Sandbox.connect(UNKNOWN)


class Asynchronous(unittest.IsolatedAsyncioTestCase):
    async def test_sleep_and_split(self):
        sbx = await AsyncSandbox.create(timeout=120)
        try:
            await sbx.files.write("kept.txt", "kept")
            handle = await sbx.commands.run("sleep 600", background=True, timeout=0)
            ended = asyncio.create_task(handle.wait())
            events = []
            exited = asyncio.Event()
            await sbx.files.watch_dir(".", events.append, on_exit=lambda e: exited.set(), timeout=0)
            self.assertTrue(await sbx.pause())
            with self.assertRaises(SandboxException):
                await asyncio.wait_for(ended, 30)
            await asyncio.wait_for(exited.wait(), 30)
            self.assertFalse(await sbx.is_running())
            self.assertFalse(await sbx.pause())
            await sbx.connect()
            self.assertEqual(await sbx.files.read("kept.txt"), "kept")
            again = await sbx.commands.connect(handle.pid)
            await again.kill()
            for copy in await sbx.fork(count=2, timeout=60):
                self.assertEqual(await copy.files.read("kept.txt"), "kept")
                await copy.kill()
            snapshot = await sbx.create_snapshot()
            child = await AsyncSandbox.create(snapshot.snapshot_id, timeout=60)
            self.assertEqual(await child.files.read("kept.txt"), "kept")
            await child.kill()
            self.assertTrue(await AsyncSandbox.delete_snapshot(snapshot.snapshot_id))
        finally:
            await sbx.kill()
