"""What is said in a turn, and what it used."""

from dataclasses import dataclass

# Characters in a token of English text, roughly: for what the model API does not count, or does not live to count.
CHARACTERS_PER_TOKEN = 4

_REPLACED = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the user said once, and what the agent answered."""

    user: str
    assistant: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question: what the user wrote, the system prompt with it, and what was said before, oldest first."""

    message: str
    system: str | None = None
    history: tuple[Exchange, ...] = ()

    @property
    def characters(self) -> int:
        """Length of all the text."""
        said = sum(len(exchange.user) + len(exchange.assistant) for exchange in self.history)
        return len(self.system or "") + said + len(self.message)


@dataclass(slots=True)
class Usage:
    """Tokens of one turn; grows while the answer comes in, so that a broken turn is counted as far as it came."""

    # Of the tokens sent: those that the model API wrote to its cache, those that it read from there, and all others.
    uncached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    # Whether the model API has counted the output to its end.
    output_known: bool = False
    # Whether the model API has the prompt, as far as is known: it has not while it turns the call away.
    sent: bool = False
    # Length of the answer's text so far.
    characters: int = 0
    # Why the model stopped, in the model API's words (`end_turn`, `max_tokens`, …); None until it did.
    stop_reason: str | None = None

    @property
    def input_tokens(self) -> int:
        """Tokens sent."""
        return self.uncached_tokens + self.cache_write_tokens + self.cache_read_tokens

    @property
    def total(self) -> int:
        """Tokens sent and received together."""
        return self.input_tokens + self.output_tokens

    @property
    def cut(self) -> str | None:
        """Why the answer ends before its end, in the model API's words; None when the model had said all."""
        return None if self.stop_reason == "end_turn" else self.stop_reason


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
