"""Pipes, FIFOs and Unix sockets, with something in them that nobody has read."""

import array
import fcntl
import os
import select
import socket
import subprocess
import termios

from answer import expect, serve

cat = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
r, w = os.pipe()
os.write(w, b"unread")
os.mkfifo("/root/fifo")
fifo = os.open("/root/fifo", os.O_RDWR | os.O_NONBLOCK)
os.write(fifo, b"unread")
one, two = socket.socketpair()
one.sendall(b"unread")
listener = socket.socket(socket.AF_UNIX)
listener.bind("/root/socket")
listener.listen()
known = socket.socket(socket.AF_UNIX)
known.connect("/root/socket")
answering, _ = listener.accept()
passed = None  # the other end of a descriptor on its way


def pass_one():
    global passed
    passed, end = os.pipe()
    socket.send_fds(one, [b"x"], [end])
    os.close(end)


pass_one()
full_r, full_w = os.pipe()
os.set_blocking(full_w, False)
filled = 0
try:
    while True:
        filled += os.write(full_w, b"f" * 4096)
except BlockingIOError:
    pass


def check():
    cat.stdin.write(b"through cat\n")
    expect("cat", cat.stdout.read(12), b"through cat\n")
    expect("a pipe", os.read(r, 100), b"unread")
    expect("a FIFO", os.read(fifo, 100), b"unread")
    writer = os.open("/root/fifo", os.O_WRONLY)
    os.write(writer, b"unread")
    os.close(writer)
    os.write(w, b"unread")
    expect("a socket pair", two.recv(6), b"unread")
    _, fds, _, _ = socket.recv_fds(two, 1, 1)
    os.write(fds[0], b"passed")
    expect("through a descriptor that was on its way", os.read(passed, 100), b"passed")
    os.close(fds[0])
    expect("the end of its pipe", os.read(passed, 100), b"")
    os.close(passed)
    one.sendall(b"unread")
    pass_one()
    known.sendall(b"known")
    expect("a Unix socket", answering.recv(100), b"known")
    fresh = socket.socket(socket.AF_UNIX)
    fresh.connect("/root/socket")
    other, _ = listener.accept()
    fresh.sendall(b"fresh")
    expect("a new connection to it", other.recv(100), b"fresh")
    expect("a full pipe is full", select.select([], [full_w], [], 0)[1], [])
    left = array.array("i", [0])
    fcntl.ioctl(full_r, termios.FIONREAD, left)
    expect("what is in it", left[0], filled)


serve(check)
