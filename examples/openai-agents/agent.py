"""An agent of the OpenAI Agents SDK whose files and commands are in an Atoll sandbox."""

import asyncio
import os
import sys

from agents import Runner
from agents.extensions.sandbox import E2BSandboxClient, E2BSandboxClientOptions, E2BSandboxType
from agents.run import RunConfig
from agents.sandbox import SandboxAgent, SandboxRunConfig


async def answer(question, model):
    """Asks the agent, and returns the run with all that was called and said."""
    client = E2BSandboxClient()
    session = await client.create(
        options=E2BSandboxClientOptions(sandbox_type=E2BSandboxType.CODE_INTERPRETER, timeout=600)
    )
    agent = SandboxAgent(
        name="Analyst", model=model, instructions="You answer by running Python, with pandas, in a sandbox."
    )
    try:
        async with session:
            config = RunConfig(sandbox=SandboxRunConfig(session=session), tracing_disabled=True)
            return await Runner.run(agent, question, run_config=config)
    finally:
        await client.delete(session)


if __name__ == "__main__":
    print(asyncio.run(answer(" ".join(sys.argv[1:]), os.environ.get("MODEL", "gpt-5.4"))).final_output)
