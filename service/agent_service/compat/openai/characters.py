"""Texts in pieces, of which each can be sent by itself. Pure."""

from agent_service.agent.messages import sendable


class Characters:
    """Keeps half a surrogate pair at the end of a piece until the other half comes with the next one."""

    def __init__(self) -> None:
        self._half = ""

    def take(self, text: str) -> str:
        """Return what can be sent of a piece; other halves of pairs, and NUL, are replaced."""
        if text.isascii() and not self._half:
            return sendable(text)
        text = self._half + text
        self._half = text[-1] if text and "\ud800" <= text[-1] <= "\udbff" else ""
        return sendable(text.removesuffix(self._half))

    def end(self) -> str:
        """Return the replacement of a half that was left alone; empty if there is none."""
        rest, self._half = sendable(self._half), ""
        return rest
