"""The Bash kernel, without the rest that its terminal takes before each line:
that is for programs which read passwords, and would be 0.1 s for each command."""

import pexpect
from bash_kernel.kernel import BashKernel
from ipykernel.kernelapp import IPKernelApp


class Terminal(pexpect.spawn):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.delaybeforesend = None


if __name__ == "__main__":
    pexpect.spawn = Terminal
    IPKernelApp.launch_instance(kernel_class=BashKernel)
