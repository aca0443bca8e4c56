"""Forks and snapshots through the Python SDK."""

import contextlib
import time
import unittest

from e2b import InvalidArgumentException, Sandbox, SandboxException, SandboxNotFoundException
from helpers import UNKNOWN, WithSandbox, fetch, sandbox, serve, until


def out(sbx, cmd):
    return sbx.commands.run(cmd).stdout.strip()


@contextlib.contextmanager
def forks(sbx, **opts):
    """Copies of a sandbox that are removed whatever happens."""
    copies = sbx.fork(**{"timeout": 120, **opts})
    try:
        for c in copies:
            if isinstance(c, Exception):
                raise c
        yield copies
    finally:
        for c in copies:
            if not isinstance(c, Exception):
                c.kill()


@contextlib.contextmanager
def snapshot(sbx, **opts):
    taken = sbx.create_snapshot(**opts)
    try:
        yield taken
    finally:
        Sandbox.delete_snapshot(taken.snapshot_id)


def listed(**opts):
    pager = Sandbox.list_snapshots(**opts)
    seen = []
    while pager.has_next:
        seen += [s.snapshot_id for s in pager.next_items()]
    return sorted(seen)


class Fork(WithSandbox):
    options = {"envs": {"GREETING": "hello"}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        serve(cls.sbx, 8000)
        cls.sbx.files.write("kept.txt", "before the fork")
        cls.sbx.files.write("/dev/shm/kept", "in memory")

    def test_five_copies(self):
        with forks(self.sbx, count=5) as copies:
            self.assertEqual(len(copies), 5)
            everyone = [self.sbx, *copies]
            for i, s in enumerate(everyone):
                self.assertEqual(s.files.read("kept.txt"), "before the fork")
                self.assertEqual(s.files.read("/dev/shm/kept"), "in memory")
                self.assertEqual(fetch(s, 8000)[0], 200)
                s.files.write("mine", str(i))
            for i, s in enumerate(everyone):
                self.assertEqual(s.files.read("mine"), str(i))
                self.assertEqual(out(s, "echo $E2B_SANDBOX_ID $GREETING"), f"{s.sandbox_id} hello")
            for what in ("hostname", "cat /etc/machine-id", "head -c 16 /dev/urandom | od -An -tx1"):
                self.assertEqual(len({out(s, what) for s in everyone}), 6, what)

    def test_a_copy_sleeps_and_splits(self):
        with forks(self.sbx) as [copy]:
            copy.files.write("deeper", "x")
            copy.pause()
            with self.assertRaises(SandboxException):
                copy.fork()
            copy.connect()
            with forks(copy, count=2) as copies:
                copy.kill()
                for c in copies:
                    self.assertEqual(c.files.read("deeper"), "x")

    def test_its_own_time_out(self):
        [brief] = self.sbx.fork(timeout=1)
        until("it to end", lambda: not brief.is_running())
        self.assertTrue(self.sbx.is_running())

    def test_wrong_requests(self):
        with self.assertRaises(InvalidArgumentException):
            self.sbx.fork(count=0)
        with self.assertRaises(SandboxNotFoundException):
            Sandbox.fork(UNKNOWN)


class Snapshots(WithSandbox):
    name = f"py-{time.time_ns()}"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.sbx.files.write("kept.txt", "first")
        cls.sbx.files.write("/dev/shm/kept", "in memory")

    def test_sandboxes_from_one(self):
        with snapshot(self.sbx) as taken:
            self.sbx.files.write("kept.txt", "later")
            self.addCleanup(self.sbx.files.write, "kept.txt", "first")
            for _ in range(2):
                with sandbox(template=taken.snapshot_id, envs={"MINE": "1"}) as s:
                    self.assertEqual(s.files.read("kept.txt"), "first")
                    self.assertEqual(s.files.read("/dev/shm/kept"), "in memory")
                    self.assertEqual(out(s, "echo $MINE $E2B_SANDBOX_ID"), f"1 {s.sandbox_id}")

    def test_by_name(self):
        with snapshot(self.sbx, name=self.name) as taken:
            self.assertTrue(any(self.name in n for n in taken.names))
            self.assertEqual(listed(name=self.name), [taken.snapshot_id])
            with sandbox(template=self.name) as s:
                self.assertEqual(s.files.read("kept.txt"), "first")

    def test_lists(self):
        with contextlib.ExitStack() as stack:
            made = [stack.enter_context(snapshot(self.sbx)).snapshot_id for _ in range(3)]
            self.assertEqual(listed(sandbox_id=self.sbx.sandbox_id), sorted(made))
            self.assertEqual(listed(sandbox_id=self.sbx.sandbox_id, limit=1), sorted(made))
            self.assertEqual(sorted(s.snapshot_id for s in self.sbx.list_snapshots().next_items()), sorted(made))
        self.assertEqual(listed(sandbox_id=self.sbx.sandbox_id), [])

    def test_delete(self):
        taken = self.sbx.create_snapshot()
        self.assertTrue(Sandbox.delete_snapshot(taken.snapshot_id))
        self.assertFalse(Sandbox.delete_snapshot(taken.snapshot_id))
        with self.assertRaises(SandboxException):
            Sandbox.create(taken.snapshot_id)

    def test_wrong_requests(self):
        with self.assertRaises(SandboxNotFoundException):
            Sandbox.create_snapshot(UNKNOWN)
        with self.assertRaises(SandboxException):
            self.sbx.create_snapshot(name="Not a name")
        with self.assertRaises(SandboxException):
            self.sbx.create_snapshot(mode="filesystem")
