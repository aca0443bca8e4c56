"""The crew with a script in place of the model; the sandbox is a real one."""

import json
import os
import unittest

os.environ["CREWAI_DISABLE_TELEMETRY"] = os.environ["OTEL_SDK_DISABLED"] = "true"
os.environ["CREWAI_TRACING_ENABLED"] = "false"

from agent import answer
from crewai import BaseLLM

SCRIPT = ["import pandas as pd\nframe = pd.DataFrame({'n': range(1, 11)})", "int(frame.n.sum())"]


class Scripted(BaseLLM):
    """Asks for one execution after the other, and then answers."""

    turn: int = 0
    heard: list = []

    def supports_function_calling(self):
        return False

    def call(self, messages, *args, **kwargs):
        self.heard.append(str(messages))
        self.turn += 1
        if self.turn <= len(SCRIPT):
            code = json.dumps({"code": SCRIPT[self.turn - 1]})
            return f"Thought: I compute it.\nAction: e2b_sandbox_python\nAction Input: {code}"
        return "Thought: I now know the final answer.\nFinal Answer: The sum is 55."


class Agent(unittest.TestCase):
    def test_answers_with_what_the_sandbox_said(self):
        model = Scripted(model="scripted")
        self.assertEqual(answer("What is the sum of 1 to 10?", model), "The sum is 55.")
        self.assertRegex(model.heard[-1], r"'text\W+55\b")


if __name__ == "__main__":
    unittest.main()
