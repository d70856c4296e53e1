"""What a tool ends with when it cannot do its work."""


class ToolError(Exception):
    """What keeps a tool from its work: lines that say what is wrong, and what to do."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class InputError(ToolError):
    """Input that cannot be used; each line names the file and, where there is one, the object and the field."""
