"""What text the model API takes."""

_REPLACED = "\N{REPLACEMENT CHARACTER}"


def sendable(text: str) -> str:
    """Return the text with pairs of surrogates made whole, and with halves and NUL replaced.

    JSON escapes can carry them; UTF-8 carries no surrogates, and requests with NUL are refused (`routes/chat.py`).
    """
    if "\0" in text:
        text = text.replace("\0", _REPLACED)
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_blank(text: str) -> bool:
    """Whether the model API refuses the text: it wants more than white space in each message."""
    return not text.strip()
