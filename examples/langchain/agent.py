"""A LangChain agent whose files, commands and Python are in an Atoll sandbox."""

import os
import sys

from deepagents import create_deep_agent
from e2b_code_interpreter import Sandbox
from langchain_core.tools import tool
from langchain_e2b import E2BSandbox

PROMPT = "You answer by running Python in a sandbox. Variables last from one call to the next."


def python_tool(sandbox):
    """The sandbox's code interpreter as a tool of LangChain."""

    @tool
    def run_python(code: str) -> str:
        """Runs Python code. Returns what it printed, its last value, and errors."""
        execution = sandbox.run_code(code)
        if execution.error:
            return execution.error.traceback
        return "".join(execution.logs.stdout) + (execution.text or "")

    return run_python


def answer(question, model):
    """Asks the agent, and returns every message up to its answer."""
    with Sandbox.create(timeout=600) as sandbox:
        agent = create_deep_agent(
            model=model, tools=[python_tool(sandbox)], system_prompt=PROMPT, backend=E2BSandbox(sandbox=sandbox)
        )
        return agent.invoke({"messages": [{"role": "user", "content": question}]})["messages"]


if __name__ == "__main__":
    print(answer(" ".join(sys.argv[1:]), os.environ.get("MODEL", "anthropic:claude-sonnet-4-6"))[-1].text)
