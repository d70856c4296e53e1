"""What the tests of the Messages API share: an agent with a tool that needs an approval, and its clients."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx

from stand_in import StandIn, asking
from support.agent import KEY, Service, running_service
from support.mcp_servers import McpServer
from support.redis_server import RedisServer

AGENT = "desk"
CLIENT_KEY = "client-key-0123456789abcdef"
OTHER_KEY = "other-key-0123456789abcdef"
TINY_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
VERSION = {"anthropic-version": "2023-06-01"}
Body = dict[str, Any]


@contextmanager
def running_desk(
    folder: Path, stand_in: StandIn, redis: RedisServer, server: McpServer | None = None, **settings: str
) -> Iterator[Service]:
    """Run an agent with the tools of a server, of which `slow` needs an approval; without a server, it has none."""
    tools = {}
    if server is not None:
        file = folder / "desk-tools.json"
        entry = {"name": "shop", "mcp": {"url": server.url}, "approve": ["sl*"]}
        file.write_text(json.dumps({"tools": [entry]}), encoding="utf-8")
        tools["TOOLS_FILE"] = str(file)
    given = {
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_BASE_URL": stand_in.url,
        "REDIS_URL": redis.url,
        "RATE_LIMIT_REQUESTS": "0",
        "SYSTEM_PROMPT": "Be brief.",
        "AGENT_NAME": AGENT,
        "API_KEYS": f"{CLIENT_KEY},{OTHER_KEY}",
    }
    with running_service(folder, **{**given, **tools, **settings}) as service:
        yield service


def sdk(service: Service, *, key: str = CLIENT_KEY, retries: int = 0) -> anthropic.Anthropic:
    """Return the official client of an agent."""
    return anthropic.Anthropic(base_url=service.url, api_key=key, max_retries=retries)


def post(service: Service, body: Body | bytes, path: str = "/v1/messages") -> httpx.Response:
    """Send a body as it is."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {**VERSION, "content-type": "application/json", "x-api-key": CLIENT_KEY}
    return httpx.post(service.url + path, content=content, headers=headers, timeout=30)


def body(message: object = "Hello", **more: Any) -> Body:
    """Return a body with one message."""
    messages = [{"role": "user", "content": message}]
    return {"model": "claude-sonnet-5-5", "max_tokens": 1000, "messages": messages, **more}


def calling(*steps: list[Body], **behaviour: Any) -> str:
    """Return a message that makes the stand-in call tools, one list for each step."""
    return asking("please", calls=steps, **behaviour)


def call(name: str, **given: Any) -> Body:
    """Return a call that the stand-in makes."""
    return {"name": name, "input": given}


def approve(service: Service, notice: str) -> None:
    """Approve the call that the text at the end of a paused answer names."""
    conversation, approval = notice.split("(conversation ")[1].split(")", maxsplit=1)[0].split(", approval ")
    decided = post(service, {"id": approval, "approve": True}, f"/chat/{conversation}/approvals")
    assert decided.json()["status"] == "decided", decided.text


def tool(name: str, **properties: str) -> Body:
    """Return the definition of a tool of the client, with arguments of these types."""
    schema = {"type": "object", "properties": {each: {"type": kind} for each, kind in properties.items()}}
    return {"name": name, "description": f"The tool {name}.", "input_schema": schema}


def asked(stand_in: StandIn) -> Body:
    """Return the body of the last question to the model."""
    found: Body = json.loads(stand_in.last()["body"])
    return found
