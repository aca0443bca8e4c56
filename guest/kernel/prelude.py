# Runs silently in every Python kernel when it has started.
def _prelude():
    import contextlib
    import json
    import os
    import select
    import sys
    import threading

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

    forked = []
    os.register_at_fork(after_in_child=lambda: forked.append(True))
    if hasattr(OutStream, "_rotate_buffers"):
        write, flush = OutStream.write, OutStream.flush

        def write_quickly(self, text):
            self._unflushed = True
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

        # A flush wakes another thread and waits for it, and there are four of
        # them in each execution.
        def flush_what_is_there(self):
            if not forked and not self.__dict__.get("_unflushed", True) and not self._flush_pending:
                return
            self._unflushed = False
            flush(self)

        OutStream.write, OutStream.flush = write_quickly, flush_what_is_there
        # Then messages are in order without a nap before the answer.
        kernel._execute_sleep = 0

    # What is written to the descriptor instead of the stream comes through a
    # pipe. A thread reads it, when it gets to run: the code may be over then,
    # and the client gone. So the end of the code reads it too. Who has read also
    # writes before the other may read.
    def take(self):
        """Returns how much it was; None at the end."""
        with self._taking:
            try:
                data = os.read(self._fid, 1 << 16)
                if data and self._should_watch:
                    self.write(data.decode(errors="replace"))
                    os.write(self._original_stdstream_copy, data)
                return len(data) or None
            except BlockingIOError:
                return 0
            except OSError:  # code has closed what is not its own
                return None

    def watch(self):
        pipe = select.poll()
        pipe.register(self._fid, select.POLLIN)
        while self._should_watch and pipe.poll() and take(self) is not None:
            pass

    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        if isinstance(stream, OutStream) and getattr(stream, "_fid", None) is not None:
            stream._should_watch = False
            os.write(descriptor, b"\0")  # its thread reads that and ends
            stream.watch_fd_thread.join()
            stream._should_watch, stream._taking = True, threading.Lock()
            os.set_blocking(stream._fid, False)
            stream.watch_fd_thread = threading.Thread(target=watch, args=(stream,), daemon=True)
            stream.watch_fd_thread.start()

    flush_stream = OutStream.flush

    def flush_all(self):
        if not forked and "_taking" in self.__dict__:
            while take(self):
                pass
        flush_stream(self)

    OutStream.flush = flush_all

    # Text with lone surrogates would be lost, with all that is sent beside it.
    pack = kernel.session.pack

    def pack_anything(content):
        try:
            return pack(content)
        except UnicodeEncodeError:
            return json.dumps(content, default=str).encode()

    kernel.session.pack = pack_anything

    # A file for the history of all sessions costs writes at every execution,
    # and what would be written to it is kept without one, too.
    history = shell.history_manager
    history.enabled = False
    shell.events.register("post_execute", lambda: history.db_input_cache.clear())

    # Signatures of requests are kept, to refuse those that come again.
    kernel.session.digest_history_size = 1 << 10

    # IPython 9 keeps all output for as long as the kernel lives.
    class Nothing(dict):
        def __setitem__(self, count, value):
            pass

        def __missing__(self, count):
            return []

        def __contains__(self, count):
            return False

    if hasattr(shell, "_tee"):
        shell._tee = lambda channel: contextlib.nullcontext()
        shell.history_manager.outputs = shell.history_manager.exceptions = Nothing()

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


# What is wished for comes in the metadata of the code that it is for: variables
# of the environment, and that nothing is to show that the code ran.
def _wishes():
    import contextlib
    import gc
    import os

    shell = get_ipython()
    kernel = shell.kernel
    history, hook = shell.history_manager, shell.displayhook

    @contextlib.contextmanager
    def variables(values):
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    attributes = {
        shell: ("execution_count", "last_execution_result", "last_execution_succeeded"),
        history: ("_i", "_ii", "_iii", "_i00"),
        hook: ("_", "__", "___"),
    }

    @contextlib.contextmanager
    def trial():
        values = [(o, name, getattr(o, name)) for o, names in attributes.items() for name in names if hasattr(o, name)]
        lists = [(kept, len(kept)) for kept in (history.input_hist_parsed, history.input_hist_raw)]
        dicts = [(kept, dict(kept)) for kept in (shell.user_ns, shell.user_ns_hidden, shell.user_ns["_oh"])]
        if shell.execution_count == 1:
            gc.freeze()  # what is there stays, and nobody need look through it again
        try:
            yield
        finally:
            for o, name, value in values:
                setattr(o, name, value)
            for kept, length in lists:
                del kept[length:]
            for kept, before in dicts:
                kept.clear()
                kept.update(before)

    execute = kernel.do_execute

    async def do_execute(*args, **kwargs):
        wishes = kernel.get_parent("shell").get("metadata", {}).get("atoll")
        if not wishes:
            return await execute(*args, **kwargs)
        with contextlib.ExitStack() as stack:
            if wishes.get("trial"):
                stack.enter_context(trial())
            os.environ.update(wishes.get("set", {}))
            stack.enter_context(variables(wishes.get("during", {})))
            return await execute(*args, **kwargs)

    kernel.do_execute = do_execute


try:
    _prelude()
except Exception:
    pass  # a kernel of another make goes without
finally:
    del _prelude
try:
    _wishes()  # fails in such a kernel, and is told so
finally:
    del _wishes
