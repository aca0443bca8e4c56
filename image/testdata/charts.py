"""Runs cells in IPython with the interpreter's extension and reads what they
display with the SDK's own models.

Standard input: {"package": folder, "cells": {name: code}}. Standard output:
{name: [{"data": …, "chart": …, "model": name of the SDK's class}]}.
"""

import importlib.util
import json
import os
import sys
import tempfile

os.environ.setdefault("MPLCONFIGDIR", tempfile.mkdtemp())
os.environ["IPYTHONDIR"] = tempfile.mkdtemp()
sys.dont_write_bytecode = True


def load(folder):
    spec = importlib.util.spec_from_file_location("atoll_interpreter", folder + "/__init__.py", submodule_search_locations=[folder])
    sys.modules["atoll_interpreter"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sdk(chart):
    from e2b_code_interpreter.models import Result

    read = Result(chart=chart).chart
    assert read is not None, f"the SDK cannot read {chart}"
    if hasattr(read, "elements"):
        list(read.elements)
    return type(read).__name__


def main():
    task = json.load(sys.stdin)
    ours = load(task["package"])
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    shell = InteractiveShell.instance(colors="nocolor")
    ours.load_ipython_extension(shell)
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    shell.enable_gui = lambda gui=None: None
    shell.enable_matplotlib("inline")
    answers = {}
    for name, code in task["cells"].items():
        with capture_output() as captured:
            done = shell.run_cell(code)
        done.raise_error()
        answers[name] = found = []
        for output in captured.outputs:
            chart = output.data.get(ours.CHART)
            found.append({
                "chart": chart,
                "data": output.data.get(ours.DATA),
                "model": chart and sdk(chart),
                "png": "image/png" in output.data,
            })
    json.dump(answers, sys.stdout, allow_nan=False)


main()
