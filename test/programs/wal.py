"""SQLite in WAL mode, written by one thread and read by another all the time."""

import hashlib
import sqlite3
import threading
import time

from answer import expect, serve

path = "/root/wal.db"
wrong = []
written = 0


def connect():
    db = sqlite3.connect(path, isolation_level=None, timeout=20)
    expect("journal", db.execute("PRAGMA journal_mode=WAL").fetchone()[0], "wal")
    return db


def digest(n):
    return hashlib.sha256(str(n).encode()).hexdigest()


def write():
    global written
    db = connect()
    try:
        while True:
            db.execute("BEGIN")
            for n in range(written + 1, written + 6):
                db.execute("INSERT INTO t VALUES (?, ?)", (n, digest(n)))
            db.execute("COMMIT")
            written += 5
            time.sleep(0.002)
    except Exception as e:
        wrong.append(f"writer: {e}")


def read():
    db = connect()
    try:
        while True:
            count, last = db.execute("SELECT COUNT(*), MAX(n) FROM t").fetchone()
            if count != (last or 0) or count % 5:
                wrong.append(f"{count} rows, the last is {last}")
            time.sleep(0.005)
    except Exception as e:
        wrong.append(f"reader: {e}")


connect().execute("CREATE TABLE t (n INTEGER PRIMARY KEY, digest TEXT)")
for f in (write, read):
    threading.Thread(target=f, daemon=True).start()


def check():
    first, end = written, time.monotonic() + 20
    while written < first + 20:
        expect("in time", (time.monotonic() < end, wrong), (True, []))
        time.sleep(0.01)
    expect("wrong", wrong, [])
    db = connect()
    expect("integrity", db.execute("PRAGMA integrity_check").fetchone()[0], "ok")
    for n, d in db.execute("SELECT n, digest FROM t"):
        expect(n, d, digest(n))


serve(check)
