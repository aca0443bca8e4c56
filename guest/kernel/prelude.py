# Runs silently in every Python kernel when it has started.
def _prelude():
    import contextlib
    import json
    import os
    import sys

    shell = get_ipython()
    kernel = shell.kernel
    own = os.getpid()

    # Code that closes its standard output would silence all code after it.
    for stream in (sys.stdout, sys.stderr):
        stream.close = stream.flush

    # A child that was forked and has not ended would go on as a second kernel
    # on the same sockets.
    def leave():
        if os.getpid() != own:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

    shell.events.register("post_execute", leave)

    # print asks the system for the process's number at each write, and looks up
    # a buffer by all fields of the request: half of what printing costs.
    from ipykernel.iostream import OutStream

    if hasattr(OutStream, "_rotate_buffers"):
        write = OutStream.write
        forked = []
        os.register_at_fork(after_in_child=lambda: forked.append(True))

        def write_quickly(self, text):
            if forked or type(text) is not str or self.echo is not None or self.pub_thread is None:
                return write(self, text)
            parent = self.parent_header
            with self._buffer_lock:
                last = self.__dict__.get("_last_buffer")
                if last is None or last[0] is not self._buffers or last[1] is not parent:
                    last = self._last_buffer = (self._buffers, parent, self._buffers[frozenset(parent.items())])
                last[2].write(text)
            if not self._flush_pending:
                self._schedule_flush()
            return len(text)

        OutStream.write = write_quickly

    # Text with lone surrogates would be lost, with all that is sent beside it.
    pack = kernel.session.pack

    def pack_anything(content):
        try:
            return pack(content)
        except UnicodeEncodeError:
            return json.dumps(content, default=str).encode()

    kernel.session.pack = pack_anything

    # A file for the history of all sessions costs writes at every execution.
    shell.history_manager.enabled = False

    # IPython 9 keeps all output for as long as the kernel lives.
    class Nothing(dict):
        def __missing__(self, count):
            return []

        def __contains__(self, count):
            return False

    if hasattr(shell, "_tee"):
        shell._tee = lambda channel: contextlib.nullcontext()
        shell.history_manager.outputs = Nothing()

        # What it had put there for the code that is running now.
        def restore():
            for stream in (sys.stdout, sys.stderr):
                stream.__dict__.pop("write", None)
            shell.events.unregister("pre_execute", restore)

        shell.events.register("pre_execute", restore)

    # What the kernel publishes waits for a slow reader, instead of being
    # thrown away.
    import zmq

    thread = kernel.iopub_thread
    thread.schedule(lambda: thread.socket.setsockopt(zmq.XPUB_NODROP, 1))


try:
    _prelude()
except Exception:
    pass  # a kernel of another make goes without
finally:
    del _prelude
