"""Runs the tests of the Python SDK and tells about each as one line of JSON, so
that they are counted and reported like any other test of the project."""

import json
import os
import pathlib
import sys
import time
import traceback
import unittest


class Lines(unittest.TestResult):
    def startTest(self, test):
        super().startTest(test)
        self._started = time.monotonic()
        self._told = False

    def stopTest(self, test):
        super().stopTest(test)
        if not self._told:
            self._tell(test, True)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._tell(test, False, err)

    def addError(self, test, err):
        super().addError(test, err)
        self._tell(test, False, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._tell(test, False, err)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._tell(test, True, skipped=True)

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self._tell(test, False)

    def _tell(self, test, ok, err=None, skipped=False):
        self._told = True
        line = {
            "name": getattr(test, "_testMethodName", str(test)).removeprefix("test_").replace("_", " "),
            "file": type(test).__module__ + ".py",
            "ok": ok,
            "skipped": skipped,
            "millis": (time.monotonic() - getattr(self, "_started", time.monotonic())) * 1000,
        }
        if err is not None:
            line["error"] = "".join(traceback.format_exception(*err))
        print(json.dumps(line), flush=True)


def main():
    here = pathlib.Path(__file__).parent
    pattern = sys.argv[1] if len(sys.argv) > 1 else "test_*.py"
    suite = unittest.defaultTestLoader.discover(str(here), pattern=pattern, top_level_dir=str(here))
    return 0 if suite.run(Lines()).wasSuccessful() else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # The SDK's HTTP library sometimes aborts the interpreter while it ends, with all done.
    os._exit(code)
