"""What the tests of approvals share: replicas with a tool that needs an approval, and decisions."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from stand_in import StandIn, asking
from support.agent import KEY, StartService
from support.tools_server import ToolsServer


@dataclass(frozen=True)
class Replicas:
    """Clients of two processes with one Redis."""

    one: httpx.Client
    two: httpx.Client


@contextmanager
def start_replica(
    server: ToolsServer, start_service: StartService, stand_in: StandIn, folder: Path, **settings: str
) -> Iterator[httpx.Client]:
    """Run an agent whose tool `picture` needs an approval, until the context ends, and yield its client."""
    file = folder / "tools.json"
    tools = [{"name": "shop", "mcp": {"url": server.url}, "approve": ["pict*"]}]
    file.write_text(json.dumps({"tools": tools}), encoding="utf-8")
    given = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": stand_in.url, "TOOLS_FILE": str(file)}
    service = start_service(**given, RATE_LIMIT_REQUESTS="0", **settings)
    try:
        with httpx.Client(base_url=service.url, timeout=60) as client:
            yield client
    finally:
        service.kill()


def calling(*steps: list[dict[str, Any]]) -> str:
    """Return a message that makes the stand-in call tools, one list for each step."""
    return asking("please", calls=steps)


def approval(asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the path and the body that approve the first call that an answer waits for."""
    path = f"/chat/{asked['conversation_id']}/approvals"
    return path, {"id": asked["approvals"][0]["id"], "approve": True}


def decide(client: httpx.Client, asked: dict[str, Any], **body: Any) -> dict[str, Any]:
    """Approve the first call that an answer waits for, or decide as `body` says, and return the rest of the turn."""
    path, approved = approval(asked)
    answer = client.post(path, json=approved | body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
