"""The output items of a response, and the events that lead to them. Pure.

Source: OpenAI API reference, "Streaming events" of the Responses API.
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from agent_service.agent.tools import Piece, ToolResult, ToolUse
from agent_service.chat.dialogue import Reply
from agent_service.chat.steps import shown_text
from agent_service.compat.openai.characters import Characters
from agent_service.compat.openai.ids import AnyPlace

Event = dict[str, Any]
Item = dict[str, Any]

# The label of a server that the agent does not know: a runtime has tools of its own.
_OWN_SERVER = "agent"


class Output:
    """Collects the items of one response. Each method returns the events of what it added."""

    def __init__(
        self,
        place: AnyPlace,
        response_id: str,
        *,
        client_tools: Collection[str],
        server_of: Callable[[str], str | None],
        asks: Callable[[str], bool],
    ) -> None:
        """Begin with no items.

        Args:
            place: the message or the task that is answered.
            response_id: id of the response.
            client_tools: names of the client's tools, whose calls are at the end.
            server_of: returns the server of a tool of the agent; None if it is unknown.
            asks: returns whether calls of a tool need an approval. Their items begin when they have a result.
        """
        self.items: list[Item] = []
        # Those that another attempt at the answer has replaced. They are not in the whole response.
        self._replaced: list[Item] = []
        self._place = place
        # A response that is sent twice has the same ids.
        self._name = response_id.removeprefix("resp_").replace("_task", "")
        self._client_tools = frozenset(client_tools)
        self._server_of = server_of
        self._asks = asks
        self._message: Item | None = None
        self._texts: list[str] = []
        self._characters = Characters()
        # The calls without a result, by their ids.
        self._calls: dict[str, Item] = {}
        self._held: dict[str, ToolUse] = {}
        # The results of calls that an approver decided on: the turn that waited has the calls.
        self._results: list[ToolResult] = []

    def add(self, piece: Piece) -> list[Event]:
        """Add a piece of the answer."""
        if isinstance(piece, str):
            return self._add_text(self._characters.take(piece))
        if isinstance(piece, ToolUse):
            if piece.name in self._client_tools:
                return []
            if self._asks(piece.name):
                self._held[piece.id] = piece
                return []
            return [*self._end_message("completed"), *self._begin_call(piece)]
        return self._add_result(piece)

    @property
    def valid(self) -> list[Item]:
        """The items of the whole response."""
        return [item for item in self.items if item not in self._replaced]

    def restart(self, text: str) -> list[Event]:
        """Replace all text so far: another process has started the answer again."""
        events = self._end_message("incomplete")
        self._replaced = [item for item in self.items if item["type"] == "message"]
        return [*events, *self._add_text(text)]

    def end(self, reply: Reply, status: str) -> list[Event]:
        """Add what is known at the end. `status` is that of the response, and of its last message."""
        events = self._end_message(status)
        for result in self._results:
            use = next((step for step in reply.steps or () if step["id"] == result.id), None)
            if use is not None:
                events += self._begin_call(ToolUse(result.id, use["name"], use["input"]))
                events += self._end_call(result)
        for item in self._calls.values():
            item["status"] = "incomplete"
            events.append(self._done(item))
        self._calls.clear()
        for call in reply.calls:
            events += self._add_function_call(call)
        for waiting in reply.waiting:
            events += self._whole(
                {
                    "id": self._place.approval_id(waiting.id),
                    "type": "mcp_approval_request",
                    "server_label": waiting.server,
                    "name": waiting.tool,
                    "arguments": _written(waiting.input),
                }
            )
        return events

    def _add_text(self, text: str) -> list[Event]:
        events: list[Event] = []
        if not text:
            return events
        if self._message is None:
            self._message = {
                "id": f"msg_{self._name}{len(self.items):02}",
                "type": "message",
                "status": "in_progress",
                "role": "assistant",
                "content": [],
            }
            events.append(self._added(self._message))
            events.append(self._of_part("response.content_part.added", part=_part("")))
        self._texts.append(text)
        events.append(self._of_part("response.output_text.delta", delta=text, logprobs=[]))
        return events

    def _end_message(self, status: str) -> list[Event]:
        rest = self._add_text(self._characters.end())
        if self._message is None:
            return rest
        text = "".join(self._texts)
        events = [
            *rest,
            self._of_part("response.output_text.done", text=text, logprobs=[]),
            self._of_part("response.content_part.done", part=_part(text)),
        ]
        self._message |= {"status": status, "content": [_part(text)]}
        events.append(self._done(self._message))
        self._message = None
        self._texts.clear()
        return events

    def _begin_call(self, use: ToolUse) -> list[Event]:
        item = {
            "id": f"mcp_{use.id}",
            "type": "mcp_call",
            "status": "in_progress",
            "server_label": self._server_of(use.name) or _OWN_SERVER,
            "name": use.name,
            "arguments": "",
            "approval_request_id": None,
            "output": None,
            "error": None,
        }
        added = self._added(item)
        self._calls[use.id] = item
        item["arguments"] = _written(use.input)
        return [
            added,
            self._of_item("response.mcp_call.in_progress", item),
            self._of_item("response.mcp_call_arguments.delta", item, delta=item["arguments"]),
            self._of_item("response.mcp_call_arguments.done", item, arguments=item["arguments"]),
        ]

    def _add_result(self, result: ToolResult) -> list[Event]:
        use = self._held.pop(result.id, None)
        if use is not None:
            return [*self._end_message("completed"), *self._begin_call(use), *self._end_call(result)]
        if result.id not in self._calls:
            self._results.append(result)
            return []
        return self._end_call(result)

    def _end_call(self, result: ToolResult) -> list[Event]:
        item = self._calls.pop(result.id)
        text = shown_text(result.content)
        if result.is_error:
            content = [{"type": "text", "text": text}]
            item |= {"status": "failed", "error": {"type": "mcp_tool_execution_error", "content": content}}
            return [self._of_item("response.mcp_call.failed", item), self._done(item)]
        item |= {"status": "completed", "output": text}
        return [self._of_item("response.mcp_call.completed", item), self._done(item)]

    def _add_function_call(self, call: ToolUse) -> list[Event]:
        item: Item = {
            "id": f"fc_{call.id}",
            "type": "function_call",
            "status": "in_progress",
            "call_id": call.id,
            "name": call.name,
            "arguments": "",
        }
        events = [self._added(item)]
        item |= {"status": "completed", "arguments": _written(call.input)}
        return [
            *events,
            self._of_item("response.function_call_arguments.delta", item, delta=item["arguments"]),
            self._of_item("response.function_call_arguments.done", item, arguments=item["arguments"], name=call.name),
            self._done(item),
        ]

    def _whole(self, item: Item) -> list[Event]:
        return [self._added(item), self._done(item)]

    def _added(self, item: Item) -> Event:
        self.items.append(item)
        index = len(self.items) - 1
        return {"type": "response.output_item.added", "output_index": index, "item": dict(item)}

    def _done(self, item: Item) -> Event:
        return {"type": "response.output_item.done", "output_index": self.items.index(item), "item": dict(item)}

    def _of_item(self, kind: str, item: Item, **more: object) -> Event:
        return {"type": kind, "item_id": item["id"], "output_index": self.items.index(item), **more}

    def _of_part(self, kind: str, **more: object) -> Event:
        message = self._message or {}
        index = len(self.items) - 1
        return {"type": kind, "item_id": message.get("id"), "output_index": index, "content_index": 0, **more}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _written(arguments: Mapping[str, Any]) -> str:
    return json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
