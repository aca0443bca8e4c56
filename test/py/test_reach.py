"""Reaching programs inside a sandbox, and the asynchronous half of the SDK."""

import asyncio
import json
import unittest

from e2b import AsyncSandbox, CommandExitException
from helpers import UNKNOWN, WithSandbox, fetch, request, sandbox, serve


class Reach(WithSandbox):
    def test_all_addresses_and_localhost(self):
        for port, address in ((8000, "0.0.0.0"), (8001, "127.0.0.1")):
            with self.subTest(address):
                serve(self.sbx, port, address=address)
                status, _, body = fetch(self.sbx, port, "/path?q=1")
                self.assertEqual((status, json.loads(body)["path"]), (200, "/path?q=1"))
                headers = {"E2b-Sandbox-Id": self.sbx.sandbox_id, "E2b-Sandbox-Port": str(port)}
                self.assertEqual(request("GET", "/h", headers)[0], 200)

    def test_a_closed_port(self):
        status, _, body = fetch(self.sbx, 9)
        self.assertEqual(status, 502)
        self.assertIn("port is not open", json.loads(body)["message"])

    def test_an_unknown_sandbox(self):
        status, _, body = fetch(f"8000-{UNKNOWN}.localhost", 8000)
        self.assertEqual(status, 502)
        self.assertIn("was not found", json.loads(body)["message"])

    def test_a_private_sandbox(self):
        with sandbox(network={"allow_public_traffic": False}) as shut:
            serve(shut, 8000)
            self.assertEqual(fetch(shut, 8000)[0], 403)
            token = {"e2b-traffic-access-token": shut.traffic_access_token}
            self.assertEqual(fetch(shut, 8000, headers=token)[0], 200)


class Asynchronous(unittest.IsolatedAsyncioTestCase):
    async def test_the_main_calls(self):
        sbx = await AsyncSandbox.create(timeout=120, envs={"A": "1"})
        try:
            self.assertTrue(await sbx.is_running())
            seen = []
            r = await sbx.commands.run("echo $A; echo err >&2", on_stdout=seen.append)
            self.assertEqual((r.stdout, r.stderr, seen), ("1\n", "err\n", ["1\n"]))
            with self.assertRaises(CommandExitException):
                await sbx.commands.run("exit 1")
            handle = await sbx.commands.run("cat", background=True, stdin=True)
            await handle.send_stdin("in\n")
            await handle.close_stdin()
            self.assertEqual((await handle.wait()).stdout, "in\n")
            await asyncio.gather(*(sbx.files.write(f"f{i}", str(i)) for i in range(10)))
            texts = await asyncio.gather(*(sbx.files.read(f"f{i}") for i in range(10)))
            self.assertEqual(texts, [str(i) for i in range(10)])
            events = []
            created = asyncio.Event()

            def on_event(event):
                events.append(event)
                created.set()

            await sbx.files.make_dir("watched")
            watcher = await sbx.files.watch_dir("watched", on_event)
            await sbx.files.write("watched/x", "1")
            await asyncio.wait_for(created.wait(), 30)
            self.assertEqual(events[0].name, "x")
            await watcher.stop()
        finally:
            self.assertTrue(await sbx.kill())
