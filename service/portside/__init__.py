"""What a Python file needs to be an agent of Portside, or to give tools to the built-in one.

    from portside import Turn

    async def answer(turn: Turn) -> str:
        return f"You said: {turn.message}"

`agent-service runtime FILE` runs such a file. The annotation is optional.

    from portside import tool

    @tool
    def add(a: int, b: int) -> int:
        \"\"\"Add two numbers.\"\"\"
        return a + b

`agent-service tools FILE` serves the tools of such a file.
"""

from portside.tools import Image, tool
from portside.turn import Message, Turn

__all__ = ["Image", "Message", "Turn", "tool"]
