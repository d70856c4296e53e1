"""The calls of A2A, as requests: versions 1.0 and 0.3, over JSON-RPC and HTTP+JSON.

Sources: the A2A specification 1.0, sections 9 (JSON-RPC) and 11 (HTTP+JSON); of 0.3.0, sections 3.2 and 7, and its
`a2a.proto`, whose names HTTP+JSON uses.
"""

import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from agent_service.agent.messages import Prompt
from agent_service.runtime.a2a_card import JSONRPC, Interface

# The methods of JSON-RPC: in 1.0, and in 0.3.
_METHODS = {
    "send": ("SendMessage", "message/send"),
    "stream": ("SendStreamingMessage", "message/stream"),
    "get": ("GetTask", "tasks/get"),
    "cancel": ("CancelTask", "tasks/cancel"),
}


@dataclass(frozen=True, slots=True)
class Call:
    """A request to the agent: HTTP method, path with query, and the body as an object (None without one)."""

    method: str
    path: str
    body: dict[str, Any] | None = None


def send(interface: Interface, prompt: Prompt, task_id: str | None = None) -> Call:
    """Return the call that sends the message: streamed if the agent can, else answered when the task has ended.

    `task_id` is of the task that asked for this message. The system prompt has no field in A2A, and is in the
    message's metadata as `system`.
    """
    configuration: dict[str, Any] = {"acceptedOutputModes": ["text/plain", "text/markdown", "text"]}
    if interface.legacy:
        configuration["blocking"] = True
    params = {"message": _message(interface, prompt, task_id), "configuration": configuration}
    name = "stream" if interface.streaming else "send"
    if interface.binding == JSONRPC:
        return _rpc(interface, name, params)
    return _rest(interface, "POST", f"/message:{name}", params)


def get(interface: Interface, task_id: str) -> Call:
    """Return the call that reads a task."""
    if interface.binding == JSONRPC:
        return _rpc(interface, "get", {"id": task_id})
    return _rest(interface, "GET", f"/tasks/{quote(task_id, safe='')}", None)


def cancel(interface: Interface, task_id: str) -> Call:
    """Return the call that cancels a task."""
    if interface.binding == JSONRPC:
        return _rpc(interface, "cancel", {"id": task_id})
    return _rest(interface, "POST", f"/tasks/{quote(task_id, safe='')}:cancel", {})


def _message(interface: Interface, prompt: Prompt, task_id: str | None) -> dict[str, Any]:
    plain = interface.legacy and interface.binding == JSONRPC
    part: dict[str, Any] = {"kind": "text", "text": prompt.message} if plain else {"text": prompt.message}
    message: dict[str, Any] = {"messageId": uuid.uuid4().hex, "role": "user" if plain else "ROLE_USER"}
    if plain:
        message["kind"] = "message"
    # HTTP+JSON of 0.3 has the names of its protocol buffers.
    message["content" if interface.legacy and not plain else "parts"] = [part]
    if prompt.conversation_id is not None:
        message["contextId"] = prompt.conversation_id
    if task_id is not None:
        message["taskId"] = task_id
    if prompt.system:
        message["metadata"] = {"system": prompt.system}
    return message


def _rpc(interface: Interface, name: str, params: dict[str, Any]) -> Call:
    method = _METHODS[name][interface.legacy]
    if interface.tenant is not None:
        params = {"tenant": interface.tenant, **params}
    body = {"jsonrpc": "2.0", "id": uuid.uuid4().hex, "method": method, "params": params}
    return Call("POST", interface.path, body)


def _rest(interface: Interface, method: str, path: str, body: dict[str, Any] | None) -> Call:
    base, _, query = interface.path.partition("?")
    base = base.rstrip("/")
    # In 0.3 `/v1` is part of each path, and is appended to the card's URL, as the SDK does.
    if interface.legacy:
        base += "/v1"
    if interface.tenant is not None:
        base += f"/{quote(interface.tenant, safe='')}"
    return Call(method, f"{base}{path}" + (f"?{query}" if query else ""), body)
