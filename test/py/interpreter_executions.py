"""Code, results, charts, contexts and bad code through the code-interpreter SDK."""

import asyncio
import base64
import contextlib
import time
import unittest

from e2b import InvalidArgumentException, NotFoundException, TimeoutException
from e2b_code_interpreter import AsyncSandbox, Context, Sandbox
from e2b_code_interpreter.charts import (
    BarChart,
    BoxAndWhiskerChart,
    LineChart,
    PieChart,
    ScaleType,
    ScatterChart,
    SuperChart,
)
from helpers import UNKNOWN, until


class WithInterpreter(unittest.TestCase):
    """Tests that share one sandbox."""

    @classmethod
    def setUpClass(cls):
        cls.sbx = Sandbox.create(timeout=300)
        cls.addClassCleanup(cls.sbx.kill)

    def run_code(self, code, **opts):
        """Runs code that must not fail."""
        execution = self.sbx.run_code(code, **opts)
        self.assertIsNone(execution.error, execution.error and execution.error.traceback)
        return execution

    def context(self, **opts):
        made = self.sbx.create_code_context(**opts)
        self.addCleanup(self.forget, made)
        return made

    def forget(self, context):
        with contextlib.suppress(NotFoundException):
            self.sbx.remove_code_context(context)


def stdout(execution):
    return "".join(execution.logs.stdout)


def stderr(execution):
    return "".join(execution.logs.stderr)


class Code(WithInterpreter):
    def test_state_lasts(self):
        self.run_code("kept = 41")
        self.assertEqual(self.run_code("kept += 1; kept").text, "42")

    def test_the_main_result_is_told_from_what_is_displayed(self):
        execution = self.run_code("from IPython.display import display\ndisplay('shown')\n'main'")
        self.assertEqual([(r.text, r.is_main_result) for r in execution.results], [("shown", False), ("main", True)])
        self.assertEqual(execution.text, "main")

    def test_code_without_a_result(self):
        execution = self.run_code("nothing = 1")
        self.assertEqual((execution.text, execution.results, execution.logs.stdout), (None, [], []))

    def test_output_comes_while_the_code_runs_and_in_order(self):
        heard = []
        execution = self.run_code(
            "import sys, time\nfor i in range(4):\n    print(i, file=(sys.stderr if i % 2 else sys.stdout), flush=True)\n    time.sleep(0.3)",
            on_stdout=lambda m: heard.append((m.line, m.error, time.monotonic())),
            on_stderr=lambda m: heard.append((m.line, m.error, time.monotonic())),
        )
        self.assertEqual("".join(h[0] for h in heard), "0\n1\n2\n3\n")
        self.assertEqual([h[1] for h in heard if h[0].strip()][:4], [False, True, False, True])
        self.assertGreater(heard[-1][2] - heard[0][2], 0.5)
        self.assertEqual((stdout(execution), stderr(execution)), ("0\n2\n", "1\n3\n"))

    def test_results_and_errors_are_told_when_they_come(self):
        results, errors = [], []
        self.sbx.run_code("display(1)\n1/0", on_result=results.append, on_error=errors.append)
        self.assertEqual([r.text for r in results], ["1"])
        self.assertEqual([e.name for e in errors], ["ZeroDivisionError"])

    def test_executions_are_counted(self):
        context = self.context()
        self.assertEqual([self.run_code("1", context=context).execution_count for _ in range(3)], [1, 2, 3])

    def test_variables_of_one_execution(self):
        self.assertEqual(self.run_code("import os; os.environ['FOR_ONE']", envs={"FOR_ONE": "given"}).text, "given")
        self.assertEqual(self.run_code("os.environ.get('FOR_ONE')").text, None)

    def test_variables_of_the_sandbox(self):
        sbx = Sandbox.create(timeout=60, envs={"FOR_ALL": "all"})
        self.addCleanup(sbx.kill)
        read = "import os; os.environ['FOR_ALL']"
        self.assertEqual(sbx.run_code(read).text, "all")
        self.assertEqual(sbx.run_code(read, envs={"FOR_ALL": "one"}).text, "one")
        self.assertEqual(sbx.run_code(read).text, "all")

    def test_two_hundred_executions(self):
        self.run_code("n = 0")
        for _ in range(200):
            self.run_code("n += 1")
        self.assertEqual(self.run_code("n").text, "200")


class Results(WithInterpreter):
    def shown(self, code):
        return self.run_code("from IPython.display import *\n" + code).results[0]

    def test_each_form(self):
        for call, form, want in (
            ("HTML('<b>x</b>')", "html", "<b>x</b>"),
            ("Markdown('# x')", "markdown", "# x"),
            ("Latex('$x$')", "latex", "$x$"),
            ("JSON({'a': [1, None]})", "json", {"a": [1, None]}),
            ("Javascript('1')", "javascript", "1"),
        ):
            result = self.shown(call)
            self.assertEqual(result[form], want)
            self.assertIn(form, list(result.formats()))
        self.assertIn("<svg", self.shown("SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>')").svg)

    def test_pictures(self):
        picture = "import io\nfrom PIL import Image as I\nb = io.BytesIO(); I.new('RGB', (3, 3), 'red').save(b, '%s')\nImage(data=b.getvalue(), format='%s')"
        self.assertEqual(base64.b64decode(self.shown(picture % ("PNG", "png")).png)[:4], b"\x89PNG")
        self.assertEqual(base64.b64decode(self.shown(picture % ("JPEG", "jpeg")).jpeg)[:3], b"\xff\xd8\xff")
        pdf = self.shown("display({'application/pdf': 'JVBERi0='}, raw=True)")
        self.assertEqual(pdf.pdf, "JVBERi0=")

    def test_a_form_of_one_s_own(self):
        self.assertEqual(self.shown("display({'application/x-own': 'y'}, raw=True)").extra, {"application/x-own": "y"})

    def test_a_data_frame(self):
        result = self.run_code("import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': ['x', None]})").results[0]
        self.assertEqual(result.data, {"a": [1, 2], "b": ["x", None]})
        self.assertIn("<table", result.html)
        self.assertTrue(result.is_main_result)


class Charts(WithInterpreter):
    def chart(self, code):
        result = self.run_code(f"import matplotlib.pyplot as plt\n{code}\nplt.show()").results[0]
        self.assertEqual(base64.b64decode(result.png)[:4], b"\x89PNG")
        return result.chart

    def test_line(self):
        chart = self.chart("plt.plot([1, 2, 3], [4, 5, 6], label='l'); plt.title('T'); plt.xlabel('X (s)'); plt.ylabel('Y')")
        self.assertIsInstance(chart, LineChart)
        self.assertEqual((chart.title, chart.x_label, chart.y_label, chart.x_unit), ("T", "X (s)", "Y", "s"))
        self.assertEqual(chart.x_scale, ScaleType.LINEAR)
        self.assertEqual([(e.label, e.points) for e in chart.elements], [("l", [(1, 4), (2, 5), (3, 6)])])

    def test_scatter(self):
        chart = self.chart("plt.scatter([1, 2], [3, 4], label='s'); plt.yscale('log')")
        self.assertIsInstance(chart, ScatterChart)
        self.assertEqual(chart.elements[0].points, [(1, 3), (2, 4)])
        self.assertEqual(chart.y_scale, ScaleType.LOG)

    def test_bar(self):
        chart = self.chart("plt.bar(['a', 'b'], [1, 2])")
        self.assertIsInstance(chart, BarChart)
        self.assertEqual([(e.label, float(e.value)) for e in chart.elements], [("a", 1), ("b", 2)])

    def test_pie(self):
        chart = self.chart("plt.pie([1, 3], labels=['a', 'b'])")
        self.assertIsInstance(chart, PieChart)
        self.assertEqual([(e.label, round(e.angle)) for e in chart.elements], [("a", 90), ("b", 270)])

    def test_box_and_whisker(self):
        chart = self.chart("plt.boxplot([[1, 2, 3, 4, 5, 50]], tick_labels=['a'])")
        self.assertIsInstance(chart, BoxAndWhiskerChart)
        [box] = chart.elements
        self.assertEqual((box.label, box.min, box.median, box.max, box.outliers), ("a", 1, 3.5, 5, [50]))

    def test_several_in_one_figure(self):
        chart = self.chart("_, (a, b) = plt.subplots(1, 2); a.plot([1], [2]); b.bar(['x'], [1])")
        self.assertIsInstance(chart, SuperChart)
        self.assertEqual([type(e) for e in chart.elements], [LineChart, BarChart])


class Contexts(WithInterpreter):
    def test_life(self):
        context = self.context(cwd="/tmp", language="python")
        self.assertEqual((context.cwd, context.language), ("/tmp", "python"))
        self.assertIn(context.id, [c.id for c in self.sbx.list_code_contexts()])
        self.assertEqual(self.run_code("mine = 1; import os; os.getcwd()", context=context).text, "/tmp")
        self.assertEqual(self.sbx.run_code("mine").error.name, "NameError")
        self.sbx.restart_code_context(context)
        self.assertEqual(self.sbx.run_code("mine", context=context).error.name, "NameError")
        self.assertEqual(self.run_code("import os; os.getcwd()", context=context).text, "/tmp")
        self.sbx.remove_code_context(context)
        self.assertNotIn(context.id, [c.id for c in self.sbx.list_code_contexts()])
        with self.assertRaises(NotFoundException):
            self.sbx.run_code("1", context=context)

    def test_one_default_for_each_language(self):
        for language, code, want in (
            ("python", "9001", "9001"),
            ("javascript", "9000 + 1", "9001"),
            ("typescript", "const n: number = 9001; n", "9001"),
            ("r", "1; 9000 + 1", "[1] 9001"),
        ):
            self.assertEqual(self.run_code(code, language=language).text, want, language)
        self.assertEqual(stdout(self.run_code("kept=hello", language="bash")), "")
        self.assertEqual(stdout(self.run_code("echo $kept", language="bash")), "hello\n")
        missing = self.sbx.run_code("echo before; no-such-program", language="bash")
        self.assertEqual((missing.error.name, missing.error.value), ("ExitStatus", "127"))
        self.assertEqual(stdout(missing), "before\n")
        self.assertIn("no-such-program: command not found", "".join(missing.logs.stderr))
        languages = [c.language for c in self.sbx.list_code_contexts()]
        self.assertEqual(sorted(set(languages)), sorted(languages))

    def test_one_after_another_within_a_context(self):
        self.run_code("order = []")

        async def several():
            sbx = await AsyncSandbox.connect(self.sbx.sandbox_id)
            await asyncio.gather(*(
                sbx.run_code(f"import time; order.append('in'); time.sleep(0.2); order.append('out'); {i}") for i in range(4)
            ))

        asyncio.run(several())
        self.assertEqual(self.run_code("print(*order)").logs.stdout, ["in out " * 3 + "in out\n"])

    def test_side_by_side_across_contexts(self):
        first, second = self.context(), self.context()
        meet = "open('/tmp/{0}', 'w').close()\nwhile not os.path.exists('/tmp/{1}'): time.sleep(0.01)\n'met'"

        async def both():
            sbx = await AsyncSandbox.connect(self.sbx.sandbox_id)
            return await asyncio.gather(
                sbx.run_code("import os, time\n" + meet.format("a", "b"), context=first, timeout=30),
                sbx.run_code("import os, time\n" + meet.format("b", "a"), context=second, timeout=30),
            )

        self.assertEqual([e.text for e in asyncio.run(both())], ["met", "met"])

    def test_what_is_not_there(self):
        gone = Context(UNKNOWN, "python", "/")
        for call in (
            lambda: self.sbx.run_code("1", context=gone),
            lambda: self.sbx.run_code("1", language="cobol"),
            lambda: self.sbx.create_code_context(language="cobol"),
            lambda: self.sbx.create_code_context(cwd="/nowhere"),
            lambda: self.sbx.restart_code_context(gone),
            lambda: self.sbx.remove_code_context(gone),
        ):
            with self.assertRaises(NotFoundException):
                call()
        with self.assertRaises(InvalidArgumentException):
            self.sbx.run_code("1", context=gone, language="python")
        with self.assertRaisesRegex(NotFoundException, "template"):
            self.sbx.run_code("1", language="java")


class BadCode(WithInterpreter):
    def setUp(self):
        self.run_code("kept = 'kept'")
        self.addCleanup(self.usable)

    def usable(self):
        self.assertEqual(self.run_code("print('to be read'); 1 + 1").text, "2")

    def state(self):
        self.assertEqual(self.run_code("kept").text, "kept")

    def test_syntax_error(self):
        error = self.sbx.run_code("1 +").error
        self.assertEqual(error.name, "SyntaxError")
        self.assertIn("1 +", error.traceback)
        self.state()

    def test_error_while_running(self):
        error = self.sbx.run_code("def f():\n    raise ValueError('bad value')\nf()").error
        self.assertEqual((error.name, error.value), ("ValueError", "bad value"))
        self.assertIn("in f", error.traceback)
        self.state()

    def test_a_loop_without_end(self):
        with self.assertRaises(TimeoutException):
            self.sbx.run_code("while True: pass", timeout=1)
        self.state()

    def test_code_that_holds_on_to_interrupts(self):
        with self.assertRaises(TimeoutException):
            self.sbx.run_code("import time\ntry:\n    time.sleep(100)\nexcept KeyboardInterrupt:\n    seen = 1", timeout=1)
        self.assertEqual(self.run_code("seen").text, "1")
        self.state()

    def test_exit_of_the_kernel(self):
        error = self.sbx.run_code("import os; os._exit(3)").error
        self.assertEqual(error.name, "KernelDied")
        self.assertIn("3", error.value)
        self.assertEqual(self.sbx.run_code("kept").error.name, "NameError")

    def test_much_output(self):
        size = 0

        def count(message):
            nonlocal size
            size += len(message.line)

        execution = self.sbx.run_code("line = 'x' * 1023\nfor _ in range(100 << 10): print(line)", on_stdout=count, timeout=120)
        told = execution.error.value if execution.error else ""
        self.assertTrue(size == 100 << 20 or "output" in told.lower(), f"{size} bytes came, and: {told}")
        self.state()

    def test_a_large_picture(self):
        code = """import io, os
from PIL import Image as I
from IPython.display import Image, display
b = io.BytesIO()
I.frombytes('RGB', (4096, 4096), os.urandom(3 << 24)).save(b, 'PNG', compress_level=0)
display(Image(data=b.getvalue(), format='png'))
len(b.getvalue())"""
        execution = self.sbx.run_code(code, timeout=120)
        self.assertIsNone(execution.error, execution.error)
        picture, size = execution.results
        self.assertEqual(len(base64.b64decode(picture.png)), int(size.text))
        self.state()

    def test_bytes_that_are_not_text(self):
        execution = self.run_code(r"import os; n = os.write(1, b'a\xff\xfeb\n')")
        self.assertEqual(stdout(execution), "a\ufffd\ufffdb\n")
        self.assertEqual(self.run_code(r"'\ud800'").error, None)
        self.state()

    def test_closed_output(self):
        for code in ("import sys; sys.stdout.close()", "import os; os.close(1); os.close(2)"):
            self.sbx.run_code(code)
            self.assertEqual(stdout(self.run_code("print('still here')")), "still here\n", code)
        self.state()

    def test_code_that_forks(self):
        code = "import os\nchild = os.fork()\nif child == 0:\n    print('child'); os._exit(0)\nos.waitpid(child, 0)[1]"
        self.assertEqual(self.run_code(code).text, "0")
        self.sbx.run_code("import os\nchild = os.fork()")
        self.state()

    def test_a_client_that_goes_away(self):
        async def leave():
            sbx = await AsyncSandbox.connect(self.sbx.sandbox_id)
            task = asyncio.ensure_future(sbx.run_code("open('/tmp/begun', 'w').close()\nwhile True: pass"))
            await asyncio.to_thread(until, "the code to run", lambda: self.sbx.files.exists("/tmp/begun"))
            # Before 3.12 asyncio loses a cancellation that meets a piece of the answer.
            for _ in range(30):
                if not task.cancel():
                    break
                await asyncio.wait([task], timeout=1)
            self.assertTrue(task.cancelled())

        asyncio.run(leave())
        self.state()


class Copies(unittest.TestCase):
    def setUp(self):
        self.sbx = Sandbox.create(timeout=300)
        self.addCleanup(self.sbx.kill)
        self.sbx.run_code("import random, uuid, os, numpy\nkept = [1, 2]\nrandom.random()")
        self.sbx.run_code("let kept = 7", language="javascript")

    def same(self, sbx):
        self.assertEqual(sbx.run_code("kept").text, "[1, 2]")
        self.assertEqual(sbx.run_code("kept", language="javascript").text, "7")

    def test_pause_and_resume(self):
        for _ in range(2):
            self.sbx.pause()
            self.sbx.connect()
            self.same(self.sbx)

    def test_forks(self):
        copies = self.sbx.fork(count=3, timeout=120)
        for c in copies:
            self.addCleanup(c.kill)
        drawn = set()
        for s in [self.sbx, *copies]:
            self.assertIsInstance(s, Sandbox)
            self.same(s)
            s.run_code("kept.append(random.random())")
            drawn.add(s.run_code("random.random(), uuid.uuid4(), os.urandom(8)").text)
            drawn.add(s.run_code("numpy.random.rand()").text)
            drawn.add(s.run_code("Math.random()", language="javascript").text)
            self.assertEqual(s.run_code("len(kept)").text, "3")
        self.assertEqual(len(drawn), 12, drawn)

    def test_snapshot(self):
        taken = self.sbx.create_snapshot()
        self.addCleanup(Sandbox.delete_snapshot, taken.snapshot_id)
        copies = [Sandbox.create(taken.snapshot_id, timeout=120) for _ in range(2)]
        for c in copies:
            self.addCleanup(c.kill)
            self.same(c)
        drawn = {s.run_code("random.random(), uuid.uuid4()").text for s in [self.sbx, *copies]}
        self.assertEqual(len(drawn), 3, drawn)


if __name__ == "__main__":
    unittest.main()
