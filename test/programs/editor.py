"""Edits files at random and knows what they must contain. GET /edit does some
edits and answers how many there have been; GET /compare reads every file back
and answers the same, or what is wrong."""

import hashlib
import http.server
import os
import random
import sys
import threading

root = "/root/edited"
rng = random.Random(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
contents = {}  # by path
folders = [root]
edits = 0
lock = threading.Lock()
os.makedirs(root)


def fresh():
    name = "".join(rng.choice("abcdefghij é") for _ in range(rng.randint(1, 12))).strip() or "x"
    return os.path.join(rng.choice(folders), f"{name}-{edits}")


def data(limit=64 << 10):
    return rng.randbytes(rng.choice([0, 1, 100, 4095, 4096, 4097, limit]))


def create():
    path = fresh()
    contents[path] = data(rng.choice([10_000, 1 << 20]))
    with open(path, "wb") as f:
        f.write(contents[path])


def append(path):
    more = data()
    with open(path, "ab") as f:
        f.write(more)
    contents[path] += more


def overwrite(path):
    at, new = rng.randint(0, len(contents[path])), data()
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(new)
    old = contents[path]
    contents[path] = old[:at] + new + old[at + len(new) :]


def truncate(path):
    size = rng.randint(0, 2 * len(contents[path]) + 10)
    os.truncate(path, size)
    contents[path] = contents[path][:size].ljust(size, b"\0")


def rename(path):
    to = fresh()
    os.rename(path, to)
    contents[to] = contents.pop(path)


def replace(path):
    contents[path] = data()
    with open(path + ".new", "wb") as f:
        f.write(contents[path])
        f.flush()
        os.fsync(f.fileno())
    os.rename(path + ".new", path)


def remove(path):
    os.unlink(path)
    del contents[path]


def make_folder():
    if len(folders) < 20:
        path = fresh()
        os.mkdir(path)
        folders.append(path)


def edit():
    global edits
    for _ in range(rng.randint(3, 8)):
        paths = sorted(contents)
        if len(paths) < 5 or (len(paths) < 60 and rng.random() < 0.3):
            create()
        elif rng.random() < 0.05:
            make_folder()
        else:
            rng.choice([append, overwrite, truncate, rename, replace, remove])(rng.choice(paths))
        edits += 1
    return edits


def compare():
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as f:
                found[path] = hashlib.sha256(f.read()).hexdigest()
    want = {path: hashlib.sha256(c).hexdigest() for path, c in contents.items()}
    if found != want:
        raise AssertionError(
            f"after {edits} edits: missing {sorted(want.keys() - found.keys())}, too many {sorted(found.keys() - want.keys())}, "
            f"different {sorted(p for p in want.keys() & found.keys() if want[p] != found[p])}"
        )
    return edits


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, f):
        try:
            with lock:
                status, body = 200, str(f()).encode()
        except Exception as e:
            status, body = 500, repr(e).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(edit if self.path == "/edit" else compare)

    def log_message(self, *args):
        pass


http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
