"""A CrewAI crew of one analyst who runs Python in an Atoll sandbox."""

import os
import sys

from crewai import Agent, Crew, Task
from crewai_tools import E2BPythonTool


def answer(question, model):
    """Gives the question to the crew, and returns its answer."""
    python = E2BPythonTool(persistent=True, sandbox_timeout=600)
    analyst = Agent(
        role="Analyst",
        goal="Answer questions by running Python in a sandbox",
        backstory="You believe only what you have computed.",
        tools=[python],
        llm=model,
    )
    task = Task(description=question, expected_output="The answer, in one sentence.", agent=analyst)
    try:
        return Crew(agents=[analyst], tasks=[task]).kickoff().raw
    finally:
        python.close()


if __name__ == "__main__":
    print(answer(" ".join(sys.argv[1:]), os.environ.get("MODEL", "gpt-5.4")))
