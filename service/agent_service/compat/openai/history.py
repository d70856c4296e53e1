"""The messages of a client that keeps the history itself, as the Messages API takes them. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_service.agent.details import text_of
from agent_service.agent.messages import is_blank
from agent_service.compat.openai.errors import InvalidRequestError

Block = Mapping[str, Any]
Message = Mapping[str, Any]

_USER, _ASSISTANT = "user", "assistant"

# The Messages API takes no history that begins with the assistant. Some clients begin with a greeting of theirs.
_BEGINNING = "(The assistant began this conversation.)"


@dataclass(frozen=True, slots=True)
class Sent:
    """What a client sent: its last message, the earlier ones, and the texts of the roles `system` and `developer`.

    `content` are the blocks of the last message, if it is more than text.
    """

    message: str
    content: tuple[Block, ...]
    earlier: tuple[Message, ...]
    instructions: str | None


class History:
    """Collects the messages in their order. `param` is the field of the request that has them."""

    def __init__(self, param: str) -> None:
        self._param = param
        self._instructions: list[str] = []
        self._turns: list[tuple[str, list[Block]]] = []
        # Calls without a result, by their ids.
        self._open: dict[str, None] = {}

    @property
    def has_answers(self) -> bool:
        """Whether there is any message of the assistant."""
        return any(role == _ASSISTANT for role, _ in self._turns)

    @property
    def is_empty(self) -> bool:
        """Whether there is no message of the user or the assistant."""
        return not self._turns

    def instruct(self, text: str) -> None:
        """Add a text of the role `system` or `developer`, wherever it was among the messages."""
        if not is_blank(text):
            self._instructions.append(text)

    def add_user(self, blocks: Sequence[Block], path: str) -> None:
        """Add a message of the user; one without content is skipped."""
        self._refuse_open(path)
        if all(block["type"] == "text" for block in blocks):
            text = "\n".join(block["text"] for block in blocks)
            blocks = [{"type": "text", "text": text}] if text else []
        self._add(_USER, blocks)

    def add_assistant(self, text: str, calls: Iterable[Block], path: str) -> None:
        """Add a message of the assistant, with its calls of the client's tools; one without content is skipped."""
        calls = list(calls)
        if self._open and (not calls or self._turns[-1][0] == _USER):
            self._refuse_open(path)
        for call in calls:
            if call["id"] in self._open:
                raise InvalidRequestError(f"The id of the call at '{path}' is not unique.", path, code="invalid_value")
            self._open[call["id"]] = None
        self._add(_ASSISTANT, [*([] if is_blank(text) else [{"type": "text", "text": text}]), *calls])

    def add_result(self, call: str, blocks: Sequence[Block], path: str) -> None:
        """Add the result of a call."""
        if call not in self._open:
            raise InvalidRequestError(
                f"Invalid '{path}': a result must follow the call of the tool that it belongs to.", path
            )
        del self._open[call]
        self._add(
            _USER, [{"type": "tool_result", "tool_use_id": call, **({"content": list(blocks)} if blocks else {})}]
        )

    def sent(self) -> Sent:
        """Return what the client sent.

        Raises:
            InvalidRequestError: if the last message is not one that can be answered.
        """
        self._refuse_open(self._param)
        if not self._turns or self._turns[-1][0] != _USER:
            raise InvalidRequestError(
                f"Invalid '{self._param}': the last message must be one of the user, or the result of a tool, and have "
                "content.",
                self._param,
                code="invalid_value",
            )
        *before, (_, blocks) = self._turns
        earlier: list[Message] = [{"role": role, "content": _content(each)} for role, each in before]
        if earlier and earlier[0]["role"] == _ASSISTANT:
            earlier.insert(0, {"role": _USER, "content": _BEGINNING})
        content = _content(blocks)
        instructions = "\n\n".join(self._instructions) or None
        if isinstance(content, str):
            return Sent(content, (), tuple(earlier), instructions)
        return Sent(text_of({"content": content}), tuple(content), tuple(earlier), instructions)

    def _add(self, role: str, blocks: Sequence[Block]) -> None:
        if not blocks:
            return
        if self._turns and self._turns[-1][0] == role:
            self._turns[-1][1].extend(blocks)
        else:
            self._turns.append((role, list(blocks)))

    def _refuse_open(self, path: str) -> None:
        if self._open:
            names = ", ".join(list(self._open)[:8])
            raise InvalidRequestError(
                f"The call of each tool must be followed by its result. These calls have none: {names}.", path
            )


def _content(blocks: list[Block]) -> str | list[Block]:
    """Return the content of a message: a text if it has nothing else."""
    if all(block["type"] == "text" for block in blocks):
        return "\n\n".join(block["text"] for block in blocks)
    return blocks
