"""Much memory, of which a part changes all the time and all is known."""

import hashlib
import os
import random
import sys
import threading
import time

from answer import expect, serve

blocks = [bytearray(os.urandom(1 << 20)) for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 250)]
digests = [hashlib.sha256(b).digest() for b in blocks]
lock = threading.Lock()


def change():
    while True:
        i = random.randrange(len(blocks))
        with lock:
            blocks[i][:] = os.urandom(1 << 20)
            digests[i] = hashlib.sha256(blocks[i]).digest()
        time.sleep(0.01)


threading.Thread(target=change, daemon=True).start()


def check():
    for i, b in enumerate(blocks):
        with lock:
            expect(f"block {i}", hashlib.sha256(b).digest(), digests[i])


serve(check)
