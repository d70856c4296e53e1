"""The messages of a turn with tool calls, in the form of the Messages API. Pure."""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from agent_service.agent.errors import UnsupportedInputError
from agent_service.agent.messages import Prompt, is_blank
from agent_service.agent.step import Step
from agent_service.agent.tools import Handover, Suspension, Tool, ToolResult, ToolUse, Transcript

Block = Mapping[str, Any]
Message = Mapping[str, Any]

_ASSISTANT, _USER = "assistant", "user"
_TOOL_USE, _TOOL_RESULT, _SERVER_TOOL_USE = "tool_use", "tool_result", "server_tool_use"

# Only the turn in which the model thinks needs its thoughts: the API drops those of earlier turns, or takes their
# absence (Claude docs, "Extended thinking").
_THOUGHTS = frozenset({"thinking", "redacted_thinking"})

# A message with the names of all tools may be long.
_MOST_NAMES = 50


class TurnMessages:
    """The messages of a turn so far, with the earlier ones of its conversation.

    `steps` is the number of its steps, with the current one, and `calls` the number of its tool calls that have
    results. `suspension` is set when the turn waits, and `handover` when it ends with calls that the client makes.
    """

    def __init__(self, prompt: Prompt, tools: Sequence[Tool], server_tools: Sequence[Mapping[str, Any]]) -> None:
        """Begin a turn with these tools of ours, those that the model API runs itself, and those of the client.

        Raises:
            UnsupportedInputError: if a tool of the client has the name of another one.
        """
        self._system = prompt.system
        self._max_tokens = prompt.details.max_tokens
        self._tool_choice = prompt.details.tool_choice
        self._conversation = prompt.conversation_id
        self.tools = {tool.name: tool for tool in tools}
        self.steps = self.calls = 0
        self.suspension: Suspension | None = None
        self.handover: Handover | None = None
        self._of_client = _names_of_client(prompt, {*self.tools, *(str(tool["name"]) for tool in server_tools)})
        self._tools = [*map(_definition, tools), *server_tools, *prompt.details.tools]
        self._messages = _earlier(prompt, takes_calls=bool(self._tools), takes_server_tools=bool(server_tools))
        self._messages.append(prompt.question)
        self._first = len(self._messages)

    @property
    def has_tools(self) -> bool:
        """Whether the model can call any tool."""
        return bool(self._tools)

    def step(self, *, may_call: bool) -> Step:
        """Return the next step."""
        return Step(
            self._system,
            list(self._messages),
            self._tools,
            may_call,
            self._max_tokens,
            self._tool_choice,
            self._conversation,
        )

    def add_answer(self, step: Step, *, calls: bool) -> list[ToolUse]:
        """Add the answer of a step, and return its tool calls, which must be made; none unless `calls`.

        A call without a result would make the next request invalid, so those that are not made are left out. If the
        model calls tools of the client, the turn ends with these calls alone: the history in which they get their
        results is the client's, and it has no calls of the agent.
        """
        of_client = [use for use in _uses(step.content) if use.name in self._of_client] if calls else []
        readable = tuple(use for use in of_client if use.id not in step.unreadable)
        if readable:
            self.handover = Handover(readable)
            return []
        content = [block for block in step.content if _can_be_sent(block) and (calls or block["type"] != _TOOL_USE)]
        if not content:
            return []
        last = self._messages[-1]
        if last["role"] == _ASSISTANT:
            # The answer was paused, and this is the rest of it.
            self._messages[-1] = {"role": _ASSISTANT, "content": [*last["content"], *content]}
        else:
            self._messages.append({"role": _ASSISTANT, "content": content})
        return _uses(content)

    def add_results(self, uses: Sequence[ToolUse], results: Iterable[ToolResult]) -> None:
        """Add the results of the calls of a step, in the order of the calls. Each must have one."""
        by_id = {result.id: result for result in results}
        if uses:
            self._messages.append({"role": _USER, "content": [result_block(by_id[use.id]) for use in uses]})

    def so_far(self) -> tuple[Message, ...]:
        """Return the messages of the turn after the user's."""
        return tuple(self._messages[self._first :])

    def suspend(self, suspension: Suspension) -> None:
        """End the turn as one that waits."""
        self.suspension = suspension

    def resume(self, suspension: Suspension, results: Iterable[ToolResult]) -> None:
        """Take the messages of a turn that was suspended, and the results of the calls in the last one."""
        self._messages.extend(suspension.messages)
        uses = _uses(self._messages[-1]["content"])
        self.steps, self.calls = suspension.steps, suspension.calls + len(uses)
        self.add_results(uses, results)

    def refusal(self, use: ToolUse, step: Step) -> str | None:
        """Return why a call of a step cannot be made, for the model; None if it can."""
        if use.id in step.unreadable:
            return "The input of this call is not a JSON object. The call did not run."
        if use.name not in self.tools:
            names = ", ".join([*self.tools][:_MOST_NAMES]) or "none"
            more = ", …" if len(self.tools) > _MOST_NAMES else ""
            return f"There is no tool of this name. The tools are: {names}{more}."
        return None

    def transcript(self) -> Transcript | None:
        """Return the transcript; None for a turn that is only text."""
        messages = self._messages[self._first :]
        answered = {str(block.get("tool_use_id")) for message in messages for block in message["content"]}
        kept = []
        for message in messages:
            content = [block for block in message["content"] if _is_kept(block, answered)]
            if content:
                kept.append({**message, "content": content})
        if all(block["type"] == "text" for message in kept for block in message["content"]):
            return None
        return Transcript(tuple(kept))


def _uses(content: Iterable[Block]) -> list[ToolUse]:
    return [ToolUse(each["id"], each["name"], each["input"]) for each in content if each["type"] == _TOOL_USE]


def _names_of_client(prompt: Prompt, taken: Set[str]) -> frozenset[str]:
    """Return the names of the client's tools, none of which may be `taken`."""
    names = frozenset(str(tool["name"]) for tool in prompt.details.tools)
    for name in sorted(names & taken):
        raise UnsupportedInputError(f"The agent has a tool named '{name}' itself: name your own tool differently.")
    return names


def error_result(use: ToolUse, sentence: str) -> ToolResult:
    """Return the result of a call that failed, with a sentence for the model."""
    return ToolResult(use.id, ({"type": "text", "text": sentence},), is_error=True, outcome="error")


def _earlier(prompt: Prompt, *, takes_calls: bool, takes_server_tools: bool) -> list[Message]:
    """Return the earlier exchanges: with their tool calls where the model API takes them, else their texts alone."""
    messages: list[Message] = list(prompt.details.earlier or ())
    for exchange in prompt.history:
        messages.append({"role": _USER, "content": exchange.user})
        if exchange.steps and takes_calls and (takes_server_tools or not _uses_server_tools(exchange.steps)):
            messages.extend(exchange.steps)
        else:
            messages.append({"role": _ASSISTANT, "content": exchange.assistant})
    return messages


def _uses_server_tools(messages: Iterable[Message]) -> bool:
    return any(block["type"] == _SERVER_TOOL_USE for message in messages for block in message["content"])


def _definition(tool: Tool) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}


def result_block(result: ToolResult) -> dict[str, Any]:
    """Return the block of a result, in the form of the Messages API."""
    block = {"type": _TOOL_RESULT, "tool_use_id": result.id, "content": list(result.content)}
    return {**block, "is_error": True} if result.is_error else block


def _can_be_sent(block: Block) -> bool:
    """Return whether the model API accepts a block back: it refuses texts that are only white space."""
    return block["type"] != "text" or not is_blank(str(block.get("text", "")))


def _is_kept(block: Block, answered: frozenset[str] | set[str]) -> bool:
    """Return whether a block stays in the transcript: no thoughts, and no server tool that has no result."""
    if block["type"] == _SERVER_TOOL_USE:
        return block.get("id") in answered
    return block["type"] not in _THOUGHTS
