"""An agent that repeats the message. Run it with `make run AGENT=manifests/samples/hello_agent.py`."""


async def answer(turn):
    return f"You said: {turn.message}"
