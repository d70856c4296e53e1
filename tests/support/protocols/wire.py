"""A streamed question of each protocol as it is on the wire, for clients that no SDK would be: slow, or gone."""

import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from support.mcp_agent import as_sent, asked
from support.protocols.mcp_ask import NOTICES

Event = Any
"""The JSON value after `data:`, or the text if it is none."""


@dataclass(frozen=True)
class Wire:
    """How a question is sent, and what the events of its answer mean.

    `take` returns the text of the answer after an event, from the text before it.
    """

    path: str
    body: Callable[[str], dict[str, Any]]
    take: Callable[[str, Event], str]
    headers: tuple[tuple[str, str], ...] = ()

    def request(self, message: str, key: str) -> tuple[bytes, bytes]:
        """Return the head and the body of a request."""
        body = json.dumps(self.body(message)).encode()
        headers = {"Host": "agent", **self._headers(key), "Content-Length": str(len(body))}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode(), body

    async def events(self, http: httpx.AsyncClient, message: str, key: str) -> AsyncGenerator[Event, None]:
        """Ask, and yield the events; the client leaves when the generator is closed."""
        async with http.stream("POST", self.path, json=self.body(message), headers=self._headers(key)) as answer:
            assert answer.status_code == httpx.codes.OK, await answer.aread()
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    yield event_of(line)

    def _headers(self, key: str) -> dict[str, str]:
        return {"X-API-Key": key, "Content-Type": "application/json", **dict(self.headers)}


def event_of(line: str) -> Event:
    """Return the event of a line that begins with `data:`."""
    data = line.removeprefix("data: ")
    return data if data == "[DONE]" else json.loads(data)


def _native(text: str, event: Event) -> str:
    return text + event["content"] if event["type"] == "text" else text


def _openai_chat(text: str, event: Event) -> str:
    choices = () if event == "[DONE]" else event["choices"]
    return text + "".join(choice["delta"].get("content") or "" for choice in choices)


def _openai_responses(text: str, event: Event) -> str:
    return text + event["delta"] if event["type"] == "response.output_text.delta" else text


def _anthropic(text: str, event: Event) -> str:
    return text + event["delta"].get("text", "") if event["type"] == "content_block_delta" else text


def _a2a(text: str, event: Event) -> str:
    update = event.get("result", event).get("artifactUpdate")
    if update is None:
        return text
    return (text if update.get("append") else "") + "".join(part["text"] for part in update["artifact"]["parts"])


def _mcp(text: str, event: Event) -> str:
    if "result" in event:
        response: str = event["result"]["structuredContent"]["response"]
        return response
    message: str = event["params"]["message"]
    return text if message.startswith(NOTICES) else message


def _messages(message: str) -> dict[str, Any]:
    return {"model": "agent", "messages": [{"role": "user", "content": message}], "stream": True, "max_tokens": 200_000}


def _a2a_message(message: str) -> dict[str, Any]:
    return {"message": {"role": "ROLE_USER", "messageId": "1", "parts": [{"text": message}]}}


def _tool_call(message: str) -> dict[str, Any]:
    body, _ = as_sent("auto", asked(message))
    body["params"]["_meta"]["progressToken"] = "a"
    return body


_A2A_VERSION = ("A2A-Version", "1.0")

WIRES = {
    "native": Wire("/chat/stream", lambda message: {"message": message}, _native),
    "openai-chat": Wire("/v1/chat/completions", _messages, _openai_chat),
    "openai-responses": Wire(
        "/v1/responses", lambda message: {"model": "agent", "input": message, "stream": True}, _openai_responses
    ),
    "anthropic": Wire("/v1/messages", _messages, _anthropic),
    "a2a": Wire(
        "/a2a",
        lambda message: {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "SendStreamingMessage",
            "params": _a2a_message(message),
        },
        _a2a,
        (_A2A_VERSION,),
    ),
    "a2a-rest": Wire("/a2a/v1/message:stream", _a2a_message, _a2a, (_A2A_VERSION,)),
    "mcp": Wire("/mcp", _tool_call, _mcp, tuple(as_sent("auto", asked(""))[1].items())),
}
"""By the name of the protocol."""
