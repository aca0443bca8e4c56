"""The Bash kernel as bash_kernel has it, but for three things. What commands
write to stderr comes as such: bash gets a pipe for it, while stdout stays a
terminal. A cell is run as a whole, so that a quotation mark which is missing is
an error and not a wait for more. And an error has a name and a value."""

import atexit
import codecs
import os
import select
import shutil
import tempfile
import threading

import pexpect
from bash_kernel.kernel import BashKernel
from ipykernel.kernelapp import IPKernelApp

MOST = 64 << 10  # bytes that are read at once


class Terminal(pexpect.spawn):
    """Without the rest that a terminal takes before each line: that is for
    programs which read passwords, and would be 0.1 s for each command."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.delaybeforesend = None


class Errors:
    """What a shell and its children write to stderr."""

    def __init__(self, path, send):
        os.mkfifo(path, 0o600)
        self.pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # open for writing too: no end
        self.send = send
        self.lock = threading.Lock()
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        while True:
            select.select([self.pipe], [], [])
            self.take()

    def take(self):
        """Sends what is there."""
        with self.lock:
            while True:
                try:
                    data = os.read(self.pipe, MOST)
                except BlockingIOError:
                    return
                self.send(self.decoder.decode(data))


class Bash(BashKernel):
    def __init__(self, **kwargs):
        folder = tempfile.mkdtemp(prefix="bash-kernel-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        self.cell, self.pipe = os.path.join(folder, "cell"), os.path.join(folder, "stderr")
        self.silent, self.asked = True, None
        super().__init__(**kwargs)
        self.errors = Errors(self.pipe, self.send_error_text)

    def send_error_text(self, text):
        if self.silent or not text:
            return
        content = {"name": "stderr", "text": text}
        self.session.send(self.iopub_socket, "stream", content, parent=self.asked)

    def do_execute(self, code, silent, store_history=True, user_expressions=None, allow_stdin=False):
        self.silent, self.asked = silent, self.get_parent()
        with open(self.cell, "w", encoding="utf-8", errors="surrogateescape") as cell:
            cell.write(code.replace("\0", ""))
        try:
            self.bashwrapper.run_command(f'eval "$(<{self.cell})" 2>{self.pipe}', timeout=None)
            status = self.bashwrapper.run_command("{ echo $?; } 2>/dev/null").split()
            status = int(status[0]) if status and status[0].isdigit() else 1
        except KeyboardInterrupt:
            self.bashwrapper.child.sendintr()
            self.bashwrapper._expect_prompt()
            return self.failed("KeyboardInterrupt", "interrupted")
        except pexpect.EOF:
            self.process_output(self.bashwrapper.child.before)
            status = self.bashwrapper.child.wait()
            self._start_bash()
            return self.failed("ShellExited", f"the shell exited with status {status} and was started again; variables are lost")
        if status:
            return self.failed("ExitStatus", str(status))
        self.errors.take()
        return {"status": "ok", "execution_count": self.execution_count, "payload": [], "user_expressions": {}}

    def failed(self, name, value):
        self.errors.take()
        content = {"ename": name, "evalue": value, "traceback": [f"{name}: {value}"]}
        if not self.silent:
            self.send_response(self.iopub_socket, "error", content)
        return {"status": "error", "execution_count": self.execution_count, **content}


if __name__ == "__main__":
    pexpect.spawn = Terminal
    IPKernelApp.launch_instance(kernel_class=Bash)
