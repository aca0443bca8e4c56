"""Drives the kernel server with the published SDK for Python."""

import asyncio
import os
import sys
import time

from e2b_code_interpreter import AsyncSandbox, Sandbox
from e2b import NotFoundException, SandboxException, TimeoutException


def raises(kind, text, f, *args, **kwargs):
    try:
        f(*args, **kwargs)
    except kind as e:
        assert text in str(e), (text, str(e))
        return
    raise AssertionError(f"no {kind.__name__}")


sandbox = Sandbox.create()
run = sandbox.run_code

assert run("1+1").text == "2"
run("x = 1")
execution = run("x += 1; x")
assert execution.text == "2" and execution.execution_count == 3, execution

# Characters that end lines for str.splitlines, and such that two units make.
odd = "a\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029é🎈z"
heard = []
execution = run(f"print({odd!r}); {odd!r}", on_stdout=lambda m: heard.append(m))
assert "".join(execution.logs.stdout) == odd + "\n", execution
assert heard[0].timestamp > 0 and not heard[0].error
assert execution.results[0].is_main_result
execution = run("from IPython.display import display\ndisplay({'text/html': " + repr(odd) + ", 'x/y': [1]}, raw=True)")
assert execution.results[0].html == odd and execution.results[0].extra == {"x/y": [1]}, execution

execution = run("import sys; print('e', file=sys.stderr); 1/0")
assert execution.error.name == "ZeroDivisionError" and "division by zero" in execution.error.traceback
assert "".join(execution.logs.stderr) == "e\n"

assert run("import os; os.environ['A']", envs={"A": "given"}).text == "given"
assert run("os.environ.get('A', 'gone')").text == "gone"

context = sandbox.create_code_context(cwd="/tmp", language="python")
assert (context.cwd, context.language) == ("/tmp", "python")
assert run("import os; os.getcwd()", context=context).text == "/tmp"
assert context.id in [c.id for c in sandbox.list_code_contexts()]
run("y = 1", context=context)
sandbox.restart_code_context(context)
assert run("y", context=context).error.name == "NameError"
sandbox.remove_code_context(context)
raises(NotFoundException, "no such context", run, "1", context=context)
raises(NotFoundException, "no such context", sandbox.remove_code_context, context)
raises(NotFoundException, "This sandbox has", run, "1", language="cobol")
raises(SandboxException, "r-cran-irkernel", run, "1", language="r")
raises(NotFoundException, "does not exist", sandbox.create_code_context, cwd="/nowhere")

raises(TimeoutException, "Execution timed out", run, "while True: pass", timeout=1)
assert run("x").text == "2"

execution = run("import os; os._exit(1)")
assert execution.error.name == "KernelDied", execution
assert run("1+1").text == "2"

start = time.monotonic()
size = len("".join(run("for _ in range(102400): print('z' * 101)").logs.stdout))
print(f"10 MB in {time.monotonic() - start:.2f} s")
assert size == 102400 * 102


async def several():
    sandbox = await AsyncSandbox.create()
    context = await sandbox.create_code_context()
    first, second = await asyncio.gather(
        sandbox.run_code("import time; time.sleep(0.5); 'default'"),
        sandbox.run_code("'other'", context=context),
    )
    assert (first.text, second.text) == ("default", "other")
    await sandbox.remove_code_context(context)


asyncio.run(several())
sys.stdout.flush()
os._exit(0)  # the SDK's transport may abort while the interpreter ends
