"""Files that are open and have no name any more, or another one."""

import os

from answer import expect, serve

# Deleted while open: on the disk and in memory.
deleted = {}
for path in ("/root/deleted", "/tmp/deleted", "/dev/shm/deleted"):
    f = open(path, "w+b")
    f.write(b"first " * 1000)
    f.flush()
    os.unlink(path)
    deleted[path] = f
# A new file has taken its name.
replaced = open("/root/replaced", "w+b")
replaced.write(b"old")
replaced.flush()
with open("/root/replaced.new", "wb") as f:
    f.write(b"new")
os.rename("/root/replaced.new", "/root/replaced")
# Moved while open, with its folder.
os.makedirs("/root/folder/inner", exist_ok=True)
moved = open("/root/folder/inner/file", "w+b")
moved.write(b"moved")
moved.flush()
os.rename("/root/folder", "/root/elsewhere")
# Written, and not flushed to the disk by anybody.
unsynced = open("/root/unsynced", "w+b", buffering=0)
unsynced.write(b"unsynced")
rounds = 0


def check():
    global rounds
    for path, f in deleted.items():
        expect(path + " exists", os.path.exists(path), False)
        f.seek(0)
        expect(path, f.read(), b"first " * 1000 + b"more" * rounds)
        f.write(b"more")
        f.flush()
    rounds += 1
    replaced.seek(0)
    expect("the old file", replaced.read(), b"old")
    with open("/root/replaced", "rb") as f:
        expect("the new file", f.read(), b"new")
    moved.seek(0, 2)
    moved.write(b".")
    moved.flush()
    with open("/root/elsewhere/inner/file", "rb") as f:
        expect("the moved file", f.read(), b"moved" + b"." * rounds)
    unsynced.write(b".")
    with open("/root/unsynced", "rb") as f:
        expect("the file that was not synced", f.read(), b"unsynced" + b"." * rounds)


serve(check)
