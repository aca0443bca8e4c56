"""An inotify watch, and what else waits for events: epoll, timerfd, eventfd,
signals, an interval timer."""

import ctypes
import os
import select
import signal
import struct
import threading
import time

from answer import expect, serve

libc = ctypes.CDLL(None, use_errno=True)
os.mkdir("/root/watched")
watch = libc.inotify_init1(os.O_NONBLOCK)
expect("inotify", libc.inotify_add_watch(watch, b"/root/watched", 0x100) > 0, True)  # IN_CREATE
timer = libc.timerfd_create(1, os.O_NONBLOCK)
every = struct.pack("qqqq", 0, 5_000_000, 0, 5_000_000)
expect("timerfd", libc.timerfd_settime(timer, 0, every, None), 0)
event = os.eventfd(0, os.EFD_NONBLOCK)
poll = select.epoll()
for fd in (watch, timer, event):
    poll.register(fd, select.EPOLLIN)
alarms = 0


def alarm(*_):
    global alarms
    alarms += 1


signal.signal(signal.SIGALRM, alarm)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
condition = threading.Condition()
clocks = []
backwards = []
rounds = 0


def tick():
    while True:
        clocks.append(time.monotonic())
        if len(clocks) > 1 and clocks[-1] < clocks[-2]:
            backwards.append(clocks[-2:])
        del clocks[:-2]
        with condition:
            condition.notify_all()
        time.sleep(0.005)


threading.Thread(target=tick, daemon=True).start()


def wait_for(fd):
    end = time.monotonic() + 20
    while True:
        expect("an event in time", time.monotonic() < end, True)
        if any(ready == fd for ready, _ in poll.poll(1)):
            return os.read(fd, 4096)


def check():
    global rounds
    rounds += 1
    open(f"/root/watched/{rounds}", "w").close()
    expect("a file is seen", str(rounds).encode() in wait_for(watch), True)
    wait_for(timer)
    os.eventfd_write(event, rounds)
    expect("an event", struct.unpack("Q", wait_for(event))[0], rounds)
    first, end = alarms, time.monotonic() + 20
    while alarms < first + 3:
        expect("alarms in time", time.monotonic() < end, True)
        time.sleep(0.01)
    with condition:
        expect("a condition", condition.wait(20), True)
    expect("the clock never goes back", backwards, [])
    return repr(time.time())


if __name__ == "__main__":
    threading.Thread(target=serve, args=(check,), daemon=True).start()
    while True:  # signals are for the main thread
        signal.pause()
