"""An agent that passes the conversation to the model, and streams its answer.

export ANTHROPIC_API_KEY=...
MODEL_PROVIDER=anthropic make run AGENT=manifests/samples/model_agent.py
"""

from collections.abc import AsyncIterator

from portside import Turn


async def answer(turn: Turn) -> AsyncIterator[str]:
    stream = turn.anthropic.messages.stream(
        model=turn.model,
        max_tokens=turn.max_tokens,
        system=turn.system_prompt or "Be brief.",
        messages=turn.messages(),
    )
    async with stream as events:
        async for text in events.text_stream:
            yield text
