"""Works on a disk as programs do, and prints how long each kind of work took.

python3 disk.py prepare DIR   makes what the others need
python3 disk.py WORK DIR      does one kind of work: write, read, git, pip or sqlite
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile

MIB = 1 << 20
FILE_MIB = 512
FILES, FOLDERS = 20_000, 400
WHEELS, MODULES = 20, 60
COMMITS = 300


def wheel(folder, name):
    """A wheel of plain modules, as most are."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(os.path.join(folder, f"{name}-1.0-py3-none-any.whl"), "w", zipfile.ZIP_DEFLATED) as z:
        record = []

        def add(path, text):
            z.writestr(path, text)
            record.append(f"{path},,")

        add(f"{name}/__init__.py", "")
        for i in range(MODULES):
            body = "\n".join(f"def f{j}(x):\n    return x * {i} + {j}\n" for j in range(100))
            add(f"{name}/m{i}.py", body)
        add(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        add(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{info}/RECORD", "\n".join(record + [f"{info}/RECORD,,"]) + "\n")


def git(tree, *args):
    subprocess.run(["git", "-C", tree, "-c", "user.name=b", "-c", "user.email=b@b", *args], check=True, stdout=subprocess.DEVNULL)


def prepare(folder):
    wheels, tree = os.path.join(folder, "wheels"), os.path.join(folder, "tree")
    os.makedirs(wheels)
    for i in range(WHEELS):
        wheel(wheels, f"benchpkg{i}")
    for d in range(FOLDERS):
        sub = os.path.join(tree, f"d{d // 20}", f"e{d % 20}")
        os.makedirs(sub)
        for f in range(FILES // FOLDERS):
            with open(os.path.join(sub, f"f{f}.txt"), "w") as out:
                out.write(f"{d} {f}\n" * 20)
    git(tree, "init", "-q")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "all")
    git(tree, "status", "--short")  # the index knows the files' times now


def write(folder):
    block = os.urandom(MIB)
    with open(os.path.join(folder, "big"), "wb", buffering=0) as out:
        for _ in range(FILE_MIB):
            out.write(block)
        os.fsync(out.fileno())


def read(folder):
    with open(os.path.join(folder, "big"), "rb", buffering=0) as file:
        while file.read(MIB):
            pass


def status(folder):
    git(os.path.join(folder, "tree"), "status", "--short")


def pip(folder):
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check", "--root-user-action=ignore",
         "--no-cache-dir", "--find-links", os.path.join(folder, "wheels"), "--target", os.path.join(folder, "site"),
         *(f"benchpkg{i}" for i in range(WHEELS))],
        check=True,
    )


def commits(folder):
    db = sqlite3.connect(os.path.join(folder, "db.sqlite"))
    db.execute("create table if not exists t (n integer, text text)")
    for i in range(COMMITS):
        with db:
            db.execute("insert into t values (?, ?)", (i, "x" * 100))
    db.close()


def main(work, folder):
    os.makedirs(folder, exist_ok=True)
    shutil.rmtree(os.path.join(folder, "site"), ignore_errors=True)
    began = time.monotonic()
    {"prepare": prepare, "write": write, "read": read, "git": status, "pip": pip, "sqlite": commits}[work](folder)
    took = time.monotonic() - began
    amount = {"write": FILE_MIB, "read": FILE_MIB, "sqlite": COMMITS}.get(work, 1)
    print(json.dumps({"took": took, "amount": amount}))


main(*sys.argv[1:])
