"""What a Python file needs to be an agent of Portside: the type of a turn.

    from portside import Turn

    async def answer(turn: Turn) -> str:
        return f"You said: {turn.message}"

`agent-service runtime FILE` runs such a file. The annotation is optional.
"""

from portside.turn import Message, Turn

__all__ = ["Message", "Turn"]
