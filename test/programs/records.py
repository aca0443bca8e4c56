"""Writes numbered records to memory, to a file and to SQLite, in this order and
each of the three before the next record. GET / tells how many there are, or
what is torn; "records.py verify" tells it of the disk alone."""

import hashlib
import http.server
import os
import sqlite3
import sys
import threading
import time

database, log = "/root/records.db", "/root/records.log"


def record(n):
    return f"{n} {hashlib.sha256(str(n).encode()).hexdigest()}\n".encode()


def on_disk():
    """How many records file and database have, if none is torn or lost."""
    with open(log, "rb") as f:
        lines = f.readlines()
    for n, line in enumerate(lines, 1):
        if line != record(n):
            raise AssertionError(f"line {n} of {len(lines)} is {line!r}")
    db = sqlite3.connect(database, timeout=20)
    if (answer := db.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
        raise AssertionError(f"the database: {answer}")
    rows = db.execute("SELECT n, line FROM records ORDER BY n").fetchall()
    for n, row in enumerate(rows, 1):
        if row != (n, record(n)):
            raise AssertionError(f"row {n} of {len(rows)} is {row!r}")
    return len(lines), len(rows)


if len(sys.argv) > 1:
    lines, rows = on_disk()
    if not rows <= lines <= rows + 1:
        raise AssertionError(f"{lines} lines and {rows} rows")
    print(rows)
    sys.exit()

memory = []
complete = 0  # records that are in all three
lock = threading.Lock()
db = sqlite3.connect(database, isolation_level=None, timeout=20, check_same_thread=False)
db.execute("PRAGMA journal_mode=WAL")
db.execute("PRAGMA synchronous=FULL")
db.execute("CREATE TABLE records (n INTEGER PRIMARY KEY, line BLOB)")
broken = []


def write():
    global complete
    f = open(log, "ab", buffering=0)
    try:
        while True:
            with lock:
                n = len(memory) + 1
                memory.append(record(n))
                f.write(record(n))
                os.fsync(f.fileno())
                db.execute("INSERT INTO records VALUES (?, ?)", (n, record(n)))
                complete = n
            time.sleep(0.005)
    except Exception as e:
        broken.append(repr(e))


def check():
    with lock:
        if broken:
            raise AssertionError(broken[0])
        if memory != [record(n) for n in range(1, len(memory) + 1)]:
            raise AssertionError("memory is torn")
        if on_disk() != (len(memory), len(memory)):
            raise AssertionError(f"{len(memory)} records in memory, {on_disk()} on the disk")
        return len(memory)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            status, body = 200, str(complete if self.path == "/count" else check()).encode()
        except Exception as e:
            status, body = 500, repr(e).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


threading.Thread(target=write, daemon=True).start()
http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
