"""Errors that end a tool."""


class ToolError(Exception):
    """A tool cannot continue. Its lines explain the problem and what to do."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class InputError(ToolError):
    """Input cannot be used. Each line names the file and, if known, the object and the field."""
