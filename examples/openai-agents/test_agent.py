"""The agent with a script in place of the model; the sandbox is a real one."""

import asyncio
import json
import unittest

from agent import answer
from agents import Model, ModelResponse, Usage
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

SCRIPT = [
    "python3 -c \"import pandas as pd; pd.DataFrame({'n': range(1, 11)}).to_csv('n.csv')\"",
    "python3 -c \"import pandas as pd; print('sum', pd.read_csv('n.csv').n.sum())\"",
    "exit 3",
]


class Scripted(Model):
    """Runs one command after the other, whatever it is told, and then answers."""

    def __init__(self):
        self.turn = 0

    async def get_response(self, *args, **kwargs):
        self.turn += 1
        if self.turn <= len(SCRIPT):
            arguments = json.dumps({"cmd": SCRIPT[self.turn - 1]})
            item = ResponseFunctionToolCall(
                type="function_call", name="exec_command", arguments=arguments, call_id=f"call-{self.turn}"
            )
        else:
            text = ResponseOutputText(type="output_text", text="The sum is 55.", annotations=[])
            item = ResponseOutputMessage(
                id="answer", type="message", role="assistant", status="completed", content=[text]
            )
        return ModelResponse(output=[item], usage=Usage(), response_id=None)

    def stream_response(self, *args, **kwargs):
        raise NotImplementedError("this model does not stream")


class Agent(unittest.TestCase):
    def test_answers_with_what_the_sandbox_said(self):
        run = asyncio.run(answer("What is the sum of 1 to 10?", Scripted()))
        said = [item.output for item in run.new_items if item.type == "tool_call_output_item"]
        self.assertIn("exited with code 0", said[0])
        self.assertIn("sum 55", said[1])
        self.assertIn("exited with code 3", said[2])
        self.assertEqual(run.final_output, "The sum is 55.")


if __name__ == "__main__":
    unittest.main()
