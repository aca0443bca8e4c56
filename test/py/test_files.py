"""Files through the Python SDK."""

import hashlib
import io
import os

from e2b import (
    FileNotFoundException,
    FilesystemEventType,
    FileType,
    InvalidArgumentException,
)
from e2b.sandbox.filesystem.filesystem import WriteEntry
from helpers import WithSandbox, fetch_signed, until

MIB = 1 << 20


class Files(WithSandbox):
    @property
    def files(self):
        return self.sbx.files

    def test_write_and_read(self):
        info = self.files.write("hello.txt", "hällo\n")
        self.assertEqual((info.path, info.name), ("/home/user/hello.txt", "hello.txt"))
        self.assertEqual(self.files.read("hello.txt"), "hällo\n")
        self.assertEqual(bytes(self.files.read("hello.txt", format="bytes")), "hällo\n".encode())
        self.assertEqual(b"".join(self.files.read("hello.txt", format="stream")), "hällo\n".encode())
        self.files.write("hello.txt", b"short")
        self.assertEqual(self.files.read("hello.txt"), "short")
        self.files.write("empty", "")
        self.assertEqual(self.files.read("empty"), "")

    def test_every_kind_of_data(self):
        data = os.urandom(300_000)
        for name, value in {"bytes": data, "file": io.BytesIO(data)}.items():
            with self.subTest(name):
                self.files.write(f"kinds/{name}", value)
                self.assertEqual(bytes(self.files.read(f"kinds/{name}", format="bytes")), data)
        self.files.write("kinds/octets", data, use_octet_stream=True)
        self.assertEqual(bytes(self.files.read("kinds/octets", format="bytes")), data)

    def test_gzip(self):
        text = "squeeze me " * 50_000
        self.files.write("zip.txt", text, gzip=True)
        self.assertEqual(self.files.get_info("zip.txt").size, len(text))
        self.assertEqual(self.files.read("zip.txt", gzip=True), text)

    def test_several_at_once(self):
        infos = self.files.write_files(
            [WriteEntry(path="many/one", data="1"), WriteEntry(path="/tmp/many/two", data=b"22")]
        )
        self.assertEqual([i.path for i in infos], ["/home/user/many/one", "/tmp/many/two"])
        self.assertEqual(self.files.read("/tmp/many/two"), "22")
        self.assertEqual(self.files.write_files([]), [])

    def test_100_mib_streamed(self):
        block = os.urandom(MIB)
        sent = hashlib.sha256()

        def blocks():
            for _ in range(100):
                sent.update(block)
                yield block

        self.files.write("big.bin", blocks())
        self.assertEqual(self.files.get_info("big.bin").size, 100 * MIB)
        back = hashlib.sha256()
        for part in self.files.read("big.bin", format="stream"):
            back.update(part)
        self.assertEqual(back.hexdigest(), sent.hexdigest())
        self.files.remove("big.bin")

    def test_metadata(self):
        info = self.files.write("meta.txt", "x", metadata={"purpose": "a test"})
        self.assertEqual(info.metadata, {"purpose": "a test"})
        self.assertEqual(self.files.get_info("meta.txt").metadata, {"purpose": "a test"})

    def test_info(self):
        self.files.write("info.txt", "12345")
        self.sbx.commands.run("chmod 640 info.txt; ln -sf info.txt link")
        info = self.files.get_info("info.txt")
        self.assertEqual(
            (info.name, info.path, info.type, info.size, info.permissions, info.owner, info.group),
            ("info.txt", "/home/user/info.txt", FileType.FILE, 5, "-rw-r-----", "user", "user"),
        )
        self.assertEqual(self.files.get_info("/home/user").type, FileType.DIR)
        self.assertTrue(self.files.get_info("link").symlink_target.endswith("info.txt"))
        with self.assertRaises(FileNotFoundException):
            self.files.get_info("not-here")

    def test_list_and_depth(self):
        self.files.write_files([WriteEntry(path="tree/top", data=""), WriteEntry(path="tree/sub/low", data="")])
        names = lambda depth: sorted(e.path.removeprefix("/home/user/tree/") for e in self.files.list("tree", depth=depth))
        self.assertEqual(names(1), ["sub", "top"])
        self.assertEqual(names(2), ["sub", "sub/low", "top"])
        with self.assertRaises(InvalidArgumentException):
            self.files.list("tree", depth=0)
        with self.assertRaises(FileNotFoundException):
            self.files.list("not-here")

    def test_exists_rename_remove_and_make(self):
        self.assertTrue(self.files.make_dir("new/dir"))
        self.assertFalse(self.files.make_dir("new/dir"))
        self.files.write("new/a", "1")
        self.assertEqual(self.files.rename("new/a", "new/b").path, "/home/user/new/b")
        self.assertFalse(self.files.exists("new/a"))
        self.assertTrue(self.files.exists("new/b"))
        with self.assertRaises(FileNotFoundException):
            self.files.rename("not-here", "anywhere")
        self.files.remove("new")
        self.assertFalse(self.files.exists("new"))

    def test_what_cannot_be_read(self):
        for form in ("text", "bytes", "stream"):
            with self.subTest(form), self.assertRaises(FileNotFoundException):
                self.files.read("not-here", format=form)
        with self.assertRaises(InvalidArgumentException):
            self.files.read("/home/user")

    def test_as_root(self):
        self.files.write("mine", "x", user="root")
        self.assertEqual(self.files.read("/root/mine", user="root"), "x")
        self.assertEqual(self.files.get_info("/root/mine", user="root").owner, "root")

    def test_watch(self):
        self.files.make_dir("watched/below")
        watcher = self.files.watch_dir("watched", recursive=True, include_entry=True)
        seen = []

        def see(kind, name):
            def check():
                seen.extend(watcher.get_new_events())
                return next((e for e in seen if e.type == kind and e.name == name), None)

            return until(f"{kind} of {name}", check)

        self.files.write("watched/below/a", "1")
        see(FilesystemEventType.CREATE, "below/a")
        event = see(FilesystemEventType.WRITE, "below/a")
        self.assertEqual(event.entry.path, "/home/user/watched/below/a")
        self.sbx.commands.run("chmod 600 watched/below/a")
        see(FilesystemEventType.CHMOD, "below/a")
        self.files.rename("watched/below/a", "watched/below/b")
        see(FilesystemEventType.RENAME, "below/a")
        self.files.remove("watched/below/b")
        see(FilesystemEventType.REMOVE, "below/b")
        watcher.stop()
        with self.assertRaises(FileNotFoundException):
            self.files.watch_dir("not-here")

    def test_signed_urls(self):
        self.files.write("signed.txt", "for a link")
        status, _, body = fetch_signed(self.sbx, self.sbx.download_url("signed.txt"))
        self.assertEqual((status, body), (200, b"for a link"))
        late = self.sbx.download_url("signed.txt", use_signature_expiration=-60)
        self.assertEqual(fetch_signed(self.sbx, late)[0], 401)
        wrong = self.sbx.download_url("signed.txt").replace("v1_", "v1_x")
        self.assertEqual(fetch_signed(self.sbx, wrong)[0], 401)
        mark = "boundary"
        body = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nby link\r\n--{mark}--\r\n'
        headers = {"Content-Type": f"multipart/form-data; boundary={mark}"}
        up = self.sbx.upload_url("up.txt", use_signature_expiration=60)
        self.assertEqual(fetch_signed(self.sbx, up, "POST", headers, body.encode())[0], 200)
        self.assertEqual(self.files.read("up.txt"), "by link")
