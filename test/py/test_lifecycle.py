"""The life of a sandbox as the Python SDK sees it."""

import datetime
import os
import time
import unittest

from e2b import (
    AuthenticationException,
    InvalidArgumentException,
    Sandbox,
    SandboxException,
    SandboxNotFoundException,
    SandboxNotRunningException,
    SandboxQuery,
    SandboxState,
    TimeoutException,
)
from helpers import UNKNOWN, WithSandbox, sandbox, until


def left(sbx):
    """Seconds until a sandbox ends by itself."""
    return (sbx.get_info().end_at - datetime.datetime.now(datetime.timezone.utc)).total_seconds()


class Lifecycle(WithSandbox):
    mark = f"py-{os.getpid()}-{time.time_ns()}"
    options = {
        "template": "base",
        "metadata": {"mark": mark, "k&y": "v=1 + 2"},
        "envs": {"GREETING": "hello there"},
        "secure": True,
        "allow_internet_access": True,
    }

    def test_create(self):
        self.assertRegex(self.sbx.sandbox_id, r"^[a-z0-9]+$")
        self.assertEqual(
            self.sbx.get_host(3000), f"3000-{self.sbx.sandbox_id}.{self.sbx.sandbox_domain}"
        )
        self.assertEqual(self.sbx.commands.run('echo "$GREETING"').stdout, "hello there\n")

    def test_info(self):
        info = self.sbx.get_info()
        self.assertEqual(info.sandbox_id, self.sbx.sandbox_id)
        self.assertEqual(info.name, "base")
        self.assertEqual(info.state, SandboxState.RUNNING)
        self.assertEqual(info.metadata, self.options["metadata"])
        self.assertGreaterEqual(info.cpu_count, 1)
        self.assertGreaterEqual(info.memory_mb, 128)
        self.assertTrue(info.template_id and info.envd_version)
        self.assertEqual(Sandbox.get_info(self.sbx.sandbox_id).started_at, info.started_at)

    def test_is_running(self):
        self.assertTrue(self.sbx.is_running())

    def test_list_by_metadata_and_state(self):
        def found(**query):
            pages = Sandbox.list(query=SandboxQuery(metadata={"mark": self.mark}, **query))
            return [s.sandbox_id for s in pages.next_items()]

        self.assertEqual(found(), [self.sbx.sandbox_id])
        self.assertEqual(found(state=[SandboxState.RUNNING]), [self.sbx.sandbox_id])
        self.assertEqual(found(state=[SandboxState.PAUSED]), [])

    def test_list_in_pages(self):
        group = self.mark + "-pages"
        made = [Sandbox.create(timeout=60, metadata={"group": group}) for _ in range(3)]
        try:
            pager = Sandbox.list(limit=2, query=SandboxQuery(metadata={"group": group}))
            seen = []
            while pager.has_next:
                items = pager.next_items()
                self.assertLessEqual(len(items), 2)
                seen += [s.sandbox_id for s in items]
            self.assertEqual(sorted(seen), sorted(s.sandbox_id for s in made))
        finally:
            for s in made:
                s.kill()

    def test_set_timeout_and_connect(self):
        self.sbx.set_timeout(600)
        self.assertTrue(590 < left(self.sbx) < 605)
        Sandbox.set_timeout(self.sbx.sandbox_id, 200)
        self.assertLess(left(self.sbx), 205)
        same = Sandbox.connect(self.sbx.sandbox_id, timeout=10)
        self.assertGreater(left(same), 190, "connect never shortens")
        Sandbox.connect(self.sbx.sandbox_id, timeout=900)
        self.assertGreater(left(same), 890)
        self.assertEqual(same.commands.run("echo $GREETING").stdout, "hello there\n")

    def test_metrics(self):
        last = until("a measurement", self.sbx.get_metrics)[-1]
        self.assertGreaterEqual(last.cpu_count, 1)
        self.assertGreater(last.mem_total, last.mem_used)
        self.assertGreater(last.mem_used, 0)
        self.assertGreater(last.disk_total, last.disk_used)

    def test_ends_when_its_time_is_over(self):
        brief = Sandbox.create(timeout=1)
        until("the end", lambda: not brief.is_running())
        with self.assertRaises(SandboxNotFoundException):
            brief.get_info()

    def test_kill(self):
        other = Sandbox.create(timeout=60)
        self.assertTrue(other.kill())
        self.assertFalse(other.kill())
        self.assertFalse(Sandbox.kill(other.sandbox_id))
        self.assertFalse(other.is_running())
        with self.assertRaises(SandboxNotRunningException):
            other.commands.run("true")
        with self.assertRaises(SandboxNotRunningException):
            other.files.read("/etc/hostname")

    def test_as_a_context(self):
        with Sandbox.create(timeout=60) as inner:
            self.assertEqual(inner.commands.run("echo in").stdout, "in\n")
        self.assertFalse(inner.is_running())


class Refused(unittest.TestCase):
    def refused(self, words, **opts):
        with self.assertRaisesRegex(SandboxException, words) as caught:
            Sandbox.create(**opts).kill()
        self.assertTrue(400 <= caught.exception.status_code <= 501)

    def test_a_wrong_key(self):
        with self.assertRaises(AuthenticationException):
            Sandbox.create(api_key="e2b_" + "0" * 40)

    def test_an_unknown_template(self):
        self.refused("no-such-template", template="no-such-template")

    def test_too_long_a_life(self):
        self.refused("(?i)24|86400|timeout", timeout=25 * 3600)

    def test_what_comes_later(self):
        self.refused("(?i)volume", volume_mounts={"/data": "some-volume"})

    def test_an_unknown_sandbox(self):
        with self.assertRaises(SandboxNotFoundException):
            Sandbox.get_info(UNKNOWN)
        with self.assertRaises(SandboxNotFoundException):
            Sandbox.connect(UNKNOWN)
        with self.assertRaises(SandboxNotFoundException):
            Sandbox.set_timeout(UNKNOWN, 10)
        self.assertFalse(Sandbox.kill(UNKNOWN))

    def test_a_sandbox_that_ends_while_a_command_runs(self):
        with sandbox() as sbx:
            handle = sbx.commands.run("sleep 60", background=True)
            sbx.kill()
            with self.assertRaises(TimeoutException):
                handle.wait()
