"""What the gateway reads in the body of a call, and the two changes that it makes to it. Pure."""

from dataclasses import dataclass, replace

from agent_service.agent.claude.json_object import Field, NotAnObjectError, fields

_MODEL, _STREAM = "model", "stream"
_LIMITS = ("max_tokens", "max_completion_tokens")
_FIELDS = frozenset({_MODEL, _STREAM, *_LIMITS})

# "Top-level cache control automatically applies a cache_control marker to the last cacheable block in the request"
# (SDK, types/message_create_params.py).
_MARK = b'"cache_control":{"type":"ephemeral"},'
_MARKED = b'"cache_control"'

# No model caches less than 1,024 tokens (Claude docs, "Prompt caching"), at about four characters each.
_CACHED_BYTES = 4096


class UnreadableError(Exception):
    """The body cannot be read. The message is for the caller."""


@dataclass(frozen=True, slots=True)
class Question:
    """The body of a call: its model, whether the answer is streamed, and the bytes to send.

    `unmarked` are the bytes without the mark for the cache; None if the gateway made no mark. `named` is the model in
    the bytes, if another one is asked.
    """

    model: str
    streamed: bool
    content: bytes
    unmarked: bytes | None = None
    named: str | None = None

    def to(self, model: str) -> "Question":
        """Return the question to another model."""
        return self if model == self.model else replace(self, model=model, named=self.model)

    def without_mark(self) -> "Question":
        """Return the question without the mark for the cache."""
        return self if self.unmarked is None else replace(self, content=self.unmarked, unmarked=None)


def read(body: bytes, *, most_tokens: int, mark: bool) -> Question:
    """Return the question in a body.

    Args:
        body: the body of the call.
        most_tokens: a higher limit of tokens in the body is lowered to this.
        mark: whether to mark the prompt for the cache, if it is long enough and the caller marks nothing.

    Raises:
        UnreadableError: when the body is not a JSON object with a model, or a field occurs twice.
    """
    found = _fields(body)
    model = _value(body, found.get(_MODEL))
    if not isinstance(model, str) or not model:
        raise UnreadableError("model: Field required, as a string.")
    content = body
    limits = [found[name] for name in _LIMITS if name in found]
    # From the end, so that the positions of the earlier ones stay valid.
    for limit in sorted(limits, key=lambda each: each.start, reverse=True):
        if _exceeds(limit.scalar(body), most_tokens):
            content = content[: limit.value] + str(most_tokens).encode() + content[limit.end :]
    unmarked = None
    if mark and len(content) >= _CACHED_BYTES and _MARKED not in content:
        unmarked, inside = content, content.index(b"{") + 1
        content = content[:inside] + _MARK + content[inside:]
    return Question(model, _value(body, found.get(_STREAM)) is True, content, unmarked)


def _fields(body: bytes) -> dict[str, Field]:
    """Return our fields in the outermost object."""
    found: dict[str, Field] = {}
    try:
        for each in fields(body, _FIELDS):
            if each.name in found:
                # Parsers differ in which of the two they take.
                raise UnreadableError(f"{each.name}: occurs more than once.")
            found[each.name] = each
    except NotAnObjectError:
        raise UnreadableError("The request body is not a JSON object.") from None
    return found


def _value(body: bytes, field: Field | None) -> object:
    return None if field is None else field.scalar(body)


def _exceeds(value: object, most: int) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > most
