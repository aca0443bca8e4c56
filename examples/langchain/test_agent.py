"""The agent with a script in place of the model; the sandbox is a real one."""

import unittest

from agent import answer
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

SCRIPT = [
    ("run_python", {"code": "import pandas as pd\nframe = pd.DataFrame({'n': range(1, 11)})\nprint(len(frame))"}),
    ("run_python", {"code": "int(frame.n.sum())"}),
    ("write_file", {"file_path": "/home/user/sum.py", "content": "print(6 * 7)"}),
    ("execute", {"command": "python3 /home/user/sum.py"}),
    ("run_python", {"code": "1/0"}),
]


class Scripted(BaseChatModel):
    """Asks for one tool after the other, whatever it is told, and then answers."""

    turn: int = 0

    @property
    def _llm_type(self):
        return "scripted"

    def bind_tools(self, tools, **kwargs):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        message = AIMessage("The sum is 55.")
        if self.turn < len(SCRIPT):
            name, args = SCRIPT[self.turn]
            message = AIMessage("", tool_calls=[{"name": name, "args": args, "id": f"call-{self.turn}"}])
        self.turn += 1
        return ChatResult(generations=[ChatGeneration(message=message)])


class Agent(unittest.TestCase):
    def test_answers_with_what_the_sandbox_said(self):
        messages = answer("What is the sum of 1 to 10?", Scripted())
        said = [m.text for m in messages if isinstance(m, ToolMessage)]
        self.assertEqual(said[0], "10\n")
        self.assertEqual(said[1], "55")
        self.assertIn("42", said[3])
        self.assertIn("ZeroDivisionError", said[4])
        self.assertEqual(messages[-1].text, "The sum is 55.")


if __name__ == "__main__":
    unittest.main()
