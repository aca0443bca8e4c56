# Runs silently in every Python kernel when it has started.
def _prelude():
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
