"""Drives a real Atoll with the published Sprites SDK for Python."""

import asyncio
import io
import re
import unittest
import urllib.parse

from sprites import ListOptions, NetworkPolicy, PolicyRule, SpritesClient, URLSettings
from sprites.exceptions import (
    AuthenticationError,
    ExitError,
    FileNotFoundError_,
    NotFoundError,
    SpriteError,
)
from sprites_helpers import API_URL, TOKEN, WithSprite, client, fresh_name, sprite, until


class Sprites(unittest.TestCase):
    def test_create_find_change_and_destroy(self):
        name = fresh_name()
        made = client.create_sprite(name, labels=["a"], url_settings=URLSettings(auth="public"))
        try:
            self.assertEqual(made.name, name)
            found = client.get_sprite(name)
            self.assertEqual((found.status, found.url_settings.auth, found.labels), ("running", "public", ["a"]))
            changed = found.update(labels=["b", "c"])
            self.assertEqual((changed.labels, changed.url_settings.auth), (["b", "c"], "public"))
            found.update_url_settings(URLSettings(auth="sprite"))
            self.assertEqual(client.get_sprite(name).url_settings.auth, "sprite")
            found.upgrade()
        finally:
            made.destroy()
        with self.assertRaises(NotFoundError):
            client.get_sprite(name)

    def test_lists(self):
        prefix = fresh_name()
        names = [f"{prefix}-{c}" for c in "abc"]
        made = [client.create_sprite(n) for n in names]
        try:
            page = client.list_sprites(ListOptions(prefix=prefix, max_results=2))
            self.assertEqual([s.name for s in page.sprites], names[:2])
            self.assertTrue(page.has_more and page.running >= 3)
            self.assertEqual([s.name for s in client.list_all_sprites(prefix)], names)
        finally:
            for s in made:
                s.destroy()

    def test_refusals(self):
        for name in ["", "Big", "a/b", "80-x", "www"]:
            with self.assertRaisesRegex(SpriteError, "400"):
                client.create_sprite(name)
        with sprite() as s, self.assertRaisesRegex(SpriteError, "409"):
            client.create_sprite(s.name)
        with self.assertRaises(AuthenticationError):
            SpritesClient("nonsense", base_url=API_URL).list_sprites()
        with self.assertRaises(NotFoundError):
            client.destroy_sprite("no-such-sprite")


class Exec(WithSprite):
    def test_output_and_code(self):
        got = self.sh("echo out; echo err >&2; exit 42")
        self.assertEqual((got.stdout, got.stderr, got.returncode), (b"out\n", b"err\n", 42))
        with self.assertRaises(ExitError) as caught:
            self.sprite.command("false").run()
        self.assertEqual(caught.exception.exit_code(), 1)

    def test_directory_and_environment(self):
        self.assertEqual(self.sh("pwd; echo $A", cwd="/usr", env={"A": "b c"}).stdout, b"/usr\nb c\n")
        self.assertEqual(self.sh("whoami; pwd").stdout, b"sprite\n/home/sprite\n")

    def test_input_ends(self):
        command = self.sprite.command("wc", "-c", stdin=io.BytesIO(b"x" * 100_000))
        self.assertEqual(command.output().strip(), b"100000")

    def test_terminal(self):
        got = self.sprite.run("sh", "-c", "tty; stty size; exit 3", capture_output=True, tty=True, tty_rows=30, tty_cols=90)
        self.assertRegex(got.stdout, rb"/dev/\S+\r\n30 90")
        self.assertEqual(got.returncode, 3)
        self.assertEqual(self.sh("tty").stdout, b"not a tty\n")

    def test_sessions(self):
        self.assertEqual([s.id for s in self.sprite.list_sessions() if "sleep 1000" in s.command], [])

        async def leave():
            from websockets.asyncio.client import connect

            url = API_URL.replace("http", "ws", 1) + f"/v1/sprites/{self.sprite.name}/exec"
            script = "echo here; read x; echo said $x; exit 4"
            url += "?" + urllib.parse.urlencode([("cmd", "sh"), ("cmd", "-c"), ("cmd", script), ("tty", "true")])
            async with connect(url, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as socket:
                return await socket.recv()

        self.assertIn("session_info", asyncio.run(leave()))
        session = until("the session", self.sprite.list_sessions)[0]
        self.assertTrue(session.tty and session.command)
        attached = self.sprite.attach_session(session.id, timeout=30)
        attached.stdin = io.BytesIO(b"bye\n")
        attached._capture_stdout = True
        self.assertEqual(attached._run_sync(), 4)
        self.assertRegex(attached._stdout_data, rb"here[\s\S]*said bye")

    def test_control_mode(self):
        s = SpritesClient(TOKEN, base_url=API_URL, control_mode=True).sprite(self.sprite.name)
        self.assertEqual(s.run("echo", "hi", capture_output=True).stdout, b"hi\n")


class Files(WithSprite):
    def test_files(self):
        fs = self.sprite.filesystem("/home/sprite")
        path = fs / "deep" / "file.txt"
        path.write_text("hello ü")
        self.assertEqual(path.read_text(), "hello ü")
        self.assertEqual(path.stat().size, 8)
        path.chmod(0o600)
        self.assertEqual(path.stat().mode, "0600")
        other = path.rename("/home/sprite/deep/other.txt")
        self.assertEqual(other.read_bytes(), "hello ü".encode())
        (fs / "deep" / "folder").mkdir()
        self.assertEqual(sorted(p.name for p in (fs / "deep").iterdir()), ["folder", "other.txt"])
        (fs / "deep").rmtree()
        self.assertFalse((fs / "deep").exists())
        with self.assertRaises(FileNotFoundError_):
            path.read_text()


class Rest(WithSprite):
    def test_checkpoints(self):
        self.sh("echo one > ~/state")
        said = list(self.sprite.create_checkpoint("mine"))
        id = re.search(r"\bv\d+\b", said[-1].data).group()
        self.sh("echo two > ~/state")
        self.assertEqual(list(self.sprite.restore_checkpoint(id))[-1].type, "complete")
        self.assertEqual(self.sh("cat ~/state").stdout, b"one\n")
        self.assertEqual([(c.id, c.comment) for c in self.sprite.list_checkpoints()], [(id, "mine")])
        self.assertEqual(self.sprite.get_checkpoint(id).id, id)
        with self.assertRaises(SpriteError):
            self.sprite.get_checkpoint("v999")

    def test_services(self):
        events = list(self.sprite.create_service("web", "python3", ["-m", "http.server", "8000"], http_port=8000, duration=1))
        self.assertEqual((events[0].type, events[-1].type), ("started", "complete"))
        self.assertEqual(self.sprite.get_service("web").state.status, "running")
        self.assertEqual([s.name for s in self.sprite.list_services()], ["web"])
        self.assertEqual(list(self.sprite.stop_service("web", timeout=5))[-1].type, "complete")
        self.assertEqual(list(self.sprite.start_service("web", duration=1))[-1].type, "complete")
        self.sprite.signal_service("web", "TERM")
        self.sprite.delete_service("web")
        self.assertEqual(self.sprite.list_services(), [])

    def test_policy(self):
        self.assertEqual(self.sprite.get_network_policy().rules, [])
        rules = [PolicyRule(include="defaults"), PolicyRule(domain="*.example.test", action="deny")]
        self.sprite.update_network_policy(NetworkPolicy(rules=rules))
        self.assertEqual(self.sprite.get_network_policy().rules, rules)
        with self.assertRaises(SpriteError):
            self.sprite.update_network_policy(NetworkPolicy(rules=[PolicyRule(domain="a", action="maybe")]))
        self.sprite.update_network_policy(NetworkPolicy(rules=[]))
