"""Memory that is mapped from files and shared between processes."""

import mmap
import os
import time

from answer import expect, serve

SIZE = 4 << 20
pattern = bytes(range(256)) * (SIZE // 256)
with open("/root/shared", "wb") as f, open("/root/private", "wb") as g:
    f.write(pattern)
    g.write(pattern)
files = [os.open(p, os.O_RDWR) for p in ("/root/shared", "/root/private")]
shared = mmap.mmap(files[0], SIZE, mmap.MAP_SHARED)
private = mmap.mmap(files[1], SIZE, mmap.MAP_PRIVATE)
anonymous = mmap.mmap(-1, 4096, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
fd = os.open("/dev/shm/mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 4096)
in_memory = mmap.mmap(fd, 4096, mmap.MAP_SHARED)
private[1000:1008] = b"mine own"

child = os.fork()
if child == 0:
    while True:
        for m in (anonymous, in_memory):
            m[:8] = (int.from_bytes(m[:8], "little") + 1).to_bytes(8, "little")
        shared[4096 * 7 : 4096 * 7 + 8] = anonymous[:8]
        time.sleep(0.001)

rounds = 0


def moves(what, read):
    first, end = read(), time.monotonic() + 20
    while read() == first:
        expect(f"{what} moves on in time", time.monotonic() < end, True)
        time.sleep(0.005)


def check():
    global rounds
    rounds += 1
    moves("shared memory without a file", lambda: anonymous[:8])
    moves("shared memory of /dev/shm", lambda: in_memory[:8])
    moves("a shared file, mapped", lambda: shared[4096 * 7 : 4096 * 7 + 8])
    moves("a shared file, read", lambda: os.pread(files[0], 8, 4096 * 7))
    expect("private memory", private[1000:1008], b"mine own")
    expect("the file beneath it", os.pread(files[1], 8, 1000), pattern[1000:1008])
    expect("the rest of it", private[2000:], pattern[2000:])
    shared[100:108] = rounds.to_bytes(8, "little")
    expect("written to memory, read from the file", os.pread(files[0], 8, 100), rounds.to_bytes(8, "little"))
    os.pwrite(files[0], rounds.to_bytes(8, "big"), 200)
    expect("written to the file, read from memory", shared[200:208], rounds.to_bytes(8, "big"))
    with open("/root/shared", "rb") as f:
        expect("the shared file", f.read(100), pattern[:100])


serve(check)
