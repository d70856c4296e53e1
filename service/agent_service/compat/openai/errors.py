"""Errors in a request, in the form of OpenAI's API (API reference, "Error codes")."""

from typing import Any

_LONGEST_TEXT = 300


class InvalidRequestError(Exception):
    """The request cannot be answered. `param` is the field that it is about, such as `messages[0].content`."""

    def __init__(self, message: str, param: str | None = None, *, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.param = param
        self.code = code
        self.status = status

    def body(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return error_body(str(self), "invalid_request_error", self.param, self.code)


def unsupported(param: str, reason: str) -> InvalidRequestError:
    """Return the error for a field that this agent cannot honour, and may not ignore."""
    return InvalidRequestError(f"Unsupported parameter '{param}': {reason}", param, code="unsupported_parameter")


def error_body(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    """Return the body of an error. The text is cut, and what UTF-8 cannot encode is replaced."""
    text = message if len(message) <= _LONGEST_TEXT else f"{message[:_LONGEST_TEXT]}…"
    printable = text.encode("utf-8", "replace").decode()
    return {"error": {"message": printable, "type": kind, "param": param, "code": code}}
