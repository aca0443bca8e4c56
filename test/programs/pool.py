"""A pool of processes in the middle of its work, which never ends."""

import hashlib
import itertools
import multiprocessing
import threading
import time

from answer import expect, serve


def work(n):
    digest = str(n).encode()
    for _ in range(300):
        digest = hashlib.sha256(digest).digest()
    return n, digest


if __name__ == "__main__":
    pool = multiprocessing.Pool(4)
    workers = [p.pid for p in pool._pool]
    done = 0
    wrong = []

    def numbers():
        for n in itertools.count():
            while n > done + 200:
                time.sleep(0.001)
            yield n

    def collect():
        global done
        for n, digest in pool.imap(work, numbers(), chunksize=4):
            if n != done or digest != work(n)[1]:
                wrong.append(n)
            done += 1

    threading.Thread(target=collect, daemon=True).start()

    def check():
        first, end = done, time.monotonic() + 20
        while done < first + 50:
            expect("in time", time.monotonic() < end, True)
            time.sleep(0.01)
        expect("wrong results", wrong, [])
        expect("workers", [p.pid for p in pool._pool], workers)

    serve(check)
